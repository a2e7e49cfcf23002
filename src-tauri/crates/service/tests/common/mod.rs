//! A real service over a real engine, on a real socket.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mobile_engine::{Compute, Engine, LoadOptions};
use mobile_service::{Handle, Limits, ModelSlot, Service, ServiceConfig};
use serde_json::Value;

pub(crate) const MODEL: &str = "org/micro";

const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'user' and m.content == 'refuse me' %}\
                        {{ raise_exception('no such words') }}{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>\
                        {% endfor %}<|assistant|>";

/// A copy of the micro checkpoint, with a chat template unless it is to have none.
pub(crate) fn checkpoint(template: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let micro = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/micro");
    for entry in std::fs::read_dir(micro.join("olmoe-sharded")).expect("the fixture") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    std::fs::copy(micro.join("tokenizer.json"), folder.path().join("tokenizer.json")).expect("copied");
    if template {
        std::fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).expect("written");
    }
    folder
}

/// An engine of the micro checkpoint.
pub(crate) fn engine(template: bool, change: impl FnOnce(&mut LoadOptions)) -> Engine {
    let folder = checkpoint(template);
    let mut options = LoadOptions::new(folder.path());
    options.name = Some(MODEL.to_owned());
    options.compute = Some(Compute::F32);
    change(&mut options);
    Engine::load(options, |_| Ok(())).expect("loaded")
}

/// A running service and a client of it.
pub(crate) struct Running {
    pub(crate) slot: ModelSlot,
    pub(crate) handle: Handle,
    pub(crate) client: reqwest::Client,
}

pub(crate) fn config() -> ServiceConfig {
    let limits = Limits { grace: Duration::from_millis(300), ..Limits::default() };
    ServiceConfig { address: SocketAddr::from(([127, 0, 0, 1], 0)), limits, ..ServiceConfig::default() }
}

pub(crate) async fn start(config: ServiceConfig) -> Running {
    let slot = ModelSlot::new();
    let handle = Service::new(config, slot.clone()).start().await.expect("listening");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    Running { slot, handle, client }
}

/// A service whose model is ready.
pub(crate) async fn ready() -> Running {
    let running = start(config()).await;
    running.slot.set_ready(engine(true, |_| {}));
    running
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.handle.address())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        json(self.client.get(self.url(path)).send().await.expect("an answer")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        json(self.client.post(self.url(path)).json(body).send().await.expect("an answer")).await
    }

    /// The data of each event of a stream; `[DONE]`, which must be the last, is left out.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let response = self.client.post(self.url(path)).json(body).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.text().await.expect("a stream");
        let mut data: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{text}");
        data.into_iter().map(|d| serde_json::from_str(d).expect("JSON")).collect()
    }

    /// Waits until the engine has nothing to do.
    pub(crate) async fn idle(&self) {
        loop {
            let (_, health) = self.get("/health").await;
            if health["queue"]["running"] == 0 && health["queue"]["waiting"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn json(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{status} {e}: {text}")))
}

/// Runs a test on its own runtime and fails it when it hangs.
pub(crate) fn within_a_minute(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(50), test).await.expect("the test hangs");
    });
    runtime.shutdown_background();
}
