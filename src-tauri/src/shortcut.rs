//! The key combination that opens the chat from anywhere.

use tauri::AppHandle;
use tauri_plugin_global_shortcut::{GlobalShortcutExt as _, ShortcutState};

use crate::error::{CommandError, Result};
use crate::windows;

/// Takes `now` in place of `before`. Where that fails, `before` still works.
pub(crate) fn replace(app: &AppHandle, before: Option<&str>, now: Option<&str>) -> Result<()> {
    let shortcuts = app.global_shortcut();
    if let Some(now) = now {
        let pressed = |app: &AppHandle, _: &_, event: tauri_plugin_global_shortcut::ShortcutEvent| {
            if event.state == ShortcutState::Pressed {
                windows::toggle_chat(app);
            }
        };
        shortcuts.on_shortcut(now, pressed).map_err(|e| {
            CommandError::new("shortcut", format!("{now} cannot be used ({e}); choose another combination"))
        })?;
    }
    if let Some(before) = before.filter(|b| shortcuts.is_registered(*b)) {
        shortcuts.unregister(before).map_err(|e| CommandError::new("shortcut", e))?;
    }
    Ok(())
}
