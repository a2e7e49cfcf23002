//! Finds and loads the model that a command names.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use mobile_engine::{Engine, LoadOptions};
use mobile_host::Source;
use mobile_models::Library;

use crate::args::ModelArgs;
use crate::error::Failure;
use crate::experts;
use crate::library::failed;

/// The model that comes with the program.
pub(crate) const EMBEDDED: &str = "olmoe-tiny";

/// The variable that names the folder for the program's own files.
pub(crate) const HOME: &str = "MOBILE_HOME";

/// Loads the model, with a bar on standard error while it takes long enough to see.
pub(crate) fn load(args: &ModelArgs) -> Result<Engine, Failure> {
    let options = options(args)?;
    let bar = ProgressBar::new(0).with_style(style());
    let shown = bar.clone();
    let engine = Engine::load(options, move |p| {
        shown.set_length(p.total as u64);
        shown.set_position(p.done as u64);
        Ok(())
    })
    .map_err(|e| Failure::Model(e.to_string()));
    bar.finish_and_clear();
    engine
}

/// How the model that the arguments name is to be loaded. Where its experts are to be streamed and have not been arranged
/// for that yet, this does it.
pub(crate) fn options(args: &ModelArgs) -> Result<LoadOptions, Failure> {
    let folder = folder(args)?;
    // A model of the library goes by its id, as in the app; its folder there is named after a commit.
    let id = args.model.clone().filter(|model| !Path::new(model).is_dir());
    let name = id.or_else(|| folder.file_name().map(|name| name.to_string_lossy().into_owned()));
    let placed =
        experts::place(Source { folder, compute: args.compute(), quantize: args.quantize() }, args.expert_memory)?;
    Ok(LoadOptions {
        name,
        compute: args.compute(),
        quantize: args.quantize(),
        expert_memory: placed.memory,
        replacement: args.expert_replacement.into(),
        page_cache: !args.no_page_cache,
        look_ahead: args.look_ahead,
        ..LoadOptions::new(placed.folder)
    })
}

/// The folder of the model that the arguments name.
pub(crate) fn folder(args: &ModelArgs) -> Result<PathBuf, Failure> {
    match &args.model {
        Some(model) => named(model),
        None => embedded().ok_or_else(|| {
            Failure::Model(
                "the embedded model was not found beside the program; name one with --model FOLDER".to_owned(),
            )
        }),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("Loading {wide_bar} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The folder of a model given by path, by its id in the library, or by the embedded model's name.
pub(crate) fn named(model: &str) -> Result<PathBuf, Failure> {
    if model == EMBEDDED
        && !Path::new(model).exists()
        && let Some(folder) = embedded()
    {
        return Ok(folder);
    }
    // A folder goes to the engine as it is: its errors name the file and the field.
    if Path::new(model).is_dir() {
        return Ok(PathBuf::from(model));
    }
    let library = Library::open(home()?);
    library.resolve(model).map_err(|e| failed(&library, e))
}

/// Where the program keeps its own files: `MOBILE_HOME`, else the system's place for application data.
pub(crate) fn home() -> Result<PathBuf, Failure> {
    if let Some(folder) = std::env::var_os(HOME).filter(|f| !f.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let name = if cfg!(target_os = "macos") { "MoBiLE" } else { "mobile" };
    dirs::data_dir().map(|base| base.join(name)).ok_or_else(|| {
        Failure::Other("there is no home folder; set MOBILE_HOME to a folder for the program's files".to_owned())
    })
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
