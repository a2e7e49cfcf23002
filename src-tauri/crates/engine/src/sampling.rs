//! From logits to a token: pure functions over MLX arrays.

use mlx_rs::ops::indexing::{argmax_axis, take_axis};
use mlx_rs::ops::{argsort_axis, cumsum, select, softmax_axis};
use mlx_rs::{Array, random};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a token is drawn. The filters apply in the order of the fields, as in Hugging Face transformers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Logits of tokens already seen are divided by this when positive and multiplied when negative; 1 leaves them.
    pub repetition_penalty: f32,
    /// 0 takes the most probable token.
    pub temperature: f32,
    /// Only the `top_k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// The fewest most probable tokens whose probabilities reach `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Tokens at least this probable in proportion to the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Makes the draws repeatable.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { repetition_penalty: 1.0, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: None }
    }
}

impl Sampling {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming the value.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 10.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 10.0),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(Error::Parameter(format!("{name} must be from {low} to {high}, found {value}")));
            }
        }
        Ok(())
    }

    /// Whether the token is simply the most probable one of the logits as they are.
    pub(crate) fn is_plain_greedy(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }

    /// Draws one token: `logits` of shape `[1, vocab]` to a uint32 of shape `[1]`. `seen` are the tokens that the
    /// repetition penalty counts; `key` makes the draw.
    pub(crate) fn draw(&self, logits: &Array, seen: &[u32], key: &Array) -> Result<Array> {
        let logits = if self.repetition_penalty == 1.0 || seen.is_empty() {
            logits.clone()
        } else {
            penalized(logits, seen, self.repetition_penalty)?
        };
        if self.temperature == 0.0 {
            return greedy(&logits);
        }
        let logits = logits.divide(Array::from_f32(self.temperature))?;
        if self.top_k == 0 && self.top_p >= 1.0 && self.min_p == 0.0 {
            return Ok(random::categorical(&logits, -1, None, key)?);
        }
        let order = argsort_axis(logits.negative()?, -1)?;
        let ranked = self.filtered(&logits.take_along_axis(&order, -1)?)?;
        let rank = random::categorical(&ranked, -1, None, key)?;
        Ok(order.take_along_axis(rank.expand_dims(-1)?, -1)?.squeeze_axes(&[-1])?)
    }

    /// Sets logits that a filter drops to −∞; `ranked` is of shape `[1, vocab]`, descending.
    fn filtered(&self, ranked: &Array) -> Result<Array> {
        let dropped = Array::from_f32(f32::NEG_INFINITY);
        let vocab = ranked.dim(-1);
        let mut ranked = ranked.clone();
        if self.top_k > 0 && (self.top_k as i64) < i64::from(vocab) {
            let ranks = mlx_rs::ops::arange::<_, i32>(0, vocab, 1)?;
            ranked = select(ranks.lt(Array::from_int(self.top_k as i32))?, &ranked, &dropped)?;
        }
        if self.top_p < 1.0 {
            let probabilities = softmax_axis(&ranked, -1, true)?;
            // A rank stays while those before it have not reached top_p; the first always stays.
            let before = cumsum(&probabilities, -1, None, true)?.subtract(&probabilities)?;
            let first = mlx_rs::ops::arange::<_, i32>(0, vocab, 1)?.eq(Array::from_int(0))?;
            let kept = before.lt(Array::from_f32(self.top_p))?.logical_or(first)?;
            ranked = select(kept, &ranked, &dropped)?;
        }
        if self.min_p > 0.0 {
            let probabilities = softmax_axis(&ranked, -1, true)?;
            let floor = probabilities.max_axis(-1, true)?.multiply(Array::from_f32(self.min_p))?;
            ranked = select(probabilities.ge(floor)?, &ranked, &dropped)?;
        }
        Ok(ranked)
    }
}

/// The most probable token of each row: `[rows, vocab]` to uint32 of shape `[rows]`.
pub(crate) fn greedy(logits: &Array) -> Result<Array> {
    Ok(argmax_axis(logits, -1, None)?)
}

