//! The figures of a benchmark as a table, as JSON and as bars.

use mobile_engine::{ModelInfo, Policy};
use serde::Serialize;

use super::time::{Run, Streamed};
use crate::eval::label;
use crate::numbers::Spread;
use crate::plot::{Bar, Group};
use crate::table::{percent, table};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) model: &'a ModelInfo,
    pub(super) tokens: u32,
    pub(super) runs: u32,
    pub(super) batch: u16,
    pub(super) load_seconds: f64,
    /// Bytes that MLX held at most, loading included.
    pub(super) peak_memory_bytes: usize,
    pub(super) complete: bool,
    pub(super) rows: Vec<Line>,
}

/// One policy in one situation.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    policy: Policy,
    prompt_tokens: u32,
    /// The share of fallbacks that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted_fallback_rate: Option<f64>,
    fallback_rate: f64,
    decode_tokens_per_second: Spread,
    /// Median speed in proportion to that of full, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    speedup: Option<f64>,
    prefill_tokens_per_second: Spread,
    first_token_seconds: Spread,
    /// Of the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    streamed: Option<Streamed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_chose: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_why: Option<String>,
}

/// What the lines of one comparison have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) prompt_tokens: u32,
    pub(super) wanted: Option<f64>,
}

impl Line {
    /// `None` without runs. `full`: the median speed of plain decoding.
    pub(super) fn new(situation: Situation, policy: Policy, runs: &[Run], full: Option<f64>) -> Option<Self> {
        let spread = |f: fn(&Run) -> f64| Spread::of(&runs.iter().map(f).collect::<Vec<_>>());
        let decode = spread(|r| r.decode)?;
        let auto = runs.last()?.auto.clone();
        Some(Self {
            policy,
            prompt_tokens: situation.prompt_tokens,
            wanted_fallback_rate: situation.wanted,
            fallback_rate: runs.iter().map(|r| r.fallback_rate).sum::<f64>() / runs.len() as f64,
            decode_tokens_per_second: decode,
            speedup: full.map(|full| decode.median / full),
            prefill_tokens_per_second: spread(|r| r.prefill)?,
            first_token_seconds: spread(|r| r.first_token_seconds)?,
            streamed: runs.last()?.streamed,
            auto_chose: auto.as_ref().map(|a| a.0.to_owned()),
            auto_why: auto.map(|a| a.1),
        })
    }

    fn situation(&self) -> (u32, Option<f64>) {
        (self.prompt_tokens, self.wanted_fallback_rate)
    }

    /// The policy; a threshold that was computed is rounded.
    fn label(&self) -> String {
        let mut policy = self.policy;
        if let Policy::Mobile(m) | Policy::Auto(m) = &mut policy {
            m.gamma = (f64::from(m.gamma) * 1e4).round() as f32 / 1e4;
        }
        let ahead = if matches!(policy, Policy::Mobile(m) if !m.prefetch) { " without prefetch" } else { "" };
        match &self.auto_chose {
            Some(chosen) => format!("{} → {chosen}", label(&policy)),
            None => label(&policy) + ahead,
        }
    }
}

impl Report<'_> {
    pub(super) fn table(&self) -> String {
        let mut header =
            vec!["policy", "prompt", "tok/s", "min", "max", "vs full", "fallbacks", "prefill tok/s", "first token"];
        let streamed = self.rows.iter().any(|line| line.streamed.is_some());
        if streamed {
            header.extend(["in memory", "read a token", "waiting", "ahead useful", "guesses useful"]);
        }
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|line| {
                let decode = line.decode_tokens_per_second;
                let wanted = line.wanted_fallback_rate.map_or_else(String::new, |w| format!(" of {}", percent(w, 0)));
                let mut cells = vec![
                    line.label(),
                    line.prompt_tokens.to_string(),
                    format!("{:.1}", decode.median),
                    format!("{:.1}", decode.min),
                    format!("{:.1}", decode.max),
                    line.speedup.map_or_else(String::new, |s| format!("{s:.2}×")),
                    format!("{}{wanted}", percent(line.fallback_rate, 1)),
                    format!("{:.1}", line.prefill_tokens_per_second.median),
                    format!("{:.0} ms", line.first_token_seconds.median * 1e3),
                ];
                cells.extend(line.streamed.iter().flat_map(|s| {
                    let mb = format!("{:.1} MB", s.bytes_read_per_token / 1e6);
                    let shares = [s.hit_rate, s.wait_share, s.fallback_prefetch_useful, s.look_ahead_useful];
                    let [hits, waiting, ahead, guesses] = shares.map(|share| percent(share, 0));
                    [hits, mb, waiting, ahead, guesses]
                }));
                cells
            })
            .collect();
        table(&header, &rows)
    }

    /// One group of bars for each situation.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<((u32, Option<f64>), Group)> = Vec::new();
        for line in &self.rows {
            let bar = Bar { series: line.policy.name().to_owned(), value: line.decode_tokens_per_second };
            match groups.iter_mut().find(|(situation, _)| *situation == line.situation()) {
                Some((_, group)) => group.bars.push(bar),
                None => {
                    let wanted = line
                        .wanted_fallback_rate
                        .map_or_else(String::new, |w| format!(", {} fallbacks", percent(w, 0)));
                    let name = format!("{} prompt tokens{wanted}", line.prompt_tokens);
                    groups.push((line.situation(), Group { name, bars: vec![bar] }));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }
}
