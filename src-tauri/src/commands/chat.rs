//! Asking and answering.

use mobile_engine::{Engine, Request, Sampling};
use tauri::State;
use tauri::ipc::Channel;

use crate::contract::{ChatEvent, ChatSettings, Policy, PromptMessage};
use crate::error::Result;
use crate::state::Shell;

#[tauri::command(async)]
pub(crate) fn chat_send(
    shell: State<'_, Shell>,
    conversation_id: String,
    messages: Vec<PromptMessage>,
    settings: ChatSettings,
    policy: Policy,
    channel: Channel<ChatEvent>,
) -> Result<()> {
    let engine = shell.engine()?;
    let request = request(&engine, &messages, &settings, policy)?;
    shell.answers.start(conversation_id, &engine, request, channel)
}

#[tauri::command]
pub(crate) fn chat_stop(shell: State<'_, Shell>, id: String) {
    shell.answers.stop(&id);
}

#[tauri::command]
pub(crate) fn chat_set_policy(shell: State<'_, Shell>, id: String, policy: Policy) -> Result<()> {
    shell.answers.set_policy(&id, policy.into())
}

fn request(engine: &Engine, messages: &[PromptMessage], settings: &ChatSettings, policy: Policy) -> Result<Request> {
    let messages: Vec<_> =
        messages.iter().map(|m| mobile_engine::Message::new(m.role.name(), m.content.as_str())).collect();
    let prompt = engine.text().encode_chat(&messages)?;
    let (sampling, policy) = (Sampling::from(settings), policy.into());
    Ok(Request { sampling, policy, ..Request::new(prompt, settings.max_tokens) })
}
