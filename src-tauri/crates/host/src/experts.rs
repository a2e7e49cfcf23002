//! How much memory experts get, and the folder they are streamed from when that is not enough for all of them.

mod plan;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use mobile_engine::{Bits, Compute, ComputeDevice, ExpertMemory, is_arranged};
use mobile_models::{Library, Quantization, Room, Shape, Use, Verdict, assess, available_memory};

use crate::target::Target;
pub use plan::{Plan, plan};

/// What is done to the experts, for messages.
const ARRANGING: &str = "the arrangement of the experts for streaming";

/// What the owner allows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum MemoryChoice {
    /// All experts where they fit, else what is free.
    #[default]
    Auto,
    /// What the engine understands.
    Exactly(ExpertMemory),
}

impl FromStr for MemoryChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is none of: auto, all, a share like 25%, a size like 6GB");
        Ok(match text {
            "auto" => Self::Auto,
            "all" => Self::Exactly(ExpertMemory::All),
            _ => Self::Exactly(match text.strip_suffix('%') {
                Some(percent) => {
                    let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
                    if !(percent > 0.0 && percent <= 100.0) {
                        return Err(format!("{text:?}: a share is above 0% and at most 100%"));
                    }
                    ExpertMemory::Share(percent / 100.0)
                }
                None => ExpertMemory::Bytes(text.parse::<ByteSize>().map_err(|_| wrong())?.as_u64()),
            }),
        })
    }
}

/// A checkpoint, and how its weights are held.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its folder.
    pub folder: PathBuf,
    /// Dtype of activations and unquantized weights; by default what suits the device.
    pub compute: Option<Compute>,
    /// Quantize what is not quantized yet.
    pub quantize: Option<Bits>,
}

impl Source {
    fn compute(&self) -> Result<Compute, PlaceError> {
        match self.compute {
            Some(compute) => Ok(compute),
            None => Ok(Compute::for_device(ComputeDevice::detect()?)),
        }
    }

    /// As the library writes it.
    fn quantization(&self) -> Option<Quantization> {
        self.quantize.map(|b| Quantization { bits: b.bits as u64, group_size: b.group_size as u64 })
    }

    fn shape(&self) -> mobile_models::Result<Shape> {
        Shape::open(&self.folder.join("config.json"))
    }
}

/// A checkpoint as it is to be loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The folder to load: the checkpoint's own, or one with its experts arranged for streaming.
    pub folder: PathBuf,
    /// Memory for its experts.
    pub memory: ExpertMemory,
}

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// The experts do not fit, so they will be streamed. Bytes.
    Streaming {
        /// All experts.
        experts: u64,
        /// Memory that is free.
        free: u64,
        /// Memory that experts will take.
        memory: u64,
    },
    /// Another program writes a model in the same place; it is waited for.
    Waiting,
    /// Experts are being arranged for streaming.
    Arranging {
        /// Layers done.
        done: usize,
        /// Layers in all.
        total: usize,
    },
}

/// Hears of each step, and may call off what is left.
pub type Tell<'a> = dyn FnMut(Placing) -> Result<(), mobile_engine::Error> + 'a;

