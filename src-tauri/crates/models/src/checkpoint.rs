//! Whether a folder holds a whole checkpoint: every shard there, each of the size that its own header promises.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{INDEX, is_plain_name, is_weights, read_text};
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
    let root = trusted_root(folder)?;
    let shards = shards(folder)?;
    let (mut tensor_bytes, mut file_bytes) = (0, 0);
    for name in &shards {
        let path = folder.join(name);
        let real = path.canonicalize().map_err(|_| Error::weights(&path, "missing"))?;
        if !real.starts_with(&root) {
            return Err(Error::weights(&path, "links to a file outside the model's folder; copy that file here"));
        }
        let (tensors, file) = check_shard(&path)?;
        tensor_bytes += tensors;
        file_bytes += file;
    }
    let tokenizer = folder.join("tokenizer.json").is_file();
    Ok(Checkpoint { shape, shards, tensor_bytes, file_bytes, tokenizer })
}

/// Where links may lead: the folder itself, or the whole repository for a snapshot of the cache.
fn trusted_root(folder: &Path) -> Result<PathBuf> {
    let real = folder.canonicalize().map_err(Error::read(folder))?;
    let repository = real.parent().filter(|p| p.ends_with("snapshots")).and_then(Path::parent);
    Ok(repository.map_or_else(|| real.clone(), Path::to_owned))
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
    let mut file = File::open(path).map_err(Error::read(path))?;
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

    #[test]
    fn hostile_headers_are_refused_without_reading_them() {
        let folder = fixture();
        let shard = folder.path().join("model-00001-of-00003.safetensors");
        let with = |length: u64, text: &str| {
            let data = [&length.to_le_bytes()[..], text.as_bytes()].concat();
            fs::write(&shard, data).expect("written");
            refusal(folder.path())
        };
        assert!(with(100_000_000_000, "{}").contains("100000000000 bytes"));
        assert!(with(u64::MAX, "{}").contains("claims"));
        let tensors = |text: &str| with(text.len() as u64, text);
        let overlap = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
        assert!(tensors(overlap).contains("not a valid safetensors file"));
        let negative = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#;
        assert!(tensors(negative).contains("not a valid safetensors file"));
        let duplicate = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(tensors(duplicate).contains("not a valid safetensors file"));
        let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
        assert!(tensors(huge).contains("not a valid safetensors file"));
    }

    #[test]
    fn nothing_outside_the_folder_is_read() {
        let folder = fixture();
        let index = folder.path().join(INDEX);
        for name in ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "config.json"] {
            fs::write(&index, format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#)).expect("written");
            assert!(refusal(folder.path()).contains("not a file of the folder"), "{name}");
        }
        let outside = tempfile::NamedTempFile::new().expect("a file");
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.safetensors")).expect("a link");
        fs::write(&index, r#"{"weight_map":{"a":"link.safetensors"}}"#).expect("written");
        assert!(refusal(folder.path()).contains("outside the model's folder"));
    }
}
