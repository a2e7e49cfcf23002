//! Which files of a repository matter, and whether there is room for them.

use std::path::Path;

use mobile_files::{FromFile as _, INDEX, is_plain_name, is_weights};

use crate::error::{Error, Result};

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

/// Bytes free for this user at `path`, or at the nearest folder above it that exists.
///
/// # Errors
/// [`Error::File`] when the file system does not say.
pub fn free_space(path: &Path) -> Result<u64> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    fs4::available_space(existing).map_err(Error::read(existing))
}

#[cfg(test)]
mod tests {
    use super::is_needed;

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
}
