//! The endpoint for other programs and computers.

use tauri::{AppHandle, State};

use crate::contract::{KeyEntry, NetworkStatus, NewKey};
use crate::error::Result;
use crate::network;
use crate::state::Shell;

#[tauri::command]
pub(crate) async fn network_status(shell: State<'_, Shell>) -> Result<NetworkStatus> {
    Ok(shell.network.status(shell.settings.get().lan).await)
}

#[tauri::command]
pub(crate) async fn lan_set(app: AppHandle, enabled: bool) -> Result<NetworkStatus> {
    network::set_lan(&app, enabled).await
}

#[tauri::command(async)]
pub(crate) fn keys_list(shell: State<'_, Shell>) -> Vec<KeyEntry> {
    shell.network.keys()
}

#[tauri::command(async)]
pub(crate) fn key_create(shell: State<'_, Shell>, name: String) -> Result<NewKey> {
    shell.network.create_key(&name)
}

#[tauri::command(async)]
pub(crate) fn key_revoke(shell: State<'_, Shell>, id: String) -> Result<()> {
    shell.network.revoke_key(&id)
}
