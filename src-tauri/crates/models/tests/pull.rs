//! Downloads from the hub of the tests, which breaks connections, lies about bytes and refuses.
#![allow(missing_docs, unreachable_pub)]

#[path = "support/hub.rs"]
mod hub;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hub::{COMMIT, Fault, Hub, Served, git_oid, sha256};
use mobile_models::{CancellationToken, Error, Library, Pull, PullEvent};
use tokio::sync::mpsc::unbounded_channel;

const ID: &str = "a/olmoe";
const SHARD: &str = "model-00002-of-00003.safetensors";

struct Setup {
    _folder: tempfile::TempDir,
    source: PathBuf,
    library: Library,
    hub: Hub,
}

async fn setup() -> Setup {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("models").join(ID);
    fs::create_dir_all(&source).expect("a folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro/olmoe-sharded");
    for entry in fs::read_dir(fixture).expect("the fixture").flatten() {
        fs::copy(entry.path(), source.join(entry.file_name())).expect("copied");
    }
    fs::write(source.join("tokenizer.json"), "{}").expect("written");
    fs::write(source.join("README.md"), "not needed").expect("written");
    let hub = Hub::start(&folder.path().join("models"), 0).await;
    let library = Library::with_cache(folder.path().join("data"), folder.path().join("cache"));
    Setup { source, library, hub, _folder: folder }
}

impl Setup {
    fn pull(&self) -> Pull {
        let mut pull = Pull::new(ID.parse().expect("an id"), &self.library);
        pull.endpoint = self.hub.endpoint();
        pull.token = None;
        pull.offline = false;
        pull.backoff = Duration::from_millis(5);
        pull.patience = Duration::from_secs(2);
        pull.free_space = Arc::new(|_: &Path| Ok(1 << 40));
        pull
    }

    async fn run(&self, pull: &Pull) -> (Result<PathBuf, Error>, Vec<PullEvent>) {
        let (sender, mut receiver) = unbounded_channel();
        let cancel = CancellationToken::new();
        let run = pull.run(sender, &cancel);
        let result = tokio::time::timeout(Duration::from_secs(45), run).await.expect("no download hangs");
        let mut events = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            events.push(event);
        }
        (result, events)
    }

    /// Runs a download that must fail, and leave nothing that looks ready.
    async fn refused(&self, pull: &Pull) -> Error {
        let error = self.run(pull).await.0.expect_err("refused");
        assert!(self.library.list().expect("a list").iter().all(|e| !e.is_ready()));
        error
    }

    /// The library has the model, byte for byte.
    fn assert_whole(&self) {
        let entry = self.library.info(ID).expect("in the library");
        assert!(entry.is_ready(), "{entry:?}");
        for entry in fs::read_dir(&entry.path).expect("the snapshot").flatten() {
            let original = fs::read(self.source.join(entry.file_name())).expect("the original");
            assert_eq!(fs::read(entry.path()).expect("the copy"), original, "{:?}", entry.file_name());
        }
        let blobs = self.library.cache().join("models--a--olmoe/blobs");
        let names = fs::read_dir(blobs).expect("the blobs").flatten().filter_map(|e| e.file_name().into_string().ok());
        assert!(names.into_iter().all(|n| !n.contains("incomplete")));
    }

    fn served(&self, file: &str) -> Vec<Served> {
        self.hub.served().into_iter().filter(|s| s.file == file).collect()
    }
}

#[tokio::test]
async fn a_model_is_fetched_in_the_layout_of_the_cache() {
    let s = setup().await;
    let (result, events) = s.run(&s.pull()).await;
    let path = result.expect("fetched");
    s.assert_whole();
    let root = s.library.cache().join("models--a--olmoe");
    assert_eq!(path, root.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(root.join("refs/main")).expect("a ref"), COMMIT);
    let link = |name: &str| fs::read_link(path.join(name)).expect("a link");
    let bytes = |name: &str| fs::read(s.source.join(name)).expect("a file");
    assert_eq!(link(SHARD), Path::new("../../blobs").join(sha256(&bytes(SHARD))));
    assert_eq!(link("config.json"), Path::new("../../blobs").join(git_oid(&bytes("config.json"))));
    assert!(!path.join("README.md").exists() && !path.join("golden.json").exists());
    let total = events.iter().find_map(|e| if let PullEvent::Started { total, .. } = e { Some(*total) } else { None });
    let done =
        events.iter().rev().find_map(|e| if let PullEvent::Progress { done, .. } = e { Some(*done) } else { None });
    assert_eq!(total, done);
    assert_eq!(events.last(), Some(&PullEvent::Done { path }));
}

