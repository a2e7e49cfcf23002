//! What the owner can set.

use tauri::{AppHandle, State};

use crate::contract::{Look, Settings};
use crate::error::Result;
use crate::state::Shell;
use crate::{actions, platform};

#[tauri::command(async)]
pub(crate) fn settings_get(app: AppHandle) -> Settings {
    actions::settings(&app)
}

#[tauri::command(async)]
pub(crate) fn settings_set(app: AppHandle, settings: Settings) -> Result<Settings> {
    actions::change_settings(&app, settings)
}

#[tauri::command(async)]
pub(crate) fn settings_reset(app: AppHandle, shell: State<'_, Shell>) -> Result<Settings> {
    actions::change_settings(&app, shell.settings.defaults())
}

#[tauri::command(async)]
pub(crate) fn autostart_set(app: AppHandle, enabled: bool) -> Result<()> {
    let settings = Settings { autostart: enabled, ..actions::settings(&app) };
    actions::change_settings(&app, settings).map(drop)
}

#[tauri::command]
pub(crate) fn look_get() -> Look {
    platform::look()
}
