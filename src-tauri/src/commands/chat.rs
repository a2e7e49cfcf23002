//! Asking and answering.

use mobile_engine::{Request, Sampling, Text};
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
    let request = request(engine.text(), &messages, &settings, policy)?;
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

fn request(text: &Text, messages: &[PromptMessage], settings: &ChatSettings, policy: Policy) -> Result<Request> {
    let messages: Vec<_> =
        messages.iter().map(|m| mobile_engine::Message::new(m.role.name(), m.content.as_str())).collect();
    let prompt = text.encode_chat(&messages)?;
    let (sampling, policy) = (Sampling::from(settings), policy.into());
    Ok(Request { sampling, policy, ..Request::new(prompt, settings.max_tokens) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::contract::{PolicyKind, Role};

    #[test]
    fn what_a_conversation_is_set_to_is_what_the_engine_is_asked_for() {
        let text =
            Text::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/olmoe-tiny")).expect("a tokenizer");
        let said = |role, content: &str| PromptMessage { role, content: content.to_owned() };
        let messages = [said(Role::System, "Answer like a pirate."), said(Role::User, "Who are you?")];
        let settings =
            ChatSettings { temperature: 0.25, top_p: 0.5, max_tokens: 7, seed: Some(11), ..ChatSettings::default() };
        let policy = Policy { kind: PolicyKind::Mobile, gamma: 0.25, ..Policy::default() };
        let asked = request(&text, &messages, &settings, policy).expect("a request");
        let prompt = text.decode(&asked.prompt).expect("text");
        let places = ["Answer like a pirate.", "Who are you?"].map(|said| prompt.find(said).expect("in the prompt"));
        assert!(places.is_sorted(), "{prompt}");
        let Request { sampling: Sampling { temperature, top_p, seed, .. }, max_tokens, .. } = asked;
        assert_eq!((temperature, top_p, seed, max_tokens), (0.25, 0.5, Some(11), 7));
        assert_eq!(asked.policy, policy.into());

        let defaults = request(&text, &messages[1..], &ChatSettings::default(), Policy::default()).expect("a request");
        assert!(!text.decode(&defaults.prompt).expect("text").contains("pirate"));
        assert_eq!((defaults.sampling.seed, defaults.max_tokens), (None, 2048));
    }
}
