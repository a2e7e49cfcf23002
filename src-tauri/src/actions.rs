//! What can be done from a window and from the tray alike.

use std::time::Duration;

use mobile_service::ModelState;
use serde::{Deserialize, Serialize};
use tauri::{AppHandle, Manager as _};
use tauri_plugin_autostart::ManagerExt as _;
use tauri_plugin_notification::NotificationExt as _;

use crate::contract::{ModelEntry, Settings};
use crate::error::{CommandError, Result};
use crate::library::EMBEDDED;
use crate::state::Shell;
use crate::storage::{self, Stored};
use crate::{events, memory, network, shortcut, tray, windows};

/// How long running answers may take to end when the app quits.
const GRACE: Duration = Duration::from_secs(2);

/// The time the window has to save an answer that was cut short.
const SAVING: Duration = Duration::from_millis(300);

/// The model to load when the app starts.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    model: Option<String>,
}

/// Loads a model in the background in place of the present one.
pub(crate) fn load_model(app: &AppHandle, id: &str) -> Result<()> {
    let shell = app.state::<Shell>();
    let folder = shell.models.folder(id)?;
    shell.calibrations.stop();
    remember(app, Some(id));
    let (app, id) = (app.clone(), id.to_owned());
    tauri::async_runtime::spawn_blocking(move || {
        let shell = app.state::<Shell>();
        let prepared = shell.slot.load_prepared(&id, |tell| memory::prepare(&shell, &id, folder, tell));
        if let Err(error) = prepared {
            tracing::error!("a model cannot be loaded: {error}");
        }
    });
    Ok(())
}

pub(crate) fn unload_model(app: &AppHandle) {
    remember(app, None);
    let shell = app.state::<Shell>();
    shell.calibrations.stop();
    shell.slot.clear();
}

/// Loads the model of the last time; the embedded one the first time.
pub(crate) fn load_remembered(app: &AppHandle) {
    let model = match storage::read(&app.state::<Shell>().home.data.join("model.json")) {
        Ok(Stored::Found(Remembered { model })) => model,
        Ok(Stored::Absent | Stored::SetAside(_)) => Some(EMBEDDED.to_owned()),
        Err(error) => {
            tracing::error!("the last model: {error}");
            Some(EMBEDDED.to_owned())
        }
    };
    if let Some(id) = model
        && let Err(error) = load_model(app, &id)
    {
        app.state::<Shell>().slot.set_failed(id, error.message);
    }
}

fn remember(app: &AppHandle, model: Option<&str>) {
    let path = app.state::<Shell>().home.data.join("model.json");
    if let Err(error) = storage::write(&path, &Remembered { model: model.map(str::to_owned) }) {
        tracing::error!("the model in use is not remembered: {error}");
    }
}

/// Tells windows and tray of every change of the engine.
pub(crate) fn watch_engine(app: AppHandle) {
    let mut slot = app.state::<Shell>().slot.watch();
    tauri::async_runtime::spawn(async move {
        while slot.changed().await.is_ok() {
            let ready = match &*slot.borrow_and_update() {
                ModelState::Ready(ready) => Some(ready.engine.clone()),
                _ => None,
            };
            let shell = app.state::<Shell>();
            if let Some(engine) = ready {
                shell.meter.follow(&engine);
            }
            events::ENGINE.tell(&app, shell.engine_state());
            tray::refresh(&app);
        }
    });
}

/// The list of models, with the downloads under way.
pub(crate) fn models(app: &AppHandle) -> Result<Vec<ModelEntry>> {
    let shell = app.state::<Shell>();
    let mut list = shell.models.list(shell.settings.get().context_tokens)?;
    for entry in &mut list {
        entry.pull = shell.pulls.progress(&entry.id).or(entry.pull.take());
    }
    Ok(list)
}

/// Tells windows and tray that a model has come or gone.
pub(crate) fn announce_models(app: &AppHandle) {
    match models(app) {
        Ok(list) => events::MODELS.tell(app, list),
        Err(error) => tracing::error!("the models cannot be listed: {error}"),
    }
    tray::refresh(app);
}

/// The settings; whether the app starts at login is the system's to say.
pub(crate) fn settings(app: &AppHandle) -> Settings {
    let autostart = app.autolaunch().is_enabled().unwrap_or(false);
    Settings { autostart, ..app.state::<Shell>().settings.get() }
}

pub(crate) fn change_settings(app: &AppHandle, settings: Settings) -> Result<Settings> {
    let shell = app.state::<Shell>();
    let before = self::settings(app);
    shell.settings.set(settings.clone())?;
    if let Err(error) = apply(app, &before, &settings) {
        shell.settings.set(before)?;
        return Err(error);
    }
    let kept = self::settings(app);
    events::SETTINGS.tell(app, kept.clone());
    tray::refresh(app);
    Ok(kept)
}

fn apply(app: &AppHandle, before: &Settings, now: &Settings) -> Result<()> {
    let shell = app.state::<Shell>();
    if before.shortcut != now.shortcut {
        shortcut::replace(app, before.shortcut.as_deref(), now.shortcut.as_deref())?;
    }
    if before.autostart != now.autostart {
        set_autostart(app, now.autostart)?;
    }
    if before.folder != now.folder {
        shell.models.set_folder(now.folder.clone());
        announce_models(app);
    }
    if before.lan != now.lan {
        tauri::async_runtime::spawn(network::start(app.clone()));
    }
    shell.slot.set_policy(now.policy.into());
    windows::set_appearance(app, now.appearance);
    Ok(())
}

pub(crate) fn set_autostart(app: &AppHandle, enabled: bool) -> Result<()> {
    let autostart = app.autolaunch();
    let done = if enabled { autostart.enable() } else { autostart.disable() };
    // Turning off what is off already fails for want of a file.
    if autostart.is_enabled().unwrap_or(false) == enabled {
        return Ok(());
    }
    let why = done.err().map_or_else(String::new, |e| format!(" ({e})"));
    Err(CommandError::new(
        "autostart",
        format!("the system did not take the change{why}; add or remove MoBiLE among the login items yourself"),
    ))
}

/// Ends running answers, lets the window save them, then ends the app.
pub(crate) fn quit(app: AppHandle) {
    tauri::async_runtime::spawn(async move {
        app.state::<Shell>().calibrations.stop();
        let answers = app.state::<Shell>().answers.clone();
        if !answers.none_running() {
            answers.stop_all();
            let ended = async {
                while !answers.none_running() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            if tokio::time::timeout(GRACE, ended).await.is_err() {
                tracing::warn!("an answer did not end in time");
            }
            tokio::time::sleep(SAVING).await;
        }
        app.exit(0);
    });
}

/// Says something where the owner sees it though no window is open.
pub(crate) fn notify(app: &AppHandle, title: &str, body: &str) {
    if let Err(error) = app.notification().builder().title(title).body(body).show() {
        tracing::warn!("{title}: {body} (not shown: {error})");
    }
}
