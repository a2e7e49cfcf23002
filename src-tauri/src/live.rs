//! Samples for the live panel, only while one is looked at.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tauri::async_runtime::JoinHandle;
use tauri::ipc::Channel;
use tauri::{AppHandle, Manager as _};

use crate::contract::LiveSample;
use crate::state::Shell;

/// Between two samples while tokens are decoded.
const BUSY: Duration = Duration::from_millis(50);

/// Between two samples while nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// The panels that are looked at, by window.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    started: Instant,
    tasks: Mutex<HashMap<String, JoinHandle<()>>>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self { started: Instant::now(), tasks: Mutex::default() }
    }
}

impl Subscriptions {
    /// Sends samples to `channel` in place of what this window had before.
    pub(crate) fn start(&self, window: &str, app: AppHandle, channel: Channel<LiveSample>) {
        let task = tauri::async_runtime::spawn(async move {
            loop {
                let sample = app.state::<Shell>().sample();
                let pause = if sample.generating { BUSY } else { IDLE };
                if channel.send(sample).is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
        if let Some(before) = self.tasks().insert(window.to_owned(), task) {
            before.abort();
        }
    }

    pub(crate) fn stop(&self, window: &str) {
        if let Some(task) = self.tasks().remove(window) {
            task.abort();
        }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shell {
    fn sample(&self) -> LiveSample {
        let rates = self.meter.rates();
        let status = self.engine().ok().map(|engine| engine.status());
        LiveSample {
            t: self.live.started.elapsed().as_secs_f64(),
            generating: status.as_ref().is_some_and(|s| s.running > 0),
            tokens_per_second: rates.map(|r| r.tokens_per_second),
            importance_rate: rates.map(|r| r.important),
            fallback_rate: rates.map(|r| r.fallback),
            confidence_histogram: self.meter.confidences(),
            gamma: self.settings.get().policy.gamma,
            // The engine keeps all experts in memory and does not count them one by one.
            cache_hit_rate: None,
            bytes_read_per_second: None,
            memory_bytes: status.as_ref().map_or(0, |s| s.memory_bytes),
            queue: status.as_ref().map_or(0, |s| s.queued),
            experts: None,
        }
    }
}
