//! The threshold found for a model on a device, kept in a file between runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mobile_engine::{CONFIDENCE_BINS, ModelInfo};
use serde::{Deserialize, Serialize};

use crate::files::{Readers, named, write_json};

/// What a calibration is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The model's name.
    pub model: String,
    /// Tells apart models of one name: another quantization, say.
    pub weight_bytes: u64,
    /// Dtype of activations.
    pub compute: String,
    /// `cpu` or `gpu`, and the chip.
    pub device: String,
    /// Whether half of the experts are scaled to the weight of all.
    pub renormalize: bool,
}

/// One threshold and what it gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The threshold.
    pub gamma: f32,
    /// Perplexity in proportion to that of all experts.
    pub perplexity_ratio: f64,
    /// One standard error of the ratio.
    pub perplexity_ratio_error: f64,
    /// Decoding speed.
    pub tokens_per_second: f64,
    /// Speed in proportion to plain decoding of the same tokens.
    pub speedup: f64,
    /// Share of tokens that were computed twice.
    pub fallback_rate: f64,
    /// Experts computed in proportion to what decoding plainly takes.
    pub experts_used: f64,
}

/// A calibration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What it is valid for.
    #[serde(flatten)]
    pub key: Key,
    /// The recommended threshold.
    pub gamma: f32,
    /// How much perplexity was allowed to grow.
    pub bound: f64,
    /// Whether every threshold was measured.
    pub complete: bool,
    /// When it was measured, in seconds since 1970.
    pub measured: u64,
    /// Tokens of the text that quality was measured on.
    pub tokens: u64,
    /// How confident half of the experts were in them, in bins of equal width from 0 to 1.
    pub confidences: [u64; CONFIDENCE_BINS],
    /// The thresholds, in the order they were measured.
    pub points: Vec<Point>,
}

impl Key {
    /// The key of a loaded model on this machine.
    #[must_use]
    pub fn new(model: &ModelInfo, renormalize: bool) -> Self {
        let chip = chip().map_or_else(String::new, |chip| format!(" {chip}"));
        Self {
            model: model.name.clone(),
            weight_bytes: model.weight_bytes as u64,
            compute: format!("{:?}", model.compute).to_lowercase(),
            device: format!("{}{chip}", model.device.name()),
            renormalize,
        }
    }

    /// The file in the folder `home`; `extension` without its dot.
    #[must_use]
    pub fn path(&self, home: &Path, extension: &str) -> PathBuf {
        let renormalized = if self.renormalize { "-renormalized" } else { "" };
        let name = format!("{}-{}-{}-{}{renormalized}", self.model, self.weight_bytes, self.compute, self.device);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        home.join("calibration").join(format!("{}.{extension}", name.chars().map(plain).collect::<String>()))
    }
}

fn chip() -> Option<String> {
    let system = sysinfo::System::new_with_specifics(
        sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing()),
    );
    system.ok()?.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty())
}

/// The calibration for `key`; `None` where there is none.
///
/// # Errors
/// A file that cannot be read, or is not a calibration for `key`.
pub fn load(home: &Path, key: &Key) -> io::Result<Option<Calibration>> {
    let path = key.path(home, "json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(named(&path, &e)),
    };
    let stored: Calibration = serde_json::from_slice(&bytes).map_err(|e| named(&path, &e.into()))?;
    Ok(Some(stored).filter(|s| s.key == *key && s.gamma.is_finite() && s.gamma >= 0.0))
}

/// Whether a calibration is worth keeping in place of what is stored: what was cut short is not, where that is whole. A
/// file that cannot be used is as good as none.
#[must_use]
pub fn keeps(home: &Path, found: &Calibration) -> bool {
    found.complete || !matches!(load(home, &found.key), Ok(Some(stored)) if stored.complete)
}

/// Stores a calibration in place of an earlier one; gives its path.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn store(home: &Path, calibration: &Calibration) -> io::Result<PathBuf> {
    let path = calibration.key.path(home, "json");
    write_json(&path, calibration, Readers::Everybody)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(gamma: f32) -> Calibration {
        let key = Key {
            model: "tiny/one".to_owned(),
            weight_bytes: 7,
            compute: "f32".to_owned(),
            device: "cpu Chip 3".to_owned(),
            renormalize: false,
        };
        let confidences = [0; CONFIDENCE_BINS];
        Calibration { key, gamma, bound: 0.01, complete: true, measured: 1, tokens: 2, confidences, points: Vec::new() }
    }

    #[test]
    fn what_is_stored_is_found_for_that_key_only() {
        let home = tempfile::tempdir().expect("a folder");
        let stored = calibration(0.6);
        assert_eq!(load(home.path(), &stored.key).expect("readable"), None);
        store(home.path(), &calibration(0.9)).expect("stored");
        let path = store(home.path(), &stored).expect("stored again");
        assert_eq!(load(home.path(), &stored.key).expect("readable"), Some(stored.clone()));
        assert_eq!(path.file_name(), Some("tiny_one-7-f32-cpu_Chip_3.json".as_ref()));
        assert_eq!(fs::read_dir(home.path().join("calibration")).expect("listed").count(), 1);
        let other = Key { weight_bytes: 8, ..stored.key };
        assert_eq!(load(home.path(), &other).expect("readable"), None);
    }

    #[test]
    fn what_was_cut_short_is_kept_where_nothing_whole_is_stored() {
        let home = tempfile::tempdir().expect("a folder");
        let whole = calibration(0.6);
        let cut_short = Calibration { complete: false, ..calibration(0.9) };
        assert!(keeps(home.path(), &cut_short));
        let path = store(home.path(), &cut_short).expect("stored");
        assert!(keeps(home.path(), &cut_short) && keeps(home.path(), &whole));
        store(home.path(), &whole).expect("stored");
        assert!(!keeps(home.path(), &cut_short) && keeps(home.path(), &whole));
        fs::write(path, "{").expect("damaged");
        assert!(keeps(home.path(), &cut_short));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_can_be_replaced() {
        let home = tempfile::tempdir().expect("a folder");
        let stored = calibration(0.6);
        let path = store(home.path(), &stored).expect("stored");
        fs::write(&path, "{\"gamma\": 0.").expect("damaged");
        let error = load(home.path(), &stored.key).expect_err("refused").to_string();
        assert!(error.contains("tiny_one"), "{error}");
        store(home.path(), &stored).expect("stored again");
        assert!(load(home.path(), &stored.key).expect("readable").is_some());
    }
}
