//! `POST /v1/chat/completions`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answer::{Piece, Whole};
use crate::app::Shared;
use crate::error::{ApiError, Refusals};
use crate::events::{self, ServerSentEvent};
use crate::extract::{Body, Json};
use crate::openai::{self, Answers, Asked, ChatLogprobs, Choices, Head, Message, MobileReport, Response};
use crate::options::{Route, count, repeat};

/// A conversation and how to continue it.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The conversation so far.
    #[schema(required, value_type = Vec<Message>, min_items = 1)]
    messages: Option<Vec<Message>>,
    /// Tokens of the answer at most; to the end of the context by default.
    #[schema(minimum = 1, maximum = 32768)]
    max_completion_tokens: Option<i64>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1, maximum = 32768)]
    max_tokens: Option<i64>,
    /// Report the log probability of each token.
    logprobs: Option<bool>,
    /// And those of this many of the most probable tokens; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
}

impl Body for ChatRequest {
    type Shared = Asked;

    fn prepare(fields: &mut Map<String, Value>) -> Result<(), ApiError> {
        openai::refuse_unsupported(fields)
    }
}

/// One answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    index: usize,
    message: ChatMessage,
    logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<MobileReport>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChatMessage {
    role: &'static str,
    content: String,
    #[schema(value_type = Option<()>)]
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<MobileReport>,
}

#[derive(Debug, Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// Writes the choices of a chat.
struct Chat;

impl Choices for Chat {
    const PREFIX: &str = "chatcmpl-";
    const OBJECTS: [&str; 2] = ["chat.completion", "chat.completion.chunk"];
    type Whole = ChatChoice;
    type Delta = ChunkChoice;

    fn whole(head: &Head, index: usize, Whole { text, tokens, settled, end }: Whole) -> ChatChoice {
        ChatChoice {
            index,
            message: ChatMessage { role: "assistant", content: text, refusal: None },
            logprobs: head.wanted.logprobs.then(|| ChatLogprobs::new(&head.text, &settled)),
            finish_reason: end.reason,
            mobile: head.report(tokens, Some(&end.statistics)),
        }
    }

    fn open(index: usize) -> Option<ChunkChoice> {
        let delta = Delta { role: Some("assistant"), content: Some(String::new()) };
        Some(ChunkChoice { index, delta, logprobs: None, finish_reason: None, mobile: None })
    }

    fn piece(&mut self, head: &Head, index: usize, piece: Piece) -> Vec<ChunkChoice> {
        let Piece { text, token, settled, end } = piece;
        let mobile = head.report(token, end.as_ref().map(|e| &e.statistics));
        let logprobs = head.logprobs(&settled, ChatLogprobs::new);
        let mut choices = Vec::new();
        let content = (!text.is_empty()).then_some(text);
        if content.is_some() || logprobs.is_some() || (mobile.is_some() && end.is_none()) {
            let mobile = if end.is_none() { mobile.clone() } else { None };
            let delta = Delta { role: None, content };
            choices.push(ChunkChoice { index, delta, logprobs, finish_reason: None, mobile });
        }
        if let Some(end) = end {
            let (delta, finish_reason) = (Delta::default(), Some(end.reason));
            choices.push(ChunkChoice { index, delta, logprobs: None, finish_reason, mobile });
        }
        choices
    }
}

/// Continue a conversation
///
/// As OpenAI's route of the same name: with `stream: true` as server-sent events. Fields that this service does not
/// have are refused by name. `user`, `metadata`, `safety_identifier` and `prompt_cache_key` change nothing.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "OpenAI",
    request_body = ChatRequest,
    responses(
        (status = 200, content((Response<ChatChoice> = "application/json"), (ServerSentEvent = "text/event-stream"))),
        Refusals,
    ),
)]
pub(crate) async fn chat(
    State(app): State<Shared>,
    Json(own, mut asked, options): Json<ChatRequest>,
) -> Result<axum::response::Response, ApiError> {
    let limits = &app.config.limits;
    let model = asked.model()?;
    let messages = own.messages.ok_or_else(|| ApiError::missing("messages"))?;
    let engine = app.ready(Some(&model))?.engine;
    let stream = options.stream();
    let wanted = asked.wanted(stream, own.logprobs.unwrap_or(false), limits)?;
    let top_logprobs = count("top_logprobs", own.top_logprobs, 0, 0, 20)?;
    if own.top_logprobs.is_some() && !wanted.logprobs {
        return Err(ApiError::invalid_value("top_logprobs", "needs logprobs: true"));
    }
    let asked_tokens = match (own.max_completion_tokens, own.max_tokens) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_value("max_tokens", "give either max_completion_tokens or max_tokens"));
        }
        (None, Some(max)) => ("max_tokens", Some(max)),
        (max, None) => ("max_completion_tokens", max),
    };
    let turns = openai::conversation(messages, limits)?;
    if !engine.text().has_template() {
        return Err(ApiError::no_template());
    }
    let (max_tokens, logprobs) = (engine.info().context, wanted.logprobs.then_some(top_logprobs));
    let route = Route { temperature: 1.0, max_tokens, asked_tokens, logprobs };
    let mut request = options.request(&app, &engine, route).await?;
    request.prompt = app.tokenize(&engine, move |engine| engine.text().encode_chat(&turns)).await?;
    let requests = repeat(&request, wanted.n);
    let writer = Answers::new(model, &engine, wanted, Chat);
    events::respond(&app, engine, requests, stream, writer).await.map_err(|e| e.renamed("prompt", "messages"))
}
