//! What each threshold costs in quality and gains in speed, for one model on this machine.

mod recommend;
mod store;

use std::time::{SystemTime, UNIX_EPOCH};

use mobile_engine::{CONFIDENCE_BINS, Engine, Generation, Mobile, ModelInfo, Policy, Prefill, Request};

pub use recommend::{closest, recommend};
pub use store::{Calibration, Key, Point, keeps, load, store};

use crate::forced::{Baseline, MeasureError, Measured, Setting, measure};
use crate::items::{Item, sample, spread_evenly, windows};

/// English of several kinds, written for this purpose.
pub const TEXT: &str = include_str!("text.txt");

/// Tokens of a window, and windows decoded together, where quality is measured.
const WINDOW: usize = 256;
const BATCH: usize = 32;

/// The thresholds to try, and how thoroughly.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The thresholds.
    pub gammas: Vec<f32>,
    /// How much perplexity may grow over that of all experts.
    pub bound: f64,
    /// Scale half of the experts to the routing weight of all.
    pub renormalize: bool,
    /// Only about this many tokens of the text, in windows spread evenly over it.
    pub tokens: Option<u64>,
    /// Tokens decoded for one measurement of speed.
    pub speed_tokens: usize,
    /// Measurements of speed of each threshold, at different places of the text.
    pub runs: usize,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            gammas: vec![0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.01],
            bound: 0.01,
            renormalize: false,
            tokens: None,
            speed_tokens: 64,
            runs: 5,
        }
    }
}

/// Who looks on while a survey runs, and may end it.
pub trait Watch {
    /// Whether the survey is to end early; asked between two tokens.
    fn stopped(&self) -> bool;

    /// The quality of a policy is going to be measured on so many tokens.
    fn begins(&mut self, policy: &Policy, tokens: u64);

    /// So many of them are done.
    fn decoded(&mut self, tokens: u64);

    /// All of them are; next comes the policy's speed.
    fn judged(&mut self);

    /// A threshold is known.
    fn found(&mut self, point: &Point);
}

/// What a survey found out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The thresholds that are known.
    pub points: Vec<Point>,
    /// Tokens that quality was measured on.
    pub tokens: u64,
    /// How confident half of the experts were in them.
    pub confidences: [u64; CONFIDENCE_BINS],
    /// Whether every threshold is known.
    pub complete: bool,
}

impl Found {
    /// What to keep of it; `None` where no threshold is good enough.
    #[must_use]
    pub fn calibration(&self, model: &ModelInfo, survey: &Survey) -> Option<Calibration> {
        let best = recommend(&self.points, survey.bound)?;
        Some(Calibration {
            key: Key::new(model, survey.renormalize),
            gamma: best.gamma,
            bound: survey.bound,
            complete: self.complete,
            measured: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            tokens: self.tokens,
            confidences: self.confidences,
            points: self.points.clone(),
        })
    }
}

impl Survey {
    /// Measures every threshold on `text`. What is known before an error or an early end stays in `found`.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn run(
        &self,
        engine: &Engine,
        text: &str,
        watch: &mut dyn Watch,
        found: &mut Found,
    ) -> Result<(), MeasureError> {
        let ids = engine.text().encode(text)?;
        let needed = (self.speed_tokens + 1).max(2);
        if ids.len() < needed {
            return Err(MeasureError::ShortText { tokens: ids.len(), needed });
        }
        let items = sample(windows(&ids, WINDOW), self.tokens);
        Work { survey: self, engine, ids: &ids, items: &items, baseline: Vec::new(), watch, found }.all()
    }
}

struct Work<'a> {
    survey: &'a Survey,
    engine: &'a Engine,
    ids: &'a [u32],
    items: &'a [Item],
    baseline: Baseline,
    watch: &'a mut dyn Watch,
    found: &'a mut Found,
}

impl Work<'_> {
    fn all(&mut self) -> Result<(), MeasureError> {
        let Some(full) = self.quality(Policy::Full)? else { return Ok(()) };
        self.baseline = full.thoughts;
        self.found.tokens = full.tokens;
        let renormalize = self.survey.renormalize;
        for &gamma in &self.survey.gammas {
            let policy = Policy::Mobile(Mobile { gamma, renormalize, ..Mobile::default() });
            policy.check(self.engine.info().top_k)?;
            let Some(quality) = self.quality(policy)? else { return Ok(()) };
            let Some((mine, plain)) = self.speed(policy)? else { return Ok(()) };
            let point = Point {
                gamma,
                perplexity_ratio: quality.ratio(),
                perplexity_ratio_error: quality.ratio_error(),
                tokens_per_second: mine,
                speedup: mine / plain,
                fallback_rate: quality.fallback_rate(),
                experts_used: quality.experts_used(),
            };
            // Half of the experts try every token first, whatever the threshold.
            self.found.confidences = quality.confidences;
            self.found.points.push(point);
            self.watch.found(&point);
        }
        self.found.complete = true;
        Ok(())
    }

    /// `None` where it was cut short.
    fn quality(&mut self, policy: Policy) -> Result<Option<Measured>, MeasureError> {
        let total = self.items.iter().map(|i| i.forced.len() as u64).sum();
        self.watch.begins(&policy, total);
        let setting = Setting { prefill: Prefill::All, batch: BATCH };
        let watch = &mut *self.watch;
        let measured = measure(self.engine, self.items, policy, setting, Some(&self.baseline), |done| {
            watch.decoded(done);
            !watch.stopped()
        })?;
        self.watch.judged();
        Ok(Some(measured).filter(|m| m.complete))
    }

    /// Tokens per second of the policy and of plain decoding, turn by turn on the same pieces of the text, so that a
    /// machine that slows down meanwhile slows down both.
    fn speed(&self, policy: Policy) -> Result<Option<(f64, f64)>, MeasureError> {
        let tokens = self.survey.speed_tokens;
        // One run of each that does not count: the first pass of a kind is slower.
        self.seconds(policy, 0, tokens.min(8))?;
        self.seconds(Policy::Full, 0, tokens.min(8))?;
        let (mut mine, mut plain) = (0.0, 0.0);
        for start in spread_evenly(self.ids.len() - tokens, self.survey.runs) {
            if self.watch.stopped() {
                return Ok(None);
            }
            mine += self.seconds(policy, start, tokens)?;
            plain += self.seconds(Policy::Full, start, tokens)?;
        }
        let runs = self.survey.runs.min(self.ids.len() - tokens);
        let decoded = ((tokens - 1) * runs) as f64;
        Ok(Some((decoded / mine, decoded / plain)))
    }

    /// Seconds that the tokens after the first took.
    fn seconds(&self, policy: Policy, start: usize, tokens: usize) -> Result<f64, MeasureError> {
        let request = Request {
            policy,
            forced: Some(self.ids[start + 1..=start + tokens].to_vec()),
            reuse_prefix: false,
            ..Request::new(vec![self.ids[start]], tokens)
        };
        let (tokens, _) = self.engine.submit(request).and_then(Generation::wait)?;
        Ok(tokens.iter().skip(1).map(|t| t.ms / 1e3).sum())
    }
}
