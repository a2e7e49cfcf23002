//! What the windows are told without asking.

use std::marker::PhantomData;

use serde::Serialize;
use tauri::{AppHandle, Emitter as _};

use crate::contract::{EngineState, Look, ModelEntry, NetworkStatus, Settings, WindowName};

/// An event by its name, and the type of what it carries.
pub(crate) struct Event<T> {
    name: &'static str,
    payload: PhantomData<fn(T)>,
}

impl<T: Serialize + Clone> Event<T> {
    const fn new(name: &'static str) -> Self {
        Self { name, payload: PhantomData }
    }

    pub(crate) fn tell(&self, app: &AppHandle, payload: T) {
        self.log(app.emit(self.name, payload));
    }

    pub(crate) fn tell_window(&self, app: &AppHandle, window: WindowName, payload: T) {
        self.log(app.emit_to(window.label(), self.name, payload));
    }

    fn log(&self, told: tauri::Result<()>) {
        if let Err(error) = told {
            tracing::error!("the windows were not told of {}: {error}", self.name);
        }
    }
}

/// Declares each event, and all of them for the window's half of the contract.
macro_rules! events {
    ($($(#[$about:meta])* $constant:ident = $name:literal: $payload:ty;)*) => {
        $($(#[$about])* pub(crate) const $constant: Event<$payload> = Event::new($name);)*

        #[cfg(test)]
        pub(crate) fn declare(contract: &mut crate::contract::typescript::Contract) {
            $(contract.event::<$payload>($name);)*
        }
    };
}

events! {
    ENGINE = "engine": EngineState;
    MODELS = "models": Vec<ModelEntry>;
    SETTINGS = "settings": Settings;
    NETWORK = "network": NetworkStatus;
    LOOK = "look": Look;
    /// The settings window is asked for one of its pages.
    PAGE = "page": String;
}
