//! One request while it runs.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::draw::Drawn;
use super::request::{Control, Event, FinishReason, Finished, Job, Prefill, Request, Token};
use crate::constraint::Guide;
use crate::error::Error;
use crate::experts::Gone;
use crate::kv::KvCache;
use crate::policy::{Choice, Decision, Policy};
use crate::sampling::Sampling;
use crate::statistics::{Counters, Statistics, per_second};
use crate::text::TextStream;

/// A running request: its tokens, its cache and its counters.
pub(crate) struct Sequence {
    request: Request,
    control: Arc<Control>,
    events: mpsc::UnboundedSender<Event>,
    text: TextStream,
    guide: Option<Guide>,
    /// Prompt and answer. Once the prompt is read, all but the last are in the cache.
    tokens: Vec<u32>,
    pub(crate) cache: KvCache,
    cached_tokens: usize,
    /// Positions from the start that were computed with all experts without a gap.
    big_prefix: usize,
    seed: u64,
    pub(crate) counters: Counters,
    queued_seconds: f64,
    started: Instant,
    first_token: Option<Instant>,
    last_token: Instant,
    /// When a part of the prompt was last read, or the request came, in the scheduler's count.
    pub(crate) read_at: u64,
    /// Whether its prompt is read by itself, because it could not be read with others.
    pub(crate) alone: bool,
    /// Tells it from every other sequence.
    pub(crate) number: u64,
    pub(crate) finished: Option<FinishReason>,
    /// Why the answer cannot go on.
    failure: Option<Error>,
}

impl Sequence {
    /// `reused`: a cache that holds the beginning of the prompt, computed with all experts.
    pub(crate) fn start(job: Job, text: TextStream, reused: Option<KvCache>, empty: KvCache) -> Self {
        let Job { request, control, events, submitted, place } = job;
        drop(place);
        let now = Instant::now();
        let cache = reused.unwrap_or(empty);
        let cached_tokens = cache.len();
        // A receiver that is gone shows when the sequence is next looked at.
        let _ = events.send(Event::Started { prompt_tokens: request.prompt.len(), cached_tokens });
        Self {
            seed: request.sampling.seed.unwrap_or_else(random_seed),
            tokens: request.prompt.clone(),
            guide: request.constraint.as_ref().map(Guide::new),
            request,
            control,
            events,
            text,
            cache,
            cached_tokens,
            big_prefix: cached_tokens,
            counters: Counters::default(),
            queued_seconds: (now - submitted).as_secs_f64(),
            started: now,
            first_token: None,
            last_token: now,
            read_at: 0,
            alone: false,
            number: 0,
            finished: None,
            failure: None,
        }
    }

    /// Tokens of the prompt that are not in the cache yet.
    pub(crate) fn unread(&self) -> &[u32] {
        if self.first_token.is_some() { &[] } else { &self.tokens[self.cache.len()..] }
    }

