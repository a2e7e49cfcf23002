//! Grouped-query attention with RoPE, over sequences that share one pass.

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, rms_norm, scaled_dot_product_attention};
use mlx_rs::ops::indexing::{IndexOp as _, take_axis};
use mlx_rs::ops::{arange, clip, concatenate, stack};
use mlx_rs::{Array, Dtype};

use super::Matrix;
use super::batch::{Batch, Segment};
use super::rope::Turns;
use crate::checkpoint::{Config, Loader};
use crate::error::Result;
use crate::families::{AttentionSpec, Spec};

/// One layer's attention.
#[derive(Debug)]
pub(crate) struct Attention {
    layer: usize,
    qkv: Matrix,
    out: Matrix,
    norms: Option<Norms>,
    clip: Option<f32>,
    window: Option<usize>,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    norm_eps: f32,
}

/// Norms over all of q and all of k.
#[derive(Debug)]
enum Norms {
    /// Weights of shape `[2, width]`, where q and k are as wide: both are normed in one launch.
    Together(Array),
    /// Weights of q's and of k's.
    Apart(Array, Array),
}

impl Norms {
    fn new(q: Array, k: Array) -> Result<Self> {
        Ok(if q.shape() == k.shape() { Self::Together(stack(&[q, k], 0)?) } else { Self::Apart(q, k) })
    }

    /// q and k of each row, one behind the other: of shape `[rows, q + k]`, to as many numbers of each row.
    fn forward(&self, qk: &Array, eps: f32) -> Result<Array> {
        match self {
            Self::Together(weights) => Ok(rms_norm(qk.reshape(&[qk.dim(0), 2, -1])?, None, eps)?.multiply(weights)?),
            Self::Apart(q_weight, k_weight) => {
                let parts = qk.split_at_indices(&[q_weight.dim(0)], -1)?;
                let (q, k) = (rms_norm(&parts[0], Some(q_weight), eps)?, rms_norm(&parts[1], Some(k_weight), eps)?);
                Ok(concatenate(&[q, k], -1)?)
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Together(weights) => weights.nbytes(),
            Self::Apart(q, k) => q.nbytes() + k.nbytes(),
        }
    }
}

impl Attention {
    pub(crate) fn load(loader: &Loader<'_>, spec: &Spec, layer: usize) -> Result<Self> {
        let Config { hidden, heads, kv_heads, head_dim, norm_eps, .. } = *loader.config;
        let AttentionSpec { qk_norm, clip, windows } = &spec.attention;
        let path = |part: &str| format!("model.layers.{layer}.self_attn.{part}");
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let qkv = [(path("q_proj"), q), (path("k_proj"), kv), (path("v_proj"), kv)];
        let norms = if *qk_norm {
            Some(Norms::new(loader.vector(&path("q_norm.weight"), q)?, loader.vector(&path("k_norm.weight"), kv)?)?)
        } else {
            None
        };
        Ok(Self {
            layer,
            qkv: loader.fused(&qkv, hidden)?,
            out: loader.linear(&path("o_proj"), hidden, q)?,
            norms,
            clip: *clip,
            window: windows[layer],
            heads: heads as i32,
            kv_heads: kv_heads as i32,
            head_dim: head_dim as i32,
            norm_eps,
        })
    }

    /// What becomes of `x`, added to `onto`: both of shape `[rows, hidden]`, to the same, or to the rows of `wanted`
    /// (uint32) alone. Writes the keys and values of all rows into the sequences' caches.
    pub(crate) fn forward(
        &self,
        x: &Array,
        onto: &Array,
        batch: &mut Batch<'_>,
        turns: &Turns<'_>,
        wanted: Option<&Array>,
    ) -> Result<Array> {
        let rows = x.dim(0);
        let (qkv, v_from) = (self.qkv.forward(x)?, (self.heads + self.kv_heads) * self.head_dim);
        // q and k stay one array as long as they are treated alike. They are cut by slices: to MLX's RoPE on CUDA (up to
        // 0.32) a part of a split is as large as what it holds, not as what it spans, and it writes past its output.
        let (mut qk, mut v) = (qkv.index((.., ..v_from)), qkv.index((.., v_from..)));
        if let Some(norms) = &self.norms {
            qk = norms.forward(&qk, self.norm_eps)?;
        }
        if let Some(limit) = self.clip {
            (qk, v) = (clip(&qk, (-limit, limit))?, clip(&v, (-limit, limit))?);
        }
        let (qk_heads, v_heads) = (self.heads + self.kv_heads, self.kv_heads);
        let joined = if batch.is_single_tokens() {
            // One position a row, so that heads come first without a transpose.
            let by_head = |a: &Array, heads: i32| a.reshape(&[rows, heads, 1, self.head_dim]);
            let (qk, v) = (by_head(&qk, qk_heads)?, by_head(&v, v_heads)?);
            match batch.segments.as_mut_slice() {
                [segment] => self.attend(segment, &turns.segment(&qk, segment)?, &v)?,
                // RoPE turns all rows at once, each by its own position.
                _ => self.attend_rows(&turns.rows(&qk, batch)?, &v, batch)?,
            }
        } else {
            let by_head = |a: &Array, heads: i32| a.reshape(&[rows, heads, self.head_dim]);
            let (qk, v) = (by_head(&qk, qk_heads)?, by_head(&v, v_heads)?);
            let mut mixed = Vec::with_capacity(batch.segments.len());
            for segment in &mut batch.segments {
                let to_heads = |a: &Array| a.index(segment.rows()).transpose_axes(&[1, 0, 2])?.expand_dims(0);
                let (qk, v) = (turns.segment(&to_heads(&qk)?, segment)?, to_heads(&v)?);
                mixed.push(self.attend(segment, &qk, &v)?);
            }
            in_one(mixed)?
        };
        match wanted {
            None => self.out.forward_onto(&joined, onto),
            Some(rows) => self.out.forward_onto(&take_axis(joined, rows, 0)?, &take_axis(onto, rows, 0)?),
        }
    }

