//! What thresholds cost and gain.

use mobile_engine::CONFIDENCE_BINS;
use mobile_host::calibration;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct CalibrationPoint {
    pub(crate) gamma: f32,
    pub(crate) tokens_per_second: f64,
    /// Perplexity over that of all experts; 1 is equal.
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
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Calibration {
    pub(crate) model: String,
    pub(crate) device: String,
    pub(crate) measured_at: u64,
    pub(crate) tokens: u64,
    pub(crate) points: Vec<CalibrationPoint>,
    /// Twenty bins from 0 to 1.
    pub(crate) confidence_histogram: [u64; CONFIDENCE_BINS],
    /// The fastest threshold whose perplexity grows by at most `bound`.
    pub(crate) recommended: f32,
    pub(crate) bound: f64,
    /// Every threshold was measured.
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

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct CalibrationProgress {
    /// Policies that are done, plain decoding included.
    pub(crate) done: usize,
    pub(crate) total: usize,
    /// Of the work.
    pub(crate) share: f64,
    /// A threshold that is known now.
    pub(crate) point: Option<CalibrationPoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum CalibrationEvent {
    Progress(CalibrationProgress),
    Finished {
        calibration: Calibration,
    },
    /// Ended early with nothing worth keeping in place of what was there.
    Stopped,
    Failed {
        code: String,
        message: String,
    },
}
