//! Folders that models are written to: by one program at a time, and where there is room.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use mobile_engine::{Error, FileError, partial_of};
use mobile_models::{bytes, free_space};

use crate::experts::PlaceError;

/// A folder that is to be written.
pub(crate) struct Target<'a> {
    pub(crate) folder: &'a Path,
    /// What is done there, for messages.
    pub(crate) doing: &'static str,
    /// What can be done where there is no room.
    pub(crate) elsewhere: &'static str,
}

impl Target<'_> {
    /// Waits until nobody else writes a model beside this one: two at once would write to the same files. The folder
    /// above is locked itself, so that nothing is left behind; the lock ends with the file, also when the process is
    /// killed.
    pub(crate) fn alone(&self, waiting: impl FnOnce() -> Result<(), PlaceError>) -> Result<Option<File>, PlaceError> {
        let folder = self.parent();
        let made = fs::create_dir_all(folder).and_then(|()| File::open(folder));
        let file = made.map_err(|source| PlaceError::Folder { folder: folder.to_owned(), source })?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                waiting()?;
                file.lock().is_ok()
            }
            Err(TryLockError::Error(_)) => false,
        };
        // Some file systems of other computers lock no folders; there, one works as before.
        Ok(locked.then_some(file))
    }

    pub(crate) fn must_be_new(&self) -> Result<(), PlaceError> {
        if self.folder.exists() { Err(PlaceError::Exists(self.folder.to_owned())) } else { Ok(()) }
    }

    /// Refuses what does not fit on the disk, but for what an interrupted run has written already.
    pub(crate) fn must_hold(&self, wanted: u64) -> Result<(), PlaceError> {
        let wanted = wanted.saturating_sub(folder_bytes(&partial_of(self.folder)));
        let (folder, free) = (self.parent(), free_space(self.parent())?);
        if wanted <= free {
            return Ok(());
        }
        let Self { doing, elsewhere, .. } = self;
        Err(PlaceError::NoSpace(format!(
            "{doing} takes about {} in {}, where {} are free; free some, or {elsewhere}",
            bytes(wanted),
            folder.display(),
            bytes(free)
        )))
    }

    /// The engine's error, with what to do where the disk ran full.
    pub(crate) fn failed(&self, error: Error) -> PlaceError {
        match error {
            Error::File(FileError::Write { path, source }) if source.kind() == io::ErrorKind::StorageFull => {
                PlaceError::NoSpace(format!(
                    "the disk ran full at {} during {}; free some, or {}; what is done is kept, and the next run goes on \
                     from there",
                    path.display(),
                    self.doing,
                    self.elsewhere
                ))
            }
            error => error.into(),
        }
    }

    fn parent(&self) -> &Path {
        self.folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter_map(|file: PathBuf| file.metadata().ok()).map(|m| m.len()).sum()
}
