//! What happened, as counters. The same counters serve one generation and the engine as a whole.

mod usage;

use serde::Serialize;

use crate::policy::Decision;
pub(crate) use usage::Watches;
pub use usage::{ExpertUse, ExpertWatch};

/// Bins of the confidence histogram, each 0.05 wide.
pub const CONFIDENCE_BINS: usize = 20;

/// Counters of decoded tokens. `tokens_processed` is always `important_tokens + unimportant_tokens`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counters {
    /// Tokens generated.
    pub tokens_processed: u64,
    /// Tokens computed with all K experts: decoded plainly, or after a fallback.
    pub important_tokens: u64,
    /// Tokens that fewer experts decided.
    pub unimportant_tokens: u64,
    /// Important tokens that a little pass had been tried for first.
    pub fallbacks: u64,
    /// Expert evaluations (one expert of one layer for one token) while decoding, both passes of a fallback included.
    pub experts_computed: u64,
    /// Expert evaluations that decoding the same tokens with all K experts takes.
    pub experts_full: u64,
    /// Passes with all K experts and their time.
    pub big_passes: Passes,
    /// Passes with fewer experts and their time.
    pub little_passes: Passes,
    /// How confident the first pass of each token was; see [`CONFIDENCE_BINS`].
    pub confidence_histogram: [u64; CONFIDENCE_BINS],
    /// Experts found in memory and fetched while decoding; zero while all experts are resident.
    pub expert_cache: ExpertCache,
    /// The same while reading prompts.
    pub prefill_expert_cache: ExpertCache,
}

/// Rows that went through passes of one kind, and the time of the passes, shared out evenly among their rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Passes {
    /// Rows (tokens) computed.
    pub rows: u64,
    /// Seconds.
    pub seconds: f64,
}

/// Experts fetched ahead of need, for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Prefetch {
    /// Experts asked for.
    pub issued: u64,
    /// Of those, experts that were there when they were wanted.
    pub useful: u64,
    /// Of those, experts still on their way when they were wanted.
    pub late: u64,
    /// Bytes fetched and overwritten before they were wanted.
    pub wasted_bytes: u64,
}

impl Prefetch {
    fn zip(&mut self, other: &Self, count: impl Fn(u64, u64) -> u64) {
        let Self { issued, useful, late, wasted_bytes } = self;
        *issued = count(*issued, other.issued);
        *useful = count(*useful, other.useful);
        *late = count(*late, other.late);
        *wasted_bytes = count(*wasted_bytes, other.wasted_bytes);
    }
}

/// Counters of streamed experts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ExpertCache {
    /// Experts wanted and found in memory; one that several rows of a pass want counts once.
    pub hits: u64,
    /// Experts wanted and not there yet.
    pub misses: u64,
    /// Fetched when a token falls back: what the little pass left out, in all layers.
    pub fallback_prefetch: Prefetch,
    /// Fetched while a layer is computed: what the next layer's router makes of that layer's input.
    pub look_ahead: Prefetch,
    /// Bytes fetched.
    pub bytes_read: u64,
    /// Seconds that passes waited for experts.
    pub wait_seconds: f64,
}

impl ExpertCache {
    /// Applies `change` to each counter and the one of the same name in `other`.
    fn zip(&mut self, other: &Self, count: impl Fn(u64, u64) -> u64, time: impl Fn(f64, f64) -> f64) {
        let Self { hits, misses, fallback_prefetch, look_ahead, bytes_read, wait_seconds } = self;
        *hits = count(*hits, other.hits);
        *misses = count(*misses, other.misses);
        fallback_prefetch.zip(&other.fallback_prefetch, &count);
        look_ahead.zip(&other.look_ahead, &count);
        *bytes_read = count(*bytes_read, other.bytes_read);
        *wait_seconds = time(*wait_seconds, other.wait_seconds);
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.zip(other, |a, b| a + b, |a, b| a + b);
    }

    /// What was counted since `earlier`, for one of `rows` that share it: rows before `row` take what cannot be divided.
    pub(crate) fn share_since(mut self, earlier: &Self, row: usize, rows: usize) -> Self {
        let (row, rows) = (row as u64, rows.max(1) as u64);
        self.zip(
            earlier,
            |a, b| {
                let all = a - b;
                all / rows + u64::from(row < all % rows)
            },
            |a, b| (a - b) / rows as f64,
        );
        self
    }
}

