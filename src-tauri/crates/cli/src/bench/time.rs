//! One timed run: some sequences decoded together by one policy.

use mobile_engine::{Counters, Engine, Finished, Generation, Policy, Prefetch, Request, Token};

use crate::error::Failure;

/// What a run took.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Tokens per second of all sequences together.
    pub(super) decode: f64,
    pub(super) prefill: f64,
    /// Until the first token of the last sequence to begin.
    pub(super) first_token_seconds: f64,
    pub(super) fallback_rate: f64,
    pub(super) peak_memory_bytes: usize,
    /// While decoding, where experts are streamed.
    pub(super) streamed: Option<Streamed>,
    /// What `auto` said of its choice.
    pub(super) auto: Option<(&'static str, String)>,
    /// Of the first pass of each token.
    pub(super) confidences: Vec<f64>,
}

/// How streaming went.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Streamed {
    /// Of the experts wanted, the share found in memory.
    pub(super) hit_rate: f64,
    pub(super) bytes_read_per_token: f64,
    /// Of the time of all passes, the share spent waiting for experts.
    pub(super) wait_share: f64,
    /// Of the experts fetched ahead when a token fell back, the share that was there when it was wanted.
    pub(super) fallback_prefetch_useful: f64,
    /// The same of those fetched while the layer before was computed.
    pub(super) look_ahead_useful: f64,
}

impl Streamed {
    fn of(counters: &Counters) -> Option<Self> {
        let c = &counters.expert_cache;
        let (wanted, seconds) = (c.hits + c.misses, counters.big_passes.seconds + counters.little_passes.seconds);
        let useful = |prefetch: &Prefetch| prefetch.useful as f64 / prefetch.issued.max(1) as f64;
        (wanted > 0).then(|| Self {
            hit_rate: c.hits as f64 / wanted as f64,
            bytes_read_per_token: c.bytes_read as f64 / counters.tokens_processed.saturating_sub(1).max(1) as f64,
            wait_share: c.wait_seconds / seconds,
            fallback_prefetch_useful: useful(&c.fallback_prefetch),
            look_ahead_useful: useful(&c.look_ahead),
        })
    }
}

/// When the tokens of a sequence came, in seconds since it was submitted.
fn moments(tokens: &[Token], finished: &Finished) -> Vec<f64> {
    let first = finished.statistics.queued_seconds + finished.statistics.prefill_seconds;
    let mut now = first;
    std::iter::once(first)
        .chain(tokens.iter().skip(1).map(|token| {
            now += token.ms / 1e3;
            now
        }))
        .collect()
}

/// Tokens per second while all sequences were decoding: before, prompts are being read, and afterwards some are done.
fn together(sequences: &[Vec<f64>]) -> f64 {
    let ends = |f: fn(&Vec<f64>) -> Option<&f64>| sequences.iter().filter_map(f).copied();
    let begin = ends(|s| s.first()).fold(0.0, f64::max);
    let end = ends(|s| s.last()).fold(f64::INFINITY, f64::min);
    let tokens = sequences.iter().flatten().filter(|&&t| begin < t && t <= end).count();
    if tokens > 0 {
        return tokens as f64 / (end - begin);
    }
    // So few tokens that the sequences never met.
    let first = ends(|s| s.first()).fold(f64::INFINITY, f64::min);
    let last = ends(|s| s.last()).fold(0.0, f64::max);
    (sequences.iter().map(Vec::len).sum::<usize>() - 1) as f64 / (last - first)
}

/// Decodes `tokens` tokens after the first of every prompt.
pub(super) fn run(engine: &Engine, prompts: &[Vec<u32>], tokens: usize, policy: Policy) -> Result<Run, Failure> {
    let request = |prompt: &Vec<u32>| Request {
        policy,
        ignore_eos: true,
        reuse_prefix: false,
        ..Request::new(prompt.clone(), tokens + 1)
    };
    let running: Result<Vec<Generation>, _> = prompts.iter().map(|prompt| engine.submit(request(prompt))).collect();
    let ended: Result<Vec<_>, _> = running.map_err(Failure::Request)?.into_iter().map(Generation::wait).collect();
    let ended = ended.map_err(Failure::Request)?;

    let moments: Vec<Vec<f64>> = ended.iter().map(|(tokens, finished)| moments(tokens, finished)).collect();
    let sum = |f: fn(&Finished) -> f64| ended.iter().map(|(_, finished)| f(finished)).sum::<f64>();
    let first_token_seconds = moments.iter().filter_map(|m| m.first()).copied().fold(0.0, f64::max);
    let confidences = ended.iter().flat_map(|(tokens, _)| tokens.iter().skip(1).map(|t| f64::from(t.confidence)));
    let statistics = ended.first().map(|(_, finished)| &finished.statistics);
    Ok(Run {
        decode: together(&moments),
        prefill: sum(|f| f.statistics.prompt_tokens as f64) / first_token_seconds,
        first_token_seconds,
        // The first token is the prompt's; it cannot fall back.
        fallback_rate: sum(|f| f.statistics.counters.fallbacks as f64)
            / sum(|f| f.statistics.tokens_generated.saturating_sub(1).max(1) as f64),
        peak_memory_bytes: ended.iter().map(|(_, f)| f.statistics.peak_memory_bytes).max().unwrap_or(0),
        streamed: statistics.and_then(|s| Streamed::of(&s.counters)),
        auto: statistics.and_then(|s| s.auto.as_ref()).map(|a| (a.chosen, a.why.clone())),
        confidences: confidences.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_in_which_all_decode_counts() {
        assert_eq!(together(&[vec![1.0, 2.0, 3.0]]), 1.0);
        // Both from 2 to 4: two tokens of the first and four of the second.
        let sequences = [vec![1.0, 2.0, 3.0, 4.0], vec![2.0, 2.5, 3.0, 3.5, 4.0, 4.5]];
        assert_eq!(together(&sequences), 3.0);
    }

    #[test]
    fn sequences_that_never_meet_still_have_a_speed() {
        assert_eq!(together(&[vec![0.0, 1.0], vec![2.0, 3.0]]), 1.0);
    }
}
