//! What thresholds cost and gain.

use mobile_engine::CONFIDENCE_BINS;
use mobile_host::calibration;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CalibrationPoint {
    pub(crate) gamma: f32,
    pub(crate) tokens_per_second: f64,
    pub(crate) perplexity_ratio: f64,
    pub(crate) fallback_rate: f64,
}

impl From<calibration::Point> for CalibrationPoint {
    fn from(point: calibration::Point) -> Self {
        let calibration::Point { gamma, tokens_per_second, perplexity_ratio, fallback_rate, .. } = point;
        Self { gamma, tokens_per_second, perplexity_ratio, fallback_rate }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Calibration {
    pub(crate) model: String,
    pub(crate) device: String,
    pub(crate) measured_at: u64,
    pub(crate) tokens: u64,
    pub(crate) points: Vec<CalibrationPoint>,
    pub(crate) confidence_histogram: [u64; CONFIDENCE_BINS],
    pub(crate) recommended: f32,
    pub(crate) bound: f64,
    pub(crate) complete: bool,
}

impl From<calibration::Calibration> for Calibration {
    fn from(stored: calibration::Calibration) -> Self {
        Self {
            model: stored.key.model,
            device: stored.key.device,
            measured_at: stored.measured * 1000,
            tokens: stored.tokens,
            points: stored.points.into_iter().map(Into::into).collect(),
            confidence_histogram: stored.confidences,
            recommended: stored.gamma,
            bound: stored.bound,
            complete: stored.complete,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum CalibrationEvent {
    Progress { done: usize, total: usize, share: f64, point: Option<CalibrationPoint> },
    Finished { calibration: Calibration },
    Stopped,
    Failed { code: String, message: String },
}
