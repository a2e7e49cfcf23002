//! `mobile bench`: the policies side by side on one model.

mod report;
mod time;

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use mobile_engine::{DEFAULT_GAMMA, Engine, Mobile, Policy};
use mobile_host::calibration::TEXT;

use self::report::{Line, Report, Situation};
use self::time::{Run, run as timed};
use crate::args::{BenchArgs, PolicyArg};
use crate::error::Failure;
use crate::eval::read;
use crate::generate::write_now;
use crate::numbers::{Spread, quantile};
use crate::{calibration, interrupt, model, plot};

/// How far from the wanted share of fallbacks a threshold may lead before it is sought once more, and how often.
const RATE_TOLERANCE: f64 = 0.01;
const RATE_ROUNDS: u32 = 4;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let text = args.text.as_deref().map_or_else(|| Ok(TEXT.to_owned()), read)?;
    interrupt::install()?;
    let begun = Instant::now();
    let engine = model::load(&args.model)?;
    let load_seconds = begun.elapsed().as_secs_f64();
    interrupt::measuring();
    let ids = engine.text().encode(&text).map_err(Failure::Request)?;
    if ids.is_empty() {
        return Err(Failure::Input("the text for the prompts is empty".to_owned()));
    }
    let report = Report {
        model: engine.info(),
        tokens: args.tokens,
        runs: args.runs,
        batch: args.batch,
        load_seconds,
        peak_memory_bytes: 0,
        complete: false,
        rows: Vec::new(),
    };
    let mut bench = Bench { engine: &engine, args, ids: &ids, bar: ProgressBar::new_spinner(), report };
    bench.bar.enable_steady_tick(Duration::from_millis(200));
    let measured = bench.all();
    bench.bar.finish_and_clear();
    bench.report.complete = matches!(measured, Ok(true));
    bench.show()?;
    if measured? { Ok(()) } else { Err(Failure::Interrupted) }
}

struct Bench<'a> {
    engine: &'a Engine,
    args: &'a BenchArgs,
    ids: &'a [u32],
    bar: ProgressBar,
    report: Report<'a>,
}

