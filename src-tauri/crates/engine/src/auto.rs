//! `auto`: MoBiLE where it is measured to pay, plain decoding where it is not.
//!
//! A token costs `little + f · again` under MoBiLE and `big` plainly, f being the share that falls back and `again` the
//! big pass that follows a little one: a whole pass where experts are resident, and where they are streamed the fetching
//! of the missing half. While decoding plainly, f is estimated from how often the big model's own confidence is below γ,
//! and the little pass and the one after it are timed by an occasional trial; under MoBiLE a token is now and then
//! decoded plainly to time that.
//!
//! Where experts are streamed, fetching them ahead of need is timed in the same way, and done where it pays.

mod pays;
mod recent;

use self::pays::Pays;
use self::recent::Recent;
use crate::policy::{Decision, Mobile, Policy};
use crate::statistics::AutoReport;

/// The share of time that MoBiLE must promise to save before it is chosen, and that it is left below. Both are more than
/// nothing, for what is measured may be off by a little, and apart, so that noise does not decide.
const WORTH_CHOOSING: f64 = 0.05;
const WORTH_KEEPING: f64 = 0.02;
/// Trials of the little pass before the first decision.
const FIRST_TRIALS: u32 = 5;
/// Tokens between two trials afterwards, and between two plain tokens under MoBiLE. A trial costs up to a token's time and
/// a plain token up to half of one more, so that either is at most half a percent or so.
const TRIAL_EVERY: u32 = 256;
const PLAIN_EVERY: u32 = 64;
/// Weight of a new token in the fallback rate, once that many have been seen.
const RECENT_TOKEN: f64 = 0.01;
/// Tokens seen before the fallback rate is believed.
const FEW_TOKENS: u32 = 32;

/// A mean of what was seen so far that turns into a running mean.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    mean: f64,
    seen: u32,
}

impl Running {
    fn add(&mut self, value: f64) {
        self.seen = self.seen.saturating_add(1);
        self.mean += (value - self.mean) * RECENT_TOKEN.max(1.0 / f64::from(self.seen));
    }

    /// The mean, once `least` values have been seen.
    fn known(&self, least: u32) -> Option<f64> {
        (self.seen >= least).then_some(self.mean)
    }
}

/// What a row does next under `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Plain,
    /// Plain, after a little pass that is only timed.
    Trial,
    Mobile,
}

/// Measurements of one engine, kept apart by how many rows share a pass.
#[derive(Debug, Default)]
pub(crate) struct Auto {
    widths: Vec<Width>,
    fallback: Running,
}

#[derive(Debug, Clone, Copy, Default)]
struct Width {
    /// By [`Pass`].
    times: [Recent; 3],
    warm: [bool; 3],
    trials: u32,
    since_trial: u32,
    mobile: bool,
    /// What the little pass left out, in the passes after one.
    prefetch: Pays,
    /// What the next layer will probably want, by [`Pass`].
    look_ahead: [Pays; 3],
}

/// A pass as far as its time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Little,
    /// With all K experts, after a little pass over the same token.
    Again,
    /// With all K experts at once.
    Big,
}

impl Width {
    /// Seconds of a pass, once known.
    fn time(&self, pass: Pass) -> Option<f64> {
        self.times[pass as usize].median()
    }
}

impl Auto {
    /// The plan for rows that decode `rows` at a time.
    pub(crate) fn plan(&mut self, rows: usize, can_halve: bool) -> Plan {
        if !can_halve {
            return Plan::Plain;
        }
        let gain = self.gain(rows);
        let width = self.width(rows);
        if let Some(gain) = gain {
            width.mobile = gain > if width.mobile { WORTH_KEEPING } else { WORTH_CHOOSING };
        }
        match width.mobile {
            true if width.since_trial >= PLAIN_EVERY => {
                width.since_trial = 0;
                Plan::Plain
            }
            true => {
                width.since_trial += 1;
                Plan::Mobile
            }
            _ if width.time(Pass::Big).is_none() => Plan::Plain,
            _ if width.trials < FIRST_TRIALS || width.since_trial >= TRIAL_EVERY => {
                width.trials += 1;
                width.since_trial = 0;
                Plan::Trial
            }
            _ => {
                width.since_trial += 1;
                Plan::Plain
            }
        }
    }

