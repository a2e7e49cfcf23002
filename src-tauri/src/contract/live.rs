//! What the live panel draws.

use mobile_engine::CONFIDENCE_BINS;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ExpertUse {
    pub(crate) experts: usize,
    pub(crate) little: Vec<u64>,
    pub(crate) big: Vec<u64>,
}

impl From<mobile_engine::ExpertUse> for ExpertUse {
    fn from(used: mobile_engine::ExpertUse) -> Self {
        let mobile_engine::ExpertUse { experts, little, big } = used;
        Self { experts, little, big }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LiveSample {
    pub(crate) t: f64,
    pub(crate) generating: bool,
    pub(crate) tokens_per_second: Option<f64>,
    pub(crate) importance_rate: Option<f64>,
    pub(crate) fallback_rate: Option<f64>,
    pub(crate) confidence_histogram: [u64; CONFIDENCE_BINS],
    pub(crate) gamma: f32,
    pub(crate) cache_hit_rate: Option<f64>,
    pub(crate) bytes_read_per_second: Option<f64>,
    pub(crate) memory_bytes: usize,
    pub(crate) queue: usize,
    pub(crate) experts: Option<ExpertUse>,
}
