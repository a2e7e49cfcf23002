//! What the window and the shell say to each other: the Rust half of `ui/src/lib/backend/contract.ts`, where every
//! field is explained. A test compares the two.

mod calibration;
mod chat;
mod live;
mod models;
mod network;
mod policy;
mod settings;
mod system;
#[cfg(test)]
mod tests;

pub(crate) use calibration::{Calibration, CalibrationEvent};
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
