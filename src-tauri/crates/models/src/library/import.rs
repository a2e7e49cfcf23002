//! Adding a local folder, where it lies or as a copy.

use std::fs;
use std::path::{Path, PathBuf};

use mobile_files::{FromFile as _, open};

use super::state::{Imported, State};
use super::{Entry, LOCAL, Library, remove_folder};
use crate::checkpoint::inspect;
use crate::error::{Error, Result};
use crate::files::{free_space, is_needed};
use crate::id::ModelId;

/// How the names of copies begin until they are whole.
const COPYING: &str = ".copy-";

/// How a folder is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// It stays where it is; removing it from the library leaves it alone.
    InPlace,
    /// Its files are copied into the library; the folder may be deleted.
    Copy,
}

impl Library {
    /// Adds `folder` under `local/NAME`, its own name where `name` is `None`.
    ///
    /// # Errors
    /// Whatever keeps the checkpoint from being loaded; [`Error::Name`]; [`Error::Exists`]; [`Error::DiskFull`].
    pub fn import(&self, folder: &Path, name: Option<&str>, how: Import) -> Result<Entry> {
        let folder = folder.canonicalize().map_err(Error::read(folder))?;
        inspect(&folder)?;
        let own = folder.file_name().and_then(|n| n.to_str()).unwrap_or("model");
        let name = name.unwrap_or(own);
        let id = format!("{LOCAL}{name}");
        id.parse::<ModelId>().map_err(|_| Error::Name(name.to_owned()))?;
        State::change(&self.data, |state| {
            if state.imported.iter().any(|i| i.id == id) {
                return Err(Error::Exists(id.clone()));
            }
            let (path, copied) = match how {
                Import::InPlace => (folder, false),
                Import::Copy => (self.copy(&folder, &id, state)?, true),
            };
            state.imported.push(Imported { id: id.clone(), path, copied });
            Ok(())
        })?;
        self.info(&id)
    }

    /// Copies what is needed beside its place, then moves it there, so that a copy is whole or absent. The state
    /// is locked meanwhile, so what looks like another copy under way was left by a process that was killed.
    fn copy(&self, folder: &Path, id: &str, state: &State) -> Result<PathBuf> {
        let (target, parent) = (self.data.join(id), self.data.join("local"));
        if let Ok(there) = target.canonicalize()
            && state.imported.iter().any(|i| i.path.canonicalize().is_ok_and(|path| path == there))
        {
            return Err(Error::Exists(id.to_owned()));
        }
        fs::create_dir_all(&parent).map_err(Error::write(&parent))?;
        for entry in fs::read_dir(&parent).map_err(Error::read(&parent))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(COPYING) {
                remove_folder(&entry.path())?;
            }
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::read(folder))?.flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|n| is_needed(n)) {
                let size = open(&entry.path())?.metadata().map_err(Error::read(entry.path()))?.len();
                files.push((name.to_owned(), size));
            }
        }
        let (needed, free) = (files.iter().map(|f| f.1).sum(), free_space(&parent)?);
        if needed > free {
            let instead = "import the folder where it lies, without a copy";
            return Err(Error::DiskFull { path: parent, needed, free, instead });
        }
        let spare = tempfile::Builder::new().prefix(COPYING).tempdir_in(&parent).map_err(Error::write(&parent))?;
        for (name, _) in files {
            let to = spare.path().join(&name);
            fs::copy(folder.join(&name), &to).map_err(Error::write(to))?;
        }
        // None of the models, or it would have been found above: left by a process that was killed before it was one.
        remove_folder(&target)?;
        fs::rename(spare.path(), &target).map_err(Error::write(&target))?;
        Ok(target)
    }
}
