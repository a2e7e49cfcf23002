//! `POST /v1/completions`.

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
use crate::openai::{self, CompletionLogprobs, Head, MobileReport, StreamOptions, Usage, Wanted};
use crate::options::{Route, count, repeat};

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
    /// Answers to each prompt; 1 by default.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// What the stream carries besides.
    stream_options: Option<StreamOptions>,
    /// Report log probabilities, and those of this many of the most probable tokens.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
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
struct CompletionWriter {
    head: Head,
    /// Where in its text each answer is.
    offsets: Vec<usize>,
}

impl CompletionWriter {
    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Option<Usage>>) -> CompletionResponse {
        CompletionResponse {
            id: self.head.id.clone(),
            object: "text_completion",
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: openai::fingerprint(),
            choices,
            usage,
        }
    }
}

impl Writer for CompletionWriter {
    type Response = CompletionResponse;
    type Frame = CompletionResponse;

    fn whole(mut self, answers: Vec<Whole>) -> CompletionResponse {
        let mut choices = Vec::with_capacity(answers.len());
        for (index, Whole { text, tokens, settled, end }) in answers.into_iter().enumerate() {
            let head = &mut self.head;
            head.count(index, &end.statistics);
            let logprobs = head.wanted.logprobs.then(|| CompletionLogprobs::new(&head.text, &settled, &mut 0));
            let mobile = head.report(tokens, Some(&end.statistics));
            choices.push(CompletionChoice { index, text, logprobs, finish_reason: Some(end.reason), mobile });
        }
        let usage = self.head.usage.clone();
        self.response(choices, Some(Some(usage)))
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<CompletionResponse> {
        let Piece { text, token, settled, end } = piece;
        if let Some(end) = &end {
            self.head.count(index, &end.statistics);
        }
        let mobile = self.head.report(token, end.as_ref().map(|e| &e.statistics));
        if text.is_empty() && settled.is_empty() && end.is_none() && mobile.is_none() {
            return Vec::new();
        }
        let offset = &mut self.offsets[index];
        let logprobs = self.head.logprobs(&settled, |text, tokens| CompletionLogprobs::new(text, tokens, offset));
        let finish_reason = end.map(|e| e.reason);
        let choice = CompletionChoice { index, text, logprobs, finish_reason, mobile };
        vec![self.response(vec![choice], self.head.wanted.usage.then_some(None))]
    }

    fn close(&mut self) -> Vec<CompletionResponse> {
        if !self.head.wanted.usage {
            return Vec::new();
        }
        vec![self.response(Vec::new(), Some(Some(self.head.usage.clone())))]
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
        Refusals,
    ),
)]
pub(crate) async fn completions(
    State(app): State<Shared>,
    Json(asked, options): Json<CompletionRequest>,
) -> Result<Response, ApiError> {
    let limits = &app.config.limits;
    let model = asked.model.ok_or_else(|| ApiError::missing("model"))?;
    let prompts = asked.prompt.ok_or_else(|| ApiError::missing("prompt"))?.each();
    let engine = app.ready(Some(&model))?.engine;
    let stream = options.stream();
    let wanted = Wanted {
        n: count("n", asked.n, 1, 1, limits.choices)?,
        logprobs: asked.logprobs.is_some(),
        mobile: asked.mobile.unwrap_or(false),
        usage: openai::include_usage(stream, asked.stream_options)?,
    };
    let top = count("logprobs", asked.logprobs, 0, 0, 20)?;
    let choices = prompts.len() * wanted.n;
    if choices == 0 || choices > limits.choices {
        let why = format!("from 1 to {} prompts times n, found {choices}", limits.choices);
        return Err(ApiError::invalid_value("prompt", why));
    }
    let (asked_tokens, logprobs) = (("max_tokens", asked.max_tokens), wanted.logprobs.then_some(top));
    let route = Route { temperature: 1.0, max_tokens: MAX_TOKENS, asked_tokens, logprobs };
    let request = options.request(&app, &engine, route).await?;
    let mut requests = Vec::with_capacity(choices);
    for prompt in prompts {
        let mut request = request.clone();
        request.prompt = match prompt {
            One::Ids(ids) => ids,
            One::Text(text) => app.tokenize(&engine, move |engine| engine.text().encode(&text)).await?,
        };
        requests.extend(repeat(&request, wanted.n));
    }
    let answers = answer::submit(&app, &engine, requests)?;
    let head = Head::new("cmpl-", model, &engine, wanted);
    drop(engine);
    events::respond(answers, stream, CompletionWriter { head, offsets: vec![0; choices] }).await
}
