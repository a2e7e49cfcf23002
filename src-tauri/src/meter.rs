//! Tokens as they are decoded, whoever asked for them: what the live panel and the tray show.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mobile_engine::{CONFIDENCE_BINS, Decision, Engine};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

/// Rates are those of the tokens of this long.
const WINDOW: Duration = Duration::from_secs(2);

/// The histogram is that of this many tokens.
const KEPT: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    decision: Decision,
    confidence: f32,
}

/// The last tokens. Clones are the same meter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    recent: Arc<Mutex<VecDeque<Seen>>>,
    /// Told of every token.
    pub(crate) activity: Arc<Notify>,
}

/// What the last tokens amount to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) tokens_per_second: f64,
    /// Share computed with all experts.
    pub(crate) important: f64,
    /// Share computed twice.
    pub(crate) fallback: f64,
}

impl Meter {
    /// Forgets the tokens of the model before and follows this engine until it ends.
    pub(crate) fn follow(&self, engine: &Engine) {
        self.recent().clear();
        let (meter, mut tokens) = (self.clone(), engine.watch());
        tauri::async_runtime::spawn(async move {
            loop {
                match tokens.recv().await {
                    Ok(token) => {
                        meter.count(Seen {
                            at: Instant::now(),
                            decision: token.decision,
                            confidence: token.confidence,
                        });
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }

    fn count(&self, seen: Seen) {
        let mut recent = self.recent();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(seen);
        drop(recent);
        self.activity.notify_one();
    }

    /// The rates of the last two seconds; `None` when too few tokens were decoded in them.
    pub(crate) fn rates(&self) -> Option<Rates> {
        self.rates_at(Instant::now())
    }

    fn rates_at(&self, now: Instant) -> Option<Rates> {
        let recent = self.recent();
        let fresh: Vec<_> = recent.iter().rev().take_while(|seen| now.duration_since(seen.at) < WINDOW).collect();
        let (last, first) = (fresh.first()?, fresh.last()?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        if seconds == 0.0 {
            return None;
        }
        let share = |which: fn(Decision) -> bool| {
            fresh.iter().filter(|seen| which(seen.decision)).count() as f64 / fresh.len() as f64
        };
        Some(Rates {
            tokens_per_second: (fresh.len() - 1) as f64 / seconds,
            important: share(|d| d != Decision::Little),
            fallback: share(|d| d == Decision::Fallback),
        })
    }

    /// How confident the first passes of the last tokens were, in bins of equal width from 0 to 1.
    pub(crate) fn confidences(&self) -> [u64; CONFIDENCE_BINS] {
        let mut bins = [0; CONFIDENCE_BINS];
        for seen in self.recent().iter() {
            let bin = (seen.confidence * CONFIDENCE_BINS as f32) as usize;
            bins[bin.min(CONFIDENCE_BINS - 1)] += 1;
        }
        bins
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Seen>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_two_seconds() {
        let (meter, start) = (Meter::default(), Instant::now());
        assert_eq!(meter.rates_at(start), None);
        let decisions = [Decision::Little, Decision::Fallback, Decision::Big, Decision::Little];
        for n in 0..40 {
            let at = start + Duration::from_millis(100 * n);
            meter.count(Seen { at, decision: decisions[n as usize % 4], confidence: 0.5 });
        }
        let rates = meter.rates_at(start + Duration::from_millis(3950)).expect("fresh tokens");
        assert!((rates.tokens_per_second - 10.0).abs() < 1e-9);
        assert_eq!((rates.important, rates.fallback), (0.5, 0.25));
        assert_eq!(meter.confidences()[10], 40);
        assert_eq!(meter.rates_at(start + Duration::from_secs(60)), None);
    }

    #[test]
    fn certainty_falls_into_the_last_bin() {
        let meter = Meter::default();
        meter.count(Seen { at: Instant::now(), decision: Decision::Big, confidence: 1.0 });
        assert_eq!(meter.confidences()[CONFIDENCE_BINS - 1], 1);
    }
}
