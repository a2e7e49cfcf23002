//! Rotary position embedding, the halves of a head paired (<https://arxiv.org/abs/2104.09864>).

use mlx_rs::fast::{rope, rope_dynamic};
use mlx_rs::ops::indexing::IndexOp as _;
use mlx_rs::ops::{arange, concatenate, cos, exp, sin};
use mlx_rs::{Array, Dtype};

use super::batch::{Batch, Segment};
use crate::device::on_cpu;
use crate::error::Result;

/// How the heads of a model are turned.
#[derive(Debug)]
pub(crate) struct Rope {
    head_dim: i32,
    theta: f32,
    /// Positions are multiplied by this.
    scale: f32,
    /// On a CPU: how far a position turns each number of a head, float32 of shape `[head_dim]`, negative in its first
    /// half. On a GPU MLX has RoPE as one operation; for a CPU it puts it together anew in every layer, angles included.
    frequencies: Option<Array>,
}

/// The turns of one pass.
#[derive(Debug)]
pub(crate) enum Turns<'a> {
    /// By MLX's own operation.
    Fused(&'a Rope),
    /// Cosines, and sines that are negated in the first half of a head: each of shape `[rows, head_dim]`.
    Tables { cos: Array, sin: Array },
}

impl Rope {
    pub(crate) fn new(head_dim: usize, theta: f32, scale: f32) -> Result<Self> {
        let head_dim = head_dim as i32;
        let frequencies = if on_cpu() { Some(frequencies(head_dim / 2, theta)?) } else { None };
        Ok(Self { head_dim, theta, scale, frequencies })
    }

    /// What the rows of `batch` turn by; cosines and sines in `dtype`.
    pub(crate) fn turns(&self, batch: &Batch<'_>, dtype: Dtype) -> Result<Turns<'_>> {
        let Some(frequencies) = &self.frequencies else { return Ok(Turns::Fused(self)) };
        let positions: Vec<f32> = batch.row_positions().map(|p| p as f32 * self.scale).collect();
        let angles = Array::from_slice(&positions, &[positions.len() as i32, 1]).multiply(frequencies)?;
        Ok(Turns::Tables { cos: cos(&angles)?.as_dtype(dtype)?, sin: sin(&angles)?.as_dtype(dtype)? })
    }
}

impl Turns<'_> {
    /// One segment, whose tokens follow one another: `x` of shape `[1, heads, n, head_dim]` to the same.
    pub(crate) fn segment(&self, x: &Array, segment: &Segment<'_>) -> Result<Array> {
        match self {
            Self::Fused(r) => Ok(rope(x, r.head_dim, false, r.theta, r.scale, segment.cache.len() as i32, None)?),
            Self::Tables { cos, sin } => turned(x, &cos.index(segment.rows()), &sin.index(segment.rows())),
        }
    }

    /// One token of each segment: `x` of shape `[rows, heads, 1, head_dim]` to the same.
    pub(crate) fn rows(&self, x: &Array, batch: &Batch<'_>) -> Result<Array> {
        match self {
            Self::Fused(r) => Ok(rope_dynamic(x, r.head_dim, false, r.theta, r.scale, batch.positions(), None)?),
            Self::Tables { cos, sin } => turned(x, &cos.expand_dims_axes(&[1, 2])?, &sin.expand_dims_axes(&[1, 2])?),
        }
    }
}

/// Those of a head of twice `half` numbers, as MLX has them, negative and positive.
fn frequencies(half: i32, theta: f32) -> Result<Array> {
    let exponents = arange::<_, f32>(0, -half, -1)?.multiply(Array::from_f32(theta.ln() / half as f32))?;
    let frequencies = exp(exponents)?;
    let signed = concatenate(&[&frequencies.negative()?, &frequencies], 0)?;
    signed.eval()?;
    Ok(signed)
}

/// `x · cos + swapped · sin`, where `swapped` has the halves of the last axis exchanged.
fn turned(x: &Array, cos: &Array, sin: &Array) -> Result<Array> {
    let halves = x.split_equal(2, -1)?;
    let swapped = concatenate(&[&halves[1], &halves[0]], -1)?;
    Ok(x.multiply(cos)?.add(swapped.multiply(sin)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KvCache;

    /// MLX's own RoPE is the reference, on whatever device this runs.
    #[test]
    fn turns_are_those_of_mlx() {
        let (heads, head_dim, theta, scale) = (3, 8, 1e4, 0.5);
        let own = Rope::new(head_dim as usize, theta, scale).expect("a rope");
        let x = Array::from_iter((0..5 * heads * head_dim).map(|n| (n as f32).sin()), &[5, heads, head_dim]);
        let (mut first, mut second) = (KvCache::new(1), KvCache::new(1));
        first.advance(700);
        second.advance(3);
        let batch = Batch::new([(&[1, 2, 3][..], &mut first), (&[4, 5][..], &mut second)]);
        let turns = own.turns(&batch, Dtype::Float32).expect("turns");
        for segment in &batch.segments {
            let heads_first = x.index(segment.rows()).transpose_axes(&[1, 0, 2]).expect("a view").expand_dims(0);
            let heads_first = heads_first.expect("a view");
            let expected =
                rope(&heads_first, head_dim, false, theta, scale, segment.cache.len() as i32, None).expect("MLX's");
            let found = turns.segment(&heads_first, segment).expect("turned");
            assert!(found.all_close(&expected, 1e-6, 1e-6, false).expect("compared"));
        }

        let batch = Batch::new([(&[1][..], &mut first), (&[4][..], &mut second)]);
        let x = x.index(0..2).expand_dims(2).expect("a view");
        let turns = own.turns(&batch, Dtype::Float32).expect("turns");
        let found = turns.rows(&x, &batch).expect("turned");
        let positions = batch.positions();
        let expected = rope_dynamic(&x, head_dim, false, theta, scale, positions, None);
        assert!(found.all_close(expected.expect("MLX's"), 1e-6, 1e-6, false).expect("compared"));
    }
}
