//! Whether fetching ahead of need makes passes faster, as the passes themselves show.

use super::Recent;

/// Passes of either kind before the first verdict.
const FEW: usize = 12;
/// From then on, one pass in so many is done the way that has not paid.
const OTHER_EVERY: u32 = 32;
/// What fetching ahead must save to be worth its reads, as a share of a pass.
const MARGIN: f64 = 0.02;

/// Times of passes without and with it, in turn at first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pays {
    times: [Recent; 2],
    since: u32,
}

impl Pays {
    /// Whether the next pass is to do it. The pass is to be reported by [`Pays::timed`].
    pub(super) fn next(&self) -> bool {
        let [without, with] = self.times.map(|time| time.seen());
        match self.verdict() {
            None => with < without,
            Some(pays) => pays != (self.since >= OTHER_EVERY),
        }
    }

    /// Reports a pass, with or without it.
    pub(super) fn timed(&mut self, with: bool, seconds: f64) {
        let other = self.verdict().is_some_and(|pays| pays != with);
        self.since = if other { 0 } else { self.since + 1 };
        self.times[usize::from(with)].add(seconds);
    }

    /// Whether it pays, once known.
    pub(super) fn verdict(&self) -> Option<bool> {
        let [without, with] = self.times.map(|time| time.median().filter(|_| time.seen() >= FEW));
        Some(with? < without? * (1.0 - MARGIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many passes that take the given times without and with it; how many did it.
    fn passes(pays: &mut Pays, passes: usize, times: [f64; 2]) -> usize {
        let mut done = 0;
        for _ in 0..passes {
            let with = pays.next();
            pays.timed(with, times[usize::from(with)]);
            done += usize::from(with);
        }
        done
    }

    #[test]
    fn what_pays_is_done_and_what_does_not_is_only_tried() {
        let mut pays = Pays::default();
        assert_eq!((passes(&mut pays, 2 * FEW, [1.0, 0.8]), pays.verdict()), (FEW, Some(true)));
        assert!(passes(&mut pays, 330, [1.0, 0.8]) >= 320);
        let mut pays = Pays::default();
        passes(&mut pays, 2 * FEW, [1.0, 0.99]);
        assert_eq!(pays.verdict(), Some(false));
        assert!((8..=11).contains(&passes(&mut pays, 330, [1.0, 0.99])));
    }

    #[test]
    fn a_disk_that_gets_slower_changes_the_verdict() {
        let mut pays = Pays::default();
        passes(&mut pays, 100, [1.0, 1.1]);
        assert_eq!(pays.verdict(), Some(false));
        passes(&mut pays, 2000, [2.0, 1.1]);
        assert_eq!(pays.verdict(), Some(true));
    }
}
