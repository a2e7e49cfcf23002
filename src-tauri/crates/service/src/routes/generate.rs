//! `POST /generate`: a prompt in, a text and its figures out.

use axum::extract::State;
use axum::response::Response;
use mobile_engine::{Message, Statistics};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::{Piece, Whole};
use crate::app::Shared;
use crate::error::{ApiError, Refusals};
use crate::events::{self, ServerSentEvent, Writer};
use crate::extract::{Body, Json};
use crate::openai::MobileToken;
use crate::options::Route;

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
    /// The model that must answer; any by default.
    model: Option<String>,
    /// Take the prompt as it stands, without the chat template.
    raw: Option<bool>,
}

impl Body for GenerateRequest {
    type Shared = Unshared;
}

/// No fields.
#[derive(Debug, Deserialize)]
pub(crate) struct Unshared {}

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

/// Writes the one answer.
struct One;

impl Writer for One {
    type Response = Option<GenerateResponse>;
    type Frame = Frame;

    fn whole(self, answers: Vec<Whole>) -> Option<GenerateResponse> {
        let Whole { text, end, .. } = answers.into_iter().next()?;
        let (stats, finish_reason) = (end.statistics.into(), end.reason);
        Some(GenerateResponse { text, stats, status: "success", finish_reason })
    }

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
        Refusals,
    ),
)]
pub(crate) async fn generate(
    State(app): State<Shared>,
    Json(asked, _, options): Json<GenerateRequest>,
) -> Result<Response, ApiError> {
    let prompt = asked.prompt.ok_or_else(|| ApiError::missing("prompt"))?;
    let engine = app.ready(asked.model.as_deref())?.engine;
    if prompt.is_empty() {
        return Err(mobile_engine::Error::EmptyPrompt.into());
    }
    let stream = options.stream();
    let asked_tokens = ("max_tokens", asked.max_tokens);
    let route = Route { temperature: 0.0, max_tokens: MAX_TOKENS, asked_tokens, logprobs: None };
    let mut request = options.request(&app, &engine, route).await?;
    let raw = asked.raw.unwrap_or(false) || !engine.text().has_template();
    request.prompt = app
        .tokenize(&engine, move |engine| match raw {
            true => engine.text().encode(&prompt),
            false => engine.text().encode_chat(&[Message::new("user", prompt)]),
        })
        .await
        .map_err(|e| e.renamed("messages", "prompt"))?;
    events::respond(&app, engine, vec![request], stream, One).await
}
