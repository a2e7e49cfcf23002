//! The threshold found for a model on a device, kept in a file between runs.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mobile_engine::ModelInfo;
use serde::{Deserialize, Serialize};

use crate::model::home;

/// What a calibration is valid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) model: String,
    /// Tells apart models of one name: another quantization, say.
    pub(crate) weight_bytes: u64,
    pub(crate) compute: String,
    /// `cpu` or `gpu`, and the chip.
    pub(crate) device: String,
    pub(crate) renormalize: bool,
}

/// One threshold and what it gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) gamma: f32,
    /// Perplexity in proportion to that of all experts.
    pub(crate) perplexity_ratio: f64,
    /// One standard error of the ratio.
    pub(crate) perplexity_ratio_error: f64,
    pub(crate) tokens_per_second: f64,
    /// Speed in proportion to plain decoding of the same tokens.
    pub(crate) speedup: f64,
    pub(crate) fallback_rate: f64,
    pub(crate) experts_used: f64,
}

/// A calibration as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calibration {
    #[serde(flatten)]
    pub(crate) key: Key,
    /// The recommended threshold.
    pub(crate) gamma: f32,
    /// How much perplexity was allowed to grow.
    pub(crate) bound: f64,
    /// Whether every threshold was measured.
    pub(crate) complete: bool,
    pub(crate) points: Vec<Point>,
}

impl Key {
    pub(crate) fn new(model: &ModelInfo, renormalize: bool) -> Self {
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
    pub(crate) fn path(&self, home: &Path, extension: &str) -> PathBuf {
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
pub(crate) fn load(home: &Path, key: &Key) -> io::Result<Option<Calibration>> {
    let path = key.path(home, "json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(named(&path, &e)),
    };
    let stored: Calibration = serde_json::from_slice(&bytes).map_err(|e| named(&path, &e.into()))?;
    Ok(Some(stored).filter(|s| s.key == *key && s.gamma.is_finite() && s.gamma >= 0.0))
}

/// Stores a calibration in place of an earlier one; gives its path.
///
/// # Errors
/// When the folder or the file cannot be written.
pub(crate) fn store(home: &Path, calibration: &Calibration) -> io::Result<PathBuf> {
    let path = calibration.key.path(home, "json");
    write_json(&path, calibration)?;
    Ok(path)
}

/// Writes a file so that a reader finds the old or the new one, whatever happens in between.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || {
        fs::create_dir_all(folder)?;
        let mut file = readable_by_others(&mut tempfile::Builder::new()).tempfile_in(folder)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|e: io::Error| named(path, &e))
}

/// As any file that a program writes: temporary ones are private otherwise.
fn readable_by_others<'a, 'b>(builder: &'a mut tempfile::Builder<'b, 'b>) -> &'a mut tempfile::Builder<'b, 'b> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

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

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
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
        Calibration { key, gamma, bound: 0.01, complete: true, points: Vec::new() }
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
