//! Whether a folder holds a whole checkpoint: every shard there, each of the size that its own header promises.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use safetensors::tensor::Metadata;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{INDEX, is_plain_name, is_weights, open, read_text};
use crate::shape::Shape;

/// The limit of the safetensors format.
const MAX_HEADER: u64 = 100_000_000;

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// Family and sizes.
    pub shape: Shape,
    /// Files of weights.
    pub shards: Vec<String>,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of the files of weights.
    pub file_bytes: u64,
    /// Whether there is a `tokenizer.json`.
    pub tokenizer: bool,
}

/// Looks at the checkpoint in `folder` without reading weights.
///
/// # Errors
/// What is missing, truncated, malformed or not supported, with the file at fault.
pub fn inspect(folder: &Path) -> Result<Checkpoint> {
    let shape = Shape::open(&folder.join("config.json"))?;
    let shards = shards(folder)?;
    let (mut tensor_bytes, mut file_bytes) = (0, 0);
    for name in &shards {
        let path = folder.join(name);
        if !path.exists() {
            return Err(Error::weights(&path, "missing"));
        }
        let (tensors, file) = check_shard(&path)?;
        tensor_bytes += tensors;
        file_bytes += file;
    }
    let tokenizer = folder.join("tokenizer.json").is_file();
    Ok(Checkpoint { shape, shards, tensor_bytes, file_bytes, tokenizer })
}

/// Names of the shards: those of the index, or the one file there is.
fn shards(folder: &Path) -> Result<Vec<String>> {
    let index = folder.join(INDEX);
    if index.exists() {
        return shards_of_index(&read_text(&index)?, &index);
    }
    let single = folder.join("model.safetensors");
    if single.exists() { Ok(vec!["model.safetensors".to_owned()]) } else { Err(Error::weights(&single, "missing")) }
}

/// Names of the shards in the text of an index.
pub(crate) fn shards_of_index(text: &str, path: &Path) -> Result<Vec<String>> {
    let index: Value = serde_json::from_str(text).map_err(|e| Error::config(path, format!("not valid JSON: {e}")))?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object).filter(|m| !m.is_empty()) else {
        return Err(Error::config(path, "field \"weight_map\" is missing or empty"));
    };
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str().filter(|f| is_plain_name(f) && is_weights(f)) {
            Some(name) => names.insert(name.to_owned()),
            None => {
                return Err(Error::config(path, format!("weight_map[{tensor:?}] is {file}, not a file of the folder")));
            }
        };
    }
    Ok(names.into_iter().collect())
}

/// Bytes of the tensors and of the file, which must agree. Offsets that overlap, leave holes or do not match the
/// shapes are refused by the safetensors crate.
fn check_shard(path: &Path) -> Result<(u64, u64)> {
    let mut file = open(path)?;
    let size = file.metadata().map_err(Error::read(path))?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| Error::weights(path, "too short for a safetensors file"))?;
    let header = u64::from_le_bytes(length);
    if header > MAX_HEADER || header > size {
        return Err(Error::weights(
            path,
            format!("its header claims {header} bytes: not a safetensors file, or cut off"),
        ));
    }
    let mut text = Vec::new();
    file.take(header).read_to_end(&mut text).map_err(Error::read(path))?;
    let metadata: Metadata = serde_json::from_slice(&text)
        .map_err(|e| Error::weights(path, format!("not a valid safetensors file: {e}")))?;
    let tensors = metadata.data_len() as u64;
    let expected = (8 + header).saturating_add(tensors);
    if size != expected {
        return Err(Error::weights(path, format!("has {size} bytes of {expected}")));
    }
    Ok((tensors, size))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fixture() -> tempfile::TempDir {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro/olmoe-sharded");
        let folder = tempfile::tempdir().expect("a temporary folder");
        for entry in fs::read_dir(source).expect("the fixture") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
        folder
    }

    fn refusal(folder: &Path) -> String {
        inspect(folder).expect_err("not a whole checkpoint").to_string()
    }

    #[test]
    fn a_whole_checkpoint_is_ready() {
        let folder = fixture();
        let checkpoint = inspect(folder.path()).expect("whole");
        assert_eq!((checkpoint.shards.len(), checkpoint.tensor_bytes), (3, 150_080));
        assert!(!checkpoint.tokenizer);
    }

    #[test]
    fn a_missing_or_short_shard_is_named() {
        let folder = fixture();
        let shard = folder.path().join("model-00002-of-00003.safetensors");
        let bytes = fs::read(&shard).expect("the shard");
        fs::write(&shard, &bytes[..bytes.len() - 1]).expect("written");
        assert!(refusal(folder.path()).contains("model-00002-of-00003.safetensors: has 61679 bytes of 61680"));
        fs::write(&shard, [bytes.as_slice(), b"x"].concat()).expect("written");
        assert!(refusal(folder.path()).contains("has 61681 bytes"));
        fs::remove_file(&shard).expect("removed");
        assert!(refusal(folder.path()).contains("model-00002-of-00003.safetensors: missing"));
    }
}
