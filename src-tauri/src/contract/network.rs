//! Who can reach the endpoint.

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct NetworkUrl {
    pub(crate) interface: String,
    pub(crate) url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct NetworkNode {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) model: Option<String>,
    /// Requests running and waiting.
    pub(crate) load: Option<u64>,
}

/// Connected now or in the last minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct NetworkClient {
    pub(crate) address: String,
    /// The name of the key it last showed.
    pub(crate) key: Option<String>,
    pub(crate) requests: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct NetworkStatus {
    pub(crate) listening: bool,
    pub(crate) lan: bool,
    pub(crate) port: u16,
    pub(crate) urls: Vec<NetworkUrl>,
    pub(crate) clients: Vec<NetworkClient>,
    pub(crate) nodes: Vec<NetworkNode>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyEntry {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: u64,
    /// Since the app was started.
    pub(crate) last_used_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct NewKey {
    pub(crate) key: KeyEntry,
    /// Said once; only its hash is kept.
    pub(crate) secret: String,
}
