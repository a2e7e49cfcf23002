//! A layer's mixture of experts: the router, the chosen experts, the shared one.

use mlx_rs::Array;
use mlx_rs::ops::indexing::{IndexOp as _, topk_axis};
use mlx_rs::ops::{argpartition_axis, cumsum, select, softmax_axis};

use super::Matrix;
use super::mlp::Mlp;
use super::routed::Told;
use crate::checkpoint::Loader;
use crate::error::Result;
use crate::experts::{Experts, Guess};
use crate::families::MoeSpec;
use crate::policy::Choice;
use crate::pressure::Pressure;

/// The MoE block of one layer.
#[derive(Debug)]
pub(crate) struct Moe {
    layer: usize,
    /// One output for each expert, and behind them the gate of the shared one.
    router: Matrix,
    experts: Experts,
    /// The expert that every token passes (Qwen), scaled by a sigmoid gate.
    shared: Option<Mlp>,
    top_k: i32,
    normalize: bool,
}

/// What the router decided for `rows` tokens.
#[derive(Debug)]
pub(crate) struct Routing {
    /// Expert ids, uint32 of shape `[rows, k]`, in no particular order.
    pub(crate) experts: Array,
    /// Their weights, of shape `[rows, k]`.
    pub(crate) weights: Array,
    /// Where fewer than K were chosen and the others may be fetched ahead: all K, uint32 of shape `[rows, K]`.
    pub(crate) all: Option<Array>,
}

impl Moe {
    pub(crate) fn load(loader: &Loader<'_>, spec: &MoeSpec, layer: usize) -> Result<Self> {
        let hidden = loader.config.hidden;
        let block = format!("model.layers.{layer}.{}", spec.names.block);
        let mut routed = vec![(format!("{block}.gate"), spec.experts)];
        let mut shared = None;
        if let Some(intermediate) = spec.shared {
            routed.push((format!("{block}.shared_expert_gate"), 1));
            shared = Some(Mlp::load(loader, &format!("{block}.shared_expert"), intermediate)?);
        }
        Ok(Self {
            layer,
            router: loader.router(&routed, hidden)?,
            experts: Experts::load(loader, spec, layer, &block)?,
            shared,
            top_k: spec.top_k as i32,
            normalize: spec.normalize,
        })
    }

    /// What becomes of `x`, added to `onto`: both of shape `[rows, hidden]`, to the same. `guess`: of what the next layer
    /// will want.
    pub(crate) fn forward(
        &self,
        x: &Array,
        onto: &Array,
        choice: Choice,
        told: &mut Told,
        guess: Option<&Guess<'_>>,
    ) -> Result<Array> {
        let (logits, gate) = self.logits(x)?;
        let routing = self.route(logits, x, choice)?;
        told.tell(self.layer, &routing, choice)?;
        let routed = self.experts.forward(x, onto, &routing, guess)?;
        match (&self.shared, gate) {
            (Some(shared), Some(gate)) => shared.forward_gated(x, &gate, &routed),
            _ => Ok(routed),
        }
    }

    /// The router's outputs, of shape `[rows, experts]`, and the shared expert's gate, of shape `[rows, 1]`.
    fn logits(&self, x: &Array) -> Result<(Array, Option<Array>)> {
        let logits = self.router.forward(x)?;
        if self.shared.is_none() {
            return Ok((logits, None));
        }
        let experts = logits.dim(-1) - 1;
        Ok((logits.index((.., ..experts)), Some(logits.index((.., experts..)))))
    }

    /// The experts that the router would choose for `x`, uint32 of shape `[rows, k]`.
    pub(crate) fn guess(&self, x: &Array, choice: Choice) -> Result<Array> {
        Ok(largest(&self.logits(x)?.0, choice.experts(self.top_k))?.contiguous()?)
    }

    /// Softmax over all experts, summed in float32, then the largest `k`. Where the family divides their weights by
    /// their sum, softmax over the `k` alone gives the same.
    fn route(&self, logits: Array, x: &Array, choice: Choice) -> Result<Routing> {
        let scores = if self.normalize { logits } else { softmax_axis(logits, -1, true)? };
        let experts = largest(&scores, choice.experts(self.top_k))?;
        let mut weights = scores.take_along_axis(&experts, -1)?;
        if self.normalize {
            weights = softmax_axis(weights, -1, true)?;
        }
        match choice {
            Choice::Half { renormalize: true } if !self.normalize => {
                // The little model's weights grow to the mass that the K chosen would have had.
                let mass = topk_axis(&scores, self.top_k, -1)?.sum_axis(-1, true)?;
                weights = weights.multiply(mass.divide(weights.sum_axis(-1, true)?)?)?;
            }
            Choice::Mass { share } => return self.keep_mass(&experts, &weights, share, x),
            _ => {}
        }
        let ahead = matches!(choice, Choice::Half { .. }) && self.experts.fetch_ahead();
        let all = if ahead { Some(largest(&scores, self.top_k)?) } else { None };
        Ok(Routing { experts, weights: weights.as_dtype(x.dtype())?, all })
    }

    /// Keeps the fewest of the K experts whose weights reach `share` of the K experts' mass. The ranks that no row
    /// keeps are cut, select costs a read-back of one number; a row that keeps fewer gives its surplus ranks weight 0, and
    /// names its first expert there, so that no other need be in memory.
    fn keep_mass(&self, experts: &Array, weights: &Array, share: f32, x: &Array) -> Result<Routing> {
        let order = mlx_rs::ops::argsort_axis(weights.negative()?, -1)?;
        let ranked = weights.take_along_axis(&order, -1)?;
        let total = ranked.sum_axis(-1, true)?;
        let before = cumsum(&ranked, -1, None, false)?;
        // A rank is kept while the ranks before it have not reached the share; the first always is, hence the ε.
        let kept = before.lt(total.multiply(Array::from_f32(share.max(f32::EPSILON)))?)?;
        let most = kept.as_type::<i32>()?.sum_axis(-1, None)?.max(None)?.item_exact::<i32>().max(1);
        let mut weights = select(&kept, &ranked, Array::from_f32(0.0))?;
        if self.normalize {
            weights = weights.divide(weights.sum_axis(-1, true)?)?;
        }
        let experts = experts.take_along_axis(&order, -1)?;
        let experts = select(&kept, &experts, experts.index((.., 0..1)))?;
        Ok(Routing {
            experts: experts.index((.., 0..most)),
            weights: weights.index((.., 0..most)).as_dtype(x.dtype())?,
            all: None,
        })
    }

    pub(crate) fn experts(&self) -> &Experts {
        &self.experts
    }

    /// As [`Experts::adapt`]. Under pressure a token's experts keep their place.
    pub(crate) fn adapt(&mut self, pressure: Pressure) -> Result<()> {
        self.experts.adapt(pressure, self.top_k as usize)
    }

    /// As [`Experts::prefetch`].
    pub(crate) fn prefetch(&self, rows: &[usize]) {
        self.experts.prefetch(rows);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.router.bytes() + self.experts.bytes() + self.shared.as_ref().map_or(0, Mlp::bytes)
    }
}

/// Ids of the `k` largest of `[rows, n]`, uint32 of shape `[rows, k]`, unordered.
fn largest(scores: &Array, k: i32) -> Result<Array> {
    let n = scores.dim(-1);
    Ok(argpartition_axis(scores, n - k, -1)?.index((.., n - k..)))
}
