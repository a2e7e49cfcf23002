//! The models on this machine: the Hugging Face cache, which other tools share, and folders that were imported.

mod arranged;
mod import;
mod state;

use std::fs;
use std::path::{Path, PathBuf};

use mobile_files::{FileError, FromFile as _};
use serde::Serialize;

use crate::cache::Repository;
use crate::checkpoint::{Checkpoint, inspect};
use crate::error::{Error, Result};
use crate::id::ModelId;
use crate::shape::Shape;
pub use arranged::Arranged;
pub use import::Import;
use state::{Imported, State};

/// How the ids of imported folders begin.
pub const LOCAL: &str = "local/";

/// The models on this machine. Cheap to make: nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Library {
    cache: PathBuf,
    data: PathBuf,
}

/// A model on this machine, whole or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Hub id, or `local/NAME` for an imported folder.
    pub id: String,
    /// The folder to load.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    /// Whether it can be loaded.
    #[serde(flatten)]
    pub status: Status,
    /// Bytes it takes on the disk, what was downloaded in part included.
    pub bytes: u64,
    /// Its copies that are arranged for streaming.
    pub arranged: Vec<Arranged>,
}

/// Where a model came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Downloaded into the cache.
    Hub,
    /// A folder of the user's, used where it lies.
    InPlace,
    /// A folder that was copied into the library.
    Copied,
}

/// Whether a model can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Status {
    /// All of it is there.
    Ready {
        /// What is there.
        checkpoint: Checkpoint,
    },
    /// Something is missing or damaged.
    Incomplete {
        /// What.
        why: String,
    },
}

impl Entry {
    /// Whether the model can be loaded.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.status, Status::Ready { .. })
    }

    /// Family and sizes, where the model is ready.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        match &self.status {
            Status::Ready { checkpoint } => Some(&checkpoint.shape),
            Status::Incomplete { .. } => None,
        }
    }
}

impl Library {
    /// The library with its own files in `data` and the cache that the usual variables name: `HF_HUB_CACHE`,
    /// `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`.
    #[must_use]
    pub fn open(data: impl Into<PathBuf>) -> Self {
        Self::with_cache(data, hf_hub::resolve_cache_dir())
    }

