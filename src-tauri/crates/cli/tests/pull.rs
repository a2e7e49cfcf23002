//! `mobile pull` as a process: killed, beside another one, on a disk that runs full.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "the hub is shared with the library's own tests")]

#[path = "../../models/tests/support/hub.rs"]
mod hub;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hub::{COMMIT, Fault, Hub, Served, git_oid, sha256};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const ID: &str = "a/olmoe";

/// Bytes a second and connection, of which there are three.
const SPEED: usize = 80_000;

/// A hub with one model, and a place to download it to.
struct Setup {
    folder: TempDir,
    source: PathBuf,
    hub: Hub,
    _runtime: Runtime,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("models").join(ID);
    fs::create_dir_all(&source).expect("a folder");
    let micro = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro");
    for entry in fs::read_dir(micro.join("olmoe-sharded")).expect("the fixture").flatten() {
        fs::copy(entry.path(), source.join(entry.file_name())).expect("copied");
    }
    fs::remove_file(source.join("golden.json")).expect("no part of a model");
    fs::copy(micro.join("tokenizer.json"), source.join("tokenizer.json")).expect("copied");
    // A large file that is not in LFS.
    let text: Vec<u8> = (0..100_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) as u16).to_le_bytes()).collect();
    fs::write(source.join("tokenizer.model"), text).expect("written");
    let runtime = Runtime::new().expect("a runtime");
    let hub = runtime.block_on(Hub::start(&folder.path().join("models"), 0));
    for part in [".safetensors", "tokenizer.model"] {
        hub.fault(part, Fault::Slow(SPEED), None);
    }
    Setup { folder, source, hub, _runtime: runtime }
}

impl Setup {
    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn mobile(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mobile"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("MOBILE_HOME", self.folder.path().join("home")).env("HF_HUB_CACHE", self.cache());
        command.env("HF_ENDPOINT", self.hub.endpoint()).env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        command.env_remove("HF_HUB_OFFLINE").env_remove("HF_TOKEN");
        command
    }

    fn pull(&self) -> Child {
        self.mobile(&["pull", ID]).spawn().expect("started")
    }

    /// The files that take long, each with its name among the blobs. Config and index are read on every attempt, to
    /// decide what to fetch.
    fn large(&self) -> BTreeMap<String, String> {
        let names =
            fs::read_dir(&self.source).expect("the model").flatten().filter_map(|e| e.file_name().into_string().ok());
        let large = names.filter(|n| n.ends_with(".safetensors") || n == "tokenizer.model");
        large
            .map(|name| {
                let data = fs::read(self.source.join(&name)).expect("a file");
                let etag = if name.ends_with(".model") { git_oid(&data) } else { sha256(&data) };
                (name, etag)
            })
            .collect()
    }

    /// Bytes of the large files that are on the disk.
    fn present(&self) -> BTreeMap<String, usize> {
        let blobs = self.cache().join("models--a--olmoe/blobs");
        let length = |name: &str| fs::metadata(blobs.join(name)).map_or(0, |m| m.len() as usize);
        let here = |etag: &String| length(etag).max(length(&format!("{etag}.incomplete")));
        self.large().iter().map(|(name, etag)| (name.clone(), here(etag))).collect()
    }

    fn total(&self) -> usize {
        self.large().keys().map(|name| fs::metadata(self.source.join(name)).expect("a file").len() as usize).sum()
    }

    /// What was given out of the large files since the first `after` answers.
    fn served(&self, after: usize) -> Vec<Served> {
        let large = self.large();
        self.hub.served().into_iter().skip(after).filter(|s| large.contains_key(&s.file)).collect()
    }

