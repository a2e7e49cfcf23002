//! How much memory experts get, and the folder they are streamed from when that is not enough for all of them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use mobile_engine::{Bits, Compute, ComputeDevice, ExpertMemory, is_arranged};
use mobile_models::{Library, Quantization, Room, Shape, Use, Verdict, assess, available_memory, bytes, free_space};

use crate::error::Failure;
use crate::model::home;

/// `--expert-memory`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum MemoryArg {
    /// All experts where they fit, else what is free.
    #[default]
    Auto,
    /// What the engine understands.
    Exactly(ExpertMemory),
}

impl FromStr for MemoryArg {
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

/// A checkpoint as it is to be loaded.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) folder: PathBuf,
    pub(crate) memory: ExpertMemory,
}

/// Decides where the experts of the checkpoint in `folder` live, and arranges them for streaming where they are to be
/// streamed and have not been arranged yet. Says on standard error what it decides on its own.
pub(crate) fn place(
    folder: PathBuf,
    memory: MemoryArg,
    compute: Option<Compute>,
    quantize: Option<Bits>,
) -> Result<Placed, Failure> {
    let memory = match memory {
        MemoryArg::Exactly(memory) => memory,
        MemoryArg::Auto => automatic(&folder, quantize),
    };
    if matches!(memory, ExpertMemory::All) || is_arranged(&folder) {
        return Ok(Placed { folder, memory });
    }
    let device = ComputeDevice::detect().map_err(|e| Failure::Other(e.to_string()))?;
    let compute = compute.unwrap_or_else(|| Compute::for_device(device));
    let bits = quantize.map_or_else(|| "as-stored".to_owned(), |b| format!("{}-bits-{}", b.bits, b.group_size));
    let variant = format!("{compute:?}-{bits}").to_lowercase();
    let target =
        Library::open(home()?).streamed_folder(&folder, &variant).map_err(|e| Failure::Model(e.to_string()))?;
    if !is_arranged(&target) {
        arrange(&folder, &target, compute, quantize)?;
    }
    Ok(Placed { folder: target, memory })
}

/// All of the experts where they fit into free memory, else what is left beside the rest of the model. A checkpoint that
/// cannot be assessed goes to the engine as it is, whose error says more.
fn automatic(folder: &Path, quantize: Option<Bits>) -> ExpertMemory {
    let Ok(shape) = Shape::open(&folder.join("config.json")) else { return ExpertMemory::All };
    let quantize = quantize.map(|b| Quantization { bits: b.bits as u64, group_size: b.group_size as u64 });
    let room = Room { memory: available_memory(), disk: 0 };
    let fit = assess(&shape, &Use { quantize, ..Use::default() }, &room, 0);
    if fit.verdict == Verdict::Fits {
        return ExpertMemory::All;
    }
    let layer_of_experts = shape.moe_layers() * shape.expert_bytes(quantize);
    let memory = fit.expert_cache.max(layer_of_experts);
    eprintln!(
        "{} of experts do not fit into the {} that are free: streaming them with {} in memory at a time",
        bytes(fit.experts),
        bytes(room.memory),
        bytes(memory)
    );
    ExpertMemory::Bytes(memory)
}

/// Writes the experts of `source` to `target`, with a bar on standard error.
pub(crate) fn arrange(source: &Path, target: &Path, compute: Compute, quantize: Option<Bits>) -> Result<(), Failure> {
    let parent = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Failure::Other(format!("cannot make {}: {e}", parent.display())))?;
    if let Ok(shape) = Shape::open(&source.join("config.json")) {
        let quantize = quantize.map(|b| Quantization { bits: b.bits as u64, group_size: b.group_size as u64 });
        let wider = if compute == Compute::F32 && shape.quantization.or(quantize).is_none() { 2 } else { 1 };
        let experts = wider * shape.moe_layers() * shape.experts * shape.expert_bytes(quantize);
        let wanted = experts + shape.resident_bytes(None);
        let free = free_space(parent).map_err(|e| Failure::Other(e.to_string()))?;
        if wanted > free {
            return Err(Failure::Model(format!(
                "arranging the experts for streaming takes about {} in {}, where {} are free; free some, or set \
                 MOBILE_HOME to a folder on another disk",
                bytes(wanted),
                parent.display(),
                bytes(free)
            )));
        }
    }
    let style = ProgressStyle::with_template("Arranging experts for streaming {wide_bar} {pos}/{len} layers");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let done = mobile_engine::arrange(source, target, compute, quantize, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    done.map(drop).map_err(|e| Failure::Model(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_people_write_it() {
        let read = |text: &str| text.parse::<MemoryArg>();
        assert_eq!(read("auto"), Ok(MemoryArg::Auto));
        assert_eq!(read("all"), Ok(MemoryArg::Exactly(ExpertMemory::All)));
        assert_eq!(read("12.5%"), Ok(MemoryArg::Exactly(ExpertMemory::Share(0.125))));
        assert_eq!(read("6GB"), Ok(MemoryArg::Exactly(ExpertMemory::Bytes(6_000_000_000))));
        assert_eq!(read("1.5 GiB"), Ok(MemoryArg::Exactly(ExpertMemory::Bytes(3 << 29))));
        for wrong in ["", "half", "0%", "101%", "-5%", "%", "6 apples"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