#[tokio::test]
async fn a_second_pull_fetches_no_weights() {
    let s = setup().await;
    s.run(&s.pull()).await.0.expect("fetched");
    let before = s.served(SHARD).len();
    assert_eq!(s.pull().preview().await.expect("a preview").missing, 0);
    s.run(&s.pull()).await.0.expect("there already");
    assert_eq!(s.served(SHARD).len(), before);
}

#[tokio::test]
async fn a_preview_says_what_there_is_and_writes_nothing() {
    let s = setup().await;
    let preview = s.pull().preview().await.expect("a preview");
    assert_eq!((preview.shape.experts, preview.commit.as_str()), (8, COMMIT));
    assert!(preview.missing == preview.bytes && preview.bytes > 150_080);
    assert!(!s.library.cache().exists());
}

#[tokio::test]
async fn cut_connections_go_on_where_they_ended() {
    let s = setup().await;
    s.hub.fault(SHARD, Fault::Cut(10_000), Some(4));
    let (result, events) = s.run(&s.pull()).await;
    result.expect("fetched");
    s.assert_whole();
    assert!(events.iter().any(|e| matches!(e, PullEvent::Retrying { what, .. } if what == SHARD)));
    let served = s.served(SHARD);
    assert_eq!(served.len(), 5);
    for pair in served.windows(2) {
        assert!(pair[1].start > pair[0].start, "each connection brought bytes: {served:?}");
        assert!(pair[1].start <= pair[0].start + pair[0].bytes, "nothing is skipped: {served:?}");
    }
    let sum: usize = served.iter().map(|r| r.bytes).sum();
    assert_eq!(sum as u64, fs::metadata(s.source.join(SHARD)).expect("the shard").len(), "no byte twice: {served:?}");
}

#[tokio::test]
async fn a_cancelled_pull_goes_on_where_it_ended() {
    let s = setup().await;
    s.hub.fault(SHARD, Fault::Slow(40_000), None);
    let (sender, mut receiver) = unbounded_channel();
    let (pull, cancel) = (s.pull(), CancellationToken::new());
    let stop = async {
        while let Some(event) = receiver.recv().await {
            if matches!(&event, PullEvent::Progress { file, file_done, .. } if file == SHARD && *file_done > 20_000) {
                return cancel.cancel();
            }
        }
    };
    let (result, ()) = tokio::join!(pull.run(sender, &cancel), stop);
    assert!(matches!(result, Err(Error::Cancelled)));
    let entry = s.library.info(ID).expect("known");
    assert!(!entry.is_ready() && entry.bytes > 20_000);
    s.hub.heal();
    s.run(&pull).await.0.expect("fetched");
    s.assert_whole();
    let served = s.served(SHARD);
    assert_eq!(served.len(), 2);
    assert!(served[1].start > 20_000);
}

#[tokio::test]
async fn a_damaged_byte_is_noticed_and_mended() {
    let s = setup().await;
    s.hub.fault(SHARD, Fault::Corrupt(777), Some(1));
    let (result, events) = s.run(&s.pull()).await;
    result.expect("fetched the second time");
    assert!(events.contains(&PullEvent::Damaged { file: SHARD.to_owned() }));
    s.assert_whole();
}

#[tokio::test]
async fn a_file_that_stays_damaged_is_refused() {
    for file in [SHARD, "tokenizer.json"] {
        let s = setup().await;
        s.hub.fault(file, Fault::Corrupt(1), None);
        let error = s.refused(&s.pull()).await;
        assert!(matches!(&error, Error::Checksum { file: f, .. } if f == file), "{error}");
        s.hub.heal();
        s.run(&s.pull()).await.0.expect("fetched");
        s.assert_whole();
    }
}