    /// Reports the time of a pass of `rows` rows. The first of its kind is left out: it warms up.
    pub(crate) fn timed(&mut self, rows: usize, pass: Pass, seconds: f64) {
        let width = self.width(rows);
        if std::mem::replace(&mut width.warm[pass as usize], true) {
            width.times[pass as usize].add(seconds);
        }
    }

    /// Whether the pass after a little one is to have its experts fetched ahead.
    pub(crate) fn prefetch(&mut self, rows: usize) -> bool {
        self.width(rows).prefetch.next()
    }

    /// Reports a pass after a little one, with its experts fetched ahead or not.
    pub(crate) fn prefetched(&mut self, rows: usize, ahead: bool, seconds: f64) {
        self.width(rows).prefetch.timed(ahead, seconds);
    }

    /// Whether the layers of the next pass are to look ahead.
    pub(crate) fn look_ahead(&mut self, rows: usize, pass: Pass) -> bool {
        self.width(rows).look_ahead[pass as usize].next()
    }

    /// Reports a pass whose layers looked ahead or did not.
    pub(crate) fn looked_ahead(&mut self, rows: usize, pass: Pass, ahead: bool, seconds: f64) {
        self.width(rows).look_ahead[pass as usize].timed(ahead, seconds);
    }

    /// Reports whether a token fell back, or would have.
    pub(crate) fn judged(&mut self, fell_back: bool) {
        self.fallback.add(f64::from(u8::from(fell_back)));
    }

    /// Share of tokens that fall back or would, once known.
    pub(crate) fn fallback_rate(&self) -> Option<f64> {
        self.fallback.known(FEW_TOKENS)
    }

    /// The share of time that MoBiLE saves at this width; unknown before everything has been measured.
    fn gain(&mut self, rows: usize) -> Option<f64> {
        let f = self.fallback.known(FEW_TOKENS)?;
        let width = self.width(rows);
        let (big, little) = (width.time(Pass::Big)?, width.time(Pass::Little)?);
        Some(1.0 - (little + f * width.time(Pass::Again)?) / big)
    }

    fn width(&mut self, rows: usize) -> &mut Width {
        let index = rows.max(1).ilog2() as usize;
        if self.widths.len() <= index {
            self.widths.resize(index + 1, Width::default());
        }
        &mut self.widths[index]
    }

    /// What was chosen last at this width, and why.
    pub(crate) fn report(&mut self, rows: usize, can_halve: bool) -> AutoReport {
        let f = self.fallback.known(FEW_TOKENS);
        let width = *self.width(rows);
        let [little_ms, again_ms, big_ms] =
            [Pass::Little, Pass::Again, Pass::Big].map(|pass| width.time(pass).map(|seconds| seconds * 1e3));
        let why = match (big_ms, little_ms, again_ms.zip(f)) {
            _ if !can_halve => "the model computes one expert a token: there is nothing to halve".to_owned(),
            (Some(b), Some(l), Some((a, f))) => format!(
                "a token costs {:.2} ms with MoBiLE ({l:.2} ms + {:.0}% of {a:.2} ms) and {b:.2} ms plainly",
                l + f * a,
                f * 100.0
            ),
            _ => "not enough measured yet".to_owned(),
        };
        let verdicts = [
            ("a fallback's experts", width.prefetch.verdict()),
            ("the next layer's", width.look_ahead[Pass::Big as usize].verdict()),
            ("the next layer's with half of them", width.look_ahead[Pass::Little as usize].verdict()),
        ];
        let said = verdicts.into_iter().filter_map(|(what, pays)| {
            let verdict = if pays? { "pays" } else { "does not pay" };
            Some(format!("; fetching {what} ahead {verdict}"))
        });
        let why = why + &said.collect::<String>();
        let chosen = if width.mobile && can_halve { "mobile" } else { "full" };
        AutoReport { chosen, why, big_ms, little_ms, again_ms, fallback_rate: f }
    }
}

