//! The files of a checkpoint: which ones matter, and reading them without trusting them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, Result};

/// The index of a sharded checkpoint.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// No file of a real model but its weights comes near this many bytes.
pub(crate) const MAX_TEXT: u64 = 64 << 20;

/// Whether a file of this name is of use; weights are, until an index says otherwise.
pub(crate) fn is_needed(name: &str) -> bool {
    if !is_plain_name(name) {
        return false;
    }
    let settings = ["config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json"];
    let text = ["vocab.json", "merges.txt", INDEX];
    settings.contains(&name)
        || text.contains(&name)
        || name.starts_with("tokenizer")
        || name.starts_with("chat_template")
        || is_weights(name)
}

/// Whether `name` is a file of weights.
pub(crate) fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Whether `name` can be one file in one folder, and stand in a URL as it is. No supported checkpoint has folders.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

/// Opens a file of a model, which may come from anybody. A pipe or a device would be read for ever, and a link out of the
/// folder is a way to somebody's files; only the cache has links of that kind, from a snapshot to the rest of its
/// repository.
pub(crate) fn open(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let real = path.canonicalize().map_err(Error::read(path))?;
    let root = folder.canonicalize().map_err(Error::read(folder))?;
    let repository = root.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent);
    if !real.starts_with(repository.unwrap_or(&root)) {
        return Err(Error::weights(path, "links to a file outside the model's folder; copy that file here"));
    }
    if !real.is_file() {
        return Err(Error::weights(path, "not a file"));
    }
    File::open(&real).map_err(Error::read(path))
}

/// A text file, refused when it is too large or not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let file = open(path)?;
    let size = file.metadata().map_err(Error::read(path))?.len();
    if size > MAX_TEXT {
        return Err(Error::config(path, format!("{size} bytes is more than the {MAX_TEXT} this file may have")));
    }
    let mut text = String::with_capacity(size as usize);
    file.take(MAX_TEXT).read_to_string(&mut text).map_err(Error::read(path))?;
    Ok(text)
}

/// Bytes free for this user at `path`, or at the nearest folder above it that exists.
///
/// # Errors
/// [`Error::Read`] when the file system does not say.
pub fn free_space(path: &Path) -> Result<u64> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    fs4::available_space(existing).map_err(Error::read(existing))
}

#[cfg(test)]
mod tests {
    use super::{is_needed, is_plain_name};

    #[test]
    fn only_what_a_model_needs() {
        for name in [
            "config.json",
            "tokenizer.json",
            "tokenizer.model",
            "chat_template.jinja",
            "model-00001-of-00003.safetensors",
        ] {
            assert!(is_needed(name), "{name}");
        }
        for name in [
            "README.md",
            "pytorch_model.bin",
            "consolidated.00.pt",
            "../config.json",
            "onnx/model.safetensors",
            ".gitattributes",
        ] {
            assert!(!is_needed(name), "{name}");
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert!(is_plain_name("model.safetensors"));
        for name in ["", "..", ".hidden", "a/b", "a\\b", "/etc/passwd", "a?b", "a b", "a%2fb", "a\0"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
