//! The endpoint for other programs, and who can reach it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mobile_service::{Client, Handle, KeyError, Keys, Reachable, ServeError, Service, ServiceConfig, StoredKey};
use tauri::{AppHandle, Manager as _};
use tokio::sync::Mutex;

use crate::contract::{KeyEntry, LanSettings, NetworkClient, NetworkStatus, NetworkUrl, NewKey};
use crate::error::{CommandError, Result};
use crate::nodes::Neighbours;
use crate::state::Shell;
use crate::storage;
use crate::{actions, events, tray};

/// The port of an endpoint that ends is free within this many attempts.
const ATTEMPTS: u32 = 20;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The running endpoint and its keys.
#[derive(Debug)]
pub(crate) struct Network {
    path: PathBuf,
    keys: Keys,
    running: Mutex<Option<Handle>>,
    neighbours: Neighbours,
}

impl Network {
    pub(crate) fn new(data: &Path) -> Self {
        let path = data.join("keys.json");
        let keys = storage::read::<Vec<StoredKey>>(&path).and_then(|_| Keys::kept(&path, Vec::new()));
        let keys = keys.unwrap_or_else(|error| {
            tracing::error!("no keys: {error}");
            Keys::default()
        });
        Self { path, keys, running: Mutex::default(), neighbours: Neighbours::default() }
    }

    pub(crate) fn keys(&self) -> Vec<KeyEntry> {
        self.keys.stored().iter().map(|key| self.entry(key)).collect()
    }

    pub(crate) fn create_key(&self, name: &str) -> Result<NewKey> {
        let secret = self.keys.create(name.trim())?;
        let stored = self.keys.stored();
        self.store(&stored)?;
        let key = stored.iter().find(|key| key.name == name.trim()).map(|key| self.entry(key));
        let key = key.ok_or_else(|| CommandError::new("not_found", "the key was revoked at once"))?;
        Ok(NewKey { key, secret })
    }

    pub(crate) fn revoke_key(&self, id: &str) -> Result<()> {
        self.keys.revoke(id);
        self.store(&self.keys.stored())
    }

    fn store(&self, keys: &[StoredKey]) -> Result<()> {
        storage::write(&self.path, &keys).map_err(|e| CommandError::disk(format!("the keys were not saved: {e}")))
    }

    fn entry(&self, key: &StoredKey) -> KeyEntry {
        // Names are unique.
        let StoredKey { name, created, .. } = key;
        let last_used_at = self.keys.last_used(name).map(|seconds| seconds * 1000);
        KeyEntry { id: name.clone(), name: name.clone(), created_at: created * 1000, last_used_at }
    }

    /// Listens as the settings say, in place of how it did before.
    async fn listen(&self, shell: &Shell, lan: LanSettings) -> Result<()> {
        let mut running = self.running.lock().await;
        if let Some(before) = running.take() {
            before.close();
        }
        let config = || ServiceConfig {
            address: address(lan),
            require_key: lan.require_key,
            keys: self.keys.clone(),
            hardware: serde_json::to_value(shell.models.machine()).unwrap_or_default(),
            ..ServiceConfig::default()
        };
        let mut attempts = 1;
        *running = Some(loop {
            match Service::new(config(), shell.slot.clone()).start().await {
                Ok(handle) => break handle,
                Err(_) if attempts < ATTEMPTS => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
            attempts += 1;
        });
        Ok(())
    }

    pub(crate) async fn status(&self, lan: LanSettings) -> NetworkStatus {
        let running = self.running.lock().await;
        let port = running.as_ref().map_or(lan.port, |handle| handle.address().port());
        let shared = running.as_ref().is_some_and(Handle::is_lan);
        let urls = running.as_ref().map(urls).unwrap_or_default();
        let nodes = if shared {
            self.neighbours.list(&urls.iter().map(|url| url.url.clone()).collect::<Vec<_>>())
        } else {
            self.neighbours.end();
            Vec::new()
        };
        // Another computer that looks whether this one is still there asks for nothing.
        let asked = |handle: &Handle| handle.clients().into_iter().filter(|client| client.requests > 0);
        let clients = running.as_ref().map_or_else(Vec::new, |handle| asked(handle).map(client).collect());
        NetworkStatus { listening: running.is_some(), lan: shared, port, urls, clients, nodes }
    }
}

fn client(client: Client) -> NetworkClient {
    NetworkClient { address: client.address.to_string(), key: client.key, requests: client.requests }
}

/// Starts the endpoint, or starts it anew after its settings changed, and says so where it cannot be.
pub(crate) async fn start(app: AppHandle) {
    if let Err(error) = restart(&app).await {
        actions::notify(&app, "MoBiLE cannot be reached by other programs", &error.message);
    }
}

/// Opens the endpoint to the local network or closes it again; nothing changes where that fails.
pub(crate) async fn set_lan(app: &AppHandle, enabled: bool) -> Result<NetworkStatus> {
    let shell = app.state::<Shell>();
    let before = shell.settings.get().lan.enabled;
    let open = |enabled| shell.settings.change(|settings| settings.lan.enabled = enabled);
    let now = open(enabled)?.lan;
    if let Err(error) = restart(app).await {
        open(before)?;
        start(app.clone()).await;
        return Err(error);
    }
    events::SETTINGS.tell(app, actions::settings(app));
    Ok(shell.network.status(now).await)
}

async fn restart(app: &AppHandle) -> Result<()> {
    let shell = app.state::<Shell>();
    let lan = shell.settings.get().lan;
    let listening = shell.network.listen(&shell, lan).await;
    events::NETWORK.tell(app, shell.network.status(lan).await);
    tray::refresh(app);
    listening
}

fn address(lan: LanSettings) -> SocketAddr {
    let ip = if lan.enabled { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    SocketAddr::from((ip, lan.port))
}

/// Where the endpoint can be reached.
fn urls(handle: &Handle) -> Vec<NetworkUrl> {
    let named = |Reachable { interface, url }| {
        let interface = interface.unwrap_or_else(|| "This computer".to_owned());
        NetworkUrl { interface, url }
    };
    handle.reachable().into_iter().map(named).collect()
}

impl From<ServeError> for CommandError {
    fn from(error: ServeError) -> Self {
        Self::new("port", error)
    }
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        Self::new("invalid", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lan_opens_the_endpoint_to_others() {
        let lan = LanSettings::default();
        assert!(address(lan).ip().is_loopback());
        assert!(address(LanSettings { enabled: true, ..lan }).ip().is_unspecified());
    }

    #[test]
    fn keys_outlive_the_app_and_secrets_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let network = Network::new(folder.path());
        let made = network.create_key(" Gateway ").expect("made");
        assert_eq!(network.create_key("Gateway").expect_err("taken").code, "invalid");
        let text = std::fs::read_to_string(folder.path().join("keys.json")).expect("stored");
        assert!(!text.contains(&made.secret));
        let again = Network::new(folder.path());
        assert_eq!(again.keys(), std::slice::from_ref(&made.key));
        assert!(again.keys.accept(&made.secret));
        assert!(again.keys()[0].last_used_at.is_some());
        // Another program has the same file.
        let other = again.create_key("other").expect("made");
        assert_eq!(network.keys().len(), 2);
        network.revoke_key(&other.key.id).expect("revoked");
        assert_eq!(again.keys().len(), 1);
        assert!(!again.keys.accept(&other.secret));
        again.revoke_key(&made.key.id).expect("revoked");
        assert!(Network::new(folder.path()).keys().is_empty());
    }
}
