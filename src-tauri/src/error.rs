//! What every command rejects with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A code that the window can match, and a message that says what happened and what to do. `unavailable`: this build
/// cannot do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct CommandError {
    pub(crate) code: String,
    pub(crate) message: String,
}

pub(crate) type Result<T, E = CommandError> = std::result::Result<T, E>;

impl CommandError {
    pub(crate) fn new(code: &str, message: impl fmt::Display) -> Self {
        Self { code: code.to_owned(), message: message.to_string() }
    }

    /// A file that belongs to the app could not be read or written.
    pub(crate) fn disk(message: impl fmt::Display) -> Self {
        Self::new("disk", message)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<mobile_engine::Error> for CommandError {
    fn from(error: mobile_engine::Error) -> Self {
        use mobile_engine::Error as E;
        let code = match error {
            E::EmptyPrompt | E::TokenId { .. } | E::Parameter(_) | E::NothingToHalve { .. } => "invalid",
            E::ContextExceeded { .. } => "context",
            E::QueueFull(_) => "busy",
            E::Closed => "no_model",
            E::Text { .. } | E::Template(_) => "template",
            _ => "engine",
        };
        Self::new(code, error)
    }
}

impl From<tauri::Error> for CommandError {
    fn from(error: tauri::Error) -> Self {
        Self::new("failed", error)
    }
}
