//! `POST /v1/chat/completions`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use mobile_engine::Text;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answer::{self, Piece};
use crate::app::Shared;
use crate::clock::unix_seconds;
use crate::error::{ApiError, ErrorBody};
use crate::events::{self, Frames, ServerSentEvent};
use crate::extract::{Body, Json};
use crate::ids;
use crate::openai::{self, ChatLogprobs, Message, MobileReport, ResponseFormat, StreamOptions, Usage};
use crate::options::{Options, PolicyField, Stop, Usual, count, repeat};

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
    /// 1 by default; 0 takes the most probable token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Draw from the most probable tokens that together reach this probability.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Answers to make; 1 by default.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// Makes the draws repeatable.
    seed: Option<i64>,
    /// Texts that end the answer and are not part of it.
    stop: Option<Stop>,
    /// What the answer must be: text, a JSON object, or JSON that follows a schema.
    response_format: Option<ResponseFormat>,
    /// Answer piece by piece, as server-sent events.
    stream: Option<bool>,
    /// What the stream carries besides.
    stream_options: Option<StreamOptions>,
    /// Report the log probability of each token.
    logprobs: Option<bool>,
    /// And those of this many of the most probable tokens; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<i64>,
    /// Extension: draw from this many of the most probable tokens; 0 is all.
    #[schema(minimum = 0, maximum = 2147483647)]
    top_k: Option<i64>,
    /// Extension: draw from the tokens at least this probable in proportion to the most probable one.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Extension: above 1, tokens that were seen already become less probable.
    #[schema(minimum = 0.01, maximum = 10)]
    repetition_penalty: Option<f64>,
    /// Extension: which experts decode; the owner's choice by default.
    policy: Option<PolicyField>,
    /// Extension: the threshold γ of `mobile` and `auto`.
    #[schema(minimum = 0, maximum = 2)]
    gamma: Option<f32>,
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

/// Writes a stream's chunks.
struct Writer {
    id: String,
    created: u64,
    model: String,
    text: Text,
    n: usize,
    logprobs: bool,
    mobile: bool,
    include_usage: bool,
    usage: Usage,
}

impl Writer {
    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> Chunk {
        Chunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: openai::fingerprint(),
            choices,
            usage: self.include_usage.then_some(usage),
        }
    }
}

impl Frames for Writer {
    type Frame = Chunk;

    fn open(&mut self) -> Vec<Chunk> {
        let delta = || Delta { role: Some("assistant"), content: Some(String::new()) };
        let first = |index| ChunkChoice { index, delta: delta(), logprobs: None, finish_reason: None, mobile: None };
        (0..self.n).map(|index| self.chunk(vec![first(index)], None)).collect()
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Chunk> {
        let Piece { text, token, settled, end } = piece;
        let statistics = end.as_ref().map(|e| &e.statistics);
        let mobile = self.mobile.then(|| MobileReport::new(token, statistics));
        let logprobs = (self.logprobs && !settled.is_empty()).then(|| ChatLogprobs::new(&self.text, &settled));
        let mut chunks = Vec::new();
        let content = (!text.is_empty()).then_some(text);
        if content.is_some() || logprobs.is_some() || (self.mobile && end.is_none()) {
            let mobile = if end.is_none() { mobile.clone() } else { None };
            let delta = Delta { role: None, content };
            let choice = ChunkChoice { index, delta, logprobs, finish_reason: None, mobile };
            chunks.push(self.chunk(vec![choice], None));
        }
        if let Some(end) = end {
            self.usage.add(&end.statistics, index == 0);
            let (delta, finish_reason) = (Delta::default(), Some(end.reason));
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason, mobile };
            chunks.push(self.chunk(vec![choice], None));
        }
        chunks
    }

    fn close(&mut self) -> Vec<Chunk> {
        if self.include_usage { vec![self.chunk(Vec::new(), Some(self.usage.clone()))] } else { Vec::new() }
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
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 408, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody),
        (status = 504, body = ErrorBody),
    ),
)]
pub(crate) async fn chat(State(app): State<Shared>, Json(asked): Json<ChatRequest>) -> Result<Response, ApiError> {
    let limits = &app.config.limits;
    let model = asked.model.ok_or_else(|| ApiError::missing("model"))?;
    let messages = asked.messages.ok_or_else(|| ApiError::missing("messages"))?;
    let engine = app.ready(Some(&model))?.engine;
    let stream = asked.stream.unwrap_or(false);
    let include_usage = openai::include_usage(stream, asked.stream_options)?;
    let logprobs = asked.logprobs.unwrap_or(false);
    let top_logprobs = count("top_logprobs", asked.top_logprobs, 0, 0, 20)?;
    if asked.top_logprobs.is_some() && !logprobs {
        return Err(ApiError::invalid_value("top_logprobs", "needs logprobs: true"));
    }
    let max_tokens = match (asked.max_completion_tokens, asked.max_tokens) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_value("max_tokens", "give either max_completion_tokens or max_tokens"));
        }
        (None, Some(max)) => ("max_tokens", Some(max)),
        (max, None) => ("max_completion_tokens", max),
    };
    let options = Options {
        temperature: asked.temperature,
        top_p: asked.top_p,
        top_k: asked.top_k,
        min_p: asked.min_p,
        repetition_penalty: asked.repetition_penalty,
        seed: asked.seed,
        stop: asked.stop,
        policy: asked.policy,
        gamma: asked.gamma,
        max_tokens,
        logprobs: logprobs.then_some(top_logprobs),
    };
    let usual = Usual { temperature: 1.0, max_tokens: engine.info().context, policy: app.slot.policy() };
    let mut request = options.check(&usual, limits)?;
    let n = count("n", asked.n, 1, 1, limits.choices)?;
    let turns = openai::conversation(messages, limits)?;
    if !engine.text().has_template() {
        return Err(ApiError::no_template());
    }
    request.constraint = app.constrain(&engine, asked.response_format).await?;
    request.prompt = app.tokenize(&engine, move |engine| engine.text().encode_chat(&turns)).await?;
    let answers = answer::submit(&app, &engine, repeat(&request, n)).map_err(|e| e.renamed("prompt", "messages"))?;
    let (id, created, text) = (ids::new("chatcmpl-"), unix_seconds(), engine.text().clone());
    drop(engine);
    let mobile = asked.mobile.unwrap_or(false);
    if stream {
        let usage = Usage::default();
        let writer = Writer { id, created, model, text, n, logprobs, mobile, include_usage, usage };
        return Ok(events::respond(answers, writer));
    }
    let mut usage = Usage::default();
    let mut choices = Vec::with_capacity(n);
    for (index, whole) in answer::whole(answers).await?.into_iter().enumerate() {
        usage.add(&whole.end.statistics, index == 0);
        choices.push(ChatChoice {
            index,
            message: ChatMessage { role: "assistant", content: whole.text, refusal: None },
            logprobs: logprobs.then(|| ChatLogprobs::new(&text, &whole.settled)),
            finish_reason: whole.end.reason,
            mobile: mobile.then(|| MobileReport::new(whole.tokens, Some(&whole.end.statistics))),
        });
    }
    let (object, system_fingerprint) = ("chat.completion", openai::fingerprint());
    let response = ChatResponse { id, object, created, model, system_fingerprint, choices, usage };
    Ok(axum::Json(response).into_response())
}
