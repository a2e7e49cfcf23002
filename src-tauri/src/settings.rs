//! The owner's settings on disk.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::contract::Settings;
use crate::error::{CommandError, Result};
use crate::storage::{self, Stored};

const FILE: &str = "settings.json";

/// The settings, in memory and in their file.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    /// Where models are kept unless the owner chose another folder.
    folder: PathBuf,
    current: Mutex<Settings>,
}

impl Store {
    /// Opens the file in `data`; also gives the name under which a file that could not be understood was set aside.
    pub(crate) fn open(data: &Path, folder: PathBuf) -> (Self, Option<PathBuf>) {
        let path = data.join(FILE);
        let (mut settings, aside) = match storage::read(&path) {
            Ok(Stored::Found(Checked(settings))) => (settings, None),
            Ok(Stored::Absent) => (Settings::default(), None),
            Ok(Stored::SetAside(aside)) => (Settings::default(), Some(aside)),
            Err(error) => {
                tracing::error!("settings: {error}; the defaults are used");
                (Settings::default(), None)
            }
        };
        if settings.folder.as_os_str().is_empty() {
            settings.folder.clone_from(&folder);
        }
        (Self { path, folder, current: Mutex::new(settings) }, aside)
    }

    pub(crate) fn get(&self) -> Settings {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks and keeps new settings.
    pub(crate) fn set(&self, settings: Settings) -> Result<()> {
        self.change(|current| *current = settings).map(drop)
    }

    /// Checks and keeps what `change` makes of the settings, which it gives.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<Settings> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settings = current.clone();
        change(&mut settings);
        check(&settings)?;
        storage::write(&self.path, &settings).map_err(|e| CommandError::disk(format!("not saved: {e}")))?;
        current.clone_from(&settings);
        Ok(settings)
    }

    /// What the settings are before the owner changes any.
    pub(crate) fn defaults(&self) -> Settings {
        Settings { folder: self.folder.clone(), ..Settings::default() }
    }
}

/// Settings whose values are in range: a file with others is as useless as one that cannot be read.
#[derive(Deserialize)]
#[serde(try_from = "Settings")]
struct Checked(Settings);

impl TryFrom<Settings> for Checked {
    type Error = CommandError;

    fn try_from(settings: Settings) -> Result<Self> {
        check(&settings).map(|()| Self(settings))
    }
}

fn check(settings: &Settings) -> Result<()> {
    let invalid = |what: &str| Err(CommandError::new("invalid", what));
    let policy = settings.policy;
    if !(policy.gamma.is_finite() && policy.gamma >= 0.0) {
        return invalid("the threshold must be a number from 0 on");
    }
    if !(0.0..=1.0).contains(&policy.share) {
        return invalid("the share must be from 0 to 1");
    }
    if settings.lan.port < 1024 {
        return invalid("the port must be from 1024 to 65535; smaller ones belong to the system");
    }
    if settings.context_tokens == 0 || settings.chat.max_tokens == 0 {
        return invalid("context and answer need at least one token");
    }
    mobile_engine::Sampling::from(&settings.chat).check()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Store, Option<PathBuf>) {
        Store::open(folder, PathBuf::from("/models"))
    }

    #[test]
    fn settings_survive() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = open(folder.path());
        let mut settings = store.get();
        assert_eq!(settings, store.defaults());
        settings.policy.gamma = 0.55;
        settings.shortcut = Some("Alt+Space".to_owned());
        store.set(settings.clone()).expect("kept");
        assert_eq!(open(folder.path()).0.get(), settings);
    }

    #[test]
    fn a_corrupt_file_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, "{\"policy\": 3").expect("written");
        let (store, aside) = open(folder.path());
        assert_eq!(store.get(), store.defaults());
        assert!(aside.is_some_and(|aside| aside.exists()));
        store.set(store.get()).expect("kept");
        assert!(open(folder.path()).1.is_none());
    }

    #[test]
    fn a_value_out_of_range_costs_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = r#"{"appearance":"dark","lan":{"port":80}}"#;
        std::fs::write(folder.path().join(FILE), text).expect("written");
        let (store, aside) = open(folder.path());
        assert_eq!(store.get(), store.defaults());
        assert_eq!(std::fs::read_to_string(aside.expect("set aside")).expect("kept"), text);
    }

    #[test]
    fn fields_of_a_newer_or_older_version_are_no_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), r#"{"appearance":"dark","later":1}"#).expect("written");
        let (store, aside) = open(folder.path());
        assert_eq!((store.get().appearance, aside), (crate::contract::Appearance::Dark, None));
        assert_eq!(store.get().folder, Path::new("/models"));
    }

    #[test]
    fn values_out_of_range_are_refused_and_nothing_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = open(folder.path());
        let mut settings = store.get();
        settings.lan.port = 80;
        assert_eq!(store.set(settings).expect_err("refused").code, "invalid");
        assert_eq!(store.get(), store.defaults());
    }
}
