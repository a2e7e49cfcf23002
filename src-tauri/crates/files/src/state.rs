//! What tells whether a folder's files have changed.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::{FileError, FromFile as _, Result};

/// A file as it is now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileState {
    /// Its name in the folder.
    pub name: OsString,
    /// Bytes.
    pub length: u64,
    /// When it was changed: nanoseconds since 1970, or 0 where the system cannot say.
    pub changed: u128,
}

/// The entries of `folder` in the order of their names; of a link, what it leads to, or itself where that is nowhere.
///
/// # Errors
/// [`FileError::Read`] of the folder or a file.
pub fn file_states(folder: &Path) -> Result<Vec<FileState>> {
    let state = |entry: fs::DirEntry| {
        let about = fs::metadata(entry.path()).or_else(|_| entry.metadata()).map_err(FileError::read(entry.path()))?;
        let changed = about.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(FileState { name: entry.file_name(), length: about.len(), changed: changed.as_nanos() })
    };
    let entries = fs::read_dir(folder).map_err(FileError::read(folder))?.flatten();
    let mut states = entries.map(state).collect::<Result<Vec<_>>>()?;
    states.sort();
    Ok(states)
}