    /// Waits until so many bytes are on the disk.
    fn until(&self, bytes: usize, running: &mut [&mut Child]) {
        let began = Instant::now();
        while self.present().values().sum::<usize>() < bytes {
            for child in &mut *running {
                assert!(child.try_wait().expect("asked").is_none(), "it ended before {bytes} bytes were there");
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{:?} of {bytes} bytes", self.present());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The model at `snapshot` is the hub's, byte for byte.
    fn assert_same(&self, snapshot: &Path) {
        for entry in fs::read_dir(&self.source).expect("the model").flatten() {
            let copy = fs::read(snapshot.join(entry.file_name())).unwrap_or_else(|e| panic!("{entry:?}: {e}"));
            assert_eq!(copy, fs::read(entry.path()).expect("the original"), "{entry:?}");
        }
    }

    fn assert_whole(&self) {
        let root = self.cache().join("models--a--olmoe");
        self.assert_same(&root.join("snapshots").join(COMMIT));
        let blobs = fs::read_dir(root.join("blobs")).expect("the blobs").flatten();
        let partial: Vec<_> =
            blobs.map(|e| e.file_name()).filter(|n| n.to_string_lossy().contains("incomplete")).collect();
        assert!(partial.is_empty(), "{partial:?}");
    }
}

/// How a process ended that must end by itself, and what it said.
fn end(mut child: Child) -> (ExitStatus, String) {
    let began = Instant::now();
    while child.try_wait().expect("asked").is_none() {
        if began.elapsed() > Duration::from_secs(40) {
            child.kill().expect("killed");
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("ended");
    (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn succeed(child: Child) {
    let (status, said) = end(child);
    assert!(status.success(), "{said}");
}

/// Ends a process as `kill -9` does.
fn kill(mut child: Child) {
    child.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn killed_at_ten_points_it_goes_on_from_every_byte_that_had_arrived() {
    let s = setup();
    let total = s.total();
    let random = |n: u32| usize::from_str_radix(&sha256(&n.to_le_bytes())[..8], 16).expect("hexadecimal");
    let mut points: Vec<usize> = (0..10).map(|n| total / 50 + random(n) % (total * 9 / 10)).collect();
    points.sort_unstable();
    for point in points {
        let before = s.present();
        let answers = s.hub.served().len();
        if before.values().sum::<usize>() >= point {
            continue;
        }
        let mut child = s.pull();
        s.until(point, &mut [&mut child]);
        kill(child);
        for served in s.served(answers) {
            assert_eq!(served.start, before[&served.file], "{} is fetched from where it ended", served.file);
        }
        assert!(!String::from_utf8_lossy(&s.mobile(&["list"]).output().expect("ran").stdout).contains("ready"));
    }
    let (before, answers) = (s.present(), s.hub.served().len());
    succeed(s.pull());
    for served in s.served(answers) {
        assert_eq!(served.start, before[&served.file], "{} is fetched from where it ended", served.file);
    }
    s.assert_whole();

    let mut offline = s.mobile(&["pull", ID]);
    offline.env("HF_HUB_OFFLINE", "1").env("HF_ENDPOINT", "http://127.0.0.1:9");
    succeed(offline.spawn().expect("started"));
    let mut generate = s.mobile(&["generate", "hi", "--max-tokens", "2", "--model", ID]);
    succeed(generate.env("HF_HUB_OFFLINE", "1").env("HF_ENDPOINT", "http://127.0.0.1:9").spawn().expect("started"));
}

#[test]
fn what_is_not_here_is_assessed_before_it_is_fetched() {
    let s = setup();
    let info = || {
        let output = s.mobile(&["info", ID, "--json"]).output().expect("ran");
        let facts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&facts["shape"]["experts"], &facts["fit"]["verdict"]), (&8.into(), &"fits".into()));
        facts["fit"]["download"].as_u64().expect("bytes") as usize
    };
    let whole = info();
    assert!(whole > s.total() && !s.cache().exists() && s.served(0).is_empty());
    let mut child = s.pull();
    s.until(s.total() / 3, &mut [&mut child]);
    kill(child);
    let rest = info();
    assert!(rest > 0 && rest <= whole - s.total() / 3, "{rest} of {whole}");
    let list = s.mobile(&["list"]).output().expect("ran").stdout;
    let list = String::from_utf8_lossy(&list);
    assert!(list.contains("is missing; `mobile pull a/olmoe` fetches the rest"), "{list}");
}

#[test]
fn what_goes_wrong_is_said_without_a_terminal_and_as_json() {
    let s = setup();
    s.hub.heal();
    s.hub.fault("/revision/", Fault::Status(503, Vec::new()), Some(1));
    let output = s.pull().wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("it answered 503; again in"), "{said}");
    assert!(said.contains("kB in "), "{said}");
    let mut unread = s.mobile(&["pull", ID, "--json"]).spawn().expect("started");
    drop(unread.stdout.take());
    let output = unread.wait_with_output().expect("ended");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = s.mobile(&["pull", "a/nothing", "--json"]).output().expect("ran");
    let last: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!((&last["event"], &last["code"]), (&"failed".into(), &"no_repository".into()));
    // What is here is used where the hub does not answer, and that is said.
    let mut unreachable = s.mobile(&["pull", ID]);
    let output = unreachable.env("HF_ENDPOINT", "http://127.0.0.1:9").output().expect("ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("using a/olmoe as it was downloaded before"), "{said}");
}

#[test]
fn two_at_once_fetch_each_file_once() {
    let s = setup();
    let (one, two) = (s.pull(), s.pull());
    succeed(one);
    succeed(two);
    s.assert_whole();
    let mut files: Vec<_> = s.served(0).into_iter().map(|served| served.file).collect();
    files.sort();
    assert_eq!(files, s.large().into_keys().collect::<Vec<_>>());
}

#[test]
fn one_goes_on_where_the_other_was_killed() {
    let s = setup();
    let mut one = s.pull();
    s.until(s.total() / 5, &mut [&mut one]);
    let mut two = s.pull();
    s.until(s.total() / 2, &mut [&mut one, &mut two]);
    kill(one);
    succeed(two);
    s.assert_whole();
    for (file, _) in s.large() {
        let served: Vec<_> = s.served(0).into_iter().filter(|served| served.file == file).collect();
        assert!(served.len() <= 2, "one of them at a time: {served:?}");
        let repeated = served.get(1).is_some_and(|again| served[0].bytes > 8192 && again.start == 0);
        assert!(!repeated, "{served:?}");
    }
}

/// In a mount namespace of its own: the disk shrinks under the download, then grows again.
const FULL: &str = r#"
mount -t tmpfs -o size=1G tmpfs "$HF_HUB_CACHE"
"$MOBILE" pull a/olmoe 2>"$OUT/said" & pull=$!
blobs=$HF_HUB_CACHE/models--a--olmoe/blobs
while [ "$(cat "$blobs"/* 2>/dev/null | wc -c)" -lt 100000 ]; do sleep 0.02; done
mount -o remount,size=220k "$HF_HUB_CACHE"
code=0; wait $pull || code=$?
echo $code >"$OUT/code"
"$MOBILE" list >"$OUT/list"
mount -o remount,size=1G "$HF_HUB_CACHE"
"$MOBILE" pull a/olmoe
cp -rL "$HF_HUB_CACHE"/models--a--olmoe/snapshots/* "$OUT/snapshot"
"#;

#[test]
fn a_disk_that_runs_full_is_said_and_leaves_no_ghost() {
    let s = setup();
    fs::create_dir(s.cache()).expect("made");
    let out = s.folder.path().join("out");
    fs::create_dir(&out).expect("made");
    let apart = |script: &str| {
        let mobile = s.mobile(&[]);
        let mut command = Command::new("timeout");
        command.args(["60", "unshare", "--user", "--map-root-user", "--mount", "sh", "-eu", "-c", script]);
        command.envs(mobile.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("MOBILE", mobile.get_program()).env("OUT", &out).output()
    };
    match apart("mount -t tmpfs -o size=1G tmpfs \"$HF_HUB_CACHE\"") {
        Ok(output) if output.status.success() => {}
        other => return eprintln!("skipped: this system lets no test mount a disk of its own: {other:?}"),
    }
    let output = apart(FULL).expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |name: &str| fs::read_to_string(out.join(name)).expect("written");
    assert_eq!(text("code"), "3\n");
    let said = text("said");
    for words in ["models--a--olmoe", "more and", "are free", "set HF_HOME to a folder on another disk"] {
        assert!(said.contains(words), "{said:?} does not say {words:?}");
    }
    assert!(text("list").contains("not complete") && !text("list").contains("ready"), "{}", text("list"));
    s.assert_same(&out.join("snapshot"));
}
