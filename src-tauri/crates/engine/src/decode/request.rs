//! What goes into the engine and what comes out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::queue::Place;
use crate::constraint::Constraint;
use crate::error::{Error, Result};
use crate::policy::{Decision, Policy};
use crate::sampling::Sampling;
use crate::statistics::Statistics;

/// A prompt and how to continue it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids; at least one, at most the context.
    pub prompt: Vec<u32>,
    /// The answer's length at most.
    pub max_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Which experts decode; can be changed while running by [`Generation::set_policy`].
    pub policy: Policy,
    /// Which experts read the prompt.
    pub prefill: Prefill,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Go on past end-of-sequence tokens.
    pub ignore_eos: bool,
    /// Report each token's log probability and those of this many most probable tokens.
    pub logprobs: Option<usize>,
    /// Instead of drawing, take these tokens one after the other and report their log probabilities.
    pub forced: Option<Vec<u32>>,
    /// What the answer must be. The end of sequence is then drawn only where the answer may end, and ends it always.
    pub constraint: Option<Constraint>,
    /// Use, and leave behind, keys and values of a shared beginning.
    pub reuse_prefix: bool,
}

impl Request {
    /// Greedy decoding under the default policy.
    #[must_use]
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            sampling: Sampling::default(),
            policy: Policy::default(),
            prefill: Prefill::default(),
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            forced: None,
            constraint: None,
            reuse_prefix: true,
        }
    }
}

/// Which experts read the prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefill {
    /// All K: prompt tokens are never halved.
    #[default]
    All,
    /// ⌊K/2⌋, to compare with an implementation whose whole model has half of the experts.
    Half,
}

/// What a running request reports.
#[derive(Debug)]
pub enum Event {
    /// The request's turn has come.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Prompt tokens that need not be computed again.
        cached_tokens: usize,
    },
    /// One more token.
    Token(Token),
    /// The last event of a request that went well or was cancelled.
    Finished(Box<Finished>),
    /// The last event of a request that failed.
    Failed(Error),
}

/// One token of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    /// The id.
    pub id: u32,
    /// Text that became certain with this token; may be empty, or end a character that earlier tokens began.
    pub text: String,
    /// How the token came about.
    pub decision: Decision,
    /// Largest softmax probability of the first pass, at temperature 1 and before any filter.
    pub confidence: f32,
    /// Milliseconds since the token before.
    pub ms: f64,
    /// The most probable token, where the request forces or reports probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<u32>,
    /// Natural logarithm of this token's probability at temperature 1, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f32>,
    /// The most probable tokens in falling order, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<Logprob>,
}

/// A token and the natural logarithm of its probability at temperature 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Logprob {
    /// The token.
    pub id: u32,
    /// ln p.
    pub logprob: f32,
}

/// The end of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finished {
    /// Why it ended.
    pub reason: FinishReason,
    /// Text held back until now.
    pub text: String,
    /// The figures.
    pub statistics: Statistics,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-sequence token, a stop string, or the end of what a constraint allows.
    Stop,
    /// The token limit, the context's end, or the end of the forced tokens.
    Length,
    /// The request was cancelled.
    Cancelled,
}

/// What can be said to a running request.
#[derive(Debug)]
pub(crate) struct Control {
    cancelled: AtomicBool,
    policy: Mutex<Policy>,
}

impl Control {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { cancelled: AtomicBool::new(false), policy: Mutex::new(policy) }
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn policy(&self) -> Policy {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way to the engine's thread.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) control: Arc<Control>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) submitted: std::time::Instant,
    /// In the queue, until the request's turn comes.
    pub(crate) place: Place,
}

impl Job {
    /// Whether nobody wants the answer any more.
    pub(crate) fn abandoned(&self) -> bool {
        self.control.cancelled() || self.events.is_closed()
    }
}

/// A request that runs or waits. Dropping it cancels the request within one token.
#[derive(Debug)]
pub struct Generation {
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) control: Arc<Control>,
    pub(crate) top_k: usize,
}

impl Generation {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// As [`Generation::next`], for threads outside an async runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// Ends the request after the token it is at; a [`Event::Finished`] still follows.
    pub fn cancel(&self) {
        self.control.cancelled.store(true, Ordering::Relaxed);
    }

    /// Decodes from the next token on by another policy.
    ///
    /// # Errors
    /// As [`Policy::check`].
    pub fn set_policy(&self, policy: Policy) -> Result<()> {
        policy.check(self.top_k)?;
        *self.control.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
        Ok(())
    }

    /// A handle that can cancel and change the policy from elsewhere.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote { control: Arc::clone(&self.control), top_k: self.top_k }
    }

    /// Waits for the end; gives the tokens and how it ended.
    ///
    /// # Errors
    /// The error of a failed request, [`Error::Closed`] when the engine went away.
    pub fn wait(mut self) -> Result<(Vec<Token>, Finished)> {
        let mut tokens = Vec::new();
        while let Some(event) = self.blocking_next() {
            match event {
                Event::Started { .. } => {}
                Event::Token(token) => tokens.push(token),
                Event::Finished(finished) => return Ok((tokens, *finished)),
                Event::Failed(error) => return Err(error),
            }
        }
        Err(Error::Closed)
    }
}

/// Speaks to a running request without receiving its events.
#[derive(Debug, Clone)]
pub struct Remote {
    control: Arc<Control>,
    top_k: usize,
}

impl Remote {
    /// As [`Generation::cancel`].
    pub fn cancel(&self) {
        self.control.cancelled.store(true, Ordering::Relaxed);
    }

    /// As [`Generation::set_policy`].
    ///
    /// # Errors
    /// As [`Policy::check`].
    pub fn set_policy(&self, policy: Policy) -> Result<()> {
        policy.check(self.top_k)?;
        *self.control.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
        Ok(())
    }
}
