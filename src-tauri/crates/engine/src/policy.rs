//! Who is important: which experts decode a token, and whether the result stands.
//!
//! The *big* model computes K experts a token, the *little* one ⌊K/2⌋ (at least one) of the same weights. MoBiLE
//! (<https://arxiv.org/abs/2510.12357>) decodes with the little model, and where the largest probability of its output
//! is below γ computes the token again with the big one.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// γ of the paper.
pub const DEFAULT_GAMMA: f32 = 0.7;

/// The share of the K experts' mass that [`Policy::Mass`] reaches where nobody says.
pub const DEFAULT_SHARE: f32 = 0.8;

/// How tokens are decoded. Can change between two tokens of a running request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Policy {
    /// All K experts for every token.
    Full,
    /// ⌊K/2⌋ experts for every token.
    Little {
        /// Scale the weights of the chosen to the mass of the K (see [`Mobile::renormalize`]).
        #[serde(default)]
        renormalize: bool,
    },
    /// Little where it is confident, big where it is not.
    Mobile(Mobile),
    /// The fewest of the K experts whose routing weights reach `share` of the K experts' mass; no fallback.
    Mass {
        /// From 0 (one expert) to 1 (all K).
        share: f32,
    },
    /// MoBiLE wherever it is measured to be faster than decoding plainly, else plain.
    Auto(Mobile),
}

/// The parameters of MoBiLE.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mobile {
    /// Threshold γ: a little token stands when its confidence is at least this. Above 1 every token falls back.
    pub gamma: f32,
    /// Whether tokens below γ are computed again with all experts.
    pub fallback: bool,
    /// Whether a fallback fetches the experts it will need ahead of time (streamed experts only).
    pub prefetch: bool,
    /// Scale the little model's routing weights to the mass that the K chosen would have had. This project's option,
    /// not the paper's; without effect where the family normalises anyway.
    pub renormalize: bool,
}

impl Default for Mobile {
    fn default() -> Self {
        Self { gamma: DEFAULT_GAMMA, fallback: true, prefetch: true, renormalize: false }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Auto(Mobile::default())
    }
}

/// Which of the K experts a pass computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Choice {
    All,
    Half { renormalize: bool },
    Mass { share: f32 },
}

impl Choice {
    /// Experts that the router ranks for this choice, of `top_k`.
    pub(crate) fn experts(self, top_k: i32) -> i32 {
        match self {
            Self::All | Self::Mass { .. } => top_k,
            Self::Half { .. } => little(top_k),
        }
    }
}

/// Experts of the little model: ⌊K/2⌋, at least one.
pub(crate) fn little(top_k: i32) -> i32 {
    (top_k / 2).max(1)
}

/// What becomes of a token after its first pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    FallBack,
}

impl Policy {
    /// The name on the command line and in statistics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Little { .. } => "little",
            Self::Mobile(_) => "mobile",
            Self::Mass { .. } => "mass",
            Self::Auto(_) => "auto",
        }
    }

    /// Refuses parameters out of range, and a little model where there is none.
    ///
    /// # Errors
    /// [`Error::Parameter`], and [`Error::NothingToHalve`] for `little` and `mobile` where ⌊K/2⌋ is K itself.
    pub fn check(&self, top_k: usize) -> Result<()> {
        match *self {
            Self::Mobile(m) | Self::Auto(m) if !(m.gamma.is_finite() && m.gamma >= 0.0) => {
                return Err(Error::Parameter(format!("gamma must be a number from 0 on, found {}", m.gamma)));
            }
            Self::Mass { share } if !(0.0..=1.0).contains(&share) => {
                return Err(Error::Parameter(format!("share must be from 0 to 1, found {share}")));
            }
            _ => {}
        }
        match self {
            Self::Little { .. } | Self::Mobile(_) if !can_halve(top_k) => {
                Err(Error::NothingToHalve { policy: self.name(), k: top_k })
            }
            _ => Ok(()),
        }
    }

    /// The experts of a token's first pass. [`Policy::Auto`] decides elsewhere and then stands as one of the others.
    pub(crate) fn first_pass(&self) -> Choice {
        match *self {
            Self::Full => Choice::All,
            Self::Little { renormalize } => Choice::Half { renormalize },
            Self::Mobile(m) | Self::Auto(m) => Choice::Half { renormalize: m.renormalize },
            Self::Mass { share } => Choice::Mass { share },
        }
    }

    /// Compares the confidence of a first pass (the largest softmax probability of its logits at temperature 1,
    /// before any sampling filter) with γ.
    pub(crate) fn judge(&self, confidence: f32) -> Verdict {
        match self {
            Self::Mobile(m) | Self::Auto(m) if m.fallback && confidence < m.gamma => Verdict::FallBack,
            _ => Verdict::Keep,
        }
    }
}

/// Whether the little model is smaller than the big one.
pub(crate) fn can_halve(top_k: usize) -> bool {
    little(top_k as i32) < top_k as i32
}

/// How a token came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Fewer than K experts, and the result stood: an unimportant token.
    Little,
    /// All K experts at once.
    Big,
    /// First with fewer, then, below γ, again with all K: an important token.
    Fallback,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_decides_between_keep_and_fall_back() {
        let at = |gamma| Policy::Mobile(Mobile { gamma, ..Mobile::default() });
        assert_eq!(at(0.7).judge(0.7), Verdict::Keep);
        assert_eq!(at(0.7).judge(0.699), Verdict::FallBack);
        assert_eq!(at(0.0).judge(0.0), Verdict::Keep);
        assert_eq!(at(1.01).judge(1.0), Verdict::FallBack);
        let never = Policy::Mobile(Mobile { gamma: 1.01, fallback: false, ..Mobile::default() });
        assert_eq!(never.judge(0.1), Verdict::Keep);
    }

    #[test]
    fn half_rounds_down_and_stays_above_zero() {
        assert_eq!([1, 2, 3, 4, 8].map(little), [1, 1, 1, 2, 4]);
        assert!(!can_halve(1) && can_halve(2));
    }

    #[test]
    fn a_model_of_one_expert_refuses_to_pretend() {
        assert!(matches!(Policy::Little { renormalize: false }.check(1), Err(Error::NothingToHalve { k: 1, .. })));
        assert!(Policy::default().check(1).is_ok());
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        assert!(Policy::Mass { share: 1.5 }.check(8).is_err());
        assert!(Policy::Mobile(Mobile { gamma: f32::NAN, ..Mobile::default() }).check(8).is_err());
        assert!(Policy::Mobile(Mobile { gamma: -0.1, ..Mobile::default() }).check(8).is_err());
    }
}
