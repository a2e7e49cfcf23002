//! The threshold that was found for a model on this machine.

use mobile_engine::ModelInfo;
use mobile_host::calibration::{Key, load};

use crate::model::home;

/// The threshold stored for a model on this machine. A file that cannot be used is said and otherwise ignored.
pub(crate) fn stored_gamma(model: &ModelInfo, renormalize: bool) -> Option<f32> {
    match load(&home().ok()?, &Key::new(model, renormalize)) {
        Ok(stored) => stored.map(|s| s.gamma),
        Err(error) => {
            eprintln!("mobile: the stored calibration is left out: {error}");
            None
        }
    }
}
