//! The library of models and the engine.

use std::path::PathBuf;

use mobile_models::Import;
use tauri::ipc::Channel;
use tauri::{AppHandle, State};

use crate::contract::{EngineState, MemoryPlan, ModelEntry, PullProgress};
use crate::error::{CommandError, Result};
use crate::pulls::Ended;
use crate::state::Shell;
use crate::{actions, memory};

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
    if shell.engine_state().model.as_deref() == Some(&id) {
        return Err(CommandError::new("busy", "this model is in use; unload it first"));
    }
    shell.models.library().remove(&id)?;
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
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let library = shell.models.library();
    let ready = library.info(&id).is_ok_and(|entry| entry.is_ready());
    if !ready {
        match library.remove(&id) {
            Ok(_) | Err(mobile_models::Error::NotHere(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    actions::announce_models(&app);
    Ok(())
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
