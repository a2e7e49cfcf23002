//! Adding a local folder, where it lies or as a copy.

use std::fs;
use std::path::{Path, PathBuf};

use mobile_files::{FromFile as _, open};

use super::state::{Imported, State};
use super::{Entry, LOCAL, Library};
use crate::checkpoint::inspect;
use crate::error::{Error, Result};
use crate::files::{free_space, is_needed};
use crate::id::ModelId;

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
        let free = |state: &State| {
            if state.imported.iter().any(|i| i.id == id) { Err(Error::Exists(id.clone())) } else { Ok(()) }
        };
        free(&State::read(&self.data)?)?;
        let (path, copied) = match how {
            Import::InPlace => (folder, false),
            Import::Copy => (self.copy(&folder, &id)?, true),
        };
        State::change(&self.data, |state| {
            free(state)?;
            state.imported.push(Imported { id: id.clone(), path: path.clone(), copied });
            Ok(())
        })?;
        self.info(&id)
    }

    /// Copies what is needed beside its place, then moves it there, so that a copy is whole or absent.
    fn copy(&self, folder: &Path, id: &str) -> Result<PathBuf> {
        let target = self.data.join(id);
        if target.exists() {
            return Err(Error::Exists(id.to_owned()));
        }
        let parent = self.data.join("local");
        fs::create_dir_all(&parent).map_err(Error::write(&parent))?;
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
        let spare = tempfile::Builder::new().prefix(".copy-").tempdir_in(&parent).map_err(Error::write(&parent))?;
        for (name, _) in files {
            let to = spare.path().join(&name);
            fs::copy(folder.join(&name), &to).map_err(Error::write(to))?;
        }
        fs::rename(spare.path(), &target).map_err(Error::write(&target))?;
        Ok(target)
    }
}
