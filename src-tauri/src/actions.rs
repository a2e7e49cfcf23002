//! What can be done from a window and from the tray alike.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobile_host::PlaceError;
use mobile_service::ModelState;
use serde::{Deserialize, Serialize};
use tauri::{AppHandle, Manager as _};
use tauri_plugin_autostart::ManagerExt as _;
use tauri_plugin_notification::NotificationExt as _;

use crate::contract::{LanSettings, ModelEntry, Settings};
use crate::error::{CommandError, Result};
use crate::library::EMBEDDED;
use crate::state::Shell;
use crate::storage::{self, Stored};
use crate::{events, memory, network, shortcut, tray, windows};

/// How long running answers may take to end when the app quits.
const GRACE: Duration = Duration::from_secs(2);

/// The time the window has to save an answer that was cut short.
const SAVING: Duration = Duration::from_millis(300);

/// The file that remembers the model in use.
const REMEMBERED: &str = "model.json";

/// The model to load when the app starts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    model: Option<String>,
    /// Whether its loading has begun and not ended. Found at a start, it is what ended the app before: a model that is
    /// too large for the memory would do so at every start.
    #[serde(default)]
    loading: bool,
}

impl Remembered {
    /// The model of the last time; the embedded one the first time.
    fn read(data: &Path) -> Self {
        match storage::read(&data.join(REMEMBERED)) {
            Ok(Stored::Found(remembered)) => return remembered,
            Ok(Stored::Absent | Stored::SetAside(_)) => {}
            Err(error) => tracing::error!("the last model: {error}"),
        }
        Self { model: Some(EMBEDDED.to_owned()), loading: false }
    }

    fn write(&self, data: &Path) {
        if let Err(error) = storage::write(&data.join(REMEMBERED), self) {
            tracing::error!("the model in use is not remembered: {error}");
        }
    }

    /// Notes that a model is no longer being loaded, unless another is by now; without an id, that none is.
    fn end_loading(data: &Path, id: Option<&str>) {
        let _one = remembering();
        let remembered = Self::read(data);
        if remembered.loading && (id.is_none() || id == remembered.model.as_deref()) {
            Self { loading: false, ..remembered }.write(data);
        }
    }
}

/// Held while the slot changes hands and the file with it.
fn remembering() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads a model in the background in place of the present one.
pub(crate) fn load_model(app: &AppHandle, id: &str) -> Result<()> {
    let shell = app.state::<Shell>();
    let folder = shell.models.folder(id)?;
    shell.calibrations.stop();
    let turn = {
        let _one = remembering();
        Remembered { model: Some(id.to_owned()), loading: true }.write(&shell.home.data);
        shell.slot.take_turn()
    };
    let (app, id) = (app.clone(), id.to_owned());
    tauri::async_runtime::spawn_blocking(move || {
        let shell = app.state::<Shell>();
        let loaded = shell.slot.load_prepared(&turn, &id, |tell| memory::prepare(&shell, &id, folder, tell));
        match loaded {
            // The mark is no longer this model's.
            Err(PlaceError::Engine(mobile_engine::Error::CalledOff)) => return,
            Err(error) => tracing::error!("{id} cannot be loaded: {error}"),
            Ok(()) => {}
        }
        Remembered::end_loading(&shell.home.data, Some(&id));
    });
    Ok(())
}

pub(crate) fn unload_model(app: &AppHandle) {
    let shell = app.state::<Shell>();
    let turn = {
        let _one = remembering();
        Remembered { model: None, loading: false }.write(&shell.home.data);
        shell.slot.take_turn()
    };
    shell.calibrations.stop();
    shell.slot.clear_in(&turn);
}

/// Loads the model of the last time, unless the app ended over it.
pub(crate) fn load_remembered(app: &AppHandle) {
    let shell = app.state::<Shell>();
    let Remembered { model: Some(id), loading } = Remembered::read(&shell.home.data) else { return };
    if loading {
        let why = format!("MoBiLE ended while {id} was being loaded; it is not loaded again by itself");
        notify(app, "No model is loaded", &format!("{why}."));
        shell.slot.set_failed(id, why);
    } else if let Err(error) = load_model(app, &id) {
        shell.slot.set_failed(id, error.message);
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
        // A switch in the menu may have opened the endpoint meanwhile.
        let lan = |now: LanSettings| if now == settings.lan { before.lan } else { now };
        shell.settings.change(|now| *now = Settings { lan: lan(now.lan), ..before.clone() })?;
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
        // Loading that ends because the owner quits is no reason not to begin it again.
        Remembered::end_loading(&app.state::<Shell>().home.data, None);
        app.exit(0);
    });
}

/// Says something where the owner sees it though no window is open.
pub(crate) fn notify(app: &AppHandle, title: &str, body: &str) {
    if let Err(error) = app.notification().builder().title(title).body(body).show() {
        tracing::warn!("{title}: {body} (not shown: {error})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_did_not_end_is_known_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let is = |model: &str, loading| Remembered { model: Some(model.to_owned()), loading };
        assert_eq!(Remembered::read(data), is(EMBEDDED, false));
        is("a/large", true).write(data);
        assert_eq!(Remembered::read(data), is("a/large", true));
        Remembered::end_loading(data, Some("a/small"));
        assert_eq!(Remembered::read(data), is("a/large", true), "it is another that ended");
        Remembered::end_loading(data, Some("a/large"));
        assert_eq!(Remembered::read(data), is("a/large", false));
        is("a/large", true).write(data);
        Remembered::end_loading(data, None);
        assert_eq!(Remembered::read(data), is("a/large", false));
        // As older versions wrote it.
        std::fs::write(data.join(REMEMBERED), r#"{"model":"a/small"}"#).expect("written");
        assert_eq!(Remembered::read(data), is("a/small", false));
    }
}