#[tokio::test]
async fn a_file_left_damaged_by_others_is_mended() {
    let s = setup().await;
    let blobs = s.library.cache().join("models--a--olmoe/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let sha = sha256(&fs::read(s.source.join(SHARD)).expect("the shard"));
    fs::write(blobs.join(format!("{sha}.incomplete")), [7; 5000]).expect("written");
    s.run(&s.pull()).await.0.expect("fetched");
    s.assert_whole();
}

#[tokio::test]
async fn a_server_without_ranges_is_endured() {
    let s = setup().await;
    s.hub.fault(SHARD, Fault::Cut(10_000), Some(1));
    s.hub.fault(SHARD, Fault::NoRanges, None);
    s.run(&s.pull()).await.0.expect("fetched");
    s.assert_whole();
}

#[tokio::test]
async fn a_busy_server_is_waited_for() {
    let s = setup().await;
    let later = vec![("retry-after", "1".to_owned())];
    s.hub.fault("/revision/", Fault::Status(429, later), Some(1));
    s.hub.fault("/tree/", Fault::Status(503, Vec::new()), Some(2));
    s.hub.fault(SHARD, Fault::Status(500, Vec::new()), Some(2));
    let start = std::time::Instant::now();
    let (result, events) = s.run(&s.pull()).await;
    result.expect("fetched");
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After counts");
    assert!(events.iter().filter(|e| matches!(e, PullEvent::Retrying { .. })).count() >= 5);
    s.assert_whole();
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_given_up() {
    let s = setup().await;
    s.hub.fault(SHARD, Fault::Status(500, Vec::new()), None);
    let error = s.refused(&s.pull()).await;
    assert!(matches!(&error, Error::Hub { why, .. } if why.contains("500")), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let s = setup().await;
    s.hub.fault(SHARD, Fault::Slow(1), None);
    let mut pull = s.pull();
    (pull.patience, pull.attempts) = (Duration::from_millis(300), 2);
    let error = s.refused(&pull).await;
    assert!(matches!(&error, Error::Hub { .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_explained() {
    let s = setup().await;
    let mut pull = s.pull();
    pull.id = "a/nothing".parse().expect("an id");
    assert!(matches!(s.refused(&pull).await, Error::NoRepository { id, .. } if id == "a/nothing"));
    let mut pull = s.pull();
    for revision in ["../../x", ""] {
        pull.revision = revision.to_owned();
        assert!(matches!(s.refused(&pull).await, Error::NoRevision { .. }));
    }
    pull.revision = "elsewhere".to_owned();
    assert!(matches!(s.refused(&pull).await, Error::NoRevision { revision, .. } if revision == "elsewhere"));
}

#[tokio::test]
async fn gates_are_explained_and_opened_by_a_token() {
    let s = setup().await;
    s.hub.require_token("good");
    let error = s.refused(&s.pull()).await;
    assert!(matches!(error, Error::Gated { .. }));
    let text = error.to_string();
    assert!(text.contains("accept its terms") && text.contains("HF_TOKEN"), "{text}");
    let mut pull = s.pull();
    pull.token = Some("bad".to_owned());
    assert!(matches!(s.refused(&pull).await, Error::Gated { .. }));
    assert!(!format!("{pull:?}").contains("bad"), "a token is never printed");
    pull.token = Some("good".to_owned());
    s.run(&pull).await.0.expect("fetched");
    s.assert_whole();
}

#[tokio::test]
async fn refusals_without_a_gate_are_told_apart() {
    let s = setup().await;
    s.hub.fault("/revision/", Fault::Status(401, Vec::new()), Some(1));
    assert!(matches!(s.refused(&s.pull()).await, Error::Unauthorized { .. }));
    s.hub.fault("/revision/", Fault::Status(403, Vec::new()), Some(1));
    assert!(matches!(s.refused(&s.pull()).await, Error::Forbidden { .. }));
    let code = vec![("x-error-code", "RepoNotFound".to_owned())];
    s.hub.fault("/revision/", Fault::Status(401, code), Some(1));
    assert!(matches!(s.refused(&s.pull()).await, Error::NoRepository { .. }));
}

#[tokio::test]
async fn an_unsupported_architecture_costs_no_weights() {
    let s = setup().await;
    fs::write(s.source.join("config.json"), r#"{"architectures":["LlamaForCausalLM"]}"#).expect("written");
    let error = s.refused(&s.pull()).await;
    assert!(matches!(&error, Error::Architecture { model, .. } if model == ID), "{error}");
    assert!(s.hub.served().iter().all(|r| r.file == "config.json") && s.hub.requests("safetensors") == 0);
    assert!(!s.library.cache().exists());
}

#[tokio::test]
async fn a_repository_that_lacks_a_file_is_refused_first() {
    for file in [SHARD, "tokenizer.json"] {
        let s = setup().await;
        fs::remove_file(s.source.join(file)).expect("removed");
        let error = s.refused(&s.pull()).await;
        assert!(matches!(&error, Error::NotAModel { what, .. } if what.contains(file)), "{error}");
        assert!(!s.library.cache().exists());
    }
}

#[tokio::test]
async fn a_tokenizer_that_nobody_could_load_is_not_fetched() {
    let s = setup().await;
    let tokenizer = fs::File::create(s.source.join("tokenizer.json")).expect("made");
    tokenizer.set_len((64 << 20) + 1).expect("lengthened");
    let error = s.refused(&s.pull()).await;
    assert!(matches!(&error, Error::NotAModel { what, .. } if what.contains("tokenizer.json")), "{error}");
    assert!(s.served("tokenizer.json").is_empty() && s.served(SHARD).is_empty());
}

#[tokio::test]
async fn a_full_disk_is_noticed_before() {
    let s = setup().await;
    let mut pull = s.pull();
    pull.free_space = Arc::new(|_: &Path| Ok(mobile_models::RESERVE + 1000));
    let error = s.refused(&pull).await;
    assert!(matches!(error, Error::DiskFull { .. }));
    assert!(error.to_string().contains("HF_HOME"), "{error}");
    assert!(s.served(SHARD).is_empty());
    assert!(!s.library.cache().exists());
}

#[tokio::test]
async fn a_disk_that_fills_up_is_noticed_while_running() {
    let s = setup().await;
    let mut pull = s.pull();
    let looks = AtomicU64::new(0);
    pull.free_space =
        Arc::new(move |_: &Path| Ok(if looks.fetch_add(1, Ordering::Relaxed) < 3 { 1 << 40 } else { 1000 }));
    assert!(matches!(s.refused(&pull).await, Error::DiskFull { .. }));
    s.run(&s.pull()).await.0.expect("fetched once there is room");
    s.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pulls_at_the_same_time_share_the_work() {
    let s = setup().await;
    s.hub.fault(".safetensors", Fault::Slow(200_000), None);
    let spawn = || {
        let (pull, (sender, _)) = (s.pull(), unbounded_channel());
        tokio::spawn(async move { pull.run(sender, &CancellationToken::new()).await })
    };
    for task in [spawn(), spawn(), spawn()] {
        let result = tokio::time::timeout(Duration::from_secs(45), task).await.expect("no download hangs");
        result.expect("no panic").expect("fetched");
    }
    s.assert_whole();
    assert_eq!(s.served(SHARD).len(), 1, "one of them fetched it");
}

#[tokio::test]
async fn without_a_network_what_is_there_works() {
    let s = setup().await;
    let mut offline = s.pull();
    offline.offline = true;
    assert!(matches!(s.refused(&offline).await, Error::Offline(_)));
    let path = s.run(&s.pull()).await.0.expect("fetched");
    assert_eq!(s.run(&offline).await.0.expect("there"), path);
    let mut unreachable = s.pull();
    unreachable.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(s.run(&unreachable).await.0.expect("there"), path);
}
