//! Where experts live, as it is said on standard error.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use mobile_host::{MemoryChoice, PlaceError, Placed, Placing, Source};
use mobile_models::{Library, bytes};

use crate::error::Failure;
use crate::model::home;

/// Said while somebody else is at work.
pub(crate) const WAITING: &str = "Another program is writing a model in the same folder; waiting for it";

/// As [`mobile_host::place`]. Says what it decides on its own, and shows how far the arranging has come.
pub(crate) fn place(source: Source, memory: MemoryChoice) -> Result<Placed, Failure> {
    let bar = bar();
    let placed = mobile_host::place(&Library::open(home()?), source, memory, &mut |step| show(&bar, step));
    bar.finish_and_clear();
    Ok(placed?)
}

/// As [`mobile_host::arrange`], with a bar.
pub(crate) fn arrange(source: &Source, target: &Path) -> Result<(), Failure> {
    let bar = bar();
    let arranged = mobile_host::arrange(source, target, &mut |step| show(&bar, step));
    bar.finish_and_clear();
    Ok(arranged?)
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("Arranging experts for streaming {wide_bar} {pos}/{len} layers");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, step: Placing) -> Result<(), mobile_engine::Error> {
    match step {
        Placing::Streaming { experts, free, memory } => eprintln!(
            "{} of experts do not fit into the {} that are free: streaming them with {} in memory at a time",
            bytes(experts),
            bytes(free),
            bytes(memory)
        ),
        Placing::Waiting => eprintln!("{WAITING}"),
        Placing::Arranging { done, total } => {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    }
    Ok(())
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Folder { .. } => Self::Other(error.to_string()),
            PlaceError::Exists(_) => Self::Input(error.to_string()),
            _ => Self::Model(error.to_string()),
        }
    }
}
