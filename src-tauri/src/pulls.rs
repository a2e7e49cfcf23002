//! Downloads under way: each runs once, whichever windows listen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobile_models::{CancellationToken, Library, ModelId, Pull, PullEvent};
use tauri::ipc::Channel;
use tokio::sync::mpsc;

use crate::contract::{PullProgress, PullStatus};
use crate::error::{CommandError, Result};

/// Downloads by model. Clones are the same downloads.
#[derive(Clone, Default)]
pub(crate) struct Pulls(Arc<Mutex<HashMap<String, State>>>);

struct State {
    progress: PullProgress,
    cancel: CancellationToken,
    listeners: Vec<Channel<PullProgress>>,
}

/// How a download ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Done,
    Paused,
    Failed(CommandError),
}

impl Pulls {
    /// Starts or goes on with a download, or listens to a running one. `ended` is told how it ends.
    pub(crate) fn start(
        &self,
        id: &str,
        library: &Library,
        channel: Channel<PullProgress>,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<()> {
        let pull = Pull::new(id.parse::<ModelId>()?, library);
        let mut states = self.states();
        let state = states.entry(id.to_owned()).or_insert_with(|| State {
            progress: PullProgress::starting(),
            cancel: CancellationToken::new(),
            listeners: Vec::new(),
        });
        let runs = !state.listeners.is_empty();
        let _ = channel.send(state.progress.clone());
        state.listeners.push(channel);
        if runs {
            return Ok(());
        }
        state.cancel = CancellationToken::new();
        state.progress = PullProgress { status: PullStatus::Running, error: None, ..state.progress.clone() };
        let (pulls, id, cancel) = (self.clone(), id.to_owned(), state.cancel.clone());
        drop(states);
        tauri::async_runtime::spawn(async move { ended(pulls.run(&id, &pull, &cancel).await) });
        Ok(())
    }

    /// Stops a download; what has arrived is kept.
    pub(crate) fn pause(&self, id: &str) {
        if let Some(state) = self.states().get(id) {
            state.cancel.cancel();
        }
    }

    /// Forgets a download that does not run; gives whether it may be forgotten.
    pub(crate) fn forget(&self, id: &str) -> bool {
        let mut states = self.states();
        let stopped = states.get(id).is_none_or(|state| state.listeners.is_empty());
        if stopped {
            states.remove(id);
        }
        stopped
    }

    /// How far the download of this model has come.
    pub(crate) fn progress(&self, id: &str) -> Option<PullProgress> {
        self.states().get(id).map(|state| state.progress.clone())
    }

    async fn run(&self, id: &str, pull: &Pull, cancel: &CancellationToken) -> Ended {
        let (events, mut happened) = mpsc::unbounded_channel();
        let told = async {
            while let Some(event) = happened.recv().await {
                self.tell(id, |progress| progress.take(event));
            }
        };
        let (result, ()) = tokio::join!(pull.run(events, cancel), told);
        let (status, error, ended) = match result {
            Ok(_) => (PullStatus::Done, None, Ended::Done),
            Err(mobile_models::Error::Cancelled) => (PullStatus::Paused, None, Ended::Paused),
            Err(error) => {
                let error = CommandError::from(error);
                (PullStatus::Failed, Some(error.clone()), Ended::Failed(error))
            }
        };
        let mut states = self.states();
        if let Some(state) = states.get_mut(id) {
            let before = state.progress.clone();
            state.progress = PullProgress { status, error, bytes_per_second: None, seconds_left: None, ..before };
            for channel in state.listeners.drain(..) {
                let _ = channel.send(state.progress.clone());
            }
        }
        if status == PullStatus::Done {
            states.remove(id);
        }
        ended
    }

    fn tell(&self, id: &str, change: impl FnOnce(&mut PullProgress)) {
        if let Some(state) = self.states().get_mut(id) {
            change(&mut state.progress);
            // A window that was closed stops listening; the download goes on.
            for channel in &state.listeners {
                let _ = channel.send(state.progress.clone());
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PullProgress {
    fn starting() -> Self {
        Self { status: PullStatus::Running, ..Self::paused(0, 0) }
    }

    /// A download that does not run, of which so many bytes have arrived.
    pub(crate) fn paused(bytes: u64, total: u64) -> Self {
        Self {
            status: PullStatus::Paused,
            file: String::new(),
            bytes,
            total,
            bytes_per_second: None,
            seconds_left: None,
            error: None,
        }
    }

    fn take(&mut self, event: PullEvent) {
        match event {
            PullEvent::Started { total, present, .. } => (self.total, self.bytes) = (total, present),
            PullEvent::Progress { file, done, total, bytes_per_second, seconds_left, .. } => {
                *self = Self {
                    status: PullStatus::Running,
                    file,
                    bytes: done,
                    total,
                    bytes_per_second: Some(bytes_per_second),
                    seconds_left,
                    error: None,
                };
                if done == total {
                    self.status = PullStatus::Verifying;
                }
            }
            PullEvent::Waiting { file } | PullEvent::Damaged { file } => {
                (self.file, self.bytes_per_second, self.seconds_left) = (file, None, None);
            }
            PullEvent::Retrying { what, why, .. } => {
                tracing::warn!("{what}: {why}; trying again");
                (self.bytes_per_second, self.seconds_left) = (None, None);
            }
            PullEvent::Verified { .. } | PullEvent::Done { .. } => {}
        }
    }
}
