//! How sure a model has been of its last tokens, from which follows how many any threshold would send back.

/// Steps from 0 to 1. Confidences crowd just below 1, where thresholds like 0.99 lie.
const BINS: usize = 256;
/// Weight of a new token, once that many have been seen.
const RECENT_TOKEN: f64 = 0.01;
/// Tokens seen before anything is said.
const FEW_TOKENS: u32 = 32;

/// The last confidences, older ones counting less and less.
#[derive(Debug)]
pub(super) struct Confidences {
    /// By step, the share of tokens; 1 in sum.
    shares: Vec<f64>,
    seen: u32,
}

impl Default for Confidences {
    fn default() -> Self {
        Self { shares: vec![0.0; BINS], seen: 0 }
    }
}

impl Confidences {
    pub(super) fn add(&mut self, confidence: f32) {
        self.seen = self.seen.saturating_add(1);
        let weight = RECENT_TOKEN.max(1.0 / f64::from(self.seen));
        self.shares.iter_mut().for_each(|share| *share *= 1.0 - weight);
        let bin = (f64::from(confidence) * BINS as f64) as usize;
        self.shares[bin.min(BINS - 1)] += weight;
    }

    /// The share of tokens less sure than `gamma`, once known.
    pub(super) fn below(&self, gamma: f32) -> Option<f64> {
        let end = f64::from(gamma.clamp(0.0, 1.0)) * BINS as f64;
        let whole = end as usize;
        let part = self.shares.get(whole).map_or(0.0, |share| share * end.fract());
        (self.seen >= FEW_TOKENS).then(|| self.shares[..whole].iter().sum::<f64>() + part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_has_its_own_share() {
        let mut confidences = Confidences::default();
        (0..FEW_TOKENS - 1).for_each(|_| confidences.add(0.5));
        assert_eq!(confidences.below(0.7), None);
        // 30% at 0.5, 70% above 0.99.
        (0..2000).for_each(|n| confidences.add(if n % 10 < 3 { 0.5 } else { 0.997 }));
        let below = |gamma| confidences.below(gamma).expect("known");
        assert!((below(0.7) - 0.3).abs() < 0.02 && (below(0.99) - 0.3).abs() < 0.02, "{}", below(0.7));
        assert!(below(0.4) < 1e-9 && below(0.0) < 1e-9);
        assert!((below(1.0) - 1.0).abs() < 1e-6 && (below(1.01) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn old_tokens_fade() {
        let mut confidences = Confidences::default();
        (0..500).for_each(|_| confidences.add(0.2));
        (0..500).for_each(|_| confidences.add(1.0));
        assert!(confidences.below(0.7).expect("known") < 0.01);
    }
}
