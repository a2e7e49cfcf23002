//! What the owner can set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ChatSettings, Policy};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Appearance {
    #[default]
    System,
    Light,
    Dark,
}

/// A field that an older version did not write takes its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) chat: ChatSettings,
    pub(crate) appearance: Appearance,
    pub(crate) autostart: bool,
    pub(crate) shortcut: Option<String>,
    pub(crate) folder: PathBuf,
    /// Bytes kept for experts; `null` lets the engine decide.
    pub(crate) expert_memory: Option<u64>,
    pub(crate) context_tokens: usize,
    pub(crate) lan: LanSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            chat: ChatSettings::default(),
            appearance: Appearance::default(),
            autostart: false,
            shortcut: None,
            folder: PathBuf::new(),
            expert_memory: None,
            context_tokens: 4096,
            lan: LanSettings::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LanSettings {
    pub(crate) enabled: bool,
    pub(crate) port: u16,
    pub(crate) require_key: bool,
}

impl Default for LanSettings {
    fn default() -> Self {
        Self { enabled: false, port: 8090, require_key: true }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct Look {
    /// The user's accent colour as `#rrggbb`.
    pub(crate) accent: Option<String>,
    /// The window is translucent behind the page.
    pub(crate) vibrancy: bool,
}
