//! Files that a reader finds whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Serialize;

/// Who a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The program itself: nobody but its owner may read the file.
    Owner,
    /// People and their tools: laid out to be read, with the permissions of any file.
    Everybody,
}

/// Writes JSON so that a reader finds the old or the new file, whatever happens in between.
///
/// # Errors
/// When the folder or the file cannot be written; the message names the file.
pub fn write_json(path: &Path, value: &impl Serialize, readers: Readers) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = || match readers {
        Readers::Owner => serde_json::to_vec(value),
        Readers::Everybody => serde_json::to_vec_pretty(value).map(|text| [text.as_slice(), b"\n"].concat()),
    };
    let written = || {
        let text = text()?;
        fs::create_dir_all(folder)?;
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o666,
        };
        let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|e: io::Error| named(path, &e))
}

/// The error with the file it is about.
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_find_a_whole_file_and_may_read_it_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/file.json");
        let written = |value: &[u8], readers| {
            write_json(&path, &value, readers).expect("written");
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            (fs::read_to_string(&path).expect("readable"), mode & 0o077 != 0)
        };
        assert_eq!(written(&[1, 2], Readers::Everybody), ("[\n  1,\n  2\n]\n".to_owned(), true));
        assert_eq!(written(&[3], Readers::Owner), ("[3]".to_owned(), false), "what was open is open no longer");
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("listed").count(), 1);
    }
}
