//! What the commands, the tray and the windows share.

use mobile_engine::Engine;
use mobile_service::{ModelSlot, ModelState};

use crate::answers::Answers;
use crate::calibrations::Calibrations;
use crate::contract::{EngineState, EngineStatus};
use crate::error::{CommandError, Result};
use crate::home::Home;
use crate::library::Models;
use crate::live::Subscriptions;
use crate::meter::Meter;
use crate::network::Network;
use crate::pulls::Pulls;
use crate::{conversations, settings};

/// The one state of the app, managed by Tauri.
pub(crate) struct Shell {
    pub(crate) home: Home,
    pub(crate) settings: settings::Store,
    pub(crate) conversations: conversations::Store,
    pub(crate) models: Models,
    pub(crate) pulls: Pulls,
    pub(crate) slot: ModelSlot,
    pub(crate) answers: Answers,
    pub(crate) calibrations: Calibrations,
    pub(crate) meter: Meter,
    pub(crate) live: Subscriptions,
    pub(crate) network: Network,
}

impl Shell {
    /// The engine, where a model is loaded.
    pub(crate) fn engine(&self) -> Result<Engine> {
        match self.slot.state() {
            ModelState::Ready(ready) => Ok(ready.engine),
            ModelState::Loading { .. } => {
                Err(CommandError::new("loading", "the model is still loading; try again when it is ready"))
            }
            ModelState::Empty => Err(CommandError::new("no_model", "no model is loaded; choose one")),
            ModelState::Failed { message, .. } => {
                Err(CommandError::new("no_model", format!("the model could not be loaded ({message}); choose another")))
            }
        }
    }

    /// The slot as the window sees it.
    pub(crate) fn engine_state(&self) -> EngineState {
        let none =
            EngineState { state: EngineStatus::Empty, model: None, progress: None, memory_bytes: None, message: None };
        match self.slot.state() {
            ModelState::Empty => none,
            ModelState::Loading { model, progress } => {
                let share = (progress.total > 0).then(|| progress.done as f64 / progress.total as f64);
                EngineState { state: EngineStatus::Loading, model: Some(model), progress: share, ..none }
            }
            ModelState::Ready(ready) => EngineState {
                state: EngineStatus::Ready,
                model: Some(ready.engine.info().name.clone()),
                memory_bytes: Some(ready.engine.status().memory_bytes),
                ..none
            },
            ModelState::Failed { model, message } => {
                EngineState { state: EngineStatus::Error, model: Some(model), message: Some(message), ..none }
            }
        }
    }
}