impl Plan {
    /// The policy that stands in for `auto` until the next token.
    pub(crate) fn policy(self, mobile: Mobile) -> Policy {
        match self {
            Self::Plain | Self::Trial => Policy::Full,
            Self::Mobile => Policy::Mobile(mobile),
        }
    }
}

/// Whether a token that came about this way, this confident, falls back under γ or would have.
pub(crate) fn would_fall_back(decision: Decision, confidence: f32, gamma: f32) -> bool {
    decision == Decision::Fallback || confidence < gamma
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `auto` decode with the given times and fallback rate; gives the seconds per token it took.
    fn decode(auto: &mut Auto, tokens: usize, big: f64, little: f64, f: f64) -> f64 {
        decode_again(auto, tokens, big, little, big, f)
    }

    /// As `decode`, with a time of its own for the big pass after a little one.
    fn decode_again(auto: &mut Auto, tokens: usize, big: f64, little: f64, again: f64, f: f64) -> f64 {
        let mut total = 0.0;
        for n in 0..tokens {
            let falls = (n as f64 * f).fract() + f >= 1.0;
            match auto.plan(1, true) {
                Plan::Plain => {
                    auto.timed(1, Pass::Big, big);
                    total += big;
                }
                Plan::Trial => {
                    auto.timed(1, Pass::Little, little);
                    auto.timed(1, Pass::Again, again);
                    total += little + again;
                }
                Plan::Mobile => {
                    auto.timed(1, Pass::Little, little);
                    total += little;
                    if falls {
                        auto.timed(1, Pass::Again, again);
                        total += again;
                    }
                }
            }
            auto.judged(falls);
        }
        total / tokens as f64
    }

    #[test]
    fn plain_where_falling_back_costs_more_than_it_saves() {
        let per_token = decode(&mut Auto::default(), 2000, 1.0, 0.8, 0.3);
        assert!(per_token < 1.02, "{per_token}");
    }

    #[test]
    fn mobile_where_it_pays() {
        let per_token = decode(&mut Auto::default(), 2000, 1.0, 0.6, 0.1);
        assert!(per_token < 0.75, "{per_token}");
    }

    #[test]
    fn changes_its_mind_when_the_text_does() {
        let mut auto = Auto::default();
        decode(&mut auto, 500, 1.0, 0.6, 0.05);
        assert_eq!(auto.report(1, true).chosen, "mobile");
        decode(&mut auto, 500, 1.0, 0.6, 0.9);
        assert_eq!(auto.report(1, true).chosen, "full");
        decode(&mut auto, 500, 1.0, 0.6, 0.05);
        assert_eq!(auto.report(1, true).chosen, "mobile");
    }

    #[test]
    fn streamed_experts_make_falling_back_cheap() {
        let resident = decode(&mut Auto::default(), 2000, 1.0, 0.6, 0.45);
        let streamed = decode_again(&mut Auto::default(), 2000, 1.0, 0.5, 0.5, 0.45);
        assert!((0.99..1.02).contains(&resident), "{resident}");
        assert!((0.70..0.80).contains(&streamed), "{streamed}");
    }

    #[test]
    fn a_machine_that_was_busy_for_a_while_is_not_taken_for_a_slow_model() {
        let mut auto = Auto::default();
        // Plain passes take three times as long now and then, little ones never: all of them were lucky.
        for n in 0..40 {
            auto.judged(n % 3 == 0);
            match auto.plan(1, true) {
                Plan::Plain => auto.timed(1, Pass::Big, if n % 4 == 0 { 3.0 } else { 1.0 }),
                _ => {
                    auto.timed(1, Pass::Little, 0.7);
                    auto.timed(1, Pass::Again, 1.0);
                }
            }
        }
        assert_eq!(auto.report(1, true).chosen, "full", "{}", auto.report(1, true).why);
    }

    #[test]
    fn nothing_to_halve_is_said() {
        let mut auto = Auto::default();
        assert_eq!(auto.plan(1, false), Plan::Plain);
        assert!(auto.report(1, false).why.contains("nothing to halve"));
    }
}
