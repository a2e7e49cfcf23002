//! The library of models and what the engine holds.

use serde::Serialize;

use crate::error::CommandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) enum FitVerdict {
    Fits,
    Streamed,
    TooLarge,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct FitLine {
    pub(crate) label: &'static str,
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct Fit {
    pub(crate) verdict: FitVerdict,
    /// The sum behind the verdict.
    pub(crate) lines: Vec<FitLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum PullStatus {
    Running,
    Paused,
    Verifying,
    Failed,
    Done,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct PullProgress {
    pub(crate) status: PullStatus,
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) total: u64,
    pub(crate) bytes_per_second: Option<f64>,
    pub(crate) seconds_left: Option<f64>,
    pub(crate) error: Option<CommandError>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelEntry {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) quantization: String,
    /// Experts in each layer, and how many the big model uses for one token.
    pub(crate) experts: u64,
    pub(crate) top_k: u64,
    pub(crate) parameters: u64,
    pub(crate) bytes: u64,
    pub(crate) context_tokens: u64,
    pub(crate) installed: bool,
    /// Part of the app; cannot be deleted.
    pub(crate) embedded: bool,
    /// The folder is the user's own; removing the model leaves it.
    pub(crate) in_place: bool,
    pub(crate) fit: Option<Fit>,
    pub(crate) pull: Option<PullProgress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineStatus {
    Empty,
    Loading,
    Ready,
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct EngineState {
    pub(crate) state: EngineStatus,
    pub(crate) model: Option<String>,
    /// 0 to 1 while loading.
    pub(crate) progress: Option<f64>,
    pub(crate) memory_bytes: Option<usize>,
    pub(crate) message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemoryMode {
    Resident,
    Streamed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryPlan {
    pub(crate) total_bytes: u64,
    /// Free, or taken by the model that is loaded.
    pub(crate) available_bytes: u64,
    pub(crate) dense_bytes: u64,
    pub(crate) kv_bytes: u64,
    pub(crate) expert_bytes: u64,
    /// One expert of each layer; a model cannot do with less.
    pub(crate) least_expert_bytes: u64,
    pub(crate) resident_expert_bytes: u64,
    pub(crate) resident_experts: u64,
    pub(crate) total_experts: u64,
    pub(crate) mode: MemoryMode,
    /// The model was loaded otherwise and takes this on when it is loaded again.
    pub(crate) pending: bool,
}
