//! What the live panel draws.

use mobile_engine::CONFIDENCE_BINS;
use serde::Serialize;

/// How often each expert of each layer was computed with: `[layers, experts]`, row by row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct ExpertUse {
    pub(crate) experts: usize,
    /// In passes with fewer experts.
    pub(crate) little: Vec<u64>,
    /// In passes with all experts.
    pub(crate) big: Vec<u64>,
}

impl From<mobile_engine::ExpertUse> for ExpertUse {
    fn from(used: mobile_engine::ExpertUse) -> Self {
        let mobile_engine::ExpertUse { experts, little, big } = used;
        Self { experts, little, big }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct LiveSample {
    /// Seconds since the engine started.
    pub(crate) t: f64,
    pub(crate) generating: bool,
    pub(crate) tokens_per_second: Option<f64>,
    pub(crate) importance_rate: Option<f64>,
    pub(crate) fallback_rate: Option<f64>,
    /// Twenty bins from 0 to 1.
    pub(crate) confidence_histogram: [u64; CONFIDENCE_BINS],
    pub(crate) gamma: f32,
    /// `null` where all experts are resident.
    pub(crate) cache_hit_rate: Option<f64>,
    pub(crate) bytes_read_per_second: Option<f64>,
    pub(crate) memory_bytes: usize,
    pub(crate) queue: usize,
    /// Since the last sample; `null` where nothing was computed.
    pub(crate) experts: Option<ExpertUse>,
}
