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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::{Config, Loader, Tensors};
    use crate::families::Spec;
    use crate::model::{Batch, Logits, Model};
    use crate::policy::Choice;

    const LITTLE: Choice = Choice::Half { renormalize: false };

    fn model(name: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures").join(name);
        let config = Config::open(&folder.join("config.json")).expect("a config");
        let tensors = Tensors::open(&folder).expect("weights");
        let loader = Loader { tensors: &tensors, config: &config, dtype: Dtype::Float32, quantize: None, store: None };
        Model::load(&loader, &Spec::of(&config).expect("a family"), &mut |_, _| {}).expect("a model")
    }

    fn pass(model: &Model, cache: &mut KvCache, tokens: &[u32], choice: Choice) {
        let output = model.forward(&mut Batch::new([(tokens, cache)]), choice, Logits::Last).expect("a pass");
        output.logits.expect("logits").eval().expect("evaluated");
    }

    fn bits(cache: &KvCache) -> Vec<Vec<u32>> {
        let arrays = cache.contents().into_iter().flat_map(|(k, v)| [k, v]);
        arrays
            .map(|a| {
                let a = a.contiguous().expect("contiguous");
                a.try_as_slice::<f32>().expect("values").iter().map(|x| x.to_bits()).collect()
            })
            .collect()
    }

    #[test]
    fn after_a_fallback_the_cache_is_the_big_models_bit_for_bit() {
        for name in ["micro/olmoe-sharded", "micro/qwen2moe-gqa", "micro/mixtral-window", "micro/olmoe-mlx-4bit"] {
            let model = model(name);
            let prompt: Vec<u32> = (40..70).collect();
            let (mut direct, mut fallen) = (model.cache(), model.cache());
            for cache in [&mut direct, &mut fallen] {
                pass(&model, cache, &prompt, Choice::All);
            }
            for token in 100..104 {
                pass(&model, &mut direct, &[token], Choice::All);
                pass(&model, &mut fallen, &[token], LITTLE);
                let little = bits(&fallen);
                fallen.truncate(fallen.len() - 1);
                pass(&model, &mut fallen, &[token], Choice::All);
                assert_ne!(little, bits(&fallen), "{name}: the little pass writes other values");
                assert_eq!(bits(&direct), bits(&fallen), "{name}");
            }
        }
    }

    #[test]
    fn growing_keeps_what_was_written() {
        let mut cache = KvCache::new(1);
        let row = |x: f32| Array::from_slice(&[x, x, x, x], &[1, 2, 1, 2]);
        for n in 0..(2 * GROWTH + 3) {
            cache.update(0, &row(n as f32), &row(-(n as f32)), 0).expect("written");
            cache.advance(1);
        }
        let (keys, values) = &cache.contents()[0];
        assert_eq!(keys.shape(), [1, 2, (2 * GROWTH + 3) as i32, 2]);
        for n in [0, GROWTH - 1, GROWTH, 2 * GROWTH + 2] {
            let at = |a: &Array| a.index((0, 1, n as i32, 0)).item_exact::<f32>();
            assert_eq!((at(keys), at(values)), (n as f32, -(n as f32)));
        }
    }
}
