//! The place of the one model that answers: empty, loading, ready or failed, and swapped while the service runs.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobile_engine::{Engine, Error, LoadOptions, Policy, Progress};
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
    /// Held while a model comes into memory or goes out of it.
    moving: Arc<Mutex<()>>,
}

/// The right to fill the slot, until somebody else takes it.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<AtomicBool>);

impl Turn {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
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
            turn: Arc::default(),
            moving: Arc::default(),
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
        drop(self.take_turn());
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
        self.clear_in(&self.take_turn());
    }

    /// As [`ModelSlot::clear`], unless it is somebody else's turn by now.
    pub fn clear_in(&self, turn: &Turn) {
        if let Ok(before) = self.put_in_turn(turn, ModelState::Empty) {
            self.let_go(before);
        }
    }

    /// Calls off a load that is under way, which ends after the layer it is at, and gives the right to the next.
    #[must_use]
    pub fn take_turn(&self) -> Turn {
        let (mut current, turn) = (self.turn.lock().unwrap_or_else(PoisonError::into_inner), Turn::default());
        current.0.store(true, Ordering::SeqCst);
        current.clone_from(&turn);
        turn
    }

    /// Lets go of the present model, loads another and shows the progress on the way. Blocks until the model is ready,
    /// so call it from a thread that may wait. A load that is still under way is called off, so that no two are in memory.
    ///
    /// # Errors
    /// As [`Engine::load`]; the slot then says so too. [`Error::CalledOff`] once it is somebody else's turn.
    pub fn load(&self, options: LoadOptions) -> Result<(), Error> {
        let name = options.name.clone().unwrap_or_else(|| {
            options.folder.file_name().map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
        });
        self.load_prepared(&self.take_turn(), &name, |_| Ok(options))
    }

    /// As [`ModelSlot::load`], for a model that takes some work before it can be loaded; `prepare` does it once the
    /// present model has gone, and tells how far it has come, which is answered by whether it is to go on.
    ///
    /// # Errors
    /// As `prepare` and [`Engine::load`]; the slot then says so too. [`Error::CalledOff`] once it is somebody else's turn.
    pub fn load_prepared<E: From<Error> + Display>(
        &self,
        turn: &Turn,
        name: &str,
        prepare: impl FnOnce(&mut dyn FnMut(Progress) -> Result<(), Error>) -> Result<LoadOptions, E>,
    ) -> Result<(), E> {
        let (slot, model, ours) = (self.clone(), name.to_owned(), turn.clone());
        let mut tell =
            move |progress| slot.put_in_turn(&ours, ModelState::Loading { model: model.clone(), progress }).map(drop);
        {
            // Whoever asks how much memory is free finds neither the model before nor one whose load is called off.
            let _alone = self.alone();
            tell(Progress { done: 0, total: 0 })?;
        }
        let prepared = prepare(&mut tell);
        let _alone = self.alone();
        let loaded = prepared.and_then(|options| {
            let engine = Engine::load(options, tell)?;
            let ready = ReadyModel { engine, since: unix_seconds() };
            Ok(self.put_in_turn(turn, ModelState::Ready(ready)).map(drop)?)
        });
        if let Err(error) = &loaded {
            // Nobody asks why a load that was called off has failed.
            let failed = ModelState::Failed { model: name.to_owned(), message: error.to_string() };
            drop(self.put_in_turn(turn, failed));
        }
        loaded
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
        self.let_go(self.state.send_replace(state));
    }

    /// Gives what was there before, to be dropped outside the channel's lock: with it may go the last handle of an engine.
    fn put_in_turn(&self, turn: &Turn, mut state: ModelState) -> Result<ModelState, Error> {
        let put = self.state.send_if_modified(|current| {
            let ours = !turn.is_over();
            if ours {
                std::mem::swap(current, &mut state);
            }
            ours
        });
        if put { Ok(state) } else { Err(Error::CalledOff) }
    }

    /// Drops what was in the slot.
    fn let_go(&self, before: ModelState) {
        if let ModelState::Ready(model) = before {
            let _alone = self.alone();
            drop(model);
        }
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
