//! What happens while tokens are decoded.

use serde_json::Value;
use tauri::ipc::Channel;
use tauri::{AppHandle, State, WebviewWindow};

use crate::contract::LiveSample;
use crate::error::{CommandError, Result};
use crate::state::Shell;

#[tauri::command]
pub(crate) fn live_subscribe(
    app: AppHandle,
    window: WebviewWindow,
    shell: State<'_, Shell>,
    channel: Channel<LiveSample>,
) {
    shell.live.start(window.label(), app, channel);
}

#[tauri::command]
pub(crate) fn live_unsubscribe(window: WebviewWindow, shell: State<'_, Shell>) {
    shell.live.stop(window.label());
}

#[tauri::command]
pub(crate) fn calibration_get() -> Result<Option<Value>> {
    not_yet()
}

#[tauri::command]
pub(crate) fn calibrate(channel: Channel<Value>) -> Result<()> {
    drop(channel);
    not_yet()
}

#[tauri::command]
pub(crate) fn calibrate_stop() -> Result<()> {
    not_yet()
}

fn not_yet<T>() -> Result<T> {
    Err(CommandError::unavailable("this version cannot measure the speed and quality of thresholds"))
}
