//! Which experts are computed with, counted for those who look and only while they do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::Result;
use crate::model::{NO_EXPERT, Routed};
use crate::policy::Choice;

/// How often each expert of each layer was computed with. Both tables have the shape `[layers, experts]`, row by row; a
/// layer without experts has zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertUse {
    /// Experts of a layer.
    pub experts: usize,
    /// In passes with fewer experts.
    pub little: Vec<u64>,
    /// In passes with all K experts.
    pub big: Vec<u64>,
}

impl ExpertUse {
    fn none(layers: usize, experts: usize) -> Self {
        Self { experts, little: vec![0; layers * experts], big: vec![0; layers * experts] }
    }

    /// Expert evaluations in all: what [`Counters::experts_computed`](crate::Counters::experts_computed) grew by.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.little.iter().chain(&self.big).sum()
    }

    /// `ids`: one row's, one layer after the other.
    fn count(&mut self, choice: Choice, ids: &[u32], layers: &[(usize, usize)]) {
        let table = if choice == Choice::All { &mut self.big } else { &mut self.little };
        let mut ids = ids.iter();
        for &(layer, of_layer) in layers {
            for &id in ids.by_ref().take(of_layer).filter(|&&id| id != NO_EXPERT) {
                table[layer * self.experts + id as usize] += 1;
            }
        }
    }
}

/// Counts for one who looks, until it is dropped.
#[derive(Debug)]
pub struct ExpertWatch {
    watches: Arc<Watches>,
    counted: Arc<Mutex<ExpertUse>>,
}

impl ExpertWatch {
    /// What decoding has computed with since this was last asked, or since the watch began.
    #[must_use]
    pub fn take(&self) -> ExpertUse {
        let mut counted = lock(&self.counted);
        let none = ExpertUse::none(counted.little.len() / counted.experts.max(1), counted.experts);
        std::mem::replace(&mut *counted, none)
    }

    pub(crate) fn is_among(&self, watches: &Arc<Watches>) -> bool {
        Arc::ptr_eq(&self.watches, watches)
    }
}

/// The watches of one engine.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<Vec<Weak<Mutex<ExpertUse>>>>);

impl Watches {
    pub(crate) fn start(self: &Arc<Self>, layers: usize, experts: usize) -> ExpertWatch {
        let counted = Arc::new(Mutex::new(ExpertUse::none(layers, experts)));
        lock(&self.0).push(Arc::downgrade(&counted));
        ExpertWatch { watches: Arc::clone(self), counted }
    }

    /// Whether anybody looks.
    pub(crate) fn any(&self) -> bool {
        let mut watches = lock(&self.0);
        watches.retain(|watch| watch.strong_count() > 0);
        !watches.is_empty()
    }

    /// Counts `rows` of a pass that has been computed, where it tells its experts.
    pub(crate) fn count(
        &self,
        choice: Choice,
        routed: Option<&Routed>,
        rows: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        let Some(routed) = routed else { return Ok(()) };
        let (ids, width) = (routed.ids.try_as_slice::<u32>()?, routed.ids.dim(-1) as usize);
        let watches: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        for row in rows {
            for watch in &watches {
                lock(watch).count(choice, &ids[row * width..][..width], &routed.layers);
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mlx_rs::Array;

    use super::*;

    #[test]
    fn a_watch_counts_from_its_beginning_to_its_end_each_layer_apart() {
        let watches = Arc::new(Watches::default());
        assert!(!watches.any());
        let watch = watches.start(3, 4);
        assert!(watches.any());
        // Two rows; layer 1 is dense, and layer 2 gives two ids a row, of which one stands for nobody.
        let routed =
            Routed { ids: Array::from_slice(&[3_u32, 0, 1, 3, 2, NO_EXPERT], &[2, 3]), layers: vec![(0, 1), (2, 2)] };
        watches.count(Choice::Half { renormalize: false }, Some(&routed), 0..2).expect("counted");
        watches.count(Choice::All, Some(&routed), 0..2).expect("counted");
        let found = watch.take();
        assert_eq!(found.little, [0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 1, 0]);
        assert_eq!((&found.big, found.total()), (&found.little, 10));
        assert_eq!(watch.take().total(), 0);
        assert!(watch.is_among(&watches) && !watch.is_among(&Arc::default()));
        drop(watch);
        assert!(!watches.any());
    }
}
