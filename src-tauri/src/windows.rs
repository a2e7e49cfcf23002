//! The chat popover and the settings window.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tauri::webview::PageLoadEvent;
use tauri::{AppHandle, Manager as _, Theme, WebviewUrl, WebviewWindow, WebviewWindowBuilder, WindowEvent};
use tauri_plugin_positioner::{Position, WindowExt as _};
use tauri_plugin_window_state::StateFlags;

use crate::contract::{Appearance, WindowName};
use crate::{events, platform};

/// When the popover was hidden because something else was clicked.
static LEFT: Mutex<Option<Instant>> = Mutex::new(None);

/// How far the pages of the windows are.
static PAGES: Mutex<Pages> = Mutex::new(Pages { loaded: Vec::new(), wanted: Vec::new() });

/// A window whose page is not there yet is blank, so it is shown when it is.
struct Pages {
    loaded: Vec<WindowName>,
    wanted: Vec<WindowName>,
}

/// From pressing the mouse button to letting it go.
const ONE_CLICK: Duration = Duration::from_millis(400);

/// Makes the chat window, unseen, so that it is there at once when it is asked for.
pub(crate) fn create_chat(app: &AppHandle) -> tauri::Result<WebviewWindow> {
    let builder = WebviewWindowBuilder::new(app, WindowName::Chat.label(), WebviewUrl::App("index.html#chat".into()))
        .title("MoBiLE")
        .inner_size(400.0, 600.0)
        .min_inner_size(320.0, 360.0)
        .skip_taskbar(cfg!(target_os = "macos"))
        .visible(false)
        .on_page_load(|window, page| on_load(&window, WindowName::Chat, page.event()));
    let window = platform::dress_chat(builder).build()?;
    hide_instead_of_close(&window);
    if platform::POPOVER {
        hide_when_left(&window);
    }
    Ok(window)
}

fn create_settings(app: &AppHandle, page: Option<&str>) -> tauri::Result<WebviewWindow> {
    let url = page.map_or_else(|| "index.html#settings".to_owned(), |page| format!("index.html#settings/{page}"));
    let builder = WebviewWindowBuilder::new(app, WindowName::Settings.label(), WebviewUrl::App(url.into()))
        .title("MoBiLE")
        .inner_size(860.0, 640.0)
        .min_inner_size(520.0, 420.0)
        .visible(false)
        .on_page_load(|window, page| on_load(&window, WindowName::Settings, page.event()));
    let window = platform::dress_settings(builder).build()?;
    hide_instead_of_close(&window);
    Ok(window)
}

/// Shows a window in front, the settings at one of their pages.
pub(crate) fn show(app: &AppHandle, name: WindowName, page: Option<&str>) -> tauri::Result<()> {
    let window = match (app.get_webview_window(name.label()), name) {
        (Some(window), _) => {
            if let Some(page) = page {
                events::PAGE.tell_window(app, name, page.to_owned());
            }
            window
        }
        (None, WindowName::Chat) => create_chat(app)?,
        (None, WindowName::Settings) => create_settings(app, page)?,
    };
    let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if !pages.loaded.contains(&name) {
        pages.wanted.push(name);
        return Ok(());
    }
    drop(pages);
    bring_to_front(&window)
}

fn bring_to_front(window: &WebviewWindow) -> tauri::Result<()> {
    window.show()?;
    window.unminimize()?;
    window.set_focus()
}

fn on_load(window: &WebviewWindow, name: WindowName, event: PageLoadEvent) {
    if event != PageLoadEvent::Finished {
        return;
    }
    let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if !pages.loaded.contains(&name) {
        pages.loaded.push(name);
    }
    let wanted = pages.wanted.contains(&name);
    pages.wanted.retain(|other| *other != name);
    drop(pages);
    if wanted && let Err(error) = bring_to_front(window) {
        tracing::error!("a window does not show: {error}");
    }
}

/// Shows the chat where it last was, or hides it when it is in front.
pub(crate) fn toggle_chat(app: &AppHandle) {
    let window = app.get_webview_window(WindowName::Chat.label());
    let in_front = |w: &WebviewWindow| w.is_visible().unwrap_or(false) && w.is_focused().unwrap_or(false);
    let done = match window.filter(in_front) {
        Some(window) => window.hide(),
        None => show(app, WindowName::Chat, None),
    };
    if let Err(error) = done {
        tracing::error!("the chat window: {error}");
    }
}

/// As [`toggle_chat`], under the tray icon that was clicked.
pub(crate) fn toggle_chat_at_tray(app: &AppHandle) {
    // The click that reaches the icon has already taken the focus from the popover and so hidden it.
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner).take();
    if left.is_some_and(|at| at.elapsed() < ONE_CLICK) {
        return;
    }
    if let Some(window) = app.get_webview_window(WindowName::Chat.label())
        && let Err(error) = window.move_window(Position::TrayCenter)
    {
        tracing::warn!("the chat stays where it was: {error}");
    }
    toggle_chat(app);
}

/// Draws title bars and pages light, dark, or as the system does.
pub(crate) fn set_appearance(app: &AppHandle, appearance: Appearance) {
    app.set_theme(match appearance {
        Appearance::System => None,
        Appearance::Light => Some(Theme::Light),
        Appearance::Dark => Some(Theme::Dark),
    });
}

/// What is remembered of the windows; whether one is seen is not, since the app starts without.
pub(crate) fn remembered() -> StateFlags {
    StateFlags::SIZE | StateFlags::POSITION
}

fn hide_when_left(window: &WebviewWindow) {
    let left = window.clone();
    window.on_window_event(move |event| {
        if matches!(event, WindowEvent::Focused(false)) && left.hide().is_ok() {
            *LEFT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    });
}

fn hide_instead_of_close(window: &WebviewWindow) {
    let closing = window.clone();
    window.on_window_event(move |event| match event {
        WindowEvent::CloseRequested { api, .. } => {
            api.prevent_close();
            if let Err(error) = closing.hide() {
                tracing::error!("a window does not hide: {error}");
            }
        }
        // The accent colour may have changed with the rest, or while another app was in front.
        WindowEvent::ThemeChanged(_) | WindowEvent::Focused(true) => {
            events::LOOK.tell(closing.app_handle(), platform::look());
        }
        _ => {}
    });
}
