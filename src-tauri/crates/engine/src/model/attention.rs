//! Grouped-query attention with RoPE, over sequences that share one pass.

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, rms_norm, rope, rope_dynamic, scaled_dot_product_attention};
use mlx_rs::ops::indexing::IndexOp as _;
use mlx_rs::ops::{arange, clip, concatenate};
use mlx_rs::{Array, Dtype};

use super::Matrix;
use super::batch::{Batch, Segment};
use crate::checkpoint::{Config, Loader};
use crate::error::Result;
use crate::families::{AttentionSpec, Spec};

/// One layer's attention.
#[derive(Debug)]
pub(crate) struct Attention {
    qkv: Matrix,
    out: Matrix,
    /// Weights of the norms over all of q and all of k.
    norms: Option<(Array, Array)>,
    clip: Option<f32>,
    window: Option<usize>,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    norm_eps: f32,
    rope_theta: f32,
    /// Positions are multiplied by this.
    rope_scale: f32,
}

impl Attention {
    pub(crate) fn load(loader: &Loader<'_>, spec: &Spec, layer: usize) -> Result<Self> {
        let Config { hidden, heads, kv_heads, head_dim, norm_eps, rope, .. } = *loader.config;
        let AttentionSpec { qk_norm, clip, windows } = &spec.attention;
        let path = |part: &str| format!("model.layers.{layer}.self_attn.{part}");
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let qkv = [(path("q_proj"), q), (path("k_proj"), kv), (path("v_proj"), kv)];
        let norms = if *qk_norm {
            Some((loader.vector(&path("q_norm.weight"), q)?, loader.vector(&path("k_norm.weight"), kv)?))
        } else {
            None
        };
        Ok(Self {
            qkv: loader.fused(&qkv, hidden)?,
            out: loader.linear(&path("o_proj"), hidden, q)?,
            norms,
            clip: *clip,
            window: windows[layer],
            heads: heads as i32,
            kv_heads: kv_heads as i32,
            head_dim: head_dim as i32,
            norm_eps,
            rope_theta: spec.rope_theta,
            rope_scale: rope.scale,
        })
    }

    /// `x` of shape `[rows, hidden]` to the same; writes the rows' keys and values into the sequences' caches.
    pub(crate) fn forward(&self, x: &Array, layer: usize, batch: &mut Batch<'_>) -> Result<Array> {
        let rows = x.dim(0);
        let qkv = self.qkv.forward(x)?;
        let (q_end, k_end) = (self.heads * self.head_dim, (self.heads + self.kv_heads) * self.head_dim);
        let parts = qkv.split_at_indices(&[q_end, k_end], -1)?;
        let (mut q, mut k, mut v) = (parts[0].clone(), parts[1].clone(), parts[2].clone());
        if let Some((q_norm, k_norm)) = &self.norms {
            q = rms_norm(&q, Some(q_norm), self.norm_eps)?;
            k = rms_norm(&k, Some(k_norm), self.norm_eps)?;
        }
        if let Some(limit) = self.clip {
            for part in [&mut q, &mut k, &mut v] {
                *part = clip(&*part, (-limit, limit))?;
            }
        }
        let by_head = |a: &Array, heads: i32| a.reshape(&[rows, heads, self.head_dim]);
        let (q, k, v) = (by_head(&q, self.heads)?, by_head(&k, self.kv_heads)?, by_head(&v, self.kv_heads)?);

        let mixed = if batch.is_single_tokens() && batch.segments.len() > 1 {
            // One position a row: RoPE turns all of them at once, each by its own position.
            let (q, k) = (self.rotate_rows(&q, batch)?, self.rotate_rows(&k, batch)?);
            self.attend_each(layer, batch, |r| Ok((cut_row(&q, r)?, cut_row(&k, r)?, cut_row(&v, r)?)))?
        } else {
            let to_heads =
                |a: &Array, s: &Segment<'_>| a.index((s.rows(), .., ..)).transpose_axes(&[1, 0, 2])?.expand_dims(0);
            let mut outputs = Vec::with_capacity(batch.segments.len());
            for segment in &mut batch.segments {
                let offset = segment.cache.len() as i32;
                let q = self.rotate(&to_heads(&q, segment)?, offset)?;
                let k = self.rotate(&to_heads(&k, segment)?, offset)?;
                let v = to_heads(&v, segment)?;
                outputs.push(self.attend(layer, segment, &q, &k, &v)?);
            }
            outputs
        };
        let joined = if let [only] = mixed.as_slice() { only.clone() } else { concatenate(&mixed, 0)? };
        self.out.forward(&joined)
    }

    /// Attention of single-token segments whose heads `cut` gives by row.
    fn attend_each(
        &self,
        layer: usize,
        batch: &mut Batch<'_>,
        cut: impl Fn(i32) -> Result<(Array, Array, Array)>,
    ) -> Result<Vec<Array>> {
        let mut outputs = Vec::with_capacity(batch.segments.len());
        for segment in &mut batch.segments {
            let (q, k, v) = cut(segment.start)?;
            outputs.push(self.attend(layer, segment, &q, &k, &v)?);
        }
        Ok(outputs)
    }

    /// One segment: heads of shape `[1, heads, n, head_dim]` to rows of shape `[n, heads * head_dim]`.
    fn attend(&self, layer: usize, segment: &mut Segment<'_>, q: &Array, k: &Array, v: &Array) -> Result<Array> {
        let (offset, n) = (segment.cache.len(), q.dim(2));
        // The first position that any of these queries may see.
        let from = self.window.map_or(0, |w| (offset + 1).saturating_sub(w));
        let (keys, values) = segment.cache.update(layer, k, v, from)?;
        let scale = (self.head_dim as f32).powf(-0.5);
        let attended = match self.window {
            _ if n == 1 => scaled_dot_product_attention(q, keys, values, scale, None, None)?,
            Some(w) if offset + n as usize > w => {
                let mask = window_mask(offset, n, from, w)?;
                scaled_dot_product_attention(q, keys, values, scale, &mask, None)?
            }
            _ => scaled_dot_product_attention(q, keys, values, scale, Mask::Causal, None)?,
        };
        Ok(attended.transpose_axes(&[0, 2, 1, 3])?.reshape(&[n, self.heads * self.head_dim])?)
    }

    /// RoPE of shape `[1, heads, n, head_dim]`, the halves of a head paired, from position `offset` on.
    fn rotate(&self, x: &Array, offset: i32) -> Result<Array> {
        Ok(rope(x, self.head_dim, false, self.rope_theta, self.rope_scale, offset, None)?)
    }

    /// RoPE of shape `[rows, heads, head_dim]`, each row at its own position; gives `[rows, heads, 1, head_dim]`.
    fn rotate_rows(&self, x: &Array, batch: &Batch<'_>) -> Result<Array> {
        let positions = batch.positions();
        let x = x.expand_dims(2)?;
        Ok(rope_dynamic(x, self.head_dim, false, self.rope_theta, self.rope_scale, positions, None)?)
    }

    pub(crate) fn bytes(&self) -> usize {
        let norms = self.norms.as_ref().map_or(0, |(q, k)| q.nbytes() + k.nbytes());
        self.qkv.bytes() + self.out.bytes() + norms
    }
}

/// Row `r` as `[1, heads, 1, head_dim]`.
fn cut_row(x: &Array, r: i32) -> Result<Array> {
    let row = x.index(r..r + 1);
    Ok(if row.ndim() == 4 { row } else { row.expand_dims(2)? })
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