impl Passes {
    pub(crate) fn add(&mut self, rows: u64, seconds: f64) {
        self.rows += rows;
        self.seconds += seconds;
    }
}

impl Counters {
    /// Counts one token: how it came about, and the confidence of its first pass.
    pub(crate) fn count_token(&mut self, decision: Decision, confidence: f32) {
        self.tokens_processed += 1;
        match decision {
            Decision::Little => self.unimportant_tokens += 1,
            Decision::Big => self.important_tokens += 1,
            Decision::Fallback => {
                self.important_tokens += 1;
                self.fallbacks += 1;
            }
        }
        let bin = (confidence * CONFIDENCE_BINS as f32) as usize;
        self.confidence_histogram[bin.min(CONFIDENCE_BINS - 1)] += 1;
    }

    /// Adds the counters of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.tokens_processed += other.tokens_processed;
        self.important_tokens += other.important_tokens;
        self.unimportant_tokens += other.unimportant_tokens;
        self.fallbacks += other.fallbacks;
        self.experts_computed += other.experts_computed;
        self.experts_full += other.experts_full;
        self.big_passes.add(other.big_passes.rows, other.big_passes.seconds);
        self.little_passes.add(other.little_passes.rows, other.little_passes.seconds);
        for (mine, theirs) in self.confidence_histogram.iter_mut().zip(other.confidence_histogram) {
            *mine += theirs;
        }
        self.expert_cache.merge(&other.expert_cache);
        self.prefill_expert_cache.merge(&other.prefill_expert_cache);
    }

    /// Share of tokens that fell back, from 0 to 1.
    #[must_use]
    pub fn fallback_rate(&self) -> f64 {
        if self.tokens_processed == 0 { 0.0 } else { self.fallbacks as f64 / self.tokens_processed as f64 }
    }
}

/// Zero where no time has passed, so that a figure is always a number.
pub(crate) fn per_second(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// The figures of one generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// From the request's turn to its last token.
    pub elapsed_seconds: f64,
    /// Tokens generated.
    pub tokens_generated: usize,
    /// Decoding speed: tokens after the first, over the time since the first.
    pub tokens_per_second: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were still there from an earlier request.
    pub cached_tokens: usize,
    /// Time to fill the cache with the prompt and draw the first token.
    pub prefill_seconds: f64,
    /// Time spent waiting for a turn.
    pub queued_seconds: f64,
    /// The most memory MLX has held since the model began to load.
    pub peak_memory_bytes: usize,
    /// `cpu` or `gpu`.
    pub device: &'static str,
    /// Name of the model.
    pub model: String,
    /// The policy at the end of the request.
    pub policy: &'static str,
    /// What `auto` chose last and why; absent under other policies.
    pub auto: Option<AutoReport>,
    /// What became of the tokens.
    #[serde(flatten)]
    pub counters: Counters,
}

/// What `auto` chose and the measurements behind it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AutoReport {
    /// `full` or `mobile`.
    pub chosen: &'static str,
    /// In words.
    pub why: String,
    /// Milliseconds of a big pass.
    pub big_ms: Option<f64>,
    /// Milliseconds of a little pass.
    pub little_ms: Option<f64>,
    /// Milliseconds of a big pass over a token that a little one has just tried.
    pub again_ms: Option<f64>,
    /// Share of tokens that fall back, or would.
    pub fallback_rate: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_even_in_no_time() {
        assert_eq!((per_second(0, 0.0), per_second(3, 0.0), per_second(3, 1.5)), (0.0, 0.0, 2.0));
    }

    #[test]
    fn every_token_is_important_or_not_and_a_fallback_counts_once() {
        let mut c = Counters::default();
        for (decision, confidence) in [(Decision::Little, 0.9), (Decision::Fallback, 0.3), (Decision::Big, 1.0)] {
            c.count_token(decision, confidence);
        }
        assert_eq!((c.tokens_processed, c.important_tokens, c.unimportant_tokens, c.fallbacks), (3, 2, 1, 1));
        assert_eq!(c.confidence_histogram.iter().sum::<u64>(), 3);
        assert_eq!((c.confidence_histogram[6], c.confidence_histogram[18], c.confidence_histogram[19]), (1, 1, 1));
    }
}
