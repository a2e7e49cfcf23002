//! Finds and loads the model that a command names.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use mobile_engine::{Engine, LoadOptions};

use crate::args::ModelArgs;
use crate::error::Failure;

/// The model that comes with the program.
pub(crate) const EMBEDDED: &str = "olmoe-tiny";

/// Loads the model, with a bar on standard error while it takes long enough to see.
pub(crate) fn load(args: &ModelArgs) -> Result<Engine, Failure> {
    let folder = match &args.model {
        Some(model) => named(model)?,
        None => embedded().ok_or_else(|| {
            Failure::Model(
                "the embedded model was not found beside the program; name one with --model FOLDER".to_owned(),
            )
        })?,
    };
    let options = LoadOptions { compute: args.compute(), quantize: args.quantize(), ..LoadOptions::new(folder) };
    let bar = ProgressBar::new(0).with_style(style());
    let shown = bar.clone();
    let engine = Engine::load(options, move |p| {
        shown.set_length(p.total as u64);
        shown.set_position(p.done as u64);
    })
    .map_err(|e| Failure::Model(e.to_string()));
    bar.finish_and_clear();
    engine
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("Loading {wide_bar} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A folder given by path.
fn named(model: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(model);
    if path.is_dir() {
        return Ok(path);
    }
    if model == EMBEDDED
        && let Some(folder) = embedded()
    {
        return Ok(folder);
    }
    Err(Failure::Model(format!(
        "there is no folder {model:?}; give the path of a checkpoint's folder, or leave --model out for the embedded model"
    )))
}

/// The embedded model: in the application bundle's Resources, or in the source tree that the program was built in.
pub(crate) fn embedded() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.canonicalize().ok()?;
    let at =
        |base: &Path, inside: &str| Some(base.join(inside).join(EMBEDDED)).filter(|p| p.join("config.json").exists());
    program.ancestors().skip(1).find_map(|base| {
        at(base, "Resources").or_else(|| at(base, "resources")).or_else(|| at(base, "src-tauri/resources"))
    })
}
