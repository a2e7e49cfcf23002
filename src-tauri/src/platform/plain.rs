//! Systems without a menu bar of their own: ordinary windows, opaque.

use super::Builder;
use crate::contract::Look;

/// Whether the chat hides when something else is clicked.
pub(crate) const POPOVER: bool = false;

/// WebKitGTK's switch for drawing windows without its compositor.
const PLAIN_DRAWING: &str = "WEBKIT_DISABLE_COMPOSITING_MODE";

/// Before all else, while there is one thread only.
///
/// Without a GPU, WebKitGTK's compositor draws by way of OpenGL in software: that takes most of a second to begin with the
/// first window and two percent of a core from then on. tests/benches/README.md has the figures.
#[allow(unsafe_code)]
pub(crate) fn begin() {
    if !has_gpu() && std::env::var_os(PLAIN_DRAWING).is_none() {
        // SAFETY: nobody reads the environment at the same time, as this is the only thread.
        unsafe { std::env::set_var(PLAIN_DRAWING, "1") };
    }
}

/// Whether the system offers a GPU to draw with.
fn has_gpu() -> bool {
    let nodes = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    nodes.map(|node| node.file_name()).any(|name| name.to_string_lossy().starts_with("renderD"))
}

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
