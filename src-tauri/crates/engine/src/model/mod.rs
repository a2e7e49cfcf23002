//! The decoder that all families share: embedding, layers of attention and experts, norm, logits.

mod attention;
mod batch;
#[cfg(test)]
mod launches;
mod matrix;
mod mlp;
mod moe;
pub(crate) mod qmv;
mod rope;
mod routed;
mod together;

use mlx_rs::fast::rms_norm;
use mlx_rs::ops::indexing::take_axis;
use mlx_rs::{Array, Dtype};

use attention::Attention;
pub(crate) use batch::Batch;
pub(crate) use matrix::Matrix;
use mlp::Mlp;
pub(crate) use mlp::{swiglu, weighted_swiglu};
use moe::Moe;
pub(crate) use moe::Routing;
use rope::{Rope, Turns};
use routed::Told;
pub(crate) use routed::{NO_EXPERT, Routed};

use crate::checkpoint::{Config, Loader};
use crate::error::Result;
use crate::experts::{Experts, Guess};
use crate::families::{MlpSpec, Spec};
use crate::kv::KvCache;
use crate::policy::Choice;
use crate::pressure::Pressure;

/// The weights of a model and how they are put together.
#[derive(Debug)]
pub(crate) struct Model {
    embedding: Matrix,
    layers: Vec<Layer>,
    rope: Rope,
    norm: Array,
    /// The output matrix; a tied one is the embedding's.
    head: Option<Matrix>,
    norm_eps: f32,
    dtype: Dtype,
    /// Layers that have experts.
    pub(crate) moe_layers: usize,
}

#[derive(Debug)]
struct Layer {
    norm_eps: f32,
    attention_norm: Array,
    attention: Attention,
    mlp_norm: Array,
    mlp: Feedforward,
}

#[derive(Debug)]
enum Feedforward {
    Experts(Box<Moe>),
    Dense(Mlp),
}

/// What becomes of a layer's outputs.
#[derive(Debug)]
enum After<'a> {
    /// Another layer follows: this one, whose experts may be guessed for these rows (uint32) or all.
    Layer(Option<(&'a Layer, Option<&'a Array>)>),
    /// The layer is the last, and these rows get logits (uint32), or all. The outputs of no others are of use.
    Logits(Option<&'a Array>),
    /// The layer is the last of a pass that only fills the caches, which attention has done.
    Nothing,
}

/// Which rows of a pass get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logits {
    /// No row: the pass only fills the caches.
    None,
    /// The last row of each segment.
    Last,
}

/// What a pass gives.
#[derive(Debug)]
pub(crate) struct Output {
    /// float32, one row per row asked for; absent under [`Logits::None`].
    pub(crate) logits: Option<Array>,
    /// Under [`Choice::Mass`], the experts that each row that gets logits kept in all layers, int32 of shape `[rows]`.
    pub(crate) kept: Option<Array>,
    /// The experts of the rows that get logits, where the batch [is watched](Batch::watched).
    pub(crate) routed: Option<Routed>,
}

