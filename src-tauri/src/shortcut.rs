//! The key combination that opens the chat from anywhere.

use std::sync::mpsc;

use tauri::{AppHandle, Manager as _, State, Wry};
use tauri_plugin_global_shortcut::{GlobalShortcut, ShortcutState};

use crate::error::{CommandError, Result};
use crate::windows;

/// Takes `now` in place of `before`. Where that fails, `before` still works.
pub(crate) fn replace(app: &AppHandle, before: Option<&str>, now: Option<&str>) -> Result<()> {
    if before.is_none() && now.is_none() {
        return Ok(());
    }
    let shortcuts = listening(app)?;
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

/// What listens for shortcuts, begun with the first of them: on X11 it looks for keys twenty times a second.
fn listening(app: &AppHandle) -> Result<State<'_, GlobalShortcut<Wry>>> {
    if app.try_state::<GlobalShortcut<Wry>>().is_none() {
        let (begun, done) = mpsc::channel();
        let handle = app.clone();
        // On macOS it belongs to the main thread, whose events it takes.
        app.run_on_main_thread(move || {
            let plugin = tauri_plugin_global_shortcut::Builder::new().build();
            let _ = begun.send(handle.plugin(plugin));
        })?;
        done.recv().map_err(|e| CommandError::new("shortcut", e))??;
    }
    Ok(app.state())
}
