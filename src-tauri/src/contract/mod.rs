//! What the window and the shell say to each other. `npm run contract` in `ui/` writes it down as TypeScript, with the
//! commands and events; a test fails where that is no longer the same.
//!
//! Units: bytes, seconds, tokens per second; probabilities, shares and rates are 0 to 1. `None`, which the window sees as
//! `null`, means "not known", never zero.

mod calibration;
mod chat;
mod live;
mod models;
mod network;
mod policy;
mod settings;
mod system;
#[cfg(test)]
pub(crate) mod typescript;

pub(crate) use calibration::{Calibration, CalibrationEvent, CalibrationProgress};
pub(crate) use chat::{ChatEvent, ChatSettings, Conversation, ConversationSummary, PromptMessage, TokenRecord};
#[cfg(test)]
pub(crate) use chat::{Message, Role};
pub(crate) use live::{ExpertUse, LiveSample};
pub(crate) use models::{
    EngineState, EngineStatus, Fit, FitLine, FitVerdict, MemoryMode, MemoryPlan, ModelEntry, PullProgress, PullStatus,
};
pub(crate) use network::{KeyEntry, NetworkClient, NetworkNode, NetworkStatus, NetworkUrl, NewKey};
pub(crate) use policy::{Policy, PolicyKind};
pub(crate) use settings::{Appearance, LanSettings, Look, Settings};
pub(crate) use system::{Doctor, WindowName};
