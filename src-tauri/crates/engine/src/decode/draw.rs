//! Reads a pass's result: confidence and token of every row in one evaluation.

use mlx_rs::Array;
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::IndexOp as _;
use mlx_rs::transforms::{async_eval, eval};

use super::request::Logprob;
use super::sequence::Sequence;
use crate::error::Result;
use crate::model::{Output, Routed};
use crate::sampling::{confidence, greedy, key};

/// One row's result.
#[derive(Debug, Clone)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    pub(crate) confidence: f32,
    pub(crate) predicted: Option<u32>,
    pub(crate) logprob: Option<f32>,
    pub(crate) top_logprobs: Vec<Logprob>,
}

/// What is to be read of a pass, on its way.
#[derive(Debug)]
pub(crate) struct Drawing {
    logits: Array,
    confidence: Array,
    best: Array,
    /// uint32 of shape `[rows]`.
    pub(crate) tokens: Array,
    /// int32 of shape `[rows]`, under [`crate::policy::Choice::Mass`].
    kept: Option<Array>,
    /// The experts of each row, where somebody watches; computed once the drawing has been read.
    pub(crate) routed: Option<Routed>,
}

impl Drawing {
    /// Begins to draw a token for each row of a pass that gives logits. `ahead`: tokens of each row that are not known
    /// yet.
    pub(crate) fn begin(output: Output, rows: &[&Sequence], ahead: usize) -> Result<Self> {
        let Output { logits: Some(logits), kept, routed } = output else { unreachable!("logits were asked for") };
        let confidence = confidence(&logits)?;
        let best = greedy(&logits)?;
        if rows.iter().any(|s| s.guide().is_some()) {
            // The masks are made while the pass runs.
            async_eval([&confidence, &best].into_iter().chain(beside(&kept, &routed)))?;
        }
        let tokens = tokens(&logits, &best, rows, ahead)?;
        async_eval([&confidence, &best, &tokens].into_iter().chain(beside(&kept, &routed)))?;
        Ok(Self { logits, confidence, best, tokens, kept, routed })
    }

    /// Waits for the result: a token for each of `rows`, of which the sequence is given, and the experts that each kept.
    pub(crate) fn read(&self, rows: &[(usize, &Sequence)]) -> Result<(Vec<Drawn>, Option<Vec<i32>>)> {
        eval([&self.confidence, &self.best, &self.tokens].into_iter().chain(beside(&self.kept, &self.routed)))?;
        let (confidence, best) = (self.confidence.try_as_slice::<f32>()?, self.best.try_as_slice::<u32>()?);
        let tokens = self.tokens.try_as_slice::<u32>()?;
        let read = |&(row, sequence): &(usize, &Sequence)| {
            let token = sequence.forced_token().unwrap_or(tokens[row]);
            let mut drawn =
                Drawn { token, confidence: confidence[row], predicted: None, logprob: None, top_logprobs: Vec::new() };
            if let Some(top) = sequence.wants_logprobs() {
                let row_logits = self.logits.index(row as i32);
                drawn.predicted = Some(best[row]);
                (drawn.logprob, drawn.top_logprobs) = logprobs(row_logits.try_as_slice::<f32>()?, token, top);
            }
            Ok(drawn)
        };
        let drawn = rows.iter().map(read).collect::<Result<_>>()?;
        let kept = self.kept.as_ref().map(Array::try_as_slice::<i32>).transpose()?;
        let kept = kept.map(|kept| rows.iter().map(|&(row, _)| kept[row]).collect());
        Ok((drawn, kept))
    }
}

/// What is read in the same evaluation as the tokens.
fn beside<'a>(kept: &'a Option<Array>, routed: &'a Option<Routed>) -> impl Iterator<Item = &'a Array> {
    kept.iter().chain(routed.as_ref().map(|routed| &routed.ids))
}

/// uint32 of shape `[rows]`.
fn tokens(logits: &Array, best: &Array, rows: &[&Sequence], ahead: usize) -> Result<Array> {
    if rows.iter().all(|s| s.sampling().is_plain_greedy() && s.guide().is_none()) {
        return Ok(best.clone());
    }
    let drawn = rows
        .iter()
        .enumerate()
        .map(|(row, sequence)| {
            let row = row as i32;
            if sequence.sampling().is_plain_greedy() && sequence.guide().is_none() {
                return Ok(best.index(row..row + 1));
            }
            let logits = logits.index(row..row + 1);
            let logits = sequence.guide().map_or(Ok(logits.clone()), |guide| guide.mask(&logits))?;
            if sequence.sampling().is_plain_greedy() {
                return greedy(&logits);
            }
            let key = key(sequence.seed(), sequence.tokens().len() + ahead)?;
            sequence.sampling().draw(&logits, sequence.tokens(), &key)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(concatenate(&drawn, 0)?)
}

/// ln p of `token`, and the `top` most probable tokens.
fn logprobs(logits: &[f32], token: u32, top: usize) -> (Option<f32>, Vec<Logprob>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    let normalizer = f64::from(most) + sum.ln();
    let ln_p = |id: u32| (f64::from(logits[id as usize]) - normalizer) as f32;
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let top = top.min(ids.len());
    let falling = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if top > 0 && top < ids.len() {
        ids.select_nth_unstable_by(top - 1, falling);
    }
    ids.truncate(top);
    ids.sort_unstable_by(falling);
    (Some(ln_p(token)), ids.into_iter().map(|id| Logprob { id, logprob: ln_p(id) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_sum_to_one_and_come_in_order() {
        let logits = [1.0, 3.0, 2.0, -4.0];
        let (of_token, top) = logprobs(&logits, 2, 4);
        let total: f32 = top.iter().map(|t| t.logprob.exp()).sum();
        assert!((total - 1.0).abs() < 1e-5);
        assert_eq!(top.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert_eq!(of_token, Some(top[1].logprob));
    }
}
