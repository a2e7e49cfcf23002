//! The KV cache of one sequence.

use mlx_rs::ops::indexing::{IndexOp as _, TryIndexMutOp as _};
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::{Array, Dtype};

use crate::error::Result;

/// Positions added at least when a cache is full; longer caches grow by half of what they hold, so that the cost of
/// copying stays a constant share of decoding.
const GROWTH: usize = 256;

/// Keys and values of all layers for the first [`KvCache::len`] positions of a sequence.
///
/// Rolling back is shortening: the arrays keep their capacity and later positions are written over.
#[derive(Debug, Clone)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// Keys and values of one layer, each of shape `[1, kv_heads, capacity, head_dim]`.
#[derive(Debug, Clone, Default)]
struct LayerCache {
    arrays: Option<(Array, Array)>,
}

impl KvCache {
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers], len: 0 }
    }

    /// Positions that count.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the positions from `len` on, in every layer.
    pub(crate) fn truncate(&mut self, len: usize) {
        debug_assert!(len <= self.len);
        self.len = len.min(self.len);
    }

    /// Counts `n` positions that every layer has been given.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// Writes keys and values of shape `[1, kv_heads, n, head_dim]` behind the positions that count, and gives those
    /// of positions `from..len + n`.
    pub(crate) fn update(&mut self, layer: usize, keys: &Array, values: &Array, from: usize) -> Result<(Array, Array)> {
        let start = self.len as i32;
        let end = start + keys.dim(2);
        let cache = &mut self.layers[layer];
        cache.reserve(end, keys, values)?;
        let Some((k, v)) = &mut cache.arrays else { unreachable!("reserved above") };
        k.try_index_mut((.., .., start..end, ..), keys)?;
        v.try_index_mut((.., .., start..end, ..), values)?;
        let from = from as i32;
        Ok((k.index((.., .., from..end, ..)), v.index((.., .., from..end, ..))))
    }

    /// The arrays themselves, for an evaluation that must not leave them behind.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(|l| l.arrays.iter().flat_map(|(k, v)| [k, v]))
    }

    /// Keys and values that count, layer by layer.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<(Array, Array)> {
        let end = self.len as i32;
        let cut = |a: &Array| a.index((.., .., 0..end, ..));
        self.layers.iter().filter_map(|l| l.arrays.as_ref()).map(|(k, v)| (cut(k), cut(v))).collect()
    }

    /// Bytes held, capacity included.
    pub(crate) fn bytes(&self) -> usize {
        self.arrays().map(Array::nbytes).sum()
    }
}

impl LayerCache {
    fn reserve(&mut self, positions: i32, keys: &Array, values: &Array) -> Result<()> {
        let held = self.arrays.as_ref().map_or(0, |(k, _)| k.dim(2));
        if positions <= held {
            return Ok(());
        }
        let step = GROWTH as i32;
        let wanted = positions.max(held + held / 2);
        let capacity = (wanted + step - 1) / step * step;
        let room = |like: &Array| zeros(&[1, like.dim(1), capacity - held, like.dim(3)], like.dtype());
        let (k, v) = (room(keys)?, room(values)?);
        self.arrays = Some(match self.arrays.take() {
            None => (k, v),
            Some((old_k, old_v)) => (concatenate(&[old_k, k], 2)?, concatenate(&[old_v, v], 2)?),
        });
        Ok(())
    }
}

fn zeros(shape: &[i32], dtype: Dtype) -> Result<Array> {
    Ok(zeros_dtype(shape, dtype)?)
}
