//! `POST /v1/completions`.

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
use crate::openai::{self, CompletionLogprobs, MobileReport, ResponseFormat, StreamOptions, Usage};
use crate::options::{Options, PolicyField, Stop, Usual, count, repeat};

/// Tokens of an answer whose length was not asked for; OpenAI's.
const MAX_TOKENS: usize = 16;

/// A text and how to continue it.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The model that must answer, as `/v1/models` names it.
    #[schema(required, value_type = String)]
    model: Option<String>,
    /// A text, token ids, or several of either.
    #[schema(required, value_type = Prompt)]
    prompt: Option<Prompt>,
    /// Tokens of the answer at most; 16 by default.
    #[schema(minimum = 1, maximum = 32768)]
    max_tokens: Option<i64>,
    /// 1 by default; 0 takes the most probable token.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Draw from the most probable tokens that together reach this probability.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Answers to each prompt; 1 by default.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// Makes the draws repeatable.
    seed: Option<i64>,
    /// Texts that end the answer and are not part of it.
    stop: Option<Stop>,
    /// Extension: what the answer must be: text, a JSON object, or JSON that follows a schema.
    response_format: Option<ResponseFormat>,
    /// Answer piece by piece, as server-sent events.
    stream: Option<bool>,
    /// What the stream carries besides.
    stream_options: Option<StreamOptions>,
    /// Report log probabilities, and those of this many of the most probable tokens.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
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

impl Body for CompletionRequest {
    fn prepare(fields: &mut Map<String, Value>) -> Result<(), ApiError> {
        openai::refuse_unsupported(fields)
    }
}

/// What to continue.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a text, token ids, or a list of either")]
pub(crate) enum Prompt {
    /// A text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// Several lists of token ids.
    ManyIds(Vec<Vec<u32>>),
}

enum One {
    Text(String),
    Ids(Vec<u32>),
}

impl Prompt {
    fn each(self) -> Vec<One> {
        match self {
            Self::Text(text) => vec![One::Text(text)],
            Self::Ids(ids) => vec![One::Ids(ids)],
            Self::Texts(texts) => texts.into_iter().map(One::Text).collect(),
            Self::ManyIds(lists) => lists.into_iter().map(One::Ids).collect(),
        }
    }
}

/// The answers; also one chunk of a stream of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionResponse {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<CompletionChoice>,
    /// In a stream absent unless asked for; then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<Usage>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`.
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<MobileReport>,
}

/// Writes responses and chunks.
struct Writer {
    id: String,
    created: u64,
    model: String,
    text: Text,
    /// Answers to each prompt.
    n: usize,
    logprobs: bool,
    mobile: bool,
    include_usage: bool,
    usage: Usage,
    /// Where in its text each answer is.
    offsets: Vec<usize>,
}

impl Writer {
    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Option<Usage>>) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: openai::fingerprint(),
            choices,
            usage,
        }
    }
}

impl Frames for Writer {
    type Frame = CompletionResponse;

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<CompletionResponse> {
        let Piece { text, token, settled, end } = piece;
        if let Some(end) = &end {
            self.usage.add(&end.statistics, index.is_multiple_of(self.n));
        }
        if text.is_empty() && settled.is_empty() && end.is_none() && !self.mobile {
            return Vec::new();
        }
        let statistics = end.as_ref().map(|e| &e.statistics);
        let mobile = self.mobile.then(|| MobileReport::new(token, statistics));
        let offset = &mut self.offsets[index];
        let logprobs =
            (self.logprobs && !settled.is_empty()).then(|| CompletionLogprobs::new(&self.text, &settled, offset));
        let finish_reason = end.map(|e| e.reason);
        let choice = CompletionChoice { index, text, logprobs, finish_reason, mobile };
        vec![self.response(vec![choice], self.include_usage.then_some(None))]
    }

    fn close(&mut self) -> Vec<CompletionResponse> {
        if !self.include_usage {
            return Vec::new();
        }
        vec![self.response(Vec::new(), Some(Some(self.usage.clone())))]
    }
}

/// Continue a text
///
/// As OpenAI's route of the same name: with `stream: true` as server-sent events. Fields that this service does not
/// have are refused by name. `user` and `metadata` change nothing.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "OpenAI",
    request_body = CompletionRequest,
    responses(
        (status = 200, content((CompletionResponse = "application/json"), (ServerSentEvent = "text/event-stream"))),
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
pub(crate) async fn completions(
    State(app): State<Shared>,
    Json(asked): Json<CompletionRequest>,
) -> Result<Response, ApiError> {
    let limits = &app.config.limits;
    let model = asked.model.ok_or_else(|| ApiError::missing("model"))?;
    let prompts = asked.prompt.ok_or_else(|| ApiError::missing("prompt"))?.each();
    let engine = app.ready(Some(&model))?.engine;
    let stream = asked.stream.unwrap_or(false);
    let include_usage = openai::include_usage(stream, asked.stream_options)?;
    let top = count("logprobs", asked.logprobs, 0, 0, 20)?;
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
        logprobs: asked.logprobs.is_some().then_some(top),
    };
    let usual = Usual { temperature: 1.0, max_tokens: MAX_TOKENS, policy: app.slot.policy() };
    let mut request = options.check(&usual, limits)?;
    let n = count("n", asked.n, 1, 1, limits.choices)?;
    if prompts.is_empty() || prompts.len() * n > limits.choices {
        let why = format!("from 1 to {} prompts times n, found {}", limits.choices, prompts.len() * n);
        return Err(ApiError::invalid_value("prompt", why));
    }
    request.constraint = app.constrain(&engine, asked.response_format).await?;
    let mut requests = Vec::with_capacity(prompts.len() * n);
    for prompt in prompts {
        let mut request = request.clone();
        request.prompt = match prompt {
            One::Ids(ids) => ids,
            One::Text(text) => app.tokenize(&engine, move |engine| engine.text().encode(&text)).await?,
        };
        requests.extend(repeat(&request, n));
    }
    let offsets = vec![0; requests.len()];
    let answers = answer::submit(&app, &engine, requests)?;
    let (id, created, text) = (ids::new("cmpl-"), unix_seconds(), engine.text().clone());
    drop(engine);
    let (logprobs, mobile, usage) = (asked.logprobs.is_some(), asked.mobile.unwrap_or(false), Usage::default());
    let mut writer = Writer { id, created, model, text, n, logprobs, mobile, include_usage, usage, offsets };
    if stream {
        return Ok(events::respond(answers, writer));
    }
    let mut choices = Vec::with_capacity(answers.len());
    for (index, whole) in answer::whole(answers).await?.into_iter().enumerate() {
        writer.usage.add(&whole.end.statistics, index.is_multiple_of(n));
        let logprobs = logprobs.then(|| CompletionLogprobs::new(&writer.text, &whole.settled, &mut 0));
        let mobile = mobile.then(|| MobileReport::new(whole.tokens, Some(&whole.end.statistics)));
        let finish_reason = Some(whole.end.reason);
        choices.push(CompletionChoice { index, text: whole.text, logprobs, finish_reason, mobile });
    }
    let usage = writer.usage.clone();
    Ok(axum::Json(writer.response(choices, Some(Some(usage)))).into_response())
}
