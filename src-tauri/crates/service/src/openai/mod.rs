//! The words of OpenAI's API.

mod asked;
mod fields;
mod format;
mod head;
mod logprobs;
mod messages;
mod response;

use mobile_engine::{Decision, Statistics, Token};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use asked::{Asked, Wanted};
pub(crate) use fields::refuse_unsupported;
pub(crate) use format::ResponseFormat;
pub(crate) use head::Head;
pub(crate) use logprobs::{ChatLogprobs, CompletionLogprobs, Offset};
pub(crate) use messages::{Message, conversation};
pub(crate) use response::{Answers, Choices, Response};

/// Tokens of a request.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokens,
}

/// Tokens of a prompt.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
struct PromptTokens {
    /// Those that need not be computed again.
    cached_tokens: usize,
}

impl Usage {
    /// Adds an answer. The answers to one prompt count it once: `first` says whether this is the first of them.
    pub(crate) fn add(&mut self, statistics: &Statistics, first: bool) {
        if first {
            self.prompt_tokens += statistics.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += statistics.cached_tokens;
        }
        self.completion_tokens += statistics.tokens_generated;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

/// What MoBiLE did, where a request asks with `mobile: true`.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct MobileReport {
    tokens: Vec<MobileToken>,
    /// The figures of the answer, at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    statistics: Option<Statistics>,
}

/// One token's way.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MobileToken {
    /// The token's id.
    id: u32,
    /// Text that became certain with it.
    text: String,
    /// `little`, `big` or `fallback`.
    #[schema(value_type = String)]
    decision: Decision,
    /// Largest probability of the first pass, compared with γ.
    confidence: f32,
    /// Milliseconds since the token before.
    ms: f64,
}

impl From<Token> for MobileToken {
    fn from(token: Token) -> Self {
        let Token { id, text, decision, confidence, ms, .. } = token;
        Self { id, text, decision, confidence, ms }
    }
}

impl MobileReport {
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>, statistics: Option<&Statistics>) -> Self {
        Self { tokens: tokens.into_iter().map(Into::into).collect(), statistics: statistics.cloned() }
    }
}
