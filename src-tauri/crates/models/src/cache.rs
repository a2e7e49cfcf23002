//! The layout of the Hugging Face cache, which other tools share: blobs by checksum, snapshots of links to them by
//! commit, and refs that name commits.
//!
//! Described at <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use mobile_files::FromFile as _;

use crate::error::{Error, Result};
use crate::id::ModelId;

/// One repository of the cache.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    pub(crate) root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    pub(crate) fn new(cache: &Path, id: &ModelId) -> Self {
        let folder = id.cache_folder();
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Where a blob grows until it is whole.
    pub(crate) fn incomplete(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// The commit that a branch or tag was at when it was last downloaded whole.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.reference(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|c| is_hash(c))
    }

    /// Notes that `revision` is at `commit`.
    pub(crate) fn set_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if is_hash(revision) {
            return Ok(());
        }
        write_atomic(&self.reference(revision), commit.as_bytes())
    }

    /// Puts `name` into the snapshot of `commit` as a link to its blob, as huggingface_hub does.
    pub(crate) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        let target = Path::new("../../blobs").join(etag);
        if fs::read_link(&path).is_ok_and(|t| t == target) {
            return Ok(());
        }
        let folder = self.snapshot(commit);
        fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
        // A link of another name is moved into place, so that no reader ever finds the file gone.
        let spare = folder.join(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_file(&spare);
        std::os::unix::fs::symlink(&target, &spare).map_err(Error::write(&spare))?;
        fs::rename(&spare, &path).map_err(Error::write(&path))
    }

    /// The snapshot to use: that of `main`, or of the only or newest other download.
    pub(crate) fn current(&self) -> Option<PathBuf> {
        if let Some(path) = self.commit("main").map(|c| self.snapshot(&c)).filter(|p| p.is_dir()) {
            return Some(path);
        }
        let modified = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
        self.snapshots().into_iter().max_by_key(modified)
    }

    /// The folders of all commits that were downloaded, whole or in part.
    pub(crate) fn snapshots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("snapshots")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    /// Locks a blob against other processes, huggingface_hub's included; `None` while one of them has it. The lock
    /// ends with the file, also when the process is killed.
    pub(crate) fn try_lock(&self, etag: &str) -> Result<Option<File>> {
        fs::create_dir_all(&self.locks).map_err(Error::write(&self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        try_lock(&path)
    }

    /// Whether some process is downloading one of the repository's files.
    pub(crate) fn is_locked(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.locks) else { return false };
        entries.flatten().any(|e| matches!(try_lock(&e.path()), Ok(None)))
    }

    /// Bytes of everything in the repository's folder.
    pub(crate) fn bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.root.join("blobs")) else { return 0 };
        entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
    }

    /// Removes the repository.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.root).map_err(Error::write(&self.root))?;
        if self.locks.exists() {
            fs::remove_dir_all(&self.locks).map_err(Error::write(&self.locks))?;
        }
        Ok(())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }
}

fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(Error::write(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::write(path)(e)),
    }
}

/// Whether `text` is a commit's hash.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether `text` can be a branch, a tag or a commit, and a path under `refs`.
pub(crate) fn is_revision(text: &str) -> bool {
    let part = |p: &str| !p.is_empty() && !p.starts_with('.') && !p.ends_with(".lock");
    text.len() <= 255
        && text.split('/').all(part)
        && text.chars().all(|c| c.is_ascii_graphic() && !"\\:?*[~^".contains(c))
}

/// Writes a small file so that a reader finds the old or the new one, whatever happens in between.
pub(crate) fn write_atomic(path: &Path, data: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::write(folder))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::write(folder))?;
    file.write_all(data).and_then(|()| file.as_file().sync_all()).map_err(Error::write(path))?;
    file.persist(path).map_err(|e| Error::write(path)(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_revision;

    #[test]
    fn revisions_stay_under_refs() {
        for text in ["main", "v1.0", "refs/pr/1", "0123456789abcdef0123456789abcdef01234567"] {
            assert!(is_revision(text), "{text}");
        }
        for text in ["", "..", "../main", "/etc/passwd", "a//b", "a/../b", "a b", "a:b", "a/"] {
            assert!(!is_revision(text), "{text}");
        }
    }
}