    /// The token that the next decoding pass takes in.
    pub(crate) fn last(&self) -> &[u32] {
        &self.tokens[self.tokens.len() - 1..]
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(crate) fn sampling(&self) -> &Sampling {
        &self.request.sampling
    }

    /// What the next token may be, where the answer is constrained.
    pub(crate) fn guide(&self) -> Option<&Guide> {
        self.guide.as_ref()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether the token after the next can be drawn before the next is known, and will be wanted.
    pub(crate) fn looks_ahead(&self, context: usize) -> bool {
        let free = self.guide.is_none() && self.request.forced.is_none() && self.request.logprobs.is_none();
        let goes_on = self.generated() + 2 <= self.request.max_tokens && self.tokens.len() < context;
        free && goes_on && self.request.sampling.repetition_penalty == 1.0
    }

    pub(crate) fn policy(&self) -> Policy {
        self.control.policy()
    }

    pub(crate) fn reuses_prefix(&self) -> bool {
        self.request.reuse_prefix
    }

    /// The beginning that another request may reuse.
    pub(crate) fn reusable(&self) -> &[u32] {
        &self.tokens[..self.big_prefix.min(self.cache.len())]
    }

    pub(crate) fn prefill_choice(&self) -> Choice {
        match self.request.prefill {
            Prefill::All => Choice::All,
            Prefill::Half => Choice::Half { renormalize: false },
        }
    }

    /// How many of the most probable tokens to report; `None` when no probabilities are wanted.
    pub(crate) fn wants_logprobs(&self) -> Option<usize> {
        self.request.logprobs.or(self.request.forced.as_ref().map(|_| 0))
    }

    /// The token that must come next, whatever the model says.
    pub(crate) fn forced_token(&self) -> Option<u32> {
        self.request.forced.as_ref()?.get(self.generated()).copied()
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    pub(crate) fn abandoned(&self) -> bool {
        self.control.cancelled() || self.events.is_closed()
    }

    /// What says, also while a pass runs, whether nobody wants the answer any more. It holds up no one who waits for the
    /// last event.
    pub(crate) fn gone(&self) -> Gone {
        let (control, events) = (Arc::clone(&self.control), self.events.downgrade());
        Box::new(move || control.cancelled() || events.upgrade().is_none_or(|events| events.is_closed()))
    }

    /// Counts positions that prefill has written into the cache.
    pub(crate) fn note_prefill(&mut self, choice: Choice) {
        if choice == Choice::All {
            self.big_prefix = self.cache.len();
        }
    }

    /// Takes in a token and reports it; sets [`Sequence::finished`] when it is the last.
    pub(crate) fn accept(&mut self, drawn: Drawn, decision: Decision, end: &End<'_>) {
        // The pass that gave this token wrote the keys and values of the one before it.
        let written = self.cache.len();
        if decision != Decision::Little && self.big_prefix + 1 == written {
            self.big_prefix = written;
        }
        let now = Instant::now();
        let ms = (now - self.last_token).as_secs_f64() * 1e3;
        self.last_token = now;
        self.first_token.get_or_insert(now);
        self.counters.count_token(decision, drawn.confidence);

        self.tokens.push(drawn.token);
        let heeds_eos = self.guide.is_some() || (!self.request.ignore_eos && self.request.forced.is_none());
        let ends = heeds_eos && end.eos.contains(&drawn.token);
        let piece = if ends { crate::text::Piece::default() } else { self.text.push(drawn.token) };
        let forced_out = self.request.forced.as_ref().is_some_and(|f| self.generated() >= f.len());
        let complete = self.commit(drawn.token, ends);
        if ends || piece.stopped || complete {
            self.finished = Some(FinishReason::Stop);
        } else if forced_out || self.generated() >= self.request.max_tokens || self.tokens.len() > end.context {
            self.finished = Some(FinishReason::Length);
        }
        let token = Token {
            id: drawn.token,
            text: piece.text,
            decision,
            confidence: drawn.confidence,
            ms,
            predicted: drawn.predicted,
            logprob: drawn.logprob,
            top_logprobs: drawn.top_logprobs,
        };
        let _ = self.events.send(Event::Token(token));
    }

    /// Tells the constraint of a token that stands, and that ends the answer or not. True when nothing may follow.
    fn commit(&mut self, token: u32, ends: bool) -> bool {
        let Some(guide) = &mut self.guide else { return false };
        let committed = match guide.failure() {
            Some(error) => Err(error),
            None if ends => Ok(true),
            None => guide.commit(token),
        };
        committed.unwrap_or_else(|error| {
            self.failure = Some(error);
            true
        })
    }

    /// Sends the last event of a request that has come to its end.
    pub(crate) fn report(&mut self, reason: FinishReason, about: impl FnOnce(Figures) -> Statistics) {
        if let Some(error) = self.failure.take() {
            return self.fail(error);
        }
        let first = self.first_token.unwrap_or(self.last_token);
        let decoding = (self.last_token - first).as_secs_f64();
        let generated = self.generated();
        let figures = Figures {
            elapsed_seconds: self.started.elapsed().as_secs_f64(),
            tokens_generated: generated,
            tokens_per_second: per_second(generated.saturating_sub(1), decoding),
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.cached_tokens,
            prefill_seconds: (first - self.started).as_secs_f64(),
            queued_seconds: self.queued_seconds,
            policy: self.policy(),
            counters: self.counters.clone(),
        };
        let text = self.text.finish();
        let _ = self.events.send(Event::Finished(Box::new(Finished { reason, text, statistics: about(figures) })));
    }

    /// Sends the last event of a request that failed.
    pub(crate) fn fail(&self, error: Error) {
        let _ = self.events.send(Event::Failed(error));
    }
}

/// What ends an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) eos: &'a std::collections::BTreeSet<u32>,
    pub(crate) context: usize,
}

/// The figures a sequence knows of itself.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) elapsed_seconds: f64,
    pub(crate) tokens_generated: usize,
    pub(crate) tokens_per_second: f64,
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) prefill_seconds: f64,
    pub(crate) queued_seconds: f64,
    pub(crate) policy: Policy,
    pub(crate) counters: Counters,
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
