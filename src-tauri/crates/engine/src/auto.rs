//! `auto`: MoBiLE where it is measured to pay, plain decoding where it is not.
//!
//! A token costs `little + f · again` under MoBiLE and `big` plainly, f being the share that falls back and `again` the
//! big pass that follows a little one: a whole pass where experts are resident, and where they are streamed the fetching
//! of the missing half. While decoding plainly, f is estimated from how often the big model's own confidence is below γ,
//! and the little pass and the one after it are timed by an occasional trial; under MoBiLE a token is now and then
//! decoded plainly to time that.
//!
//! Where experts are streamed, fetching them ahead of need is timed in the same way, and done where it pays.

mod confidences;
mod pays;
mod recent;

use self::confidences::Confidences;
use self::pays::Pays;
use self::recent::Recent;
use crate::policy::{Mobile, Policy};
use crate::statistics::AutoReport;

/// The share of time that MoBiLE must promise to save before it is chosen, and that it is left below. Both are more than
/// nothing, for what is measured may be off by a little, and apart, so that noise does not decide.
const WORTH_CHOOSING: f64 = 0.05;
const WORTH_KEEPING: f64 = 0.02;
/// Trials of the little pass before the first decision.
const FIRST_TRIALS: u32 = 5;
/// Steps between two trials afterwards, and between two plain ones under MoBiLE. A trial costs up to a step's time: 0.4%. A
/// plain step costs up to half of one more, and on a GPU as much again before and behind it, where no pass is begun ahead:
/// 2.4% at most.
const TRIAL_EVERY: u32 = 256;
const PLAIN_EVERY: u32 = 64;
/// What the rows of `auto` do in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Plain,
    /// Plain, after a little pass that is only timed.
    Trial,
    Mobile,
}

/// Measurements of one engine, kept apart by how many rows a step decodes.
#[derive(Debug)]
pub(crate) struct Auto {
    /// Whether the model computes more than one expert a token.
    can_halve: bool,
    widths: Vec<Width>,
    confidences: Confidences,
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
    pub(crate) fn new(can_halve: bool) -> Self {
        Self { can_halve, widths: Vec::new(), confidences: Confidences::default() }
    }

    /// The plan for the next step, of `rows` rows, where the share `f` of tokens falls back. All rows are to follow it:
    /// what the passes of others take would say nothing.
    pub(crate) fn plan(&mut self, rows: usize, f: Option<f64>) -> Plan {
        let plan = self.next(rows, f);
        let mobile = self.pays(rows, f);
        let width = self.width(rows);
        width.mobile = mobile;
        width.trials += u32::from(plan == Plan::Trial);
        let tried = plan == if mobile { Plan::Plain } else { Plan::Trial };
        width.since_trial = if tried { 0 } else { width.since_trial + 1 };
        plan
    }

    /// What [`Auto::plan`] will say, as far as is known.
    pub(crate) fn next(&self, rows: usize, f: Option<f64>) -> Plan {
        let width = self.at(rows);
        if self.pays(rows, f) {
            return if width.since_trial >= PLAIN_EVERY { Plan::Plain } else { Plan::Mobile };
        }
        let due = width.trials < FIRST_TRIALS || width.since_trial >= TRIAL_EVERY;
        let may = self.can_halve && width.time(Pass::Big).is_some();
        if may && due { Plan::Trial } else { Plan::Plain }
    }

    /// The plan for rows that share their step with others.
    pub(crate) fn beside_others(&self, rows: usize, f: Option<f64>) -> Plan {
        if self.pays(rows, f) { Plan::Mobile } else { Plan::Plain }
    }

