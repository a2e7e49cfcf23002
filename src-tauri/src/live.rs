//! Samples for the live panel, only while one is looked at.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mobile_engine::{Engine, ExpertCache, ExpertWatch};
use tauri::async_runtime::JoinHandle;
use tauri::ipc::Channel;
use tauri::{AppHandle, Manager as _};

use crate::contract::{ExpertUse, LiveSample};
use crate::state::Shell;

/// Between two samples while tokens are decoded.
const BUSY: Duration = Duration::from_millis(50);

/// Between two samples while nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// Rates of streamed experts are those of this long.
const WINDOW: Duration = Duration::from_secs(2);

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
            let mut view = View::default();
            loop {
                let sample = app.state::<Shell>().sample(&mut view);
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

/// What one panel is told from.
#[derive(Debug, Default)]
struct View {
    reads: Reads,
    watch: Option<ExpertWatch>,
}

impl View {
    /// The experts computed with since this was last asked. The engine counts them while it is asked.
    fn experts(&mut self, engine: Option<&Engine>) -> Option<ExpertUse> {
        self.watch = match (engine, self.watch.take()) {
            (Some(engine), Some(watch)) if engine.is_watched_by(&watch) => Some(watch),
            (engine, _) => engine.map(Engine::watch_experts),
        };
        self.watch.as_ref().map(ExpertWatch::take).filter(|used| used.total() > 0).map(Into::into)
    }
}

/// What streamed experts have counted of late.
#[derive(Debug, Default)]
struct Reads {
    seen: VecDeque<(Instant, ExpertCache)>,
    hit_rate: Option<f64>,
}

impl Reads {
    /// The share of wanted experts that were in memory, which stands while none is wanted, and bytes read a second.
    fn rates(&mut self, at: Instant, now: ExpertCache) -> (Option<f64>, Option<f64>) {
        if self.seen.back().is_some_and(|(_, last)| last.bytes_read > now.bytes_read || last.hits > now.hits) {
            // Another model has begun to count.
            *self = Self::default();
        }
        self.seen.push_back((at, now));
        while self.seen.len() > 2 && at.duration_since(self.seen[1].0) >= WINDOW {
            self.seen.pop_front();
        }
        let (since, first) = self.seen[0];
        let wanted = now.hits + now.misses - first.hits - first.misses;
        if wanted > 0 {
            self.hit_rate = Some((now.hits - first.hits) as f64 / wanted as f64);
        }
        let seconds = at.duration_since(since).as_secs_f64();
        let read = (seconds > 0.0).then(|| (now.bytes_read - first.bytes_read) as f64 / seconds);
        (self.hit_rate, read)
    }
}

impl Shell {
    fn sample(&self, view: &mut View) -> LiveSample {
        let rates = self.meter.rates();
        let engine = self.engine().ok();
        let status = engine.as_ref().map(Engine::status);
        let is_streamed = engine.as_ref().is_some_and(|engine| engine.info().expert_slots < engine.info().experts);
        let (cache_hit_rate, bytes_read_per_second) = match &status {
            Some(status) if is_streamed => view.reads.rates(Instant::now(), status.totals.expert_cache),
            _ => (None, None),
        };
        LiveSample {
            t: self.live.started.elapsed().as_secs_f64(),
            generating: status.as_ref().is_some_and(|s| s.running > 0),
            tokens_per_second: rates.map(|r| r.tokens_per_second),
            importance_rate: rates.map(|r| r.important),
            fallback_rate: rates.map(|r| r.fallback),
            confidence_histogram: self.meter.confidences(),
            gamma: self.settings.get().policy.gamma,
            cache_hit_rate,
            bytes_read_per_second,
            memory_bytes: status.as_ref().map_or(0, |s| s.memory_bytes),
            queue: status.as_ref().map_or(0, |s| s.queued),
            experts: view.experts(engine.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_streamed_experts_are_those_of_the_last_two_seconds() {
        let (mut reads, start) = (Reads::default(), Instant::now());
        let counted = |hits, misses, bytes_read| ExpertCache { hits, misses, bytes_read, ..ExpertCache::default() };
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(reads.rates(start, counted(100, 0, 0)), (None, None));
        assert_eq!(reads.rates(at(1000), counted(130, 10, 500)), (Some(0.75), Some(500.0)));
        // The first second is forgotten, and the share stands while nothing is wanted.
        assert_eq!(reads.rates(at(3000), counted(130, 10, 500)), (Some(0.75), Some(0.0)));
        assert_eq!(reads.rates(at(3500), counted(5, 5, 10)), (None, None));
    }
}