/// Why a checkpoint cannot be placed or written.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// What is wrong with the checkpoint or the device.
    #[error(transparent)]
    Engine(#[from] mobile_engine::Error),
    /// What is wrong with the library.
    #[error(transparent)]
    Library(#[from] mobile_models::Error),
    /// The disk is too full for what is to be written, or ran full meanwhile.
    #[error("{0}")]
    NoSpace(String),
    /// The folder to be written is there.
    #[error("{path} exists already; name a folder that does not, or remove it", path = .0.display())]
    Exists(PathBuf),
    /// A folder that cannot be made.
    #[error("cannot make {path}: {source}", path = .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Decides where the experts of a checkpoint live, and arranges them for streaming where they are to be streamed and
/// have not been arranged yet, by this program or by another that is at it.
///
/// # Errors
/// [`PlaceError`].
pub fn place(
    library: &Library,
    source: Source,
    choice: MemoryChoice,
    tell: &mut Tell<'_>,
) -> Result<Placed, PlaceError> {
    let memory = match choice {
        MemoryChoice::Exactly(memory) => memory,
        MemoryChoice::Auto => automatic(&source, tell)?,
    };
    if matches!(memory, ExpertMemory::All) || is_arranged(&source.folder) {
        return Ok(Placed { folder: source.folder, memory });
    }
    let bits = source.quantize.map_or_else(|| "as-stored".to_owned(), |b| format!("{}-bits-{}", b.bits, b.group_size));
    let variant = format!("{:?}-{bits}", source.compute()?).to_lowercase();
    let target = library.streamed_folder(&source.folder, &variant)?;
    if !is_arranged(&target) {
        let writing =
            Target { folder: &target, doing: ARRANGING, elsewhere: "set MOBILE_HOME to a folder on another disk" };
        let _alone = writing.alone(|| Ok(tell(Placing::Waiting)?))?;
        if !is_arranged(&target) {
            arrange_alone(&source, &writing, tell)?;
        }
    }
    Ok(Placed { folder: target, memory })
}

/// As [`memory_within`], for one checkpoint. One that cannot be assessed goes to the engine as it is, whose error says
/// more.
fn automatic(source: &Source, tell: &mut Tell<'_>) -> Result<ExpertMemory, PlaceError> {
    let (Ok(shape), Ok(compute)) = (source.shape(), source.compute()) else { return Ok(ExpertMemory::All) };
    let usage = Use { quantize: source.quantization(), ..Use::default() };
    let free = available_memory();
    let (memory, experts) = memory_within(&held(&shape, compute), &usage, free);
    if let ExpertMemory::Bytes(memory) = memory {
        tell(Placing::Streaming { experts, free, memory })?;
    }
    Ok(memory)
}

/// All of the experts where they fit into `free` bytes, else what is left beside the rest of the model; and the bytes of
/// all experts. The shape is that of the weights as they are [`held`].
fn memory_within(shape: &Shape, usage: &Use, free: u64) -> (ExpertMemory, u64) {
    let fit = assess(shape, usage, &Room { memory: free, disk: 0 }, 0);
    if fit.verdict == Verdict::Fits {
        return (ExpertMemory::All, fit.experts);
    }
    let layer_of_experts = shape.moe_layers() * shape.expert_bytes(usage.quantize);
    (ExpertMemory::Bytes(fit.expert_cache.max(layer_of_experts)), fit.experts)
}

/// Writes the experts of `source` to `target`, layer by layer; `tell` is told of those that are done and of all.
///
/// # Errors
/// [`PlaceError`]; [`PlaceError::NoSpace`] before anything is written, or when others fill the disk meanwhile.
pub fn arrange(source: &Source, target: &Path, tell: &mut Tell<'_>) -> Result<(), PlaceError> {
    let target = Target { folder: target, doing: ARRANGING, elsewhere: "name a folder on another disk" };
    target.must_be_new()?;
    let _alone = target.alone(|| Ok(tell(Placing::Waiting)?))?;
    target.must_be_new()?;
    arrange_alone(source, &target, tell)
}

fn arrange_alone(source: &Source, target: &Target<'_>, tell: &mut Tell<'_>) -> Result<(), PlaceError> {
    let compute = source.compute()?;
    if let Ok(shape) = source.shape() {
        let experts = shape.moe_layers() * shape.experts * held(&shape, compute).expert_bytes(source.quantization());
        target.must_hold(experts + shape.resident_bytes(None))?;
    }
    let progress = |done, total| tell(Placing::Arranging { done, total });
    mobile_engine::arrange(&source.folder, target.folder, compute, source.quantize, progress)
        .map_err(|error| target.failed(error))?;
    Ok(())
}

/// The shape in memory, where everything that is not packed has the width it is computed with.
fn held(shape: &Shape, compute: Compute) -> Shape {
    let weight_bytes = if compute == Compute::F32 { 4 } else { 2 };
    Shape { weight_bytes, ..shape.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_people_write_it() {
        let read = |text: &str| text.parse::<MemoryChoice>();
        assert_eq!(read("auto"), Ok(MemoryChoice::Auto));
        assert_eq!(read("all"), Ok(MemoryChoice::Exactly(ExpertMemory::All)));
        assert_eq!(read("12.5%"), Ok(MemoryChoice::Exactly(ExpertMemory::Share(0.125))));
        assert_eq!(read("6GB"), Ok(MemoryChoice::Exactly(ExpertMemory::Bytes(6_000_000_000))));
        assert_eq!(read("1.5 GiB"), Ok(MemoryChoice::Exactly(ExpertMemory::Bytes(3 << 29))));
        for wrong in ["", "half", "0%", "101%", "-5%", "%", "6 apples"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
