//! The figures of an evaluation as a table and as JSON.

use mobile_engine::{Mobile, ModelInfo, Policy, Prefill};
use mobile_host::Measured;
use serde::Serialize;

use crate::table::{percent, table};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) model: &'a ModelInfo,
    pub(super) file: String,
    /// `text` or `chat`.
    pub(super) kind: &'static str,
    pub(super) items: usize,
    pub(super) tokens: u64,
    pub(super) prefill: Prefill,
    /// Whether nothing was cut short.
    pub(super) complete: bool,
    pub(super) rows: Vec<Line>,
}

/// One policy.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    policy: Policy,
    tokens: u64,
    perplexity: f64,
    perplexity_ratio: f64,
    /// One standard error of the ratio.
    perplexity_ratio_error: f64,
    accuracy: f64,
    agreement: f64,
    fallback_rate: f64,
    pub(super) experts_used: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact_answers: Option<f64>,
    complete: bool,
}

impl Line {
    /// `None` where nothing was measured. `chat`: whether an item is an answer.
    pub(super) fn new(policy: Policy, measured: &Measured, chat: bool) -> Option<Self> {
        (measured.tokens > 0).then(|| Self {
            policy,
            tokens: measured.tokens,
            perplexity: measured.perplexity(),
            perplexity_ratio: measured.ratio(),
            perplexity_ratio_error: measured.ratio_error(),
            accuracy: measured.accuracy(),
            agreement: measured.agreement(),
            fallback_rate: measured.fallback_rate(),
            experts_used: measured.experts_used(),
            exact_answers: chat.then(|| measured.exact()).filter(|e| e.is_finite()),
            complete: measured.complete,
        })
    }
}

impl Report<'_> {
    pub(super) fn table(&self) -> String {
        let mut header = vec!["policy", "perplexity", "vs full", "accuracy", "agreement", "fallbacks", "experts used"];
        let exact = self.rows.iter().any(|r| r.exact_answers.is_some());
        if exact {
            header.push("exact answers");
        }
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|line| {
                let cut = if line.complete { "" } else { " (cut short)" };
                let mut cells = vec![
                    format!("{}{cut}", label(&line.policy)),
                    format!("{:.4}", line.perplexity),
                    growth(line.perplexity_ratio, line.perplexity_ratio_error),
                    percent(line.accuracy, 2),
                    percent(line.agreement, 2),
                    percent(line.fallback_rate, 1),
                    percent(line.experts_used, 1),
                ];
                if exact {
                    cells.push(line.exact_answers.map_or_else(String::new, |e| percent(e, 1)));
                }
                cells
            })
            .collect();
        table(&header, &rows)
    }
}

/// A ratio of perplexities and its standard error as a percentage.
pub(crate) fn growth(ratio: f64, error: f64) -> String {
    format!("{:+.2}% ±{:.2}", (ratio - 1.0) * 100.0, error * 100.0)
}

/// A policy and its parameters in a few words.
pub(crate) fn label(policy: &Policy) -> String {
    let scaled = |renormalize: bool| if renormalize { " renormalized" } else { "" };
    match *policy {
        Policy::Full => "full".to_owned(),
        Policy::Little { renormalize } => format!("little{}", scaled(renormalize)),
        Policy::Mobile(m) | Policy::Auto(m) => {
            let Mobile { gamma, fallback, renormalize, .. } = m;
            let never = if fallback { "" } else { " without fallback" };
            format!("{} γ={gamma}{}{never}", policy.name(), scaled(renormalize))
        }
        Policy::Mass { share } => format!("mass {share:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_what_was_set() {
        let mobile = Mobile { gamma: 0.6, renormalize: true, ..Mobile::default() };
        assert_eq!(label(&Policy::Mobile(mobile)), "mobile γ=0.6 renormalized");
        assert_eq!(
            label(&Policy::Auto(Mobile { fallback: false, ..Mobile::default() })),
            "auto γ=0.7 without fallback"
        );
        assert_eq!(label(&Policy::Mass { share: 0.8 }), "mass 0.800");
    }
}
