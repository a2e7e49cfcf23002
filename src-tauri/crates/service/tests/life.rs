//! Clients that hang up, wait, crowd or dawdle, and the service's end.

mod common;

use std::time::{Duration, Instant};

use common::{MODEL, config, ready, start, within_a_minute};
use futures_util::StreamExt as _;
use mobile_engine::{Error, LoadOptions};
use mobile_service::{Keys, ModelSlot, ModelState, ServiceConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A raw answer that goes on to the end of the context: it never meets the end-of-sequence token by chance alone.
fn long(stream: bool) -> serde_json::Value {
    json!({"prompt": "a", "raw": true, "max_tokens": 120, "policy": "full", "stream": stream})
}

#[test]
fn a_client_that_hangs_up_frees_its_place() {
    within_a_minute(async {
        let s = start(config()).await;
        s.slot.set_ready(common::engine(true, |o| {
            o.max_sequences = 1;
            o.queue = 4;
        }));
        for stream in [true, false] {
            for _ in 0..10 {
                let body = long(stream).to_string();
                let mut socket = TcpStream::connect(s.handle.address()).await.expect("connected");
                let head = format!(
                    "POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(head.as_bytes()).await.expect("sent");
                if stream {
                    socket.read_exact(&mut [0; 64]).await.expect("a beginning");
                }
                drop(socket);
            }
            s.idle().await;
        }
        assert_eq!(s.post("/generate", &long(false)).await.0, 200);
        assert_eq!(s.handle.connected().peers.len(), 1);
    });
}

#[test]
fn the_host_sees_who_asks_and_with_which_key() {
    within_a_minute(async {
        let keys = Keys::default();
        let secret = keys.create("Gateway").expect("made");
        let s = start(ServiceConfig { keys: keys.clone(), ..config() }).await;
        assert_eq!(s.handle.clients(), []);
        assert_eq!(s.get("/health").await.0, 200);
        assert_eq!(keys.last_used("Gateway"), None);
        let answer = s.client.get(s.url("/v1/models")).bearer_auth(&secret).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        drop(answer.text().await.expect("a body"));
        let [client] = &s.handle.clients()[..] else { panic!("one peer: {:?}", s.handle.clients()) };
        assert!(client.address.is_loopback());
        assert_eq!((client.requests, client.key.as_deref()), (2, Some("Gateway")));
        assert!(keys.last_used("Gateway").is_some());
    });
}

#[test]
fn a_full_queue_is_said_at_once_and_all_others_are_answered() {
    within_a_minute(async {
        let s = start(config()).await;
        s.slot.set_ready(common::engine(true, |o| {
            o.max_sequences = 2;
            o.queue = 4;
        }));
        let url = s.url("/generate");
        let requests = (0..100).map(|_| {
            let request = s.client.post(&url).json(&long(false));
            async move {
                let response = request.send().await.expect("an answer");
                let status = response.status().as_u16();
                let retry = response.headers().contains_key("retry-after");
                let body: serde_json::Value = response.json().await.expect("JSON");
                (status, retry, body)
            }
        });
        let answers = futures_util::future::join_all(requests).await;
        let ok = answers.iter().filter(|a| a.0 == 200).count();
        let full = answers.iter().filter(|a| a.0 == 429 && a.1 && a.2["error"]["code"] == "queue_full").count();
        assert_eq!(ok + full, 100, "{answers:?}");
        // As many as the queue holds at the least: how many more come in depends on when the engine takes some out of it.
        assert!(ok >= 4 && full > 0, "{ok} answered, {full} refused");
        let texts: std::collections::BTreeSet<String> =
            answers.iter().filter(|a| a.0 == 200).map(|a| a.2["text"].to_string()).collect();
        assert_eq!(texts.len(), 1, "the same prompt, greedily: the same answer for all");
        s.idle().await;
    });
}

#[test]
fn many_streams_at_once_each_say_what_they_say_alone() {
    within_a_minute(async {
        let s = ready().await;
        let prompts: Vec<String> = (0..32).map(|i| format!("prompt number {i}")).collect();
        let body = |prompt: &String, stream: bool| json!({"prompt": prompt, "raw": true, "max_tokens": 24, "policy": "full", "stream": stream});
        let mut alone = Vec::new();
        for prompt in &prompts {
            alone.push(s.post("/generate", &body(prompt, false)).await.1["text"].as_str().expect("text").to_owned());
        }
        let together = prompts.iter().map(|prompt| {
            let (s, body) = (&s, body(prompt, true));
            async move {
                let events = s.stream("/generate", &body).await;
                events.iter().map(|e| e["text"].as_str().unwrap_or_default()).collect::<String>()
            }
        });
        assert_eq!(futures_util::future::join_all(together).await, alone);
    });
}

#[test]
fn a_request_that_takes_too_long_is_ended() {
    within_a_minute(async {
        let mut c = config();
        c.limits.request_time = Duration::from_millis(1);
        let s = start(c).await;
        s.slot.set_ready(common::engine(true, |_| {}));
        let (status, body) = s.post("/generate", &long(false)).await;
        assert_eq!((status, &body["error"]["code"]), (504, &json!("request_timeout")));
        let response = s.client.post(s.url("/generate")).json(&long(true)).send().await.expect("an answer");
        let text = response.text().await.expect("a stream that ends");
        assert!(text.contains("request_timeout") && !text.contains("[DONE]"), "{text}");
        s.idle().await;
    });
}

#[test]
fn half_open_and_silent_clients_are_let_go_and_hold_up_nobody() {
    within_a_minute(async {
        let mut c = config();
        c.limits.head_time = Duration::from_millis(200);
        c.limits.body_time = Duration::from_millis(200);
        let s = start(c).await;
        s.slot.set_ready(common::engine(true, |_| {}));
        let mut silent = Vec::new();
        for i in 0..50 {
            let mut socket = TcpStream::connect(s.handle.address()).await.expect("connected");
            let part: &[u8] = match i % 3 {
                0 => b"",
                1 => b"POST /generate HT",
                _ => {
                    b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                       content-length: 100\r\n\r\n{"
                }
            };
            socket.write_all(part).await.expect("sent");
            silent.push(socket);
        }
        assert_eq!(s.post("/generate", &long(false)).await.0, 200);
        for socket in &mut silent {
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            let rest = String::from_utf8_lossy(&rest);
            assert!(rest.is_empty() || rest.contains("408 Request Timeout"), "{rest}");
        }
    });
}

#[test]
fn a_reader_that_stops_reading_holds_up_nobody() {
    within_a_minute(async {
        let mut c = config();
        c.limits.write_time = Duration::from_millis(300);
        let s = start(c).await;
        s.slot.set_ready(common::engine(true, |_| {}));
        let body = json!({"prompt": "a", "raw": true, "max_tokens": 120, "policy": "full", "stream": true}).to_string();
        let mut lazy = Vec::new();
        for _ in 0..8 {
            let mut socket = TcpStream::connect(s.handle.address()).await.expect("connected");
            let request = format!(
                "POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            for _ in 0..40 {
                let _ = socket.try_write(request.as_bytes());
            }
            socket.flush().await.expect("sent");
            lazy.push(socket);
        }
        let started = Instant::now();
        assert_eq!(s.post("/generate", &long(false)).await.0, 200);
        assert!(started.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn running_streams_finish_before_the_end() {
    within_a_minute(async {
        let mut c = config();
        c.limits.grace = Duration::from_secs(20);
        let s = start(c).await;
        s.slot.set_ready(common::engine(true, |_| {}));
        let response = s.client.post(s.url("/generate")).json(&long(true)).send().await.expect("an answer");
        let mut stream = response.bytes_stream();
        let first = stream.next().await.expect("a beginning").expect("bytes");
        s.handle.close();
        let mut text = String::from_utf8_lossy(&first).into_owned();
        while let Some(part) = stream.next().await {
            text += &String::from_utf8_lossy(&part.expect("bytes"));
        }
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let address = s.handle.address();
        s.handle.shutdown().await;
        assert!(TcpStream::connect(address).await.is_err(), "the port is free");
    });
}

#[test]
fn what_does_not_end_in_time_is_ended_cleanly() {
    within_a_minute(async {
        let s = start(config()).await;
        s.slot.set_ready(common::engine(true, |o| o.max_sequences = 1));
        // Many wait behind one another, so that the grace period ends before they do.
        let url = s.url("/generate");
        let waiting: Vec<_> = (0..60)
            .map(|_| {
                let request = s.client.post(&url).json(&long(false));
                tokio::spawn(async move { request.send().await.expect("an answer").status().as_u16() })
            })
            .collect();
        while s.handle.connected().connections < 60 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        s.handle.shutdown().await;
        let mut statuses = Vec::new();
        for request in waiting {
            statuses.push(request.await.expect("joined"));
        }
        assert!(statuses.iter().all(|s| [200, 503].contains(s)), "{statuses:?}");
    });
}

#[test]
fn the_model_can_be_swapped_while_requests_run() {
    within_a_minute(async {
        let s = ready().await;
        let response = s.client.post(s.url("/generate")).json(&long(true)).send().await.expect("an answer");
        let mut stream = response.bytes_stream();
        let _ = stream.next().await;
        s.slot.set_ready(common::engine(true, |o| o.name = Some("another".to_owned())));
        assert_eq!(s.get("/v1/models").await.1["data"][0]["id"], "another");
        let mut rest = String::new();
        while let Some(part) = stream.next().await {
            rest += &String::from_utf8_lossy(&part.expect("bytes"));
        }
        assert!(rest.contains("[DONE]") && rest.contains(&format!("\"model\":\"{MODEL}\"")), "{rest}");
    });
}

#[test]
fn a_slot_loads_and_says_so() {
    within_a_minute(async {
        let s = start(config()).await;
        let mut seen = s.slot.watch();
        let slot = s.slot.clone();
        let load = tokio::task::spawn_blocking(move || slot.load(LoadOptions::new("/no/such/folder")));
        assert!(load.await.expect("joined").is_err());
        seen.changed().await.expect("a change");
        assert_eq!(s.get("/health").await.1["status"], "error");
    });
}

#[test]
fn a_load_ends_when_another_begins_and_leaves_the_slot_to_it() {
    let (folder, slot) = (common::checkpoint(true), ModelSlot::new());
    let options = |name: &str| LoadOptions { name: Some(name.to_owned()), ..LoadOptions::new(folder.path()) };
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let (first_slot, prepared) = (slot.clone(), options("first"));
    std::thread::scope(|scope| {
        let first = scope.spawn(move || {
            first_slot.load_prepared(&first_slot.take_turn(), "first", |_| {
                begun.send(()).expect("heard");
                may_go_on.recv().map_err(|_| Error::Closed)?;
                Ok(prepared)
            })
        });
        has_begun.recv().expect("begun");
        slot.load(options("second")).expect("loaded");
        go_on.send(()).expect("heard");
        let ended: Result<(), Error> = first.join().expect("ended");
        assert!(matches!(ended, Err(Error::CalledOff)), "{ended:?}");
    });
    let name = || match slot.state() {
        ModelState::Ready(ready) => Some(ready.engine.info().name.clone()),
        _ => None,
    };
    assert_eq!(name().as_deref(), Some("second"));
    let over = slot.take_turn();
    let current = slot.take_turn();
    slot.clear_in(&over);
    assert_eq!(name().as_deref(), Some("second"));
    slot.clear_in(&current);
    assert_eq!(name(), None);
}
