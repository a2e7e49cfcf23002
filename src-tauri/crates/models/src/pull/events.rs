//! What a download tells while it runs.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use super::plan::{Plan, Planned};

/// Time between two reports of progress.
const PERIOD: Duration = Duration::from_millis(100);

/// The speed is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(8);

/// Something that happened during a download. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum PullEvent {
    /// What there is to fetch is known.
    Started {
        /// The commit.
        commit: String,
        /// Files.
        files: usize,
        /// Bytes of all files.
        total: u64,
        /// Bytes that are there already.
        present: u64,
    },
    /// Bytes arrived; at most ten times a second, and when a file is whole.
    Progress {
        /// The file.
        file: String,
        /// Bytes of it that are there.
        file_done: u64,
        /// Its size.
        file_total: u64,
        /// Bytes of all files that are there.
        done: u64,
        /// Bytes of all files.
        total: u64,
        /// Speed of all files together, over the last seconds.
        bytes_per_second: f64,
        /// Time left at that speed; unknown while nothing arrives.
        seconds_left: Option<f64>,
    },
    /// Another process is fetching this file; it is waited for.
    Waiting {
        /// The file.
        file: String,
    },
    /// A request failed and is tried again.
    Retrying {
        /// The file or question.
        what: String,
        /// What happened.
        why: String,
        /// Failures in a row.
        failures: u32,
        /// Seconds until the next attempt.
        seconds: f64,
    },
    /// A file arrived damaged and is fetched again.
    Damaged {
        /// The file.
        file: String,
    },
    /// A file is whole and its checksum right.
    Verified {
        /// The file.
        file: String,
    },
    /// The model is ready.
    Done {
        /// The folder to load.
        path: PathBuf,
    },
}

/// Adds up what arrives.
pub(super) struct Meter {
    total: u64,
    events: UnboundedSender<PullEvent>,
    state: Mutex<State>,
}

struct State {
    files: HashMap<String, u64>,
    done: u64,
    samples: VecDeque<(Instant, u64)>,
    reported: Option<Instant>,
}

impl Meter {
    pub(super) fn new(plan: &Plan, events: UnboundedSender<PullEvent>) -> Self {
        let (total, done) = (plan.bytes(), plan.bytes() - plan.missing_bytes());
        let files = plan.files.iter().map(|f| (f.name.clone(), f.present)).collect();
        let start = PullEvent::Started { commit: plan.commit.clone(), files: plan.files.len(), total, present: done };
        let samples = VecDeque::from([(Instant::now(), done)]);
        let meter = Self { total, events, state: Mutex::new(State { files, done, samples, reported: None }) };
        meter.send(start);
        meter
    }

    pub(super) fn send(&self, event: PullEvent) {
        // Nobody has to listen.
        let _ = self.events.send(event);
    }

    /// Notes that `done` bytes of `file` are there.
    pub(super) fn at(&self, file: &Planned, done: u64) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = state.files.insert(file.name.clone(), done).unwrap_or(0);
        state.done = state.done + done - before;
        let whole = done == file.size && before != done;
        if !whole && (before == done || state.reported.is_some_and(|t| now - t < PERIOD)) {
            return;
        }
        state.reported = Some(now);
        let sum = state.done;
        state.samples.push_back((now, sum));
        while state.samples.len() > 2 && now - state.samples[0].0 > WINDOW {
            state.samples.pop_front();
        }
        let bytes_per_second = speed(&state.samples);
        let left = self.total.saturating_sub(sum) as f64;
        self.send(PullEvent::Progress {
            file: file.name.clone(),
            file_done: done,
            file_total: file.size,
            done: sum,
            total: self.total,
            bytes_per_second,
            seconds_left: (bytes_per_second > 0.0).then(|| left / bytes_per_second),
        });
    }
}

/// Bytes per second between the first and the last sample; a file that starts anew counts as standing still.
fn speed(samples: &VecDeque<(Instant, u64)>) -> f64 {
    match (samples.front(), samples.back()) {
        (Some((start, first)), Some((end, last))) if end > start => {
            last.saturating_sub(*first) as f64 / (*end - *start).as_secs_f64()
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_the_slope_of_the_window() {
        let start = Instant::now();
        let at = |ms, bytes| (start + Duration::from_millis(ms), bytes);
        assert_eq!(speed(&VecDeque::from([at(0, 5)])), 0.0);
        assert_eq!(speed(&VecDeque::from([at(0, 5), at(500, 1005)])), 2000.0);
        assert_eq!(speed(&VecDeque::from([at(0, 1005), at(500, 5)])), 0.0);
    }
}
