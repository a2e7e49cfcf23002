//! macOS: an app of the menu bar, not of the Dock, with the system's own materials.

use objc2_app_kit::{NSColor, NSColorSpace};
use tauri::menu::{Menu, MenuItem};
use tauri::utils::config::WindowEffectsConfig;
use tauri::window::{Effect, EffectState, EffectsBuilder};
use tauri::{ActivationPolicy, AppHandle, TitleBarStyle, Wry};

use super::Builder;
use crate::contract::Look;
use crate::tray;

/// Whether the chat hides when something else is clicked.
pub(crate) const POPOVER: bool = true;

/// Before all else, while there is one thread only.
pub(crate) fn begin() {}

pub(crate) fn prepare(app: &mut tauri::App) -> tauri::Result<()> {
    app.set_activation_policy(ActivationPolicy::Accessory);
    let menu = shortcuts(app.handle())?;
    app.set_menu(menu).map(drop)
}

/// The menu that nobody sees and whose shortcuts the windows have. The system's own item to quit would end the app in the
/// middle of an answer, so the tray's takes its place.
fn shortcuts(app: &AppHandle) -> tauri::Result<Menu<Wry>> {
    let menu = Menu::default(app)?;
    if let Some(first) = menu.items()?.first().and_then(|item| item.as_submenu()) {
        if let Some(quit) = first.items()?.last() {
            first.remove(quit)?;
        }
        first.append(&MenuItem::with_id(app, tray::QUIT, "Quit MoBiLE", true, Some("Cmd+Q"))?)?;
    }
    Ok(menu)
}

/// A popover: no title bar, above other windows, on whichever space is in front.
pub(crate) fn dress_chat(window: Builder<'_>) -> Builder<'_> {
    window
        .decorations(false)
        .always_on_top(true)
        .visible_on_all_workspaces(true)
        .accept_first_mouse(true)
        .transparent(true)
        .effects(material(Effect::Popover, Some(12.0)))
}

/// A window whose title bar lies over its sidebar.
pub(crate) fn dress_settings(window: Builder<'_>) -> Builder<'_> {
    window
        .title_bar_style(TitleBarStyle::Overlay)
        .hidden_title(true)
        .transparent(true)
        .effects(material(Effect::WindowBackground, None))
}

pub(crate) fn look() -> Look {
    Look { accent: accent(), vibrancy: true }
}

fn material(effect: Effect, radius: Option<f64>) -> WindowEffectsConfig {
    let effects = EffectsBuilder::new().effect(effect).state(EffectState::FollowsWindowActiveState);
    match radius {
        Some(radius) => effects.radius(radius).build(),
        None => effects.build(),
    }
}

/// The user's accent colour as `#rrggbb`.
fn accent() -> Option<String> {
    let color = NSColor::controlAccentColor().colorUsingColorSpace(&NSColorSpace::sRGBColorSpace())?;
    let byte = |component: f64| (component.clamp(0.0, 1.0) * 255.0).round() as u8;
    let [red, green, blue] = [color.redComponent(), color.greenComponent(), color.blueComponent()].map(byte);
    Some(format!("#{red:02x}{green:02x}{blue:02x}"))
}
