//! The computer and the windows.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Doctor {
    pub(crate) host_name: String,
    pub(crate) chip: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) gpu_cores: Option<usize>,
    pub(crate) metal: Option<String>,
    pub(crate) mlx_version: String,
    pub(crate) app_version: String,
    pub(crate) device: String,
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum WindowName {
    Chat,
    Settings,
}

impl WindowName {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Settings => "settings",
        }
    }
}
