//! The library of models and the engine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mobile_models::{Error, Import, Library};
use tauri::ipc::Channel;
use tauri::{AppHandle, State};

use crate::contract::{EngineState, EngineStatus, MemoryPlan, ModelEntry, PullProgress};
use crate::error::{CommandError, Result};
use crate::pulls::Ended;
use crate::state::Shell;
use crate::{actions, memory};

/// How often it is looked whether a download has ended, and how long its last bytes may take to be written.
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);

#[tauri::command(async)]
pub(crate) fn models_list(app: AppHandle) -> Result<Vec<ModelEntry>> {
    actions::models(&app)
}

#[tauri::command(async)]
pub(crate) fn model_load(app: AppHandle, id: String) -> Result<()> {
    actions::load_model(&app, &id)
}

#[tauri::command(async)]
pub(crate) fn model_unload(app: AppHandle) {
    actions::unload_model(&app);
}

#[tauri::command(async)]
pub(crate) fn model_delete(app: AppHandle, shell: State<'_, Shell>, id: String) -> Result<()> {
    let EngineState { state, model, .. } = shell.engine_state();
    let chosen = model.as_deref() == Some(&id);
    if chosen && matches!(state, EngineStatus::Loading | EngineStatus::Ready) {
        return Err(CommandError::new("busy", "this model is in use; unload it first"));
    }
    shell.models.library().remove(&id)?;
    if chosen {
        // It failed to load; the next start is not to try it again.
        actions::unload_model(&app);
    }
    actions::announce_models(&app);
    Ok(())
}

#[tauri::command(async)]
pub(crate) fn model_import(app: AppHandle, shell: State<'_, Shell>, path: PathBuf) -> Result<ModelEntry> {
    let id = shell.models.library().import(&path, None, Import::InPlace)?.id;
    actions::announce_models(&app);
    let list = actions::models(&app)?;
    let entry = list.into_iter().find(|entry| entry.id == id);
    entry.ok_or_else(|| CommandError::new("not_found", format!("{id} was imported and is gone again")))
}

#[tauri::command(async)]
pub(crate) fn model_pull(
    app: AppHandle,
    shell: State<'_, Shell>,
    id: String,
    channel: Channel<PullProgress>,
) -> Result<()> {
    let name = id.clone();
    let ended = move |ended| match ended {
        Ended::Done => {
            actions::announce_models(&app);
            actions::notify(&app, "Download finished", &format!("{name} is ready to load."));
        }
        Ended::Failed(error) => actions::notify(&app, &format!("{name} was not downloaded"), &error.message),
        Ended::Paused => {}
    };
    shell.pulls.start(&id, &shell.models.library(), channel, ended)
}

/// Goes on with a paused or failed download, or listens to a running one.
#[tauri::command(async)]
pub(crate) fn pull_resume(
    app: AppHandle,
    shell: State<'_, Shell>,
    id: String,
    channel: Channel<PullProgress>,
) -> Result<()> {
    model_pull(app, shell, id, channel)
}

#[tauri::command]
pub(crate) fn pull_pause(shell: State<'_, Shell>, id: String) {
    shell.pulls.pause(&id);
}

/// Ends a download and removes what had arrived.
#[tauri::command]
pub(crate) async fn pull_cancel(app: AppHandle, shell: State<'_, Shell>, id: String) -> Result<()> {
    shell.pulls.pause(&id);
    while !shell.pulls.forget(&id) {
        tokio::time::sleep(LOOK).await;
    }
    let library = shell.models.library();
    let ready = library.info(&id).is_ok_and(|entry| entry.is_ready());
    if !ready {
        remove_partial(&library, &id).await?;
    }
    actions::announce_models(&app);
    Ok(())
}

/// Removes what a download that was just ended has left, if anything: its last bytes may still be on their way.
async fn remove_partial(library: &Library, id: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        match library.remove(id) {
            Ok(_) | Err(Error::NotHere(_)) => return Ok(()),
            Err(Error::Busy(_)) if began.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}

#[tauri::command(async)]
pub(crate) fn engine_state(shell: State<'_, Shell>) -> EngineState {
    shell.engine_state()
}

/// The memory of the model in use, were it loaded again with this budget.
#[tauri::command(async)]
pub(crate) fn memory_plan(shell: State<'_, Shell>, expert_memory: Option<u64>) -> Result<MemoryPlan> {
    memory::planned(&shell, &shell.engine()?, expert_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_download_is_removed_once_its_writer_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = Library::with_cache(folder.path().join("data"), folder.path());
        let (root, locks) = (folder.path().join("models--a--b"), folder.path().join(".locks/models--a--b"));
        std::fs::create_dir(&root).expect("made");
        std::fs::create_dir_all(&locks).expect("made");
        let lock = std::fs::File::create(locks.join("x.lock")).expect("made");
        lock.lock().expect("locked");
        let writer = std::thread::spawn(move || {
            std::thread::sleep(5 * LOOK);
            drop(lock);
        });
        tauri::async_runtime::block_on(remove_partial(&library, "a/b")).expect("removed");
        writer.join().expect("ended");
        assert!(!root.exists());
        tauri::async_runtime::block_on(remove_partial(&library, "a/b")).expect("nothing left to remove");
    }
}
