//! What differs between systems, under the same names.

#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(target_os = "macos"))]
mod plain;

#[cfg(target_os = "macos")]
pub(crate) use macos::{POPOVER, begin, dress_chat, dress_settings, look, prepare};
#[cfg(not(target_os = "macos"))]
pub(crate) use plain::{POPOVER, begin, dress_chat, dress_settings, look, prepare};

/// The builder that a window is dressed with.
pub(crate) type Builder<'a> = tauri::WebviewWindowBuilder<'a, tauri::Wry, tauri::AppHandle>;
