//! All experts of a layer in memory: the graph never waits for the router's decision.

use mlx_rs::Array;

use super::pool::Pool;
use super::products::Products;
use crate::checkpoint::Loader;
use crate::error::Result;
use crate::families::MoeSpec;
use crate::model::Routing;

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
        self.0.forward(x, onto, &routing.experts, &routing.weights)
    }

    pub(crate) fn experts(&self) -> usize {
        self.0.experts()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
