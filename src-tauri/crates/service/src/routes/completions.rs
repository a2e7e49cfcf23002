//! `POST /v1/completions`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answer::{Piece, Whole};
use crate::app::Shared;
use crate::error::{ApiError, Refusals};
use crate::events::{self, ServerSentEvent};
use crate::extract::{Body, Json};
use crate::openai::{self, Answers, Asked, Choices, CompletionLogprobs, Head, MobileReport, Offset, Response};
use crate::options::{Route, count, repeat};

/// Tokens of an answer whose length was not asked for; OpenAI's.
const MAX_TOKENS: usize = 16;

/// A text and how to continue it.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// A text, token ids, or several of either.
    #[schema(required, value_type = Prompt)]
    prompt: Option<Prompt>,
    /// Tokens of the answer at most; 16 by default.
    #[schema(minimum = 1, maximum = 32768)]
    max_tokens: Option<i64>,
    /// Report log probabilities, and those of this many of the most probable tokens.
    #[schema(minimum = 0, maximum = 20)]
    logprobs: Option<i64>,
}

impl Body for CompletionRequest {
    type Shared = Asked;

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

/// One answer; also a part of one, in a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`.
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile: Option<MobileReport>,
}

/// Writes the choices of a completion.
struct Texts {
    /// Where in its text each answer is.
    offsets: Vec<Offset>,
}

impl Choices for Texts {
    const PREFIX: &str = "cmpl-";
    const OBJECTS: [&str; 2] = ["text_completion"; 2];
    type Whole = CompletionChoice;
    type Delta = CompletionChoice;

    fn whole(head: &Head, index: usize, Whole { text, tokens, settled, end }: Whole) -> CompletionChoice {
        let logprobs =
            head.wanted.logprobs.then(|| CompletionLogprobs::new(&head.text, &settled, &mut Offset::default()));
        let mobile = head.report(tokens, Some(&end.statistics));
        CompletionChoice { index, text, logprobs, finish_reason: Some(end.reason), mobile }
    }

    fn piece(&mut self, head: &Head, index: usize, piece: Piece) -> Vec<CompletionChoice> {
        let Piece { text, token, settled, end } = piece;
        let mobile = head.report(token, end.as_ref().map(|e| &e.statistics));
        if text.is_empty() && settled.is_empty() && end.is_none() && mobile.is_none() {
            return Vec::new();
        }
        let offset = &mut self.offsets[index];
        let logprobs = head.logprobs(&settled, |text, tokens| CompletionLogprobs::new(text, tokens, offset));
        vec![CompletionChoice { index, text, logprobs, finish_reason: end.map(|e| e.reason), mobile }]
    }
}

/// Continue a text
///
/// As OpenAI's route of the same name: with `stream: true` as server-sent events. Fields that this service does not
/// have are refused by name. `user`, `metadata`, `safety_identifier` and `prompt_cache_key` change nothing.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "OpenAI",
    request_body = CompletionRequest,
    responses(
        (status = 200, content((Response<CompletionChoice> = "application/json"), (ServerSentEvent = "text/event-stream"))),
        Refusals,
    ),
)]
pub(crate) async fn completions(
    State(app): State<Shared>,
    Json(own, mut asked, options): Json<CompletionRequest>,
) -> Result<axum::response::Response, ApiError> {
    let limits = &app.config.limits;
    let model = asked.model()?;
    let prompts = own.prompt.ok_or_else(|| ApiError::missing("prompt"))?.each();
    let engine = app.ready(Some(&model))?.engine;
    let stream = options.stream();
    let wanted = asked.wanted(stream, own.logprobs.is_some(), limits)?;
    let top = count("logprobs", own.logprobs, 0, 0, 20)?;
    let choices = prompts.len() * wanted.n;
    if choices == 0 || choices > limits.choices {
        let why = format!("from 1 to {} prompts times n, found {choices}", limits.choices);
        return Err(ApiError::invalid_value("prompt", why));
    }
    let (asked_tokens, logprobs) = (("max_tokens", own.max_tokens), wanted.logprobs.then_some(top));
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
    let writer = Answers::new(model, &engine, wanted, Texts { offsets: vec![Offset::default(); choices] });
    events::respond(&app, engine, requests, stream, writer).await
}
