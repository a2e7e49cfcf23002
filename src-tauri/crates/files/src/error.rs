//! What can go wrong with a file, in words a user can act on.

use std::io;
use std::path::{Path, PathBuf};

/// Result of reading files.
pub type Result<T, E = FileError> = std::result::Result<T, E>;

/// An error about one file. Messages name it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file or folder could not be written or removed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A JSON file or one of its fields is missing, malformed or out of range.
    #[error("{}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        what: String,
    },

    /// A weight file or a tensor in it is missing, truncated, malformed or of the wrong shape.
    #[error("{}: {what}", path.display())]
    Weights {
        /// The weight file, or the folder when no file holds the tensor.
        path: PathBuf,
        /// The tensor and what is wrong with it.
        what: String,
    },
}

/// An error that can be about a file: what makes one.
pub trait FromFile: From<FileError> {
    /// Makes a [`FileError::Read`] of what the system said.
    fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| FileError::Read { path, source }.into()
    }

    /// Makes a [`FileError::Write`] of what the system said.
    fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| FileError::Write { path, source }.into()
    }

    /// A [`FileError::Config`].
    #[must_use]
    fn config(path: &Path, what: impl Into<String>) -> Self {
        FileError::Config { path: path.to_owned(), what: what.into() }.into()
    }

    /// A [`FileError::Weights`].
    #[must_use]
    fn weights(path: &Path, what: impl Into<String>) -> Self {
        FileError::Weights { path: path.to_owned(), what: what.into() }.into()
    }
}

impl FromFile for FileError {}
