//! Conversations that are kept.

use tauri::{AppHandle, State};

use crate::actions;
use crate::contract::{Conversation, ConversationSummary};
use crate::error::Result;
use crate::state::Shell;

#[tauri::command(async)]
pub(crate) fn conversations_list(app: AppHandle, shell: State<'_, Shell>) -> Result<Vec<ConversationSummary>> {
    let list = shell.conversations.list()?;
    for aside in shell.conversations.take_damaged() {
        actions::notify(&app, "A conversation could not be read", &format!("It was kept as {}.", aside.display()));
    }
    Ok(list)
}

#[tauri::command(async)]
pub(crate) fn conversations_search(shell: State<'_, Shell>, query: String) -> Result<Vec<ConversationSummary>> {
    shell.conversations.search(&query)
}

#[tauri::command(async)]
pub(crate) fn conversation_get(shell: State<'_, Shell>, id: String) -> Result<Conversation> {
    shell.conversations.get(&id)
}

#[tauri::command(async)]
pub(crate) fn conversation_save(shell: State<'_, Shell>, conversation: Conversation) -> Result<()> {
    shell.conversations.save(&conversation)
}

#[tauri::command(async)]
pub(crate) fn conversation_rename(shell: State<'_, Shell>, id: String, title: String) -> Result<()> {
    shell.conversations.rename(&id, &title)
}

#[tauri::command(async)]
pub(crate) fn conversation_delete(shell: State<'_, Shell>, id: String) -> Result<()> {
    shell.conversations.delete(&id)
}
