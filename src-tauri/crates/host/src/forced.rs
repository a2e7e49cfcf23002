//! Teacher forcing: the text is known, the policy decodes it token by token, and what it thought of each is counted.

use mobile_engine::{
    CONFIDENCE_BINS, Decision, Engine, Error, Event, FinishReason, Generation, Policy, Prefill, Request, Token,
};

use crate::items::Item;

/// What the big model thought of each token of each item: its favourite, and ln p of the token itself.
pub type Baseline = Vec<Vec<(u32, f32)>>;

/// How items are decoded.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Which experts read the prompt.
    pub prefill: Prefill,
    /// Items decoded together.
    pub batch: usize,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// What the engine refused.
    #[error(transparent)]
    Engine(#[from] Error),
    /// A text that holds too little.
    #[error("the text has {tokens} tokens; it needs {needed} at least")]
    ShortText {
        /// Its tokens.
        tokens: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A forced token came back without what the policy thought of it.
    #[error("the engine reported a forced token without its probability")]
    NoProbability,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Tokens predicted.
    pub tokens: u64,
    nll: f64,
    correct: u64,
    fallbacks: u64,
    experts_computed: u64,
    experts_full: u64,
    items: u64,
    exact: u64,
    /// Tokens that the baseline has too, how many agree, and sum and sum of squares of what −ln p gained over them.
    compared: u64,
    agreed: u64,
    growth: f64,
    growth_squares: f64,
    /// How confident the passes with fewer experts were, in bins of equal width from 0 to 1.
    pub confidences: [u64; CONFIDENCE_BINS],
    /// Where it was ended early, items may be missing or cut short.
    pub complete: bool,
    /// What the policy thought of each token, for others to be compared with.
    pub thoughts: Baseline,
}

impl Measured {
    /// Perplexity of what was predicted.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        (self.nll / self.tokens as f64).exp()
    }

    /// Perplexity in proportion to the baseline's on the same tokens.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        (self.growth / self.compared as f64).exp()
    }

    /// Standard error of [`Measured::ratio`], as if tokens were independent.
    #[must_use]
    pub fn ratio_error(&self) -> f64 {
        let n = self.compared as f64;
        let variance = (self.growth_squares - self.growth * self.growth / n).max(0.0) / (n - 1.0).max(1.0);
        self.ratio() * (variance / n).sqrt()
    }

    /// Share of tokens that the policy would have chosen itself.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.tokens as f64
    }

    /// Share of tokens where the policy's favourite is the baseline's.
    #[must_use]
    pub fn agreement(&self) -> f64 {
        self.agreed as f64 / self.compared as f64
    }

    /// Share of tokens that were computed twice.
    #[must_use]
    pub fn fallback_rate(&self) -> f64 {
        self.fallbacks as f64 / self.tokens as f64
    }

    /// Experts computed in proportion to what decoding plainly takes.
    #[must_use]
    pub fn experts_used(&self) -> f64 {
        self.experts_computed as f64 / self.experts_full as f64
    }

    /// Share of items that greedy decoding would have written exactly as they stand.
    #[must_use]
    pub fn exact(&self) -> f64 {
        self.exact as f64 / self.items as f64
    }

    /// Compares the measurement with itself.
    pub fn is_baseline(&mut self) {
        (self.compared, self.agreed) = (self.tokens, self.tokens);
    }

    fn count(&mut self, token: &Token, baseline: Option<&(u32, f32)>) -> Result<(u32, f32), MeasureError> {
        let (Some(predicted), Some(logprob)) = (token.predicted, token.logprob) else {
            return Err(MeasureError::NoProbability);
        };
        if token.decision != Decision::Big {
            let bin = (token.confidence * CONFIDENCE_BINS as f32) as usize;
            self.confidences[bin.min(CONFIDENCE_BINS - 1)] += 1;
        }
        self.tokens += 1;
        self.nll -= f64::from(logprob);
        self.correct += u64::from(predicted == token.id);
        if let Some((favourite, ln_p)) = baseline {
            self.compared += 1;
            self.agreed += u64::from(predicted == *favourite);
            let growth = f64::from(*ln_p) - f64::from(logprob);
            self.growth += growth;
            self.growth_squares += growth * growth;
        }
        Ok((predicted, logprob))
    }
}

