//! The computer, its windows and its dialogs.

use std::path::PathBuf;

use tauri::{AppHandle, State, WebviewWindow};
use tauri_plugin_dialog::DialogExt as _;
use tauri_plugin_opener::OpenerExt as _;

use crate::contract::{Doctor, WindowName};
use crate::error::{CommandError, Result};
use crate::state::Shell;
use crate::windows;

/// A native folder dialog; nothing when it was cancelled.
#[tauri::command]
pub(crate) async fn folder_choose(app: AppHandle) -> Result<Option<PathBuf>> {
    let (chosen, answer) = tokio::sync::oneshot::channel();
    app.dialog().file().pick_folder(move |folder| drop(chosen.send(folder)));
    match answer.await.ok().flatten() {
        Some(folder) => Ok(Some(folder.into_path().map_err(|e| CommandError::new("invalid", e))?)),
        None => Ok(None),
    }
}

/// Opens a link of an answer. Models write what they like, so only web pages are opened.
#[tauri::command(async)]
pub(crate) fn link_open(app: AppHandle, url: String) -> Result<()> {
    let is_web = tauri::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_web {
        return Err(CommandError::new("invalid", "only links to web pages can be opened"));
    }
    app.opener().open_url(url, None::<&str>).map_err(|e| CommandError::new("failed", e))
}

#[tauri::command(async)]
pub(crate) fn logs_open(app: AppHandle, shell: State<'_, Shell>) -> Result<()> {
    let folder = shell.home.logs.to_string_lossy();
    app.opener().open_path(folder, None::<&str>).map_err(|e| CommandError::new("failed", e))
}

#[tauri::command]
pub(crate) async fn window_open(app: AppHandle, window: WindowName, page: Option<String>) -> Result<()> {
    Ok(windows::show(&app, window, page.as_deref())?)
}

/// As the button in a title bar, which the popover has not.
#[tauri::command]
pub(crate) fn window_close(window: WebviewWindow) -> Result<()> {
    Ok(window.close()?)
}

#[tauri::command(async)]
pub(crate) fn doctor(app: AppHandle, shell: State<'_, Shell>) -> Result<Doctor> {
    let machine = shell.models.machine();
    let mlx = machine.mlx.as_ref();
    let gpu = machine.gpu.as_ref();
    let free = mobile_models::free_space(&machine.disk.folder).unwrap_or(0);
    Ok(Doctor {
        host_name: machine.host_name.clone().unwrap_or_default(),
        chip: machine.chip.clone().unwrap_or_default(),
        cores: machine.cores.total,
        memory_bytes: machine.memory_total,
        disk_free_bytes: free,
        gpu_cores: gpu.and_then(|gpu| gpu.cores),
        metal: gpu.and_then(|gpu| gpu.metal.clone()),
        mlx_version: mlx.map(|mlx| mlx.version.clone()).unwrap_or_default(),
        app_version: app.package_info().version.to_string(),
        device: mlx.map(|mlx| mlx.device.clone()).unwrap_or_default(),
        warnings: Vec::new(),
    })
}
