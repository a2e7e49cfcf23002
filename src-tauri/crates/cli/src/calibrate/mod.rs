//! `mobile calibrate`: the fastest threshold whose answers are as good as wanted.

mod recommend;

use mobile_engine::{Engine, Mobile, Policy, Prefill, Request};
use serde::Serialize;

use self::recommend::{closest, recommend};
use crate::args::CalibrateArgs;
use crate::calibration::{self, Calibration, Key, Point};
use crate::error::Failure;
use crate::eval::{Baseline, Item, Measured, Setting, growth, label, measure, progress, read, sample, windows};
use crate::generate::write_now;
use crate::numbers::spread_evenly;
use crate::table::{percent, table};
use crate::{interrupt, model, plot};

/// English of several kinds, written for this purpose.
pub(crate) const TEXT: &str = include_str!("text.txt");

/// Tokens of a window, and windows decoded together, where quality is measured.
const WINDOW: usize = 256;
const BATCH: usize = 32;

pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let text = args.text.as_deref().map_or_else(|| Ok(TEXT.to_owned()), read)?;
    interrupt::install()?;
    let engine = model::load(&args.model)?;
    interrupt::measuring();
    let ids = engine.text().encode(&text).map_err(Failure::Request)?;
    let needed = args.speed_tokens as usize + 1;
    if ids.len() < needed.max(2) {
        return Err(Failure::Input(format!("the text has {} tokens; it needs {needed} at least", ids.len())));
    }
    let items = sample(windows(&ids, WINDOW), args.tokens);
    let mut work = Work { engine: &engine, args, ids: &ids, items: &items, baseline: Vec::new(), points: Vec::new() };
    let measured = work.all();
    let complete = matches!(measured, Ok(true));
    let points = work.points;
    let outcome = conclude(args, &engine, &points, complete);
    measured?;
    outcome?;
    if complete { Ok(()) } else { Err(Failure::Interrupted) }
}

struct Work<'a> {
    engine: &'a Engine,
    args: &'a CalibrateArgs,
    ids: &'a [u32],
    items: &'a [Item],
    baseline: Baseline,
    points: Vec<Point>,
}

impl Work<'_> {
    /// Measures every threshold; false when that was cut short.
    fn all(&mut self) -> Result<bool, Failure> {
        let Some(full) = self.quality(Policy::Full)? else { return Ok(false) };
        self.baseline = full.thoughts;
        for &gamma in &self.args.gammas {
            let policy = Policy::Mobile(Mobile { gamma, renormalize: self.args.renormalize, ..Mobile::default() });
            policy.check(self.engine.info().top_k).map_err(Failure::Request)?;
            let Some(quality) = self.quality(policy)? else { return Ok(false) };
            let Some((mine, plain)) = self.speed(policy)? else { return Ok(false) };
            self.points.push(Point {
                gamma,
                perplexity_ratio: quality.ratio(),
                perplexity_ratio_error: quality.ratio_error(),
                tokens_per_second: mine,
                speedup: mine / plain,
                fallback_rate: quality.fallback_rate(),
                experts_used: quality.experts_used(),
            });
        }
        Ok(true)
    }

    fn quality(&self, policy: Policy) -> Result<Option<Measured>, Failure> {
        let total = self.items.iter().map(|i| i.forced.len() as u64).sum();
        let bar = progress(total, &label(&policy));
        let setting = Setting { prefill: Prefill::All, batch: BATCH };
        let measured =
            measure(self.engine, self.items, policy, setting, Some(&self.baseline), |n| bar.set_position(n))?;
        bar.finish_and_clear();
        Ok(Some(measured).filter(|m| m.complete))
    }

    /// Tokens per second of the policy and of plain decoding, turn by turn on the same pieces of the text, so that a
    /// machine that slows down meanwhile slows down both.
    fn speed(&self, policy: Policy) -> Result<Option<(f64, f64)>, Failure> {
        let tokens = self.args.speed_tokens as usize;
        // One run of each that does not count: the first pass of a kind is slower.
        self.seconds(policy, 0, tokens.min(8))?;
        self.seconds(Policy::Full, 0, tokens.min(8))?;
        let (mut mine, mut plain) = (0.0, 0.0);
        for start in spread_evenly(self.ids.len() - tokens, self.args.runs as usize) {
            if interrupt::requested() {
                return Ok(None);
            }
            mine += self.seconds(policy, start, tokens)?;
            plain += self.seconds(Policy::Full, start, tokens)?;
        }
        let runs = (self.args.runs as usize).min(self.ids.len() - tokens);
        let decoded = ((tokens - 1) * runs) as f64;
        Ok(Some((decoded / mine, decoded / plain)))
    }

    /// Seconds that the tokens after the first took.
    fn seconds(&self, policy: Policy, start: usize, tokens: usize) -> Result<f64, Failure> {
        let request = Request {
            policy,
            forced: Some(self.ids[start + 1..=start + tokens].to_vec()),
            reuse_prefix: false,
            ..Request::new(vec![self.ids[start]], tokens)
        };
        let (tokens, _) =
            self.engine.submit(request).and_then(mobile_engine::Generation::wait).map_err(Failure::Request)?;
        Ok(tokens.iter().skip(1).map(|t| t.ms / 1e3).sum())
    }
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    calibration: &'a Calibration,
    stored: Option<String>,
    chart: Option<String>,
}

