//! Systems without a menu bar of their own: ordinary windows, opaque.

use super::Builder;
use crate::contract::Look;

/// Whether the chat hides when something else is clicked.
pub(crate) const POPOVER: bool = false;

pub(crate) fn prepare(_: &mut tauri::App) -> tauri::Result<()> {
    Ok(())
}

pub(crate) fn dress_chat(window: Builder<'_>) -> Builder<'_> {
    window
}

pub(crate) fn dress_settings(window: Builder<'_>) -> Builder<'_> {
    window
}

pub(crate) fn look() -> Look {
    Look { accent: None, vibrancy: false }
}
