//! What clients see of a model whose experts are streamed from a storage that fails, hangs or is damaged.

mod common;
#[path = "../../engine/tests/common/storage.rs"]
mod storage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{MODEL, Running, config, start, within_a_minute};
use mobile_engine::{Compute, Engine, ExpertMemory, ExpertReads, LoadOptions, arrange};
use serde_json::{Value, json};
use storage::{Fault, Storage};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_millis(300);

const ROUTES: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/generate"];

/// The same question to each route.
fn body(route: &str, stream: bool) -> Value {
    let question = match route {
        "/v1/chat/completions" => json!({"messages": [{"role": "user", "content": "a"}]}),
        _ => json!({"prompt": "a"}),
    };
    let mut body = json!({"max_tokens": 24, "policy": "full", "temperature": 0, "stream": stream});
    if route.starts_with("/v1/") {
        body["model"] = json!(MODEL);
    }
    body.as_object_mut().expect("an object").extend(question.as_object().expect("an object").clone());
    body
}

/// A quarter of the experts in memory: there is something to read for every token.
fn streamed(reads: ExpertReads) -> (TempDir, PathBuf, Engine) {
    let (source, home) = (common::checkpoint(true), tempfile::tempdir().expect("a temporary folder"));
    let folder = home.path().join("arranged");
    arrange(source.path(), &folder, Compute::F32, None, |_, _| Ok(())).expect("arranged");
    let mut options = LoadOptions::new(&folder);
    options.name = Some(MODEL.to_owned());
    (options.expert_memory, options.reads) = (ExpertMemory::Share(0.25), reads);
    let engine = Engine::load(options, |_| Ok(())).expect("loaded");
    (home, folder, engine)
}

async fn running(reads: ExpertReads) -> (TempDir, PathBuf, Running) {
    let (home, folder, engine) = streamed(reads);
    let s = start(config()).await;
    s.slot.set_ready(engine);
    (home, folder, s)
}

/// The answer, without what is never the same twice.
async fn answer(s: &Running, route: &str) -> Value {
    let (status, body) = s.post(route, &body(route, false)).await;
    assert_eq!(status, 200, "{body}");
    if route == "/generate" { body["text"].clone() } else { body["choices"].clone() }
}

/// What a client is told whose answer fails, whole or as a stream.
async fn refusal(s: &Running, route: &str, stream: bool) -> Value {
    let response = s.client.post(s.url(route)).json(&body(route, stream)).send().await.expect("an answer");
    let (status, retry) = (response.status(), response.headers().get("retry-after").cloned());
    let text = response.text().await.expect("an answer that ends");
    if !stream {
        assert_eq!((status.as_u16(), retry.is_some()), (503, true), "{text}");
        return serde_json::from_str(&text).expect("JSON");
    }
    assert_eq!(status, 200, "a stream has begun before anything is read");
    assert!(!text.contains("[DONE]"), "{text}");
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().expect("an event");
    serde_json::from_str(last).expect("JSON")
}

