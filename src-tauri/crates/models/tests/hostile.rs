//! Files that somebody made to do harm: each is refused, within seconds and without taking the memory it asks for.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mobile_models::{Import, Library, Room, Shape, Use, Verdict, assess, inspect};
use serde_json::{Value, json};

const SHARD: &str = "model-00001-of-00003.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A copy of a sound checkpoint.
fn checkpoint() -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro/olmoe-sharded");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in fs::read_dir(source).expect("the fixture").flatten() {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    folder
}

/// What is said of a checkpoint with one file replaced, within bounds of time and memory.
fn refusal(name: &str, replace: impl FnOnce(&Path)) -> String {
    let folder = checkpoint();
    let path = folder.path().join(name);
    let _ = fs::remove_file(&path);
    replace(&path);
    let began = Instant::now();
    let error = inspect(folder.path()).expect_err(name).to_string();
    assert!(began.elapsed() < Duration::from_secs(20), "{error}: {:?}", began.elapsed());
    // The system counts the most that the process ever had, and other tests of this file may run in the same one.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak.is_none_or(|kib| kib < 512 << 10), "{error}: {peak:?} KiB");
    assert!(error.contains(name) || error.contains("config.json"), "{error}");
    error
}

fn write(data: impl AsRef<[u8]>) -> impl FnOnce(&Path) {
    move |path| fs::write(path, data).expect("written")
}

/// A file that claims to be larger than anybody would write; it takes no room on the disk.
fn sparse(bytes: u64) -> impl FnOnce(&Path) {
    move |path| File::create(path).and_then(|file| file.set_len(bytes)).expect("made")
}

/// A file whose header claims to have so many bytes.
fn header(claimed: u64, text: &str) -> Vec<u8> {
    [&claimed.to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn texts_of_a_gigabyte_are_not_read() {
    for name in ["config.json", INDEX] {
        assert!(refusal(name, sparse(1 << 30)).contains("more than the"), "{name}");
    }
}

#[test]
fn a_header_of_100_gb_is_not_read() {
    assert!(refusal(SHARD, write(header(100_000_000_000, "{}"))).contains("claims 100000000000 bytes"));
    assert!(refusal(SHARD, write(header(u64::MAX, "{}"))).contains("claims"));
    // With the bytes behind it that it claims.
    let long = |path: &Path| {
        fs::write(path, header(100_000_000_000, "{}")).expect("written");
        File::options().write(true).open(path).and_then(|file| file.set_len(100_000_000_008)).expect("lengthened");
    };
    assert!(refusal(SHARD, long).contains("claims 100000000000 bytes"));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let tensor = |from: i64, to: i64| json!({ "dtype": "F32", "shape": [1], "data_offsets": [from, to] }).to_string();
    let of = |tensors: &[(&str, i64, i64)]| {
        let fields: Vec<_> = tensors.iter().map(|(name, a, b)| format!("{name:?}:{}", tensor(*a, *b))).collect();
        let text = format!("{{{}}}", fields.join(","));
        refusal(SHARD, write(header(text.len() as u64, &text)))
    };
    for wrong in [
        &[("a", 0, 4), ("b", 2, 6)][..],
        &[("a", -4, 0)],
        &[("a", 4, 0)],
        &[("a", 0, 4), ("a", 4, 8)],
        &[("a", 8, 12)],
        &[("a", 0, i64::MAX)],
    ] {
        assert!(of(wrong).contains("not a valid safetensors file"), "{wrong:?}");
    }
    let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
    assert!(refusal(SHARD, write(header(huge.len() as u64, huge))).contains("not a valid safetensors file"));
    let nested = "[".repeat(1_000_000);
    assert!(refusal(SHARD, write(header(nested.len() as u64, &nested))).contains("not a valid safetensors file"));
}

#[test]
fn nothing_outside_the_folder_is_read_and_nothing_that_never_ends() {
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let to = |target: &Path| {
        let target = target.to_owned();
        move |path: &Path| symlink(target, path).expect("a link")
    };
    for name in ["config.json", INDEX, SHARD] {
        assert!(refusal(name, to(outside.path())).contains("outside the model's folder"), "{name}");
        assert!(refusal(name, to(Path::new("/dev/zero"))).contains("outside the model's folder"), "{name}");
        let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().expect("ran").success());
        assert!(refusal(name, pipe).contains("not a file"), "{name}");
    }
    for file in ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ""] {
        let index = json!({ "weight_map": { "a": file } }).to_string();
        assert!(refusal(INDEX, write(index)).contains("not a file of the folder"), "{file}");
    }
}

#[test]
fn nothing_outside_the_folder_is_copied() {
    let folder = checkpoint();
    let secret = tempfile::NamedTempFile::new().expect("a file");
    symlink(secret.path(), folder.path().join("tokenizer_config.json")).expect("a link");
    let home = tempfile::tempdir().expect("a folder");
    let library = Library::with_cache(home.path().join("data"), home.path().join("cache"));
    let error = library.import(folder.path(), Some("x"), Import::Copy).expect_err("refused").to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("outside"), "{error}");
    assert!(library.list().expect("a list").is_empty());
}

#[test]
fn sizes_whose_products_overflow_are_refused_and_the_largest_do_not() {
    let config = |edit: &dyn Fn(&mut Value)| {
        let folder = checkpoint();
        let path = folder.path().join("config.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&path).expect("a config")).expect("JSON");
        edit(&mut value);
        (value.to_string(), path)
    };
    let sizes = [
        ("num_hidden_layers", 1 << 10),
        ("num_experts", 1 << 12),
        ("num_experts_per_tok", 1 << 12),
        ("num_attention_heads", 1 << 12),
        ("num_key_value_heads", 1 << 12),
        ("head_dim", 1 << 12),
        ("hidden_size", 1 << 17),
        ("intermediate_size", 1 << 17),
        ("vocab_size", 1 << 21),
        ("max_position_embeddings", 1 << 21),
    ];
    let (largest, path) = config(&|value| sizes.iter().for_each(|(name, most)| value[name] = json!(most)));
    let shape = Shape::parse(&largest, &path).expect("a shape");
    let usage = Use { context: u64::MAX, sequences: 32, ..Use::default() };
    let room = Room { memory: 1 << 34, disk: 0 };
    assert_eq!(assess(&shape, &usage, &room, 0).verdict, Verdict::DoesNotFit);
    for (name, most) in sizes {
        let (text, _) = config(&|value| value[name] = json!(most + 1));
        assert!(refusal("config.json", write(text)).contains(name), "{name}");
    }
}