impl Bench<'_> {
    /// Measures every situation; false when that was cut short.
    fn all(&mut self) -> Result<bool, Failure> {
        let wanted: Vec<Option<f64>> = match self.args.fallback_rate.as_slice() {
            [] => vec![None],
            rates => rates.iter().copied().map(Some).collect(),
        };
        for &prompt_tokens in &self.args.prompt_tokens {
            for &wanted in &wanted {
                if !self.compare(Situation { prompt_tokens, wanted })? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Runs the policies in turn, so that a machine that slows down meanwhile slows down all of them.
    fn compare(&mut self, situation: Situation) -> Result<bool, Failure> {
        let prompts = self.prompts(situation.prompt_tokens as usize);
        let gamma = match situation.wanted {
            Some(rate) => self.gamma_for(rate, &prompts)?,
            None => self.args.gamma.or_else(|| calibration::stored_gamma(self.engine.info(), self.args.renormalize)),
        };
        let policies = self.policies(gamma.unwrap_or(DEFAULT_GAMMA))?;
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); policies.len()];
        // The first round warms up and is not counted.
        'rounds: for round in 0..=self.args.runs {
            for (policy, runs) in policies.iter().zip(&mut runs) {
                if interrupt::requested() {
                    break 'rounds;
                }
                self.bar.set_message(format!("{} run {round} of {}", policy.name(), self.args.runs));
                let run = timed(self.engine, &prompts, self.args.tokens as usize, *policy)?;
                self.report.peak_memory_bytes = self.report.peak_memory_bytes.max(run.peak_memory_bytes);
                if round > 0 {
                    runs.push(run);
                }
            }
        }
        let full = policies
            .iter()
            .zip(&runs)
            .find(|(policy, _)| **policy == Policy::Full)
            .and_then(|(_, runs)| Spread::of(&runs.iter().map(|r| r.decode).collect::<Vec<_>>()).map(|s| s.median));
        let lines = policies.iter().zip(&runs).filter_map(|(policy, runs)| Line::new(situation, *policy, runs, full));
        self.report.rows.extend(lines);
        Ok(!interrupt::requested())
    }

    /// Those asked for, full first. What the model cannot do is left out, and said.
    fn policies(&self, gamma: f32) -> Result<Vec<Policy>, Failure> {
        let renormalize = self.args.renormalize;
        let mobile = Mobile { gamma, renormalize, ..Mobile::default() };
        let mass = Policy::Mass { share: self.args.share };
        let without = Policy::Mobile(Mobile { prefetch: false, ..mobile });
        let all = [
            (PolicyArg::Full, Policy::Full),
            (PolicyArg::Little, Policy::Little { renormalize }),
            (PolicyArg::Mobile, Policy::Mobile(mobile)),
            (PolicyArg::Mobile, without),
            (PolicyArg::Mass, mass),
            (PolicyArg::Auto, Policy::Auto(mobile)),
        ];
        let info = self.engine.info();
        let streamed = info.expert_slots < info.experts;
        let wanted = |name| self.args.only.is_empty() || self.args.only.contains(&name);
        let mut policies = Vec::new();
        for (_, policy) in all.into_iter().filter(|&(name, policy)| wanted(name) && (streamed || policy != without)) {
            match policy.check(self.engine.info().top_k) {
                Ok(()) => policies.push(policy),
                Err(error @ mobile_engine::Error::NothingToHalve { .. }) => eprintln!("left out: {error}"),
                Err(error) => return Err(Failure::Request(error)),
            }
        }
        Ok(policies)
    }

    /// Prompts of this length out of the text, from the start again where it ends; each begins elsewhere.
    fn prompts(&self, length: usize) -> Vec<Vec<u32>> {
        let at = |n: usize| self.ids[n % self.ids.len()];
        (0..usize::from(self.args.batch)).map(|row| (0..length).map(|n| at(row * 61 + n)).collect()).collect()
    }

    /// A threshold under which about this share of tokens falls back. What is decoded depends on the threshold, and the
    /// confidences on what is decoded, so it is sought in a few rounds.
    fn gamma_for(&self, rate: f64, prompts: &[Vec<u32>]) -> Result<Option<f32>, Failure> {
        if rate <= 0.0 || rate >= 1.0 {
            return Ok(Some(if rate <= 0.0 { 0.0 } else { 1.01 }));
        }
        self.bar.set_message(format!("looking for the threshold of {:.0}% fallbacks", rate * 100.0));
        let renormalize = self.args.renormalize;
        let tokens = self.args.tokens as usize;
        let mut confidences = timed(self.engine, prompts, tokens, Policy::Little { renormalize })?.confidences;
        let mut best: Option<(f64, f32)> = None;
        for _ in 0..RATE_ROUNDS {
            if interrupt::requested() {
                break;
            }
            let Some(gamma) = quantile(&confidences, rate).map(|g| g as f32) else { break };
            let mobile = Policy::Mobile(Mobile { gamma, renormalize, ..Mobile::default() });
            let run = timed(self.engine, prompts, tokens, mobile)?;
            let off = (run.fallback_rate - rate).abs();
            if best.is_none_or(|(least, _)| off < least) {
                best = Some((off, gamma));
            }
            if off <= RATE_TOLERANCE {
                break;
            }
            confidences.extend(run.confidences);
        }
        Ok(best.map(|(_, gamma)| gamma))
    }

    fn show(&self) -> Result<(), Failure> {
        let report = &self.report;
        if report.rows.is_empty() {
            return Ok(());
        }
        if let Some(path) = &self.args.svg {
            let title =
                format!("{} on {}, decoding {} at a time", report.model.name, report.model.device.name(), report.batch);
            plot::write(path, &plot::bars(&title, &report.groups()).map_err(Failure::Other)?)?;
        }
        if self.args.json {
            let text = serde_json::to_string_pretty(report).map_err(|e| Failure::Other(e.to_string()))?;
            return write_now(&format!("{text}\n"));
        }
        eprintln!(
            "{} on {}: {} tokens, {} runs, {} at a time, peak memory {:.0} MB",
            report.model.name,
            report.model.device.name(),
            report.tokens,
            report.runs,
            report.batch,
            report.peak_memory_bytes as f64 / 1e6
        );
        write_now(&report.table())
    }
}