fn check(refusal: &Value, folder: &Path) {
    let error = &refusal["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("experts_unreadable"), &json!("server_error")), "{refusal}");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("try again") && message.contains("log"), "{message}");
    // Peers learn nothing of the files of the machine.
    assert!(!message.contains(".bin") && !message.contains(&*folder.to_string_lossy()), "{message}");
}

#[test]
fn a_read_that_fails_or_hangs_is_said_in_time_and_the_next_answer_is_right() {
    within_a_minute(async {
        let (storage, reads) = Storage::new(PATIENCE);
        let (_home, folder, s) = running(reads).await;
        for route in ROUTES {
            let expected = answer(&s, route).await;
            for (fault, stream) in
                [(Fault::Fails, false), (Fault::Fails, true), (Fault::Hangs, false), (Fault::Hangs, true)]
            {
                storage.set(fault, |_| true);
                let began = Instant::now();
                check(&refusal(&s, route, stream).await, &folder);
                assert!(began.elapsed() < PATIENCE + Duration::from_secs(3), "{:?}", began.elapsed());
                let (_, health) = s.get("/health").await;
                assert_eq!((&health["status"], &health["queue"]["running"]), (&json!("healthy"), &json!(0)));
                storage.mend();
                assert_eq!(answer(&s, route).await, expected, "{route}, {fault:?}, stream: {stream}");
            }
        }
    });
}

#[test]
fn while_a_read_hangs_the_service_speaks_and_those_who_wait_are_answered_once_it_is_mended() {
    within_a_minute(async {
        let (storage, reads) = Storage::new(Duration::from_secs(40));
        let (_home, _folder, s) = running(reads).await;
        let route = ROUTES[0];
        let expected = answer(&s, route).await;
        storage.set(Fault::Hangs, |_| true);
        let waiting = async { tokio::join!(answer(&s, route), answer(&s, route)) };
        let mending = async {
            while storage.struck() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let began = Instant::now();
            assert_eq!(s.get("/health").await.1["status"], "healthy");
            assert_eq!(s.get("/v1/models").await.0, 200);
            // One whose client has gone away.
            let leaving = s.client.post(s.url(route)).json(&body(route, true)).timeout(Duration::from_millis(50));
            drop(leaving.send().await);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            storage.mend();
        };
        let ((one, two), ()) = tokio::join!(waiting, mending);
        assert_eq!([&one, &two], [&expected; 2]);
        s.idle().await;
    });
}

#[test]
fn a_client_that_goes_away_frees_an_engine_whose_read_hangs() {
    within_a_minute(async {
        let (storage, reads) = Storage::new(Duration::from_secs(40));
        let (_home, _folder, s) = running(reads).await;
        storage.set(Fault::Hangs, |_| true);
        for stream in [true, false] {
            let request = s.client.post(s.url(ROUTES[0])).json(&body(ROUTES[0], stream));
            let request = tokio::spawn(async move { request.send().await.expect("a beginning").text().await });
            while s.get("/health").await.1["queue"]["running"] == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            request.abort();
            let began = Instant::now();
            s.idle().await;
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
        storage.mend();
        assert_eq!(s.post(ROUTES[0], &body(ROUTES[0], false)).await.0, 200);
    });
}

#[test]
fn the_service_ends_and_the_model_goes_while_a_read_hangs() {
    within_a_minute(async {
        let (storage, reads) = Storage::new(Duration::from_secs(2));
        let (_home, _folder, s) = running(reads).await;
        storage.set(Fault::Hangs, |_| true);
        let request = s.client.post(s.url(ROUTES[0])).json(&body(ROUTES[0], false));
        let request = tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() });
        let watch = Arc::clone(&storage);
        tokio::task::spawn_blocking(move || watch.strikes()).await.expect("joined");
        let (began, slot) = (Instant::now(), s.slot.clone());
        s.handle.shutdown().await;
        assert_eq!(request.await.expect("joined"), 503);
        tokio::task::spawn_blocking(move || slot.clear()).await.expect("joined");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        storage.mend();
    });
}

#[test]
fn a_damaged_shortened_or_missing_file_is_said_and_one_put_back_is_used() {
    within_a_minute(async {
        let (_home, folder, s) = running(ExpertReads::default()).await;
        let expected = answer(&s, ROUTES[0]).await;
        let file = folder.join("experts-000.bin");
        let whole = std::fs::read(&file).expect("the file");
        let damaged: Vec<u8> = whole[..16 << 10].iter().copied().chain(whole[16 << 10..].iter().map(|b| !b)).collect();
        // In place, as a failing disk or a careless copy would.
        for bytes in [&damaged[..], &whole[..whole.len() / 4], &[]] {
            std::fs::write(&file, bytes).expect("written");
            for stream in [false, true] {
                check(&refusal(&s, ROUTES[0], stream).await, &folder);
            }
            std::fs::remove_file(&file).expect("removed");
            check(&refusal(&s, ROUTES[0], false).await, &folder);
            std::fs::write(&file, &whole).expect("put back");
            assert_eq!(answer(&s, ROUTES[0]).await, expected);
        }
        // One that is only deleted is still there for who has it open.
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(answer(&s, ROUTES[0]).await, expected);
    });
}
