//! What the answers of both OpenAI routes begin with, and what is counted while they are written.

use mobile_engine::{Engine, Statistics, Text, Token};

use super::{MobileReport, Usage, Wanted};
use crate::clock::unix_seconds;
use crate::ids;

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
