//! Opening files that somebody else may have laid out.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{FileError, FromFile as _, Result};

/// No file of a real model but its weights comes near this many bytes.
pub const MAX_TEXT: u64 = 64 << 20;

/// Opens a file of a model. A pipe or a device would be read for ever, and a link out of the folder is a way to
/// somebody's files; only the Hugging Face cache has links of that kind, from a snapshot to the rest of its repository.
///
/// # Errors
/// [`FileError::Read`]; [`FileError::Weights`] for a link out of the folder and for what is no file.
pub fn open(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let real = path.canonicalize().map_err(FileError::read(path))?;
    let root = folder.canonicalize().map_err(FileError::read(folder))?;
    let repository = root.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent);
    if !real.starts_with(repository.unwrap_or(&root)) {
        return Err(FileError::weights(path, "links to a file outside the model's folder; copy that file here"));
    }
    regular(&real, path)
}

/// Opens `real` if reading it can end.
fn regular(real: &Path, path: &Path) -> Result<File> {
    if !real.metadata().map_err(FileError::read(path))?.is_file() {
        return Err(FileError::weights(path, "not a file"));
    }
    File::open(real).map_err(FileError::read(path))
}

/// A text file of a model.
///
/// # Errors
/// As [`open`]; [`FileError::Config`] above [`MAX_TEXT`] bytes; [`FileError::Read`] for what is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    text(open(path)?, path)
}

/// As [`read_text`], for a file that may be linked from elsewhere, as people do who keep one tokenizer for several models.
///
/// # Errors
/// As [`read_text`], but for links.
pub fn read_shared_text(path: &Path) -> Result<String> {
    text(regular(path, path)?, path)
}

fn text(file: File, path: &Path) -> Result<String> {
    let size = file.metadata().map_err(FileError::read(path))?.len();
    if size > MAX_TEXT {
        return Err(FileError::config(path, format!("{size} bytes is more than the {MAX_TEXT} this file may have")));
    }
    let mut text = String::with_capacity(size as usize);
    file.take(MAX_TEXT).read_to_string(&mut text).map_err(FileError::read(path))?;
    Ok(text)
}
