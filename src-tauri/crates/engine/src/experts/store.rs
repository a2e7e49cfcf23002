//! The streamed experts of a model as a whole: where they lie, and how much memory they may have.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use mobile_files::FromFile as _;
use serde::{Deserialize, Serialize};

use super::arrange::{self, Index};
use super::layout::LayerFile;
use super::reader::Reader;
use super::rows::Rows;
use super::streamed::Streaming;
use crate::checkpoint::{Bits, Loader};
use crate::device::Compute;
use crate::engine::LoadOptions;
use crate::error::{Error, Result};
use crate::families::MoeSpec;
use crate::statistics::ExpertCache;

/// Memory that experts may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertMemory {
    /// As much as there are.
    #[default]
    All,
    /// So many bytes.
    Bytes(u64),
    /// A share of all, from 0 to 1.
    Share(f64),
}

impl ExpertMemory {
    /// How many of `experts`, each of so many bytes, a layer may hold when `layers` share the memory.
    ///
    /// # Errors
    /// [`Error::Parameter`] where it is not one, with the smallest memory that would do.
    pub fn slots(self, layers: usize, experts: usize, expert_bytes: usize) -> Result<usize> {
        let fitting = match self {
            Self::All => experts,
            Self::Bytes(bytes) => (bytes / (layers as u64 * expert_bytes as u64).max(1)).min(experts as u64) as usize,
            // An eighth of eight is one, whatever rounding says.
            Self::Share(share) if (0.0..=1.0).contains(&share) => (experts as f64 * share + 1e-6) as usize,
            Self::Share(share) => {
                return Err(Error::Parameter(format!("expert memory must be a share from 0 to 1, found {share}")));
            }
        };
        if fitting == 0 {
            let least = layers as f64 * expert_bytes as f64 / f64::from(1 << 20);
            return Err(Error::Parameter(format!(
                "the expert memory does not hold one expert of each of the {layers} layers: give at least {least:.1} MiB"
            )));
        }
        Ok(fitting)
    }
}

/// What loading needs to know of streamed experts.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    index: Index,
    memory: ExpertMemory,
    pub(crate) page_cache: bool,
    pub(super) streaming: Streaming,
}

impl Store {
    /// The arranged experts of `folder`, where they have been arranged.
    pub(crate) fn open(folder: &Path, options: &LoadOptions) -> Result<Option<Self>> {
        let LoadOptions { expert_memory: memory, replacement, page_cache, look_ahead, .. } = *options;
        let Some(index) = Index::open(folder)? else { return Ok(None) };
        let reader = Arc::new(Reader::start(options.reads.clone()).map_err(Error::read(folder))?);
        let meter = Rc::<RefCell<ExpertCache>>::default();
        let look_ahead = Rc::new(Cell::new(look_ahead));
        let streaming = Streaming { reader, meter, replacement, rows: Rc::default(), look_ahead };
        Ok(Some(Self { folder: folder.to_owned(), index, memory, page_cache, streaming }))
    }

    /// Whether layers look ahead in the pass to come.
    pub(crate) fn look_ahead(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.streaming.look_ahead)
    }

    /// The rows of the pass that runs.
    pub(crate) fn rows(&self) -> Rc<RefCell<Rows>> {
        Rc::clone(&self.streaming.rows)
    }

    pub(crate) fn meter(&self) -> Rc<RefCell<ExpertCache>> {
        Rc::clone(&self.streaming.meter)
    }

    /// How weights were quantized when the experts were arranged.
    pub(crate) fn quantize(&self) -> Option<Bits> {
        self.index.quantize
    }

    /// The dtype the experts were arranged for.
    pub(crate) fn compute(&self) -> Compute {
        self.index.compute
    }

    pub(super) fn file(&self, layer: usize) -> PathBuf {
        self.folder.join(arrange::layer_name(layer))
    }

    pub(super) fn slots(&self, file: &LayerFile) -> Result<usize> {
        self.memory.slots(self.index.layers.len(), file.header.experts(), file.header.expert_bytes())
    }

    /// Refuses a file whose experts are not those of the config.
    pub(super) fn check(&self, file: &LayerFile, loader: &Loader<'_>, spec: &MoeSpec) -> Result<()> {
        let header = &file.header;
        let outputs = |parts: &super::layout::Parts| parts.arrays[0].shape.first().copied().unwrap_or(0);
        let found = (header.experts(), outputs(&header.gate_up), outputs(&header.down));
        let wanted = (spec.experts, 2 * spec.intermediate, loader.config.hidden);
        if found == wanted {
            return Ok(());
        }
        let path = self.file(header.layer);
        Err(Error::weights(&path, format!("holds experts of another model: {found:?} instead of {wanted:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_becomes_slots() {
        let slots = |memory: ExpertMemory| memory.slots(4, 8, 1000).ok();
        assert_eq!(slots(ExpertMemory::All), Some(8));
        assert_eq!([1.0, 0.5, 0.25, 0.125].map(|s| slots(ExpertMemory::Share(s))), [8, 4, 2, 1].map(Some));
        assert_eq!(slots(ExpertMemory::Bytes(8000)), Some(2));
        assert_eq!(slots(ExpertMemory::Bytes(1 << 40)), Some(8));
        assert_eq!(slots(ExpertMemory::Share(0.1)), None);
        assert_eq!(slots(ExpertMemory::Share(1.5)), None);
        let error = ExpertMemory::Bytes(3999).slots(4, 8, 1000).expect_err("too little").to_string();
        assert!(error.contains("4 layers"), "{error}");
    }
}