    /// Reports the time of a pass over `of` rows in a step of `rows`. The first of its kind is left out: it warms up.
    pub(crate) fn timed(&mut self, rows: usize, pass: Pass, of: usize, seconds: f64) {
        let width = self.width(rows);
        if std::mem::replace(&mut width.warm[pass as usize], true) {
            // Fewer rows fall back than were decoded; kept is what all of them would take.
            width.times[pass as usize].add(seconds * rows as f64 / of as f64);
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

    /// Reports how sure the model was of a token: the little one, where it has computed it.
    pub(crate) fn saw(&mut self, confidence: f32) {
        self.confidences.add(confidence);
    }

    /// Share of tokens that fall back under these thresholds, a row each, or would; once known.
    pub(crate) fn fallback_rate(&self, gammas: impl IntoIterator<Item = f32>) -> Option<f64> {
        let shares = gammas.into_iter().map(|gamma| self.confidences.below(gamma)).collect::<Option<Vec<f64>>>()?;
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// Whether MoBiLE promises to save enough at this width; not before everything has been measured.
    fn pays(&self, rows: usize, f: Option<f64>) -> bool {
        let width = self.at(rows);
        let gain = || {
            let (big, little) = (width.time(Pass::Big)?, width.time(Pass::Little)?);
            Some(1.0 - (little + f? * width.time(Pass::Again)?) / big)
        };
        let gain = if self.can_halve { gain() } else { None };
        gain.map_or(width.mobile, |gain| gain > if width.mobile { WORTH_KEEPING } else { WORTH_CHOOSING })
    }

    /// What is known of steps of so many rows.
    fn at(&self, rows: usize) -> Width {
        self.widths.get(bucket(rows)).copied().unwrap_or_default()
    }

    fn width(&mut self, rows: usize) -> &mut Width {
        let index = bucket(rows);
        if self.widths.len() <= index {
            self.widths.resize(index + 1, Width::default());
        }
        &mut self.widths[index]
    }

    /// What was chosen last at this width, and why, for a request with the threshold `gamma`.
    pub(crate) fn report(&self, rows: usize, gamma: f32) -> AutoReport {
        let f = self.confidences.below(gamma);
        let width = self.at(rows);
        let [little_ms, again_ms, big_ms] =
            [Pass::Little, Pass::Again, Pass::Big].map(|pass| width.time(pass).map(|seconds| seconds * 1e3));
        let why = match (big_ms, little_ms, again_ms.zip(f)) {
            _ if !self.can_halve => "the model computes one expert a token: there is nothing to halve".to_owned(),
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
        let chosen = if width.mobile { "mobile" } else { "full" };
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

/// Widths that are measured together: 1, 2 and 3, 4 to 7, and so on.
fn bucket(rows: usize) -> usize {
    rows.max(1).ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAMMA: f32 = 0.7;

    /// One step of one row, at the times given.
    fn step(auto: &mut Auto, little: f64, again: f64, big: f64, falls: bool) -> f64 {
        let plan = auto.plan(1, auto.fallback_rate([GAMMA]));
        let mut passes = Vec::new();
        if plan != Plan::Plain {
            passes.push((Pass::Little, little));
        }
        match plan {
            Plan::Plain => passes.push((Pass::Big, big)),
            Plan::Mobile if !falls => {}
            Plan::Trial | Plan::Mobile => passes.push((Pass::Again, again)),
        }
        passes.iter().for_each(|&(pass, seconds)| auto.timed(1, pass, 1, seconds));
        auto.saw(if falls { 0.3 } else { 0.9 });
        passes.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Lets `auto` decode with the given times and fallback rate; gives the seconds per token it took.
    fn decode(auto: &mut Auto, tokens: usize, big: f64, little: f64, f: f64) -> f64 {
        decode_again(auto, tokens, big, little, big, f)
    }

    /// As `decode`, with a time of its own for the big pass after a little one.
    fn decode_again(auto: &mut Auto, tokens: usize, big: f64, little: f64, again: f64, f: f64) -> f64 {
        let falls = |n: usize| (n as f64 * f).fract() + f >= 1.0;
        (0..tokens).map(|n| step(auto, little, again, big, falls(n))).sum::<f64>() / tokens as f64
    }

    #[test]
    fn plain_where_falling_back_costs_more_than_it_saves() {
        let per_token = decode(&mut Auto::new(true), 2000, 1.0, 0.8, 0.3);
        assert!(per_token < 1.02, "{per_token}");
    }

    #[test]
    fn mobile_where_it_pays() {
        let per_token = decode(&mut Auto::new(true), 2000, 1.0, 0.6, 0.1);
        assert!(per_token < 0.75, "{per_token}");
    }

    #[test]
    fn changes_its_mind_when_the_text_does() {
        let mut auto = Auto::new(true);
        decode(&mut auto, 500, 1.0, 0.6, 0.05);
        assert_eq!(auto.report(1, GAMMA).chosen, "mobile");
        decode(&mut auto, 500, 1.0, 0.6, 0.9);
        assert_eq!(auto.report(1, GAMMA).chosen, "full");
        decode(&mut auto, 500, 1.0, 0.6, 0.05);
        assert_eq!(auto.report(1, GAMMA).chosen, "mobile");
    }

    #[test]
    fn streamed_experts_make_falling_back_cheap() {
        let resident = decode(&mut Auto::new(true), 2000, 1.0, 0.6, 0.45);
        let streamed = decode_again(&mut Auto::new(true), 2000, 1.0, 0.5, 0.5, 0.45);
        assert!((0.99..1.02).contains(&resident), "{resident}");
        assert!((0.70..0.80).contains(&streamed), "{streamed}");
    }

    #[test]
    fn a_machine_that_was_busy_for_a_while_is_not_taken_for_a_slow_model() {
        let mut auto = Auto::new(true);
        // Plain passes take three times as long now and then, little ones never: all of them were lucky.
        let mut plain = 0;
        for n in 0..40 {
            plain += usize::from(auto.next(1, auto.fallback_rate([GAMMA])) == Plan::Plain);
            step(&mut auto, 0.7, 1.0, if plain % 4 == 0 { 3.0 } else { 1.0 }, n % 3 == 0);
        }
        assert_eq!(auto.report(1, GAMMA).chosen, "full", "{}", auto.report(1, GAMMA).why);
    }

    #[test]
    fn nothing_to_halve_is_said() {
        let mut auto = Auto::new(false);
        assert_eq!(auto.plan(1, None), Plan::Plain);
        assert!(auto.report(1, GAMMA).why.contains("nothing to halve"));
    }

    #[test]
    fn what_comes_next_is_known_before() {
        let mut auto = Auto::new(true);
        for n in 0..1000 {
            let f = auto.fallback_rate([GAMMA]);
            let next = auto.next(1, f);
            let plan = auto.plan(1, f);
            assert_eq!(plan, next, "step {n}");
            auto.timed(1, if plan == Plan::Plain { Pass::Big } else { Pass::Little }, 1, 1.0);
            auto.saw(0.9);
        }
    }

    #[test]
    fn many_rows_are_one_plan_and_fewer_of_them_fall_back() {
        let mut auto = Auto::new(true);
        for n in 0..400 {
            let plan = auto.plan(8, auto.fallback_rate([GAMMA; 8]));
            if plan == Plan::Plain {
                auto.timed(8, Pass::Big, 8, 8.0);
            } else {
                auto.timed(8, Pass::Little, 8, 5.0);
                // A row costs one, however many there are.
                let rows = if plan == Plan::Trial { 8 } else { 1 };
                auto.timed(8, Pass::Again, rows, rows as f64);
            }
            (0..8).for_each(|row| auto.saw(if row == n % 8 { 0.3 } else { 0.9 }));
        }
        let report = auto.report(8, GAMMA);
        assert_eq!((report.chosen, report.again_ms), ("mobile", Some(8000.0)), "{}", report.why);
        assert_eq!(auto.report(1, GAMMA).why, "not enough measured yet");
    }
}
