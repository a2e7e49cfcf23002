//! The icon in the menu bar and its menu.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tauri::image::Image;
use tauri::menu::{CheckMenuItem, IsMenuItem, Menu, MenuEvent, MenuItem, PredefinedMenuItem, Submenu};
use tauri::tray::{MouseButton, MouseButtonState, TrayIconBuilder, TrayIconEvent};
use tauri::{AppHandle, Manager as _, Wry, include_image};

use crate::contract::{EngineStatus, PolicyKind, Settings, WindowName};
use crate::error::CommandError;
use crate::state::Shell;
use crate::{actions, network, windows};

const ID: &str = "mobile";

/// The item of a menu that ends the app.
pub(crate) const QUIT: &str = "quit";

/// Between two updates of the speed in the menu.
const PERIOD: Duration = Duration::from_secs(1);

/// What the icon says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Idle,
    Working,
    Lan,
    Error,
}

/// What is drawn now.
#[derive(Default)]
struct Shown {
    now: Mutex<Option<MenuItem<Wry>>>,
    mood: Mutex<Mood>,
}

/// Puts the icon up. Gives whether there is one: not every Linux desktop has a place for it.
pub(crate) fn create(app: &AppHandle) -> bool {
    app.manage(Shown::default());
    let build = || {
        TrayIconBuilder::with_id(ID)
            .tooltip("MoBiLE")
            .icon(icon(Mood::Idle))
            .icon_as_template(true)
            .menu(&menu(app)?)
            .show_menu_on_left_click(false)
            .on_menu_event(|app, event| chosen(app, &event))
            .on_tray_icon_event(|tray, event| {
                tauri_plugin_positioner::on_tray_event(tray.app_handle(), &event);
                let click = matches!(
                    event,
                    TrayIconEvent::Click { button: MouseButton::Left, button_state: MouseButtonState::Up, .. }
                );
                if click {
                    windows::toggle_chat_at_tray(tray.app_handle());
                }
            })
            .build(app)
    };
    // The back end panics where the library that draws indicators is not installed.
    match catch_unwind(AssertUnwindSafe(build)) {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::warn!("no tray icon: {error}");
            false
        }
        Err(_) => {
            tracing::warn!("no tray icon: the system has no place for it");
            false
        }
    }
}

/// Draws icon and menu anew after something they show has changed.
pub(crate) fn refresh(app: &AppHandle) {
    let Some(tray) = app.tray_by_id(ID) else { return };
    let drawn = || {
        tray.set_menu(Some(menu(app)?))?;
        set_mood(app, mood(app, app.state::<Shell>().meter.rates().is_some()))
    };
    report(drawn());
}

/// Shows the speed while tokens are decoded; sleeps while none are.
pub(crate) fn follow(app: AppHandle) {
    tauri::async_runtime::spawn(async move {
        let meter = app.state::<Shell>().meter.clone();
        loop {
            meter.activity.notified().await;
            tokio::time::sleep(PERIOD / 4).await;
            while let Some(rates) = meter.rates() {
                report(set_now(&app, &format!("{:.1} tokens/s", rates.tokens_per_second)));
                report(set_mood(&app, mood(&app, true)));
                tokio::time::sleep(PERIOD).await;
            }
            report(set_now(&app, &at_rest(&app)));
            report(set_mood(&app, mood(&app, false)));
        }
    });
}

fn set_now(app: &AppHandle, text: &str) -> tauri::Result<()> {
    // The main thread changes the item and may itself be waiting for the lock, so it is not held meanwhile.
    let now = app.state::<Shown>().now.lock().unwrap_or_else(PoisonError::into_inner).clone();
    now.map_or(Ok(()), |item| item.set_text(text))
}

fn set_mood(app: &AppHandle, mood: Mood) -> tauri::Result<()> {
    let Some(tray) = app.tray_by_id(ID) else { return Ok(()) };
    let shown = app.state::<Shown>();
    let before = std::mem::replace(&mut *shown.mood.lock().unwrap_or_else(PoisonError::into_inner), mood);
    if before != mood {
        tray.set_icon(Some(icon(mood)))?;
        tray.set_icon_as_template(true)?;
    }
    Ok(())
}

fn report(drawn: tauri::Result<()>) {
    if let Err(error) = drawn {
        tracing::error!("the tray icon: {error}");
    }
}

fn mood(app: &AppHandle, decoding: bool) -> Mood {
    let shell = app.state::<Shell>();
    match shell.engine_state().state {
        EngineStatus::Error => Mood::Error,
        EngineStatus::Loading => Mood::Working,
        _ if decoding => Mood::Working,
        _ if shell.settings.get().lan.enabled => Mood::Lan,
        _ => Mood::Idle,
    }
}