/// The largest softmax probability of each row at temperature 1: `[rows, vocab]` to `[rows]`.
pub(crate) fn confidence(logits: &Array) -> Result<Array> {
    Ok(softmax_axis(logits, -1, true)?.max_axis(-1, None)?)
}

/// The key of the draw at `position`, so that a token drawn twice (after a fallback) is drawn with the same luck.
pub(crate) fn key(seed: u64, position: usize) -> Result<Array> {
    // SplitMix64 (Steele, Lea, Flood 2014) spreads neighbouring positions over the key space.
    let mut z = seed.wrapping_add((position as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Ok(random::key(z ^ (z >> 31))?)
}

fn penalized(logits: &Array, seen: &[u32], penalty: f32) -> Result<Array> {
    let mut unique = seen.to_vec();
    unique.sort_unstable();
    unique.dedup();
    let ids = Array::from_slice(&unique, &[unique.len() as i32]);
    let of_seen = take_axis(logits, &ids, -1)?;
    let factor = Array::from_f32(penalty);
    let positive = of_seen.gt(Array::from_f32(0.0))?;
    let changed = select(positive, of_seen.divide(&factor)?, of_seen.multiply(&factor)?)?;
    Ok(logits.put_along_axis(ids.expand_dims(0)?, changed, -1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(values: &[f32]) -> Array {
        Array::from_slice(values, &[1, values.len() as i32])
    }

    /// How often each token comes out of 400 draws.
    fn frequencies(sampling: &Sampling, values: &[f32]) -> Vec<usize> {
        let logits = logits(values);
        let mut counts = vec![0; values.len()];
        for position in 0..400 {
            let token = sampling.draw(&logits, &[], &key(7, position).expect("a key")).expect("a draw");
            counts[token.item_exact::<u32>() as usize] += 1;
        }
        counts
    }

    #[test]
    fn probabilities_are_followed() {
        let values = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let counts = frequencies(&Sampling { temperature: 1.0, ..Sampling::default() }, &values);
        for (count, expected) in counts.iter().zip([200.0, 120.0, 80.0]) {
            assert!((*count as f32 - expected).abs() < 45.0, "{counts:?}");
        }
    }

    #[test]
    fn filters_drop_what_they_should_and_nothing_else() {
        let values = [0.1f32.ln(), 0.5f32.ln(), 0.25f32.ln(), 0.15f32.ln()];
        let hot = Sampling { temperature: 1.0, ..Sampling::default() };
        let drawn = |s: Sampling| frequencies(&s, &values).iter().map(|&n| n > 0).collect::<Vec<_>>();
        assert_eq!(drawn(hot), [true, true, true, true]);
        assert_eq!(drawn(Sampling { top_k: 2, ..hot }), [false, true, true, false]);
        assert_eq!(drawn(Sampling { top_p: 0.7, ..hot }), [false, true, true, false]);
        assert_eq!(drawn(Sampling { top_p: 0.0, ..hot }), [false, true, false, false]);
        assert_eq!(drawn(Sampling { min_p: 0.4, ..hot }), [false, true, true, false]);
    }

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let values = [1.0; 50];
        let logits = logits(&values);
        let hot = Sampling { temperature: 1.0, ..Sampling::default() };
        let run = |seed| -> Vec<u32> {
            (0..20).map(|p| hot.draw(&logits, &[], &key(seed, p).expect("key")).expect("draw").item_exact()).collect()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn the_penalty_moves_seen_tokens_away() {
        let s = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let key = key(0, 0).expect("a key");
        let pick =
            |values: &[f32], seen: &[u32]| s.draw(&logits(values), seen, &key).expect("draw").item_exact::<u32>();
        assert_eq!(pick(&[3.0, 2.0], &[0, 0]), 1);
        assert_eq!(pick(&[-1.0, -1.5], &[0]), 1);
        assert_eq!(pick(&[3.0, 1.0], &[0]), 0);
    }

    #[test]
    fn confidence_is_the_largest_probability() {
        let c = confidence(&logits(&[0.2f32.ln(), 0.7f32.ln(), 0.1f32.ln()])).expect("confidence");
        assert!((c.item_exact::<f32>() - 0.7).abs() < 1e-6);
    }
}
