//! Opening the files of a checkpoint, which may come from anybody: nothing that never ends, and no weights from elsewhere.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Result};

/// No config, index, template or tokenizer of a real model comes near this many bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Opens a file of weights. A link out of the folder is a way to somebody's files; only the Hugging Face cache has links
/// of that kind, from a snapshot to the rest of its repository.
pub(crate) fn open_weights(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let real = path.canonicalize().map_err(Error::read(path))?;
    let root = folder.canonicalize().map_err(Error::read(folder))?;
    let repository = root.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent);
    if !real.starts_with(repository.unwrap_or(&root)) {
        return Err(Error::weights(path, "links to a file outside the model's folder; copy that file here"));
    }
    open(&real)
}

/// Opens what is a file: a pipe or a device would be read for ever.
fn open(path: &Path) -> Result<File> {
    if !path.metadata().map_err(Error::read(path))?.is_file() {
        return Err(Error::weights(path, "not a file"));
    }
    File::open(path).map_err(Error::read(path))
}

/// A text file of the checkpoint, refused when it is too large or not UTF-8. It may be linked from elsewhere, as people do
/// who keep one tokenizer for several models.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let file = open(path)?;
    let size = file.metadata().map_err(Error::read(path))?.len();
    if size > MAX_BYTES {
        return Err(Error::config(path, format!("{size} bytes is more than the {MAX_BYTES} this file may have")));
    }
    let mut text = String::with_capacity(size as usize);
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(Error::read(path))?;
    Ok(text)
}
