//! Where the expert weights live: all of them in memory, or some of them with the others on disk.

mod arrange;
#[cfg(test)]
mod faults;
mod layout;
mod numbers;
mod pool;
mod products;
mod reader;
mod reads;
mod resident;
mod rows;
mod slots;
mod store;
mod streamed;
mod uncached;
mod waves;

use std::sync::Arc;

use mlx_rs::Array;

use crate::checkpoint::Loader;
use crate::error::Result;
use crate::families::MoeSpec;
use crate::model::Routing;
use crate::pressure::Pressure;
pub use arrange::{Arranged, arrange, is_arranged};
use layout::{LayerFile, Source};
use pool::Pool;
pub use reads::{ExpertRead, ExpertReads};
use resident::Resident;
pub(crate) use rows::{Gone, Rows};
pub use slots::Replacement;
pub use store::ExpertMemory;
pub(crate) use store::Store;
pub(crate) use streamed::Guess;
use streamed::Streamed;

/// The experts of one layer.
#[derive(Debug)]
pub(crate) enum Experts {
    /// All of them in memory.
    Resident(Resident),
    /// Some of them in memory.
    Streamed(Box<Streamed>),
}

impl Experts {
    /// The experts of `layer`, whose MoE block has the module path `block`.
    pub(crate) fn load(loader: &Loader<'_>, spec: &MoeSpec, layer: usize, block: &str) -> Result<Self> {
        let Some(store) = &loader.store else {
            return Resident::load(loader, spec, block).map(Self::Resident);
        };
        let file = LayerFile::open(store.file(layer), layer, store.page_cache)?;
        store.check(&file, loader, spec)?;
        let (experts, slots) = (spec.experts, store.slots(&file)?);
        let pool = Pool::new(&file.header, slots)?;
        let source: Arc<dyn Source> = Arc::new(file);
        if slots == experts {
            return Ok(Self::Resident(Resident::filled(pool.filled(&store.streaming.reader, &source)?)));
        }
        Ok(Self::Streamed(Box::new(Streamed::new(source, pool, experts, store.streaming.clone()))))
    }

    /// The weighted sum of the chosen experts, added to `onto`: `x` and `onto` of shape `[rows, hidden]` to the same.
    /// Streamed experts fetch the next layer's meanwhile, as far as they can be guessed.
    pub(crate) fn forward(
        &self,
        x: &Array,
        onto: &Array,
        routing: &Routing,
        guess: Option<&Guess<'_>>,
    ) -> Result<Array> {
        match self {
            Self::Resident(experts) => experts.forward(x, onto, routing),
            Self::Streamed(experts) => experts.forward(x, onto, routing, guess),
        }
    }

    /// The layer that is to hear guesses at what it will want, where it does.
    pub(crate) fn guessable(&self) -> Option<&Streamed> {
        match self {
            Self::Streamed(experts) if experts.wants_guesses() => Some(experts),
            _ => None,
        }
    }

    /// Whether a pass with fewer experts should say which ones all K would have been.
    pub(crate) fn fetch_ahead(&self) -> bool {
        matches!(self, Self::Streamed(_))
    }

    /// Fetches what a pass with all K experts over `rows` of the last pass, one with fewer, would wait for.
    pub(crate) fn prefetch(&self, rows: &[usize]) {
        if let Self::Streamed(experts) = self {
            experts.prefetch(rows);
        }
    }

    /// Gives memory back or takes it back, where experts are streamed: under pressure a quarter or half of what they
    /// have, but not below `least` slots, and a quarter of the budget when it is over.
    pub(crate) fn adapt(&mut self, pressure: Pressure, least: usize) -> Result<()> {
        let Self::Streamed(experts) = self else { return Ok(()) };
        let (now, budget) = (experts.slots(), experts.budget());
        let wanted = match pressure {
            Pressure::Normal => now + budget.div_ceil(4),
            Pressure::Warning => now * 3 / 4,
            Pressure::Critical => now / 2,
        };
        experts.resize(wanted.max(least).min(budget))
    }

    /// Experts in memory at a time.
    pub(crate) fn slots(&self) -> usize {
        match self {
            Self::Resident(experts) => experts.experts(),
            Self::Streamed(experts) => experts.slots(),
        }
    }

    /// Bytes of one expert.
    pub(crate) fn expert_bytes(&self) -> usize {
        self.bytes() / self.slots().max(1)
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Resident(experts) => experts.bytes(),
            Self::Streamed(experts) => experts.bytes(),
        }
    }
}
