//! The files of a checkpoint: which ones matter, and reading them without trusting them.

use std::path::Path;

use crate::error::{Error, Result};

/// The index of a sharded checkpoint.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// No config or index of a real model comes near this many bytes.
const MAX_TEXT: u64 = 64 << 20;

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

/// A text file, refused when it is too large or not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
    if !metadata.is_file() {
        return Err(Error::config(path, "not a file"));
    }
    if metadata.len() > MAX_TEXT {
        let size = metadata.len();
        return Err(Error::config(path, format!("{size} bytes is more than the {MAX_TEXT} this file may have")));
    }
    std::fs::read_to_string(path).map_err(Error::read(path))
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
