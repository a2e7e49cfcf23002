//! Checkpoints that somebody made to do harm: each is refused, within seconds and without the memory it asks for.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::micro;
use mobile_engine::{Bits, Compute, Error, Message, Text, arrange, check, convert};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Runs what must be refused, within bounds of time and memory; gives the reason.
fn refused<T>(attempt: impl FnOnce() -> Result<T, Error>) -> String {
    let began = Instant::now();
    let Err(error) = attempt() else { panic!("it was taken") };
    let error = error.to_string();
    assert!(began.elapsed() < Duration::from_secs(20), "{error}: {:?}", began.elapsed());
    // The system counts the most that the process ever had, and other tests of this file may run in the same one.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak.is_none_or(|kib| kib < 512 << 10), "{error}: {peak:?} KiB");
    error
}

/// What is said of a micro checkpoint with one file replaced.
fn replaced(name: &str, file: &str, replace: impl FnOnce(&Path)) -> String {
    let folder = micro(name);
    let path = folder.path().join(file);
    let _ = fs::remove_file(&path);
    replace(&path);
    let error = refused(|| check(folder.path()).and_then(|()| Text::open(folder.path()).map(drop)));
    assert!(error.contains(file), "{error}");
    error
}

fn write(data: impl AsRef<[u8]>) -> impl FnOnce(&Path) {
    move |path| fs::write(path, data).expect("written")
}

/// A file that claims to be larger than anybody would write; it takes no room on the disk.
fn sparse(bytes: u64) -> impl FnOnce(&Path) {
    move |path| File::create(path).and_then(|file| file.set_len(bytes)).expect("made")
}

fn header(claimed: u64, text: &str) -> Vec<u8> {
    [&claimed.to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn texts_of_a_gigabyte_are_not_read() {
    for file in ["config.json", INDEX, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert!(replaced("olmoe-sharded", file, sparse(1 << 30)).contains("more than the"), "{file}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let long = |path: &Path| {
        fs::write(path, header(100_000_000_000, "{}")).expect("written");
        File::options().write(true).open(path).and_then(|file| file.set_len(100_000_000_008)).expect("lengthened");
    };
    replaced("mixtral-k1", WEIGHTS, long);
    replaced("mixtral-k1", WEIGHTS, write(header(u64::MAX, "{}")));
    let tensor = |from: i64, to: i64| json!({ "dtype": "F32", "shape": [1], "data_offsets": [from, to] }).to_string();
    for (tensors, data) in [
        (&[("a", 0, 4), ("b", 2, 6)][..], 6),
        (&[("a", -4, 0)], 4),
        (&[("a", 4, 0)], 4),
        (&[("a", 0, 4), ("a", 4, 8)], 8),
        (&[("a", 0, i64::MAX)], 8),
    ] {
        let fields: Vec<_> = tensors.iter().map(|(name, a, b)| format!("{name:?}:{}", tensor(*a, *b))).collect();
        let text = format!("{{{}}}", fields.join(","));
        let file = [header(text.len() as u64, &text), vec![0; data]].concat();
        assert!(replaced("mixtral-k1", WEIGHTS, write(file)).contains("not a valid safetensors file"), "{text}");
    }
}

#[test]
fn weights_outside_the_folder_are_not_read_and_nothing_that_never_ends() {
    const SHARD: &str = "model-00001-of-00003.safetensors";
    let outside = tempfile::NamedTempFile::new().expect("a file");
    for to in [outside.path(), Path::new("/dev/zero")] {
        let link = |path: &Path| symlink(to, path).expect("a link");
        assert!(replaced("olmoe-sharded", SHARD, link).contains("outside the model's folder"), "{to:?}");
    }
    for file in [
        "config.json",
        INDEX,
        SHARD,
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ] {
        let endless = |path: &Path| symlink("/dev/zero", path).expect("a link");
        let said = replaced("olmoe-sharded", file, endless);
        assert!(said.contains("not a file") || said.contains("outside the model's folder"), "{said}");
        let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().expect("ran").success());
        assert!(replaced("olmoe-sharded", file, pipe).contains("not a file"), "{file}");
    }
}

#[test]
fn a_snapshot_of_the_cache_links_into_its_repository() {
    let folder = micro("mixtral-k1");
    let home = tempfile::tempdir().expect("a folder");
    let (blobs, snapshot) = (home.path().join("blobs"), home.path().join("snapshots/0123456789abcdef"));
    fs::create_dir_all(&blobs).expect("made");
    fs::create_dir_all(&snapshot).expect("made");
    for entry in fs::read_dir(folder.path()).expect("the checkpoint").flatten() {
        fs::copy(entry.path(), blobs.join(entry.file_name())).expect("copied");
        symlink(Path::new("../../blobs").join(entry.file_name()), snapshot.join(entry.file_name())).expect("a link");
    }
    check(&snapshot).expect("taken");
    Text::open(&snapshot).expect("taken");
}

#[test]
fn sizes_that_no_model_has_are_refused_before_anything_is_made() {
    let home = tempfile::tempdir().expect("a folder");
    for (name, field) in [
        ("mixtral-k1", "num_hidden_layers"),
        ("qwen2moe-gqa", "num_hidden_layers"),
        ("mixtral-k1", "num_local_experts"),
        ("olmoe-sharded", "num_experts"),
    ] {
        let folder = micro(name);
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("a config")).expect("JSON");
        config[field] = json!(i32::MAX);
        fs::write(&path, config.to_string()).expect("written");
        let target = home.path().join("target");
        let words = if field == "num_hidden_layers" { field } else { "experts are above" };
        assert!(refused(|| check(folder.path())).contains(words), "{name}");
        assert!(refused(|| convert(folder.path(), &target, Bits::new(4), |_, _| {})).contains(words), "{name}");
        let arranged = || arrange(folder.path(), &target, Compute::F32, None, |_, _| Ok(()));
        assert!(refused(arranged).contains(words), "{name}");
    }
}

#[test]
fn templates_that_loop_read_files_or_swell_end_with_an_error() {
    let hello = [Message::new("user", "hello")];
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}";
    let recursive = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    let files = "{% include '/etc/passwd' %}";
    let swelling = format!("{{% for a in range(100000) %}}{}{{% endfor %}}", "x".repeat(100_000));
    let nested = "{% set n = namespace(l=messages) %}{% for a in range(40) %}{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l | tojson(indent=10000000000) }}";
    for source in [endless, recursive, files, &swelling, nested] {
        let folder = micro("mixtral-k1");
        fs::write(folder.path().join("chat_template.jinja"), source).expect("written");
        let text = Text::open(folder.path()).expect("it parses");
        refused(|| text.render(&hello));
    }
}