    /// Single tokens: q and then k of each, `[rows, heads + kv_heads, 1, head_dim]`, and v to `[rows, heads * head_dim]`.
    fn attend_rows(&self, qk: &Array, v: &Array, batch: &mut Batch<'_>) -> Result<Array> {
        let (q, k) = (qk.index((.., 0..self.heads)), qk.index((.., self.heads..)));
        let mut mixed = Vec::with_capacity(batch.together.len() + batch.apart.len());
        for together in &mut batch.together {
            let attended = together.attend(self.layer, self.window, &q, [&k, v], self.scale())?;
            mixed.push(attended.reshape(&[-1, self.heads * self.head_dim])?);
        }
        for &segment in &batch.apart {
            let segment = &mut batch.segments[segment];
            mixed.push(self.attend(segment, &qk.index(segment.rows()), &v.index(segment.rows()))?);
        }
        let joined = in_one(mixed)?;
        Ok(if let Some(places) = &batch.places { take_axis(joined, places, 0)? } else { joined })
    }

    /// One segment: heads of q and then of k, `[1, heads + kv_heads, n, head_dim]`, and of v to rows of shape
    /// `[n, heads * head_dim]`.
    fn attend(&self, segment: &mut Segment<'_>, qk: &Array, v: &Array) -> Result<Array> {
        let (offset, n) = (segment.cache.len(), qk.dim(2));
        let (q, k) = (&qk.index((.., 0..self.heads)), &qk.index((.., self.heads..)));
        // The first position that any of these queries may see.
        let from = self.window.map_or(0, |w| (offset + 1).saturating_sub(w));
        let (keys, values) = segment.cache.update(self.layer, k, v, from)?;
        let scale = self.scale();
        let attended = match self.window {
            _ if n == 1 => scaled_dot_product_attention(q, keys, values, scale, None, None)?,
            Some(w) if offset + n as usize > w => {
                let mask = window_mask(offset, n, from, w)?;
                scaled_dot_product_attention(q, keys, values, scale, &mask, None)?
            }
            _ => scaled_dot_product_attention(q, keys, values, scale, Mask::Causal, None)?,
        };
        let by_position = if n == 1 { attended } else { attended.transpose_axes(&[0, 2, 1, 3])? };
        Ok(by_position.reshape(&[n, self.heads * self.head_dim])?)
    }

    fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.qkv.bytes() + self.out.bytes() + self.norms.as_ref().map_or(0, Norms::bytes)
    }
}

fn in_one(mixed: Vec<Array>) -> Result<Array> {
    Ok(if let [only] = mixed.as_slice() { only.clone() } else { concatenate(&mixed, 0)? })
}

/// Boolean mask of shape `[n, offset + n - from]`: query `i` stands at position `offset + i` and sees keys at most
/// `window - 1` positions back.
fn window_mask(offset: usize, n: i32, from: usize, window: usize) -> Result<Array> {
    let offset = offset as i32;
    let queries = arange::<_, i32>(offset, offset + n, 1)?.expand_dims(1)?;
    let keys = arange::<_, i32>(from as i32, offset + n, 1)?.expand_dims(0)?;
    let distance = queries.subtract(&keys)?;
    let mask = distance.ge(Array::from_int(0))?.logical_and(distance.lt(Array::from_int(window as i32))?)?;
    debug_assert_eq!(mask.dtype(), Dtype::Bool);
    Ok(mask)
}
