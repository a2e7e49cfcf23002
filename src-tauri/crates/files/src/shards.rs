//! Which files hold the weights, and what their headers say.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::error::{FileError, FromFile as _, Result};
use crate::read::{open, read_text};

/// The index of a sharded checkpoint.
pub const INDEX: &str = "model.safetensors.index.json";

/// The weights of a checkpoint that is not sharded.
const SINGLE: &str = "model.safetensors";

/// The limit of the safetensors format.
const MAX_HEADER: u64 = 100_000_000;

/// Whether `name` is a file of weights.
#[must_use]
pub fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Whether `name` can be one file in one folder, and stand in a URL as it is. No supported checkpoint has folders.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

/// Names of the files with the weights of the checkpoint in `folder`: those of its index, or the one file.
///
/// # Errors
/// As [`read_text`] and [`shards_of_index`] for the index.
pub fn shards(folder: &Path) -> Result<Vec<String>> {
    let index = folder.join(INDEX);
    if index.exists() { shards_of_index(&read_text(&index)?, &index) } else { Ok(vec![SINGLE.to_owned()]) }
}

/// Names of the shards in the text of an index; `path` is for messages.
///
/// # Errors
/// [`FileError::Config`] for what is no index, or leads out of the folder.
pub fn shards_of_index(text: &str, path: &Path) -> Result<Vec<String>> {
    let index: Value =
        serde_json::from_str(text).map_err(|e| FileError::config(path, format!("not valid JSON: {e}")))?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object).filter(|m| !m.is_empty()) else {
        return Err(FileError::config(path, "field \"weight_map\" is missing or empty"));
    };
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let Some(name) = file.as_str().filter(|f| is_plain_name(f) && is_weights(f)) else {
            let what = format!("weight_map[{tensor:?}] is {file}, not a file of the folder");
            return Err(FileError::config(path, what));
        };
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().collect())
}

/// A safetensors file whose header was read and found right.
#[derive(Debug)]
pub struct Shard {
    /// The file.
    pub file: File,
    /// Its tensors. Offsets count from `data`.
    pub metadata: Metadata,
    /// Where the data of the tensors begins, in bytes.
    pub data: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Shard {
    /// Opens `path` and reads its header. Offsets that overlap, leave holes or do not match the shapes are refused, by
    /// the safetensors crate, and so is a file of another size than the tensors need.
    ///
    /// # Errors
    /// As [`open`]; [`FileError::Weights`].
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |what: String| Err(FileError::weights(path, what));
        let mut file = open(path)?;
        let bytes = file.metadata().map_err(FileError::read(path))?.len();
        let mut length = [0; 8];
        if file.read_exact(&mut length).is_err() {
            return refuse("too short for a safetensors file; fetch it again".to_owned());
        }
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > bytes {
            return refuse(format!(
                "its header claims {length} bytes: not a safetensors file, or truncated; fetch it again"
            ));
        }
        let mut header = Vec::new();
        (&file).take(length).read_to_end(&mut header).map_err(FileError::read(path))?;
        let metadata: Metadata = match serde_json::from_slice(&header) {
            Ok(metadata) => metadata,
            Err(e) => return refuse(format!("not a valid safetensors file: {e}")),
        };
        let data = 8 + length;
        let expected = data.saturating_add(metadata.data_len() as u64);
        if bytes != expected {
            return refuse(format!("truncated or lengthened: has {bytes} bytes of {expected}; fetch it again"));
        }
        Ok(Self { file, metadata, data, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn names_stay_in_their_folder() {
        assert!(is_plain_name("model.safetensors"));
        for name in ["", "..", ".hidden", "a/b", "a\\b", "/etc/passwd", "a?b", "a b", "a%2fb", "a\0"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
