//! The place of the one model that answers: empty, loading, ready or failed, and swapped while the service runs.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mobile_engine::{Engine, LoadOptions, Policy, Progress};
use tokio::sync::watch;

use crate::clock::unix_seconds;

/// What is in the slot.
#[derive(Debug, Clone, Default)]
pub enum ModelState {
    /// No model has been chosen.
    #[default]
    Empty,
    /// A model is being loaded.
    Loading {
        /// Its name.
        model: String,
        /// How far it has come.
        progress: Progress,
    },
    /// A model answers.
    Ready(ReadyModel),
    /// A model could not be loaded.
    Failed {
        /// Its name.
        model: String,
        /// What is wrong, in the engine's words. May name files, so only loopback peers are told.
        message: String,
    },
}

/// A loaded model.
#[derive(Debug, Clone)]
pub struct ReadyModel {
    /// The engine that runs it.
    pub engine: Engine,
    /// When it became ready, in seconds since 1970.
    pub since: u64,
}

/// Shared between the host, which fills it, and the service, which answers from it. Clones are the same slot.
#[derive(Debug, Clone)]
pub struct ModelSlot {
    state: Arc<watch::Sender<ModelState>>,
    policy: Arc<watch::Sender<Policy>>,
    turn: Arc<AtomicU64>,
}

impl Default for ModelSlot {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelSlot {
    /// An empty slot whose requests decode by the engine's default policy.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::new(watch::Sender::new(ModelState::Empty)),
            policy: Arc::new(watch::Sender::new(Policy::default())),
            turn: Arc::new(AtomicU64::new(0)),
        }
    }

    /// What is in the slot now.
    #[must_use]
    pub fn state(&self) -> ModelState {
        self.state.borrow().clone()
    }

    /// Says when the slot changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ModelState> {
        self.state.subscribe()
    }

    /// Puts a loaded engine in. Requests that run on the one before go on to their end.
    pub fn set_ready(&self, engine: Engine) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        self.put(ModelState::Ready(ReadyModel { engine, since: unix_seconds() }));
    }

    /// Says that the host is loading a model by its own means.
    pub fn set_loading(&self, model: impl Into<String>, progress: Progress) {
        self.put(ModelState::Loading { model: model.into(), progress });
    }

    /// Says that a model could not be loaded.
    pub fn set_failed(&self, model: impl Into<String>, message: impl Into<String>) {
        self.put(ModelState::Failed { model: model.into(), message: message.into() });
    }

    /// Empties the slot. The engine ends when its last request has.
    pub fn clear(&self) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        self.put(ModelState::Empty);
    }

    /// Lets go of the present model, loads another and shows the progress on the way. Blocks until the model is ready,
    /// so call it from a thread that may wait. When another call has begun meanwhile, its model stays in the slot.
    ///
    /// # Errors
    /// As [`Engine::load`]; the slot then says so too.
    pub fn load(&self, options: LoadOptions) -> Result<(), mobile_engine::Error> {
        let name = options.name.clone().unwrap_or_else(|| {
            options.folder.file_name().map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
        });
        self.load_prepared(&name, |_| Ok(options))
    }

    /// As [`ModelSlot::load`], for a model that takes some work before it can be loaded; `prepare` does it once the
    /// present model has gone, and tells how far it has come.
    ///
    /// # Errors
    /// As `prepare` and [`Engine::load`]; the slot then says so too.
    pub fn load_prepared<E: From<mobile_engine::Error> + Display>(
        &self,
        name: &str,
        prepare: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<LoadOptions, E>,
    ) -> Result<(), E> {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        self.set_loading(name, Progress { done: 0, total: 0 });
        let (slot, model) = (self.clone(), name.to_owned());
        let mut tell = move |progress| slot.put_in_turn(turn, ModelState::Loading { model: model.clone(), progress });
        let loaded = prepare(&mut tell).and_then(|options| {
            let engine = Engine::load(options, tell)?;
            Ok(ReadyModel { engine, since: unix_seconds() })
        });
        match loaded {
            Ok(ready) => {
                self.put_in_turn(turn, ModelState::Ready(ready));
                Ok(())
            }
            Err(error) => {
                self.put_in_turn(turn, ModelState::Failed { model: name.to_owned(), message: error.to_string() });
                Err(error)
            }
        }
    }

    /// The policy of requests that name none.
    #[must_use]
    pub fn policy(&self) -> Policy {
        *self.policy.borrow()
    }

    /// Changes the policy of requests that name none, from the next request on.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.send_replace(policy);
    }

    fn put(&self, state: ModelState) {
        // The old state is dropped here, outside the channel's lock: with it may go the last handle of an engine.
        drop(self.state.send_replace(state));
    }

    fn put_in_turn(&self, turn: u64, state: ModelState) {
        self.state.send_if_modified(|current| {
            let ours = self.turn.load(Ordering::SeqCst) == turn;
            if ours {
                *current = state;
            }
            ours
        });
    }
}
