//! JSON files: whole or absent, and set aside rather than lost when they cannot be understood.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mobile_host::{Readers, write_json};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was found at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored<T> {
    Found(T),
    Absent,
    /// The file could not be understood and now has this name.
    SetAside(PathBuf),
}

/// Reads a file. One that is not what it should be is renamed, so that the next write does not destroy it.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Stored<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Stored::Absent),
        Err(e) => return Err(named(path, &e)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Stored::Found(value)),
        Err(why) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".corrupt");
            let aside = PathBuf::from(aside);
            tracing::warn!("{} cannot be understood ({why}); kept as {}", path.display(), aside.display());
            fs::rename(path, &aside).map_err(|e| named(path, &e))?;
            Ok(Stored::SetAside(aside))
        }
    }
}

/// As [`write_json`], for what is nobody else's.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_json(path, value, Readers::Owner)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/file.json");
        assert_eq!(read::<Vec<u8>>(&path).expect("readable"), Stored::Absent);
        write(&path, &[1, 2]).expect("written");
        write(&path, &[3]).expect("written again");
        assert_eq!(read(&path).expect("readable"), Stored::Found(vec![3]));
        assert_eq!(fs::read_dir(path.parent().expect("a parent")).expect("listed").count(), 1);
    }

    #[test]
    fn what_cannot_be_understood_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.json");
        fs::write(&path, "{\"half\":").expect("written");
        let Stored::SetAside(aside) = read::<Vec<u8>>(&path).expect("readable") else { panic!("taken as it is") };
        assert_eq!(fs::read_to_string(aside).expect("kept"), "{\"half\":");
        assert!(!path.exists());
    }
}
