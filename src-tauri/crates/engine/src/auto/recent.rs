//! What the last of many measurements say.

/// Measurements that count: enough for their median to be steady, few enough for it to follow a machine that changes.
const KEPT: usize = 15;

/// The last [`KEPT`] times of something. Their median is what is asked for: a mean would be spoilt for long by a few
/// passes during which the machine did something else.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recent {
    times: [f64; KEPT],
    seen: usize,
}

impl Recent {
    pub(super) fn add(&mut self, seconds: f64) {
        self.times[self.seen % KEPT] = seconds;
        self.seen += 1;
    }

    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// None before the first.
    pub(super) fn median(&self) -> Option<f64> {
        let mut times = self.times;
        let times = &mut times[..KEPT.min(self.seen)];
        times.sort_unstable_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_outliers_do_not_show_and_what_stays_does() {
        let mut recent = Recent::default();
        assert_eq!(recent.median(), None);
        recent.add(2.0);
        assert_eq!(recent.median(), Some(2.0));
        for n in 0..100 {
            recent.add(if n % 3 == 0 { 50.0 } else { 1.0 });
        }
        assert_eq!((recent.median(), recent.seen()), (Some(1.0), 101));
        for _ in 0..=KEPT / 2 {
            recent.add(4.0);
        }
        assert_eq!(recent.median(), Some(4.0));
    }
}