fn icon(mood: Mood) -> Image<'static> {
    match mood {
        Mood::Idle => include_image!("../icons/tray/idle.png"),
        Mood::Working => include_image!("../icons/tray/working.png"),
        Mood::Lan => include_image!("../icons/tray/lan.png"),
        Mood::Error => include_image!("../icons/tray/error.png"),
    }
}

fn menu(app: &AppHandle) -> tauri::Result<Menu<Wry>> {
    let settings = actions::settings(app);
    let now = MenuItem::with_id(app, "now", at_rest(app), false, None::<&str>)?;
    *app.state::<Shown>().now.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
    let item = |id: &str, text: &str| MenuItem::with_id(app, id, text, true, None::<&str>);
    let check = |id: &str, text: &str, on| CheckMenuItem::with_id(app, id, text, true, on, None::<&str>);
    let line = || PredefinedMenuItem::separator(app);
    Menu::with_items(
        app,
        &[
            &now,
            &line()?,
            &item("open", "Open Chat")?,
            &models(app)?,
            &policies(app, &settings)?,
            &line()?,
            &check("lan", "Share on Local Network", settings.lan.enabled)?,
            &check("autostart", "Start at Login", settings.autostart)?,
            &item("settings", "Settings…")?,
            &line()?,
            &item(QUIT, "Quit MoBiLE")?,
        ],
    )
}

/// What stands where the speed is shown while tokens are decoded.
fn at_rest(app: &AppHandle) -> String {
    let state = app.state::<Shell>().engine_state();
    match (state.state, state.model) {
        (EngineStatus::Loading, Some(model)) => format!("Loading {model}"),
        (EngineStatus::Ready, Some(model)) => model,
        (EngineStatus::Error, Some(model)) => format!("{model} could not be loaded"),
        _ => "No model loaded".to_owned(),
    }
}

fn models(app: &AppHandle) -> tauri::Result<Submenu<Wry>> {
    let current = app.state::<Shell>().engine_state().model;
    let installed = app.state::<Shell>().models.installed();
    let items = installed
        .iter()
        .map(|(id, name)| {
            let on = current.as_deref() == Some(id);
            CheckMenuItem::with_id(app, format!("model:{id}"), name, true, on, None::<&str>)
        })
        .collect::<tauri::Result<Vec<_>>>()?;
    submenu(app, "Model", &items)
}

fn policies(app: &AppHandle, settings: &Settings) -> tauri::Result<Submenu<Wry>> {
    let items = PolicyKind::ALL
        .into_iter()
        .map(|kind| {
            let on = settings.policy.kind == kind;
            CheckMenuItem::with_id(app, format!("policy:{}", kind.name()), words(kind), true, on, None::<&str>)
        })
        .collect::<tauri::Result<Vec<_>>>()?;
    submenu(app, "Policy", &items)
}

fn submenu(app: &AppHandle, title: &str, items: &[CheckMenuItem<Wry>]) -> tauri::Result<Submenu<Wry>> {
    let items: Vec<&dyn IsMenuItem<Wry>> = items.iter().map(|item| item as &dyn IsMenuItem<Wry>).collect();
    Submenu::with_items(app, title, true, &items)
}

/// The same words as in the window.
fn words(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Auto => "Automatic",
        PolicyKind::Full => "All experts",
        PolicyKind::Mobile => "Half when sure",
        PolicyKind::Little => "Half of the experts",
        PolicyKind::Mass => "Most wanted experts",
    }
}

fn chosen(app: &AppHandle, event: &MenuEvent) {
    let done = match event.id().as_ref() {
        "open" => windows::show(app, WindowName::Chat, None).map_err(CommandError::from),
        "settings" => windows::show(app, WindowName::Settings, None).map_err(CommandError::from),
        "lan" => {
            toggle_lan(app.clone());
            Ok(())
        }
        "autostart" => change(app, |settings| settings.autostart = !settings.autostart),
        QUIT => {
            actions::quit(app.clone());
            Ok(())
        }
        id => match id.split_once(':') {
            Some(("model", model)) => actions::load_model(app, model),
            Some(("policy", name)) => change(app, |settings| {
                settings.policy.kind = PolicyKind::named(name).unwrap_or(settings.policy.kind);
            }),
            _ => Ok(()),
        },
    };
    if let Err(error) = done {
        actions::notify(app, "MoBiLE", &error.message);
    }
    // A check mark that the system has already flipped goes back where nothing changed.
    refresh(app);
}

/// Opens the endpoint to the local network or closes it.
fn toggle_lan(app: AppHandle) {
    let enabled = !app.state::<Shell>().settings.get().lan.enabled;
    tauri::async_runtime::spawn(async move {
        if let Err(error) = network::set_lan(&app, enabled).await {
            actions::notify(&app, "MoBiLE", &error.message);
        }
    });
}

fn change(app: &AppHandle, change: impl FnOnce(&mut Settings)) -> Result<(), CommandError> {
    let mut settings = actions::settings(app);
    change(&mut settings);
    actions::change_settings(app, settings).map(drop)
}
