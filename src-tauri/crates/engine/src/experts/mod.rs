//! Where the expert weights live.

mod resident;

use mlx_rs::Array;

use crate::checkpoint::Loader;
use crate::error::Result;
use crate::families::MoeSpec;
use crate::model::Routing;
use resident::Resident;

/// The experts of one layer.
#[derive(Debug)]
pub(crate) enum Experts {
    /// All of them in memory, stacked: the graph never waits for the router's decision.
    Resident(Resident),
}

impl Experts {
    pub(crate) fn load(loader: &Loader<'_>, spec: &MoeSpec, block: &str) -> Result<Self> {
        Resident::load(loader, spec, block).map(Self::Resident)
    }

    /// The weighted sum of the chosen experts: `x` of shape `[rows, hidden]` to the same.
    pub(crate) fn forward(&self, x: &Array, routing: &Routing) -> Result<Array> {
        match self {
            Self::Resident(experts) => experts.forward(x, routing),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Resident(experts) => experts.bytes(),
        }
    }
}