    /// The library with its own files in `data` and the cache in `cache`.
    #[must_use]
    pub fn with_cache(data: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), data: data.into() }
    }

    /// The cache's folder.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Every model of a supported architecture, by id. Models of other architectures in the cache are other tools'.
    ///
    /// # Errors
    /// When the library's own file cannot be read. Folders that cannot be read are left out.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = match fs::read_dir(&self.cache) {
            Err(_) => Vec::new(),
            Ok(folders) => folders
                .flatten()
                .filter_map(|f| ModelId::of_cache_folder(f.file_name().to_str()?))
                .filter_map(|id| self.cached(&id))
                .collect(),
        };
        entries.extend(State::read(&self.data)?.imported.iter().map(|model| self.imported(model)));
        entries.sort_by_key(|e| e.id.to_lowercase());
        Ok(entries)
    }

    /// One model.
    ///
    /// # Errors
    /// [`Error::NotHere`] or [`Error::NotImported`] when it is not in the library.
    pub fn info(&self, id: &str) -> Result<Entry> {
        let state = State::read(&self.data)?;
        if let Some(found) = state.imported.iter().find(|i| i.id == id) {
            return Ok(self.imported(found));
        }
        let id = on_hub(id)?;
        self.cached(&id).ok_or_else(|| Error::NotHere(id.to_string()))
    }

    /// The folder to load for an id of the library or the path of a folder.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::Damaged`] or what is wrong with the folder; [`Error::NotHere`],
    /// [`Error::NotImported`] or [`Error::Id`] for neither.
    pub fn resolve(&self, model: &str) -> Result<PathBuf> {
        let path = Path::new(model);
        if path.is_dir() {
            inspect(path)?;
            return Ok(path.to_owned());
        }
        if model.starts_with(['/', '.', '~']) {
            return Err(Error::read(path)(std::io::ErrorKind::NotFound.into()));
        }
        let entry = self.info(model)?;
        match entry.status {
            Status::Ready { .. } => Ok(entry.path),
            Status::Incomplete { why } if entry.origin == Origin::Hub => Err(Error::Incomplete { id: entry.id, why }),
            Status::Incomplete { why } => Err(Error::Damaged { id: entry.id, why }),
        }
    }

    /// Removes a model and its arranged copies; gives the bytes that came free. An imported folder of the user's is
    /// forgotten, not deleted.
    ///
    /// # Errors
    /// [`Error::NotHere`] or [`Error::NotImported`]; [`Error::Busy`] while it is being downloaded; [`Error::File`].
    pub fn remove(&self, id: &str) -> Result<u64> {
        if State::read(&self.data)?.imported.iter().all(|i| i.id != id) {
            return self.remove_cached(&on_hub(id)?);
        }
        let mut bytes = 0;
        State::change(&self.data, |state| {
            let at = state.imported.iter().position(|i| i.id == id);
            let model = state.imported.remove(at.ok_or_else(|| Error::NotImported(id.to_owned()))?);
            // Before the state is written, for which a full disk may only then have room.
            bytes = self.remove_arranged(&model.path)?;
            if model.copied {
                bytes += folder_bytes(&model.path);
                remove_folder(&model.path)?;
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Writes nothing: the disk may be full.
    fn remove_cached(&self, id: &ModelId) -> Result<u64> {
        let repository = Repository::new(&self.cache, id);
        if !repository.root.is_dir() {
            return Err(Error::NotHere(id.to_string()));
        }
        if repository.is_locked() {
            return Err(Error::Busy(id.to_string()));
        }
        let mut bytes = repository.bytes();
        for snapshot in repository.snapshots() {
            bytes += self.remove_arranged(&snapshot)?;
        }
        repository.remove()?;
        Ok(bytes)
    }

    fn imported(&self, model: &Imported) -> Entry {
        Entry {
            id: model.id.clone(),
            path: model.path.clone(),
            origin: if model.copied { Origin::Copied } else { Origin::InPlace },
            status: status(&model.path, ToString::to_string),
            bytes: folder_bytes(&model.path),
            arranged: self.arranged(&model.path),
        }
    }

    fn cached(&self, id: &ModelId) -> Option<Entry> {
        let repository = Repository::new(&self.cache, id);
        let path = repository.current()?;
        Shape::open(&path.join("config.json")).ok()?;
        Some(Entry {
            id: id.to_string(),
            status: status(&path, missing),
            origin: Origin::Hub,
            bytes: repository.bytes(),
            arranged: repository.snapshots().iter().flat_map(|snapshot| self.arranged(snapshot)).collect(),
            path,
        })
    }
}

/// An id that is none of those given to imported folders.
fn on_hub(id: &str) -> Result<ModelId> {
    if id.starts_with(LOCAL) { Err(Error::NotImported(id.to_owned())) } else { id.parse() }
}

fn status(folder: &Path, say: impl Fn(&Error) -> String) -> Status {
    match inspect(folder) {
        Ok(checkpoint) => Status::Ready { checkpoint },
        Err(e) => Status::Incomplete { why: say(&e) },
    }
}

/// What a download lacks; where the cache keeps it is of no interest.
fn missing(error: &Error) -> String {
    match error {
        Error::File(FileError::Read { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
            format!("{} is missing", path.file_name().unwrap_or_default().to_string_lossy())
        }
        error => error.to_string(),
    }
}

/// Removes a folder that may have gone already.
fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::write(folder)(e)),
        _ => Ok(()),
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|e| fs::metadata(e.path()).ok()).filter(fs::Metadata::is_file).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests;
