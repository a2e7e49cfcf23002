//! MoBiLE in the menu bar: a thin shell around the engine.

mod actions;
mod answers;
mod calibrations;
mod commands;
mod contract;
mod conversations;
mod error;
mod events;
mod home;
mod library;
mod live;
mod logs;
mod memory;
mod meter;
mod network;
mod nodes;
mod platform;
mod pulls;
mod settings;
mod shortcut;
mod state;
mod storage;
mod tray;
mod windows;

use std::error::Error;

use tauri::{App, AppHandle, Manager as _, RunEvent};
use tauri_plugin_autostart::MacosLauncher;

use crate::calibrations::Calibrations;
use crate::contract::WindowName;
use crate::home::Home;
use crate::library::Models;
use crate::network::Network;
use crate::state::Shell;

/// Shows the chat window at the start.
const SHOW: &str = "--show";

/// Starts without a window; what the login item says.
const HIDDEN: &str = "--hidden";

fn main() -> Result<(), Box<dyn Error>> {
    platform::begin();
    mobile_engine::use_bundled_kernels()?;
    let app = tauri::Builder::default()
        // First, so that a second instance ends before it opens anything.
        .plugin(tauri_plugin_single_instance::init(|app, _, _| raise(app)))
        .plugin(tauri_plugin_autostart::init(MacosLauncher::LaunchAgent, Some(vec![HIDDEN])))
        .plugin(tauri_plugin_dialog::init())
        .plugin(tauri_plugin_notification::init())
        .plugin(tauri_plugin_opener::init())
        .plugin(tauri_plugin_positioner::init())
        .plugin(tauri_plugin_window_state::Builder::new().with_state_flags(windows::remembered()).build())
        .invoke_handler(commands::handler())
        .setup(setup)
        .build(tauri::generate_context!())?;
    app.run(|_app, event| {
        // Without a window the app still lives in the menu bar; `exit` comes with a code.
        if let RunEvent::ExitRequested { api, code: None, .. } = event {
            api.prevent_exit();
        }
    });
    Ok(())
}

fn setup(app: &mut App) -> Result<(), Box<dyn Error>> {
    platform::prepare(app)?;
    let handle = app.handle().clone();
    let home = Home::find(&handle)?;
    logs::start(&home.logs);
    let models = Models::new(&home);
    let (settings, aside) = settings::Store::open(&home.data, models.library().cache().to_owned());
    let now = settings.get();
    models.set_folder(now.folder.clone());
    let data = home.data.clone();
    let shell = Shell {
        conversations: conversations::Store::new(&home.data),
        home,
        settings,
        models,
        pulls: Default::default(),
        slot: Default::default(),
        answers: Default::default(),
        calibrations: Calibrations::new(&data),
        meter: Default::default(),
        live: Default::default(),
        network: Network::new(&data),
    };
    shell.slot.set_policy(now.policy.into());
    app.manage(shell);

    actions::watch_engine(handle.clone());
    actions::load_remembered(&handle);
    windows::set_appearance(&handle, now.appearance);
    windows::create_chat(&handle)?;
    let in_tray = tray::create(&handle);
    tray::follow(handle.clone());
    if let Err(error) = shortcut::replace(&handle, None, now.shortcut.as_deref()) {
        tracing::warn!("{error}");
    }
    if let Some(aside) = aside {
        let text = format!("They could not be read and were kept as {}. The defaults are used.", aside.display());
        actions::notify(&handle, "Your settings were reset", &text);
    }
    let asked = |flag| std::env::args().any(|argument| argument == flag);
    if asked(SHOW) || !(in_tray || asked(HIDDEN)) {
        windows::show(&handle, WindowName::Chat, None)?;
    }
    tauri::async_runtime::spawn(network::start(handle.clone()));
    tauri::async_runtime::spawn_blocking(move || actions::announce_models(&handle));
    Ok(())
}

/// What a second start does to the first.
fn raise(app: &AppHandle) {
    if let Err(error) = windows::show(app, WindowName::Chat, None) {
        tracing::error!("the chat window: {error}");
    }
}
