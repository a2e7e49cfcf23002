//! What the answers of both OpenAI routes begin with, and what is counted while they are written.

use mobile_engine::{Engine, Statistics, Text, Token};

use super::{MobileReport, StreamOptions, Usage};
use crate::clock::unix_seconds;
use crate::error::ApiError;
use crate::ids;

/// What a request asks of its answers besides their content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Answers to each prompt.
    pub(crate) n: usize,
    pub(crate) logprobs: bool,
    pub(crate) mobile: bool,
    /// End a stream with its usage.
    pub(crate) usage: bool,
}

/// What all parts of a response share.
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) text: Text,
    pub(crate) wanted: Wanted,
    pub(crate) usage: Usage,
}

impl Head {
    pub(crate) fn new(prefix: &str, model: String, engine: &Engine, wanted: Wanted) -> Self {
        let (id, created, text) = (ids::new(prefix), unix_seconds(), engine.text().clone());
        Self { id, created, model, text, wanted, usage: Usage::default() }
    }

    /// Counts an answer that has ended.
    pub(crate) fn count(&mut self, index: usize, statistics: &Statistics) {
        self.usage.add(statistics, index.is_multiple_of(self.wanted.n));
    }

    /// What MoBiLE did, where the request asks.
    pub(crate) fn report(
        &self,
        tokens: impl IntoIterator<Item = Token>,
        statistics: Option<&Statistics>,
    ) -> Option<MobileReport> {
        self.wanted.mobile.then(|| MobileReport::new(tokens, statistics))
    }

    /// The log probabilities of the tokens that have settled, where the request asks and there are any.
    pub(crate) fn logprobs<L>(&self, settled: &[Token], of: impl FnOnce(&Text, &[Token]) -> L) -> Option<L> {
        (self.wanted.logprobs && !settled.is_empty()).then(|| of(&self.text, settled))
    }
}

/// OpenAI's mark of what made an answer.
pub(crate) fn fingerprint() -> String {
    format!("mobile-{}", env!("CARGO_PKG_VERSION"))
}

/// Whether a stream ends with its usage.
pub(crate) fn include_usage(stream: bool, options: Option<StreamOptions>) -> Result<bool, ApiError> {
    let Some(options) = options else { return Ok(false) };
    if !stream {
        return Err(ApiError::invalid_value("stream_options", "only a stream has them: set stream"));
    }
    if options.include_obfuscation == Some(true) {
        return Err(ApiError::unsupported("stream_options.include_obfuscation", "streams are not padded"));
    }
    Ok(options.include_usage.unwrap_or(false))
}
