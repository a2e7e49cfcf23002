//! `POST /generate`: a prompt in, a text and its figures out.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use mobile_engine::{Message, Statistics};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{self, Piece};
use crate::app::Shared;
use crate::error::{ApiError, ErrorBody};
use crate::events::{self, Frames, ServerSentEvent};
use crate::extract::{Body, Json};
use crate::openai::{MobileToken, ResponseFormat};
use crate::options::{Options, PolicyField, Stop, Usual};

/// Tokens of an answer whose length was not asked for.
const MAX_TOKENS: usize = 256;

/// What to write.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct GenerateRequest {
    /// What the user says. It goes through the model's chat template, where there is one, unless `raw` is set.
    #[schema(required, value_type = String, min_length = 1)]
    prompt: Option<String>,
    /// Tokens of the answer at most; 256 by default.
    #[schema(minimum = 1, maximum = 32768)]
    max_tokens: Option<i64>,
    /// 0, the default, takes the most probable token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Draw from the most probable tokens that together reach this probability.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Draw from this many of the most probable tokens; 0 is all.
    #[schema(minimum = 0, maximum = 2147483647)]
    top_k: Option<i64>,
    /// Draw from the tokens at least this probable in proportion to the most probable one.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Above 1, tokens that were seen already become less probable.
    #[schema(minimum = 0.01, maximum = 10)]
    repetition_penalty: Option<f64>,
    /// Makes the draws repeatable.
    seed: Option<i64>,
    /// Texts that end the answer and are not part of it.
    stop: Option<Stop>,
    /// What the answer must be: text, a JSON object, or JSON that follows a schema.
    response_format: Option<ResponseFormat>,
    /// Which experts decode; the owner's choice by default.
    policy: Option<PolicyField>,
    /// The threshold γ of `mobile` and `auto`.
    #[schema(minimum = 0, maximum = 2)]
    gamma: Option<f32>,
    /// The model that must answer; any by default.
    model: Option<String>,
    /// Answer piece by piece, as server-sent events.
    stream: Option<bool>,
    /// Take the prompt as it stands, without the chat template.
    raw: Option<bool>,
}

impl Body for GenerateRequest {}

/// What was written.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GenerateResponse {
    text: String,
    #[schema(value_type = GenerateStats)]
    stats: Stats,
    /// `success`; everything else has an HTTP status and an `error`.
    status: &'static str,
    /// `stop` or `length`.
    finish_reason: &'static str,
}

/// The engine's figures, with the one that the gateway reads by another name.
#[derive(Debug, Serialize)]
struct Stats {
    #[serde(flatten)]
    statistics: Statistics,
    cache_hits: u64,
}

impl From<Statistics> for Stats {
    fn from(statistics: Statistics) -> Self {
        Self { cache_hits: statistics.counters.expert_cache.hits, statistics }
    }
}

/// Figures of an answer; there may be more than these.
#[derive(ToSchema)]
#[allow(dead_code)]
struct GenerateStats {
    /// From the request's turn to its last token.
    elapsed_seconds: f64,
    tokens_generated: u64,
    /// Tokens after the first, over the time since the first.
    tokens_per_second: f64,
    /// `cpu` or `gpu`.
    device: String,
    model: String,
    /// Tokens decoded: the important and the unimportant ones.
    tokens_processed: u64,
    /// Tokens computed with all experts.
    important_tokens: u64,
    /// Tokens that half of the experts decided.
    unimportant_tokens: u64,
    /// Important tokens that half of the experts had been tried for first.
    fallbacks: u64,
    /// Experts found in memory, where they are streamed.
    cache_hits: u64,
}

/// One event of a stream.
#[derive(Debug, Serialize)]
struct Frame {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<MobileToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
    /// `generating`, then `success`.
    status: &'static str,
}

struct Writer;

impl Frames for Writer {
    type Frame = Frame;

    fn piece(&mut self, _: usize, piece: Piece) -> Vec<Frame> {
        let status = if piece.end.is_some() { "success" } else { "generating" };
        let (finish_reason, stats) = piece.end.map(|end| (end.reason, end.statistics.into())).unzip();
        vec![Frame { text: piece.text, token: piece.token.map(Into::into), stats, finish_reason, status }]
    }
}

/// Continue a prompt
///
/// With `stream: true` the answer comes as server-sent events: each has `text` and the `token` with MoBiLE's decision,
/// the last has `stats` and `status: "success"`, and `[DONE]` follows.
#[utoipa::path(
    post,
    path = "/generate",
    tag = "MoBiLE",
    request_body = GenerateRequest,
    responses(
        (status = 200, content((GenerateResponse = "application/json"), (ServerSentEvent = "text/event-stream"))),
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
pub(crate) async fn generate(
    State(app): State<Shared>,
    Json(asked): Json<GenerateRequest>,
) -> Result<Response, ApiError> {
    let prompt = asked.prompt.ok_or_else(|| ApiError::missing("prompt"))?;
    let engine = app.ready(asked.model.as_deref())?.engine;
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
        max_tokens: ("max_tokens", asked.max_tokens),
        logprobs: None,
    };
    let usual = Usual { temperature: 0.0, max_tokens: MAX_TOKENS, policy: app.slot.policy() };
    let mut request = options.check(&usual, &app.config.limits)?;
    if prompt.is_empty() {
        return Err(mobile_engine::Error::EmptyPrompt.into());
    }
    request.constraint = app.constrain(&engine, asked.response_format).await?;
    let raw = asked.raw.unwrap_or(false) || !engine.text().has_template();
    request.prompt = app
        .tokenize(&engine, move |engine| match raw {
            true => engine.text().encode(&prompt),
            false => engine.text().encode_chat(&[Message::new("user", prompt)]),
        })
        .await
        .map_err(|e| e.renamed("messages", "prompt"))?;
    let mut answers = answer::submit(&app, &engine, vec![request])?;
    drop(engine);
    if asked.stream.unwrap_or(false) {
        return Ok(events::respond(answers, Writer));
    }
    let Some(answer) = answers.pop() else { return Err(ApiError::internal()) };
    let whole = answer.whole().await?;
    let (text, finish_reason) = (whole.text, whole.end.reason);
    let response = GenerateResponse { text, stats: whole.end.statistics.into(), status: "success", finish_reason };
    Ok(axum::Json(response).into_response())
}
