//! The library's own file: which folders were imported.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mobile_files::FromFile as _;
use serde::{Deserialize, Serialize};

use crate::cache::write_atomic;
use crate::error::{Error, Result};

const FILE: &str = "models.json";

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) imported: Vec<Imported>,
}

/// A folder that was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Imported {
    pub(super) id: String,
    pub(super) path: PathBuf,
    pub(super) copied: bool,
}

impl State {
    /// Reads the file. A damaged one is set aside, since the models themselves do not depend on it.
    pub(super) fn read(data: &Path) -> Result<Self> {
        let path = data.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::read(path)(e)),
        };
        serde_json::from_slice(&text).or_else(|e| {
            let aside = path.with_extension("json.damaged");
            tracing::warn!("{} is damaged ({e}); kept as {}", path.display(), aside.display());
            fs::rename(&path, &aside).map_err(Error::write(&path))?;
            Ok(Self::default())
        })
    }

    /// Changes the file; the app and the command line may do so at the same time.
    pub(super) fn change(data: &Path, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        fs::create_dir_all(data).map_err(Error::write(data))?;
        let lock = data.join("models.lock");
        let file = File::create(&lock).map_err(Error::write(&lock))?;
        file.lock().map_err(Error::write(&lock))?;
        let mut state = Self::read(data)?;
        change(&mut state)?;
        let text = serde_json::to_vec_pretty(&state).map_err(|e| Error::config(&data.join(FILE), e.to_string()))?;
        write_atomic(&data.join(FILE), &text)
    }
}