struct Running {
    item: usize,
    generation: Generation,
    exact: bool,
}

/// Decodes the items by `policy`. `go_on` is told of the tokens so far, and its `false` ends it early with what has been
/// counted.
///
/// # Errors
/// [`MeasureError::Engine`], [`MeasureError::NoProbability`].
pub fn measure(
    engine: &Engine,
    items: &[Item],
    policy: Policy,
    setting: Setting,
    baseline: Option<&Baseline>,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Measured, MeasureError> {
    let mut measured = Measured { thoughts: vec![Vec::new(); items.len()], complete: true, ..Measured::default() };
    let mut waiting = items.iter().enumerate();
    let mut running: Vec<Running> = Vec::new();
    loop {
        if measured.complete && !go_on(measured.tokens) {
            measured.complete = false;
            running.iter().for_each(|r| r.generation.cancel());
        }
        while measured.complete && running.len() < setting.batch {
            let Some((item, wanted)) = waiting.next() else { break };
            let request = Request {
                policy,
                prefill: setting.prefill,
                forced: Some(wanted.forced.clone()),
                reuse_prefix: false,
                ..Request::new(wanted.prompt.clone(), wanted.forced.len())
            };
            let generation = engine.submit(request)?;
            running.push(Running { item, generation, exact: true });
        }
        if running.is_empty() {
            return Ok(measured);
        }
        // One event of each: they are decoded in step, so nobody waits long for another.
        let mut at = 0;
        while at < running.len() {
            let one = &mut running[at];
            match one.generation.blocking_next() {
                Some(Event::Started { .. }) => {}
                Some(Event::Token(token)) => {
                    let position = measured.thoughts[one.item].len();
                    let known = baseline.and_then(|b| b.get(one.item)?.get(position));
                    let thought = measured.count(&token, known)?;
                    measured.thoughts[one.item].push(thought);
                    one.exact &= token.predicted == Some(token.id);
                }
                Some(Event::Finished(finished)) => {
                    let counters = &finished.statistics.counters;
                    measured.fallbacks += counters.fallbacks;
                    measured.experts_computed += counters.experts_computed;
                    measured.experts_full += counters.experts_full;
                    if finished.reason == FinishReason::Length {
                        measured.items += 1;
                        measured.exact += u64::from(one.exact);
                    }
                    running.swap_remove(at);
                    continue;
                }
                Some(Event::Failed(error)) => return Err(error.into()),
                None => return Err(Error::Closed.into()),
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, predicted: u32, p: f32) -> Token {
        let text = String::new();
        let (predicted, logprob) = (Some(predicted), Some(p.ln()));
        Token { id, text, decision: Decision::Little, confidence: p, ms: 1.0, predicted, logprob, top_logprobs: vec![] }
    }

    #[test]
    fn perplexity_accuracy_and_agreement() {
        let mut measured = Measured::default();
        let baseline = [(1, 0.5_f32.ln()), (2, 0.5_f32.ln())];
        measured.count(&token(1, 1, 0.25), baseline.first()).expect("counted");
        measured.count(&token(2, 1, 0.25), baseline.get(1)).expect("counted");
        measured.count(&token(3, 3, 0.25), None).expect("counted");
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(measured.perplexity(), 4.0) && near(measured.accuracy(), 2.0 / 3.0));
        assert_eq!(measured.confidences[5], 3);
        // The third token is unknown to the baseline and left out of the comparison.
        assert!(near(measured.ratio(), 2.0) && near(measured.agreement(), 0.5) && near(measured.ratio_error(), 0.0));
    }

    #[test]
    fn the_error_of_the_ratio_falls_with_the_tokens() {
        let error = |repeats: usize| {
            let mut measured = Measured::default();
            for p in [0.5, 0.25].repeat(repeats) {
                measured.count(&token(1, 1, p), Some(&(1, 0.4_f32.ln()))).expect("counted");
            }
            measured.ratio_error()
        };
        assert!(error(1) > 1.9 * error(4) && error(4) > 0.0);
    }
}