impl Model {
    /// Loads the weights; `progress` is told at first and after each layer how many of how many parts are done, and its
    /// error ends it.
    pub(crate) fn load(
        loader: &Loader<'_>,
        spec: &Spec,
        progress: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Self> {
        let Config { hidden, vocab, layers, head_dim, rope, .. } = *loader.config;
        let parts = layers + 1;
        progress(0, parts)?;
        let embedding = loader.table("model.embed_tokens", vocab, hidden)?;
        let head = if loader.config.tied { None } else { Some(loader.linear("lm_head", vocab, hidden)?) };
        progress(1, parts)?;
        let layers = (0..layers)
            .map(|n| {
                let layer = Layer::load(loader, spec, n)?;
                progress(n + 2, parts)?;
                Ok(layer)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            embedding,
            moe_layers: layers.iter().filter(|l| matches!(l.mlp, Feedforward::Experts(_))).count(),
            layers,
            rope: Rope::new(head_dim, spec.rope_theta, rope.scale)?,
            norm: loader.vector("model.norm.weight", hidden)?,
            head,
            norm_eps: loader.config.norm_eps,
            dtype: loader.dtype,
        })
    }

    /// A model of `tests/fixtures`, in float32.
    #[cfg(test)]
    pub(crate) fn fixture(name: &str) -> Self {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures").join(name);
        let config = Config::open(&folder.join("config.json")).expect("a config");
        let tensors = crate::checkpoint::Tensors::open(&folder).expect("weights");
        let loader = Loader { tensors: &tensors, config: &config, dtype: Dtype::Float32, quantize: None, store: None };
        Self::load(&loader, &Spec::of(&config).expect("a family"), &mut |_, _| Ok(())).expect("a model")
    }

    /// One pass over all rows, each with the experts of `choice`. The caches count the new positions afterwards.
    pub(crate) fn forward(&self, batch: &mut Batch<'_>, choice: Choice, logits: Logits) -> Result<Output> {
        let mut told = Told::new(batch.watched && logits == Logits::Last);
        let turns = self.rope.turns(batch, self.dtype)?;
        let mut x = self.embedding.rows(&batch.tokens)?.as_dtype(self.dtype)?;
        let last = (!batch.is_single_tokens()).then(|| batch.last_rows());
        let last = last.map(|rows| Array::from_slice(&rows, &[rows.len() as i32]));
        for (n, layer) in self.layers.iter().enumerate() {
            let after = match (&self.layers[n + 1..], logits) {
                ([], Logits::Last) => After::Logits(last.as_ref()),
                ([], Logits::None) => After::Nothing,
                ([next], Logits::Last) => After::Layer(Some((next, last.as_ref()))),
                ([_], Logits::None) => After::Layer(None),
                ([next, ..], _) => After::Layer(Some((next, None))),
            };
            x = layer.forward(&x, batch, choice, &turns, &mut told, &after)?;
        }
        let logits = match logits {
            Logits::None => None,
            Logits::Last => Some(self.head(&x)?),
        };
        batch.advance();
        let (kept, routed) = told.of(last.as_ref())?;
        Ok(Output { logits, kept, routed })
    }

    fn head(&self, x: &Array) -> Result<Array> {
        let x = rms_norm(x, Some(&self.norm), self.norm_eps)?;
        let logits = self.head.as_ref().unwrap_or(&self.embedding).forward(&x)?;
        Ok(logits.as_dtype(Dtype::Float32)?)
    }

    /// Begins to fetch, in every layer, the streamed experts that `rows` of the last pass (one with fewer experts) would
    /// want with all K.
    pub(crate) fn prefetch(&self, rows: &[usize]) {
        for layer in &self.layers {
            if let Feedforward::Experts(moe) = &layer.mlp {
                moe.prefetch(rows);
            }
        }
    }

    /// The experts of the layers that have any.
    pub(crate) fn experts(&self) -> impl Iterator<Item = &Experts> {
        self.layers.iter().filter_map(|layer| match &layer.mlp {
            Feedforward::Experts(moe) => Some(moe.experts()),
            Feedforward::Dense(_) => None,
        })
    }

    /// An empty cache for one sequence.
    pub(crate) fn cache(&self) -> KvCache {
        KvCache::new(self.layers.len())
    }

    /// Whether the experts of any layer are not all in memory. No pass can be prepared while another runs then: streamed experts read the
    /// router's choice back in between.
    pub(crate) fn is_streamed(&self) -> bool {
        self.experts().any(|experts| matches!(experts, Experts::Streamed(_)))
    }

    /// Has streamed experts give memory back or take it back, as far as `pressure` asks for it.
    pub(crate) fn adapt(&mut self, pressure: Pressure) -> Result<()> {
        self.layers.iter_mut().try_for_each(|layer| match &mut layer.mlp {
            Feedforward::Experts(moe) => moe.adapt(pressure),
            Feedforward::Dense(_) => Ok(()),
        })
    }

    /// Bytes of the experts in memory.
    pub(crate) fn expert_bytes(&self) -> usize {
        self.experts().map(Experts::bytes).sum()
    }

    /// Bytes of all weights.
    pub(crate) fn bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let head = self.head.as_ref().map_or(0, Matrix::bytes);
        layers + head + self.embedding.bytes() + self.norm.nbytes()
    }
}

impl Layer {
    fn load(loader: &Loader<'_>, spec: &Spec, n: usize) -> Result<Self> {
        let hidden = loader.config.hidden;
        let path = |part: &str| format!("model.layers.{n}.{part}");
        Ok(Self {
            norm_eps: loader.config.norm_eps,
            attention_norm: loader.vector(&path("input_layernorm.weight"), hidden)?,
            attention: Attention::load(loader, spec, n)?,
            mlp_norm: loader.vector(&path("post_attention_layernorm.weight"), hidden)?,
            mlp: match spec.mlps[n] {
                MlpSpec::Experts => Feedforward::Experts(Box::new(Moe::load(loader, &spec.moe, n)?)),
                MlpSpec::Dense(size) => Feedforward::Dense(Mlp::load(loader, &path("mlp"), size)?),
            },
        })
    }

    fn forward(
        &self,
        x: &Array,
        batch: &mut Batch<'_>,
        choice: Choice,
        turns: &Turns<'_>,
        told: &mut Told,
        after: &After<'_>,
    ) -> Result<Array> {
        let normed = rms_norm(x, Some(&self.attention_norm), self.norm_eps)?;
        let rows = if let After::Logits(rows) = after { *rows } else { None };
        let x = self.attention.forward(&normed, x, batch, turns, rows)?;
        if matches!(after, After::Nothing) {
            return Ok(x);
        }
        let normed = rms_norm(&x, Some(&self.mlp_norm), self.norm_eps)?;
        match &self.mlp {
            Feedforward::Experts(moe) => {
                let guess = match after {
                    After::Layer(Some((next, None))) => next.guess(&x, choice)?,
                    After::Layer(Some((next, Some(rows)))) => next.guess(&take_axis(&x, rows, 0)?, choice)?,
                    After::Layer(None) | After::Logits(_) | After::Nothing => None,
                };
                moe.forward(&normed, &x, choice, told, guess.as_ref())
            }
            Feedforward::Dense(mlp) => mlp.forward(&normed, &x),
        }
    }

    /// The experts that this layer would choose if the layer before had no experts, and nothing attended in between:
    /// from one layer to the next `x` changes little.
    fn guess(&self, x: &Array, choice: Choice) -> Result<Option<Guess<'_>>> {
        let Feedforward::Experts(moe) = &self.mlp else { return Ok(None) };
        let Some(layer) = moe.experts().guessable() else { return Ok(None) };
        let experts = moe.guess(&rms_norm(x, Some(&self.mlp_norm), self.norm_eps)?, choice)?;
        Ok(Some(Guess { layer, experts }))
    }

    fn bytes(&self) -> usize {
        let mlp = match &self.mlp {
            Feedforward::Experts(moe) => moe.bytes(),
            Feedforward::Dense(mlp) => mlp.bytes(),
        };
        self.attention.bytes() + mlp + self.attention_norm.nbytes() + self.mlp_norm.nbytes()
    }
}
