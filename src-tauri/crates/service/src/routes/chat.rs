//! `POST /v1/chat/completions`.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answer::{self, Piece, Whole};
use crate::app::Shared;
use crate::error::{ApiError, Refusals};
use crate::events::{self, ServerSentEvent, Writer};
use crate::extract::{Body, Json};
use crate::openai::{self, ChatLogprobs, Head, Message, MobileReport, StreamOptions, Usage, Wanted};
use crate::options::{Route, count, repeat};

/// A conversation and how to continue it.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The model that must answer, as `/v1/models` names it.
    #[schema(required, value_type = String)]
    model: Option<String>,
    /// The conversation so far.
    #[schema(required, value_type = Vec<Message>, min_items = 1)]
    messages: Option<Vec<Message>>,
    /// Tokens of the answer at most; to the end of the context by default.
    #[schema(minimum = 1, maximum = 32768)]
    max_completion_tokens: Option<i64>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1, maximum = 32768)]
    max_tokens: Option<i64>,
    /// Answers to make; 1 by default.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// What the stream carries besides.
    stream_options: Option<StreamOptions>,
    /// Report the log probability of each token.
    logprobs: Option<bool>,
    /// And those of this many of the most probable tokens; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    /// Extension: report what MoBiLE did with each token.
    mobile: Option<bool>,
}

impl Body for ChatRequest {
    fn prepare(fields: &mut Map<String, Value>) -> Result<(), ApiError> {
        openai::refuse_unsupported(fields)
    }
}

/// The answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatResponse {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChatChoice {
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
struct Chunk {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<ChunkChoice>,
    /// Absent unless asked for; then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice {
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

/// Writes responses and chunks.
struct ChatWriter(Head);

impl ChatWriter {
    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> Chunk {
        let Self(head) = self;
        Chunk {
            id: head.id.clone(),
            object: "chat.completion.chunk",
            created: head.created,
            model: head.model.clone(),
            system_fingerprint: openai::fingerprint(),
            choices,
            usage: head.wanted.usage.then_some(usage),
        }
    }
}

impl Writer for ChatWriter {
    type Response = ChatResponse;
    type Frame = Chunk;

    fn whole(self, answers: Vec<Whole>) -> ChatResponse {
        let Self(mut head) = self;
        let mut choices = Vec::with_capacity(answers.len());
        for (index, Whole { text, tokens, settled, end }) in answers.into_iter().enumerate() {
            head.count(index, &end.statistics);
            choices.push(ChatChoice {
                index,
                message: ChatMessage { role: "assistant", content: text, refusal: None },
                logprobs: head.wanted.logprobs.then(|| ChatLogprobs::new(&head.text, &settled)),
                finish_reason: end.reason,
                mobile: head.report(tokens, Some(&end.statistics)),
            });
        }
        let (object, system_fingerprint) = ("chat.completion", openai::fingerprint());
        let Head { id, created, model, usage, .. } = head;
        ChatResponse { id, object, created, model, system_fingerprint, choices, usage }
    }

    fn open(&mut self) -> Vec<Chunk> {
        let delta = || Delta { role: Some("assistant"), content: Some(String::new()) };
        let first = |index| ChunkChoice { index, delta: delta(), logprobs: None, finish_reason: None, mobile: None };
        (0..self.0.wanted.n).map(|index| self.chunk(vec![first(index)], None)).collect()
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Chunk> {
        let Piece { text, token, settled, end } = piece;
        let statistics = end.as_ref().map(|e| &e.statistics);
        let mobile = self.0.report(token, statistics);
        let logprobs = self.0.logprobs(&settled, ChatLogprobs::new);
        let mut chunks = Vec::new();
        let content = (!text.is_empty()).then_some(text);
        if content.is_some() || logprobs.is_some() || (mobile.is_some() && end.is_none()) {
            let mobile = if end.is_none() { mobile.clone() } else { None };
            let delta = Delta { role: None, content };
            let choice = ChunkChoice { index, delta, logprobs, finish_reason: None, mobile };
            chunks.push(self.chunk(vec![choice], None));
        }
        if let Some(end) = end {
            self.0.count(index, &end.statistics);
            let (delta, finish_reason) = (Delta::default(), Some(end.reason));
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason, mobile };
            chunks.push(self.chunk(vec![choice], None));
        }
        chunks
    }

    fn close(&mut self) -> Vec<Chunk> {
        if self.0.wanted.usage { vec![self.chunk(Vec::new(), Some(self.0.usage.clone()))] } else { Vec::new() }
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
        (status = 200, content((ChatResponse = "application/json"), (ServerSentEvent = "text/event-stream"))),
        Refusals,
    ),
)]
pub(crate) async fn chat(
    State(app): State<Shared>,
    Json(asked, options): Json<ChatRequest>,
) -> Result<Response, ApiError> {
    let limits = &app.config.limits;
    let model = asked.model.ok_or_else(|| ApiError::missing("model"))?;
    let messages = asked.messages.ok_or_else(|| ApiError::missing("messages"))?;
    let engine = app.ready(Some(&model))?.engine;
    let stream = options.stream();
    let wanted = Wanted {
        n: count("n", asked.n, 1, 1, limits.choices)?,
        logprobs: asked.logprobs.unwrap_or(false),
        mobile: asked.mobile.unwrap_or(false),
        usage: openai::include_usage(stream, asked.stream_options)?,
    };
    let top_logprobs = count("top_logprobs", asked.top_logprobs, 0, 0, 20)?;
    if asked.top_logprobs.is_some() && !wanted.logprobs {
        return Err(ApiError::invalid_value("top_logprobs", "needs logprobs: true"));
    }
    let asked_tokens = match (asked.max_completion_tokens, asked.max_tokens) {
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
    let answers = answer::submit(&app, &engine, requests).map_err(|e| e.renamed("prompt", "messages"))?;
    let writer = ChatWriter(Head::new("chatcmpl-", model, &engine, wanted));
    drop(engine);
    events::respond(answers, stream, writer).await
}
