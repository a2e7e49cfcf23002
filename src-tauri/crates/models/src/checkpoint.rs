//! Whether a folder holds a whole checkpoint: every shard there, each of the size that its own header promises.

use std::path::Path;

use mobile_files::Shard;
use serde::Serialize;

use crate::error::Result;
use crate::shape::Shape;

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
    let shards = mobile_files::shards(folder)?;
    let (mut tensor_bytes, mut file_bytes) = (0, 0);
    for name in &shards {
        let shard = Shard::open(&folder.join(name))?;
        tensor_bytes += shard.metadata.data_len() as u64;
        file_bytes += shard.bytes;
    }
    let tokenizer = folder.join("tokenizer.json").is_file();
    Ok(Checkpoint { shape, shards, tensor_bytes, file_bytes, tokenizer })
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
        assert!(refusal(folder.path()).contains("has 61679 bytes of 61680"));
        fs::write(&shard, [bytes.as_slice(), b"x"].concat()).expect("written");
        assert!(refusal(folder.path()).contains("has 61681 bytes"));
        fs::remove_file(&shard).expect("removed");
        assert!(refusal(folder.path()).contains("model-00002-of-00003.safetensors: No such file"));
    }
}
