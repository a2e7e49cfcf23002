//! Copies of models whose experts were arranged for streaming: the library's own, made from a model and gone with it.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use mobile_files::{FromFile as _, file_states};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Entry, Library, folder_bytes};
use crate::error::{Error, Result};

/// A copy of a model that is arranged for streaming, or was begun to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arranged {
    /// Its folder.
    pub path: PathBuf,
    /// Bytes it takes on the disk.
    pub bytes: u64,
}

impl Library {
    /// Where the experts of the checkpoint in `folder` are kept arranged for streaming in one `variant`. Another folder
    /// once the checkpoint's files change.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be read.
    pub fn streamed_folder(&self, folder: &Path, variant: &str) -> Result<PathBuf> {
        let mut digest = Sha256::new();
        for file in file_states(folder)? {
            digest.update(file.name.as_encoded_bytes());
            digest.update(file.length.to_le_bytes());
            digest.update(file.changed.to_le_bytes());
        }
        Ok(self.streamed().join(format!("{}{}-{variant}", beginning(folder), short(digest))))
    }

    /// The arranged copies of the model in `folder`: every variant, those of files that have changed since, and what an
    /// interrupted run has left.
    #[must_use]
    pub fn arranged(&self, folder: &Path) -> Vec<Arranged> {
        let beginning = beginning(folder);
        // An unfinished copy is hidden.
        self.copies(|path| file_name(path).trim_start_matches('.').starts_with(beginning.trim_start_matches('.')))
    }

    /// The arranged copies of models that are none of `entries`: of folders that were loaded by their path.
    #[must_use]
    pub fn arranged_besides(&self, entries: &[Entry]) -> Vec<Arranged> {
        let known = |path: &Path| entries.iter().flat_map(|entry| &entry.arranged).any(|copy| copy.path == path);
        self.copies(|path| !known(path))
    }

    fn copies(&self, wanted: impl Fn(&Path) -> bool) -> Vec<Arranged> {
        let entries = fs::read_dir(self.streamed()).into_iter().flatten().flatten().map(|entry| entry.path());
        let sized = |path: PathBuf| Arranged { bytes: folder_bytes(&path), path };
        let mut copies: Vec<_> = entries.filter(|path| wanted(path)).map(sized).collect();
        copies.sort_by(|a, b| a.path.cmp(&b.path));
        copies
    }

    /// Removes the arranged copies of the model in `folder`; gives the bytes that came free.
    pub(super) fn remove_arranged(&self, folder: &Path) -> Result<u64> {
        let mut bytes = 0;
        for copy in self.arranged(folder) {
            fs::remove_dir_all(&copy.path).map_err(Error::write(&copy.path))?;
            bytes += copy.bytes;
        }
        Ok(bytes)
    }

    fn streamed(&self) -> PathBuf {
        self.data.join("streamed")
    }
}

/// How the names of a model's copies begin: its folder's name, to be recognised by, and its path in short, which tells
/// folders of the same name apart.
fn beginning(folder: &Path) -> String {
    let path = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = file_name(&path);
    format!("{name}-{}-", short(Sha256::new().chain_update(path.as_os_str().as_encoded_bytes())))
}

fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn short(digest: Sha256) -> String {
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
