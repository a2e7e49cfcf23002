//! A constraint while its request runs.

use std::cell::{OnceCell, RefCell};

use llguidance::Matcher;
use mlx_rs::Array;
use mlx_rs::ops::select;

use super::{Constraint, explained};
use crate::error::{Error, Result};

/// Where an answer stands in its grammar. Stays on the engine's thread.
pub(crate) struct Guide {
    matcher: RefCell<Matcher>,
    /// Of the next token; the same for the little pass and the big one.
    mask: OnceCell<Result<Vec<bool>, String>>,
}

impl Guide {
    pub(crate) fn new(constraint: &Constraint) -> Self {
        Self { matcher: RefCell::new((*constraint.0).clone()), mask: OnceCell::new() }
    }

    /// Sets the logits of tokens that may not come next to −∞: `[1, vocab]` to the same. When the grammar cannot say,
    /// the logits stay as they are, and [`Guide::failure`] says why.
    pub(crate) fn mask(&self, logits: &Array) -> Result<Array> {
        let vocab = logits.dim(-1);
        match self.mask.get_or_init(|| self.allowed(vocab as usize)) {
            Ok(mask) => {
                let mask = Array::from_slice(mask, &[1, vocab]);
                Ok(select(mask, logits, Array::from_f32(f32::NEG_INFINITY))?)
            }
            Err(_) => Ok(logits.clone()),
        }
    }

    fn allowed(&self, vocab: usize) -> Result<Vec<bool>, String> {
        let tokens = self.matcher.borrow_mut().compute_mask().map_err(|e| explained(&e.to_string()))?;
        let mut mask = vec![false; vocab];
        tokens.iter_set_entries(|id| {
            if let Some(allowed) = mask.get_mut(id) {
                *allowed = true;
            }
        });
        if mask.contains(&true) { Ok(mask) } else { Err("no token of the model's vocabulary fits".to_owned()) }
    }

    /// Why the grammar could not say which tokens might come next, if it could not.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.mask.get()?.as_ref().err().cloned().map(Error::Constraint)
    }

    /// Takes in a token that stands and is not an end of sequence. True when the answer is complete.
    pub(crate) fn commit(&mut self, token: u32) -> Result<bool> {
        self.mask.take();
        let matcher = self.matcher.get_mut();
        matcher.consume_token(token).map_err(|e| Error::Constraint(explained(&e.to_string())))?;
        Ok(matcher.is_stopped())
    }
}
