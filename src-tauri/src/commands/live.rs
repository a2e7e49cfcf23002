//! What happens while tokens are decoded.

use tauri::ipc::Channel;
use tauri::{AppHandle, State, WebviewWindow};

use crate::contract::LiveSample;
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
