//! Who waits for a pass: its rows as streamed experts see them.

use crate::error::{Error, Result};

/// Whether somebody has gone away.
pub(crate) type Gone = Box<dyn Fn() -> bool>;

/// The rows of the pass that runs.
///
/// An expert that cannot be read fails the rows that chose it. Where each row is a sequence of its own the others go on
/// without it: what is computed for a failed row is not looked at.
#[derive(Default)]
pub(crate) struct Rows {
    /// One entry a sequence.
    gone: Vec<Gone>,
    /// By row, where each is a sequence of its own.
    failed: Option<Vec<Option<Error>>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Rows {
    /// A pass over prompts, in which rows need others: it fails as a whole.
    pub(crate) fn of_prompts(gone: Vec<Gone>) -> Self {
        Self { gone, failed: None }
    }

    /// A pass over single tokens, each of a sequence of its own.
    pub(crate) fn of_tokens(gone: Vec<Gone>) -> Self {
        let failed = Some(gone.iter().map(|_| None).collect());
        Self { gone, failed }
    }

    pub(super) fn has_failed(&self, row: usize) -> bool {
        self.failed.as_ref().is_some_and(|failed| matches!(failed.get(row), Some(Some(_))))
    }

    /// Whether the pass is of no use: nobody waits for a row that is still good, or somebody no longer waits for a prompt,
    /// without which the others are then read.
    pub(super) fn given_up(&self) -> bool {
        if self.failed.is_none() {
            return self.gone.iter().any(|gone| gone());
        }
        let mut left = self.gone.iter().enumerate().filter(|&(row, _)| !self.has_failed(row)).peekable();
        left.peek().is_some() && left.all(|(_, gone)| gone())
    }

    /// Fails those of `rows` that have not failed yet.
    ///
    /// # Errors
    /// The same, where no row is left.
    pub(super) fn fail(&mut self, rows: impl Iterator<Item = usize>, error: Error) -> Result<()> {
        let Some(failed) = &mut self.failed else { return Err(error) };
        for row in rows {
            if let Some(place @ None) = failed.get_mut(row) {
                *place = Some(error.again());
            }
        }
        if failed.iter().all(Option::is_some) { Err(error) } else { Ok(()) }
    }

    /// By row, why it has failed, if it has; empty where none has.
    pub(crate) fn take_failed(&mut self) -> Vec<Option<Error>> {
        self.gone.clear();
        self.failed.take().unwrap_or_default()
    }
}
