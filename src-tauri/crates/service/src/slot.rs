//! The place of the one model that answers: empty, loading, ready or failed, and swapped while the service runs.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    turn: Arc<Mutex<Turn>>,
    loading: Arc<Mutex<()>>,
}

/// Who fills the slot: true once it is somebody else's turn.
type Turn = Arc<AtomicBool>;

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
            turn: Arc::default(),
            loading: Arc::default(),
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
        self.take_turn();
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
        self.take_turn();
        self.put(ModelState::Empty);
    }

    /// Lets go of the present model, loads another and shows the progress on the way. Blocks until the model is ready,
    /// so call it from a thread that may wait. A load that is still under way is called off, so that no two are in memory.
    ///
    /// # Errors
    /// As [`Engine::load`]; the slot then says so too, unless it was called off.
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
        let turn = self.take_turn();
        self.set_loading(name, Progress { done: 0, total: 0 });
        // The memory of a load that is being called off is free once it has ended.
        drop(self.load_alone());
        let (slot, model, ours) = (self.clone(), name.to_owned(), Arc::clone(&turn));
        let mut tell = move |progress| slot.put_in_turn(&ours, ModelState::Loading { model: model.clone(), progress });
        let loaded = prepare(&mut tell).and_then(|options| {
            let _alone = self.load_alone();
            let engine = Engine::load(LoadOptions { called_off: Arc::clone(&turn), ..options }, tell)?;
            Ok(ReadyModel { engine, since: unix_seconds() })
        });
        match loaded {
            Ok(ready) => {
                self.put_in_turn(&turn, ModelState::Ready(ready));
                Ok(())
            }
            Err(error) => {
                self.put_in_turn(&turn, ModelState::Failed { model: name.to_owned(), message: error.to_string() });
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

    /// Calls off what is still under way.
    fn take_turn(&self) -> Turn {
        let (mut current, turn) = (self.turn.lock().unwrap_or_else(PoisonError::into_inner), Turn::default());
        current.store(true, Ordering::SeqCst);
        current.clone_from(&turn);
        turn
    }

    fn load_alone(&self) -> MutexGuard<'_, ()> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in_turn(&self, turn: &Turn, mut state: ModelState) {
        // What is left over is dropped outside the channel's lock, as in `put`.
        self.state.send_if_modified(|current| {
            let ours = !turn.load(Ordering::SeqCst);
            if ours {
                std::mem::swap(current, &mut state);
            }
            ours
        });
    }
}
