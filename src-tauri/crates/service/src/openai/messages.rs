//! A conversation as OpenAI's clients write it.

use mobile_engine::Message as Turn;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::config::Limits;
use crate::error::ApiError;

/// One turn.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct Message {
    /// Who speaks.
    role: Role,
    /// What is said.
    content: Content,
}

/// Who speaks. `developer` is taken as `system`.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
}

/// What is said.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a text or a list of parts of type text; this service reads nothing else")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of what is said.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Part {
    Text { text: String },
}

/// The turns for the chat template.
pub(crate) fn conversation(messages: Vec<Message>, limits: &Limits) -> Result<Vec<Turn>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid_value("messages", "at least one message is needed"));
    }
    if messages.len() > limits.messages {
        let why = format!("at most {} messages, found {}", limits.messages, messages.len());
        return Err(ApiError::invalid_value("messages", why));
    }
    let turn = |message: Message| {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = match message.content {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().map(|Part::Text { text }| text).collect(),
        };
        Turn::new(role, content)
    };
    Ok(messages.into_iter().map(turn).collect())
}