/// Shows, recommends, stores and draws what was measured.
fn conclude(args: &CalibrateArgs, engine: &Engine, points: &[Point], complete: bool) -> Result<(), Failure> {
    if points.is_empty() {
        return Ok(());
    }
    if !args.json {
        write_now(&shown(points))?;
    }
    let Some(best) = recommend(points, args.bound) else {
        let closest = closest(points).map_or_else(String::new, |p| {
            format!("; the closest is γ = {} with {}", p.gamma, growth(p.perplexity_ratio, p.perplexity_ratio_error))
        });
        return Err(Failure::Other(format!(
            "no threshold that was measured keeps perplexity within {}{closest}",
            percent(args.bound, 2)
        )));
    };
    let key = Key::new(engine.info(), args.renormalize);
    let found = Calibration { key, gamma: best.gamma, bound: args.bound, complete, points: points.to_vec() };
    let home = if args.dry_run { None } else { Some(model::home()?) };
    let stored = home.as_ref().map(|home| calibration::store(home, &found)).transpose()?;
    let chart = args.svg.clone().or_else(|| home.map(|home| found.key.path(&home, "svg")));
    if let Some(path) = &chart {
        plot::write(path, &plot::curve(&found).map_err(Failure::Other)?)?;
    }
    let shown = |path: Option<std::path::PathBuf>| path.map(|p| p.display().to_string());
    let report = Report { calibration: &found, stored: shown(stored), chart: shown(chart) };
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| Failure::Other(e.to_string()))?;
        return write_now(&format!("{text}\n"));
    }
    write_now(&advice(&report, best))
}

fn shown(points: &[Point]) -> String {
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|p| {
            vec![
                format!("γ={}", p.gamma),
                growth(p.perplexity_ratio, p.perplexity_ratio_error),
                format!("{:.1}", p.tokens_per_second),
                format!("{:.2}×", p.speedup),
                percent(p.fallback_rate, 1),
                percent(p.experts_used, 1),
            ]
        })
        .collect();
    table(&["threshold", "perplexity", "tok/s", "vs plain", "fallbacks", "experts used"], &rows)
}

fn advice(report: &Report<'_>, best: Point) -> String {
    let Calibration { gamma, bound, .. } = report.calibration;
    let mut text = format!(
        "\nγ = {gamma} is the fastest whose perplexity is within {} of all experts': {:.2}× plain decoding.\n",
        percent(*bound, 2),
        best.speedup
    );
    if best.speedup < 1.0 {
        text.push_str("That is slower than decoding plainly; the policy auto will decode plainly here.\n");
    }
    for (what, path) in [("stored in", &report.stored), ("drawn in", &report.chart)] {
        if let Some(path) = path {
            text.push_str(&format!("{what} {path}\n"));
        }
    }
    text
}
