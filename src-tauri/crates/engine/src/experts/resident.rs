//! All experts of a layer in memory: the graph never waits for the router's decision.

use mlx_rs::Array;
use mlx_rs::transforms::{async_eval, eval};

use super::pool::Pool;
use super::products::Products;
use crate::checkpoint::Loader;
use crate::device::on_cuda;
use crate::error::Result;
use crate::families::MoeSpec;
use crate::model::Routing;

/// From this many products an expert on, CUDA is faster with weights that have been unpacked for the pass: MLX's gathered
/// product of quantized weights takes row by row there, that of others all rows of an expert together.
/// tests/benches/PERFORMANCE.md has the figures.
const UNPACK_FROM: usize = 16;

/// The experts, stacked.
#[derive(Debug)]
pub(crate) struct Resident(Products);

impl Resident {
    pub(crate) fn load(loader: &Loader<'_>, spec: &MoeSpec, block: &str) -> Result<Self> {
        let [gate_up, down] = loader.experts(spec, block, None)?;
        Ok(Self(Products::new(gate_up, down)))
    }

    /// From a pool in which every expert lies in the slot of its number.
    pub(crate) fn filled(pool: Pool) -> Self {
        Self(pool.into_products())
    }

    pub(crate) fn forward(&self, x: &Array, onto: &Array, routing: &Routing) -> Result<Array> {
        let (chosen, weights) = (&routing.experts, &routing.weights);
        if on_cuda() && chosen.size() >= UNPACK_FROM * self.experts() {
            // A layer at a time: MLX would make the weights of all layers before it computes with those of the first.
            eval([x])?;
            let sums = self.0.unpacked()?.forward(x, onto, chosen, weights)?;
            async_eval([&sums])?;
            return Ok(sums);
        }
        self.0.forward(x, onto, chosen, weights)
    }

    pub(crate) fn experts(&self) -> usize {
        self.0.experts()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
