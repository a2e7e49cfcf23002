//! `mobile calibrate`: the fastest threshold whose answers are as good as wanted.

use indicatif::ProgressBar;
use mobile_engine::{Engine, Policy};
use mobile_host::calibration::{Calibration, Found, Point, Survey, TEXT, Watch, closest, keeps, store};
use serde::Serialize;

use crate::args::CalibrateArgs;
use crate::error::Failure;
use crate::eval::{growth, label, progress, read};
use crate::generate::write_now;
use crate::table::{percent, table};
use crate::{interrupt, model, plot};

pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    let text = args.text.as_deref().map_or_else(|| Ok(TEXT.to_owned()), read)?;
    interrupt::install()?;
    let engine = model::load(&args.model)?;
    interrupt::measuring();
    let (survey, mut found) = (args.survey(), Found::default());
    let measured = survey.run(&engine, &text, &mut Bars(ProgressBar::hidden()), &mut found);
    let outcome = conclude(args, &engine, &survey, &found);
    measured?;
    outcome?;
    if found.complete { Ok(()) } else { Err(Failure::Interrupted) }
}

/// One bar per policy on standard error; Ctrl-C ends the survey.
struct Bars(ProgressBar);

impl Watch for Bars {
    fn stopped(&self) -> bool {
        interrupt::requested()
    }

    fn begins(&mut self, policy: &Policy, tokens: u64) {
        self.0 = progress(tokens, &label(policy));
    }

    fn decoded(&mut self, tokens: u64) {
        self.0.set_position(tokens);
    }

    fn judged(&mut self) {
        self.0.finish_and_clear();
    }

    fn found(&mut self, _: &Point) {}
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
fn conclude(args: &CalibrateArgs, engine: &Engine, survey: &Survey, found: &Found) -> Result<(), Failure> {
    let points = &found.points;
    if points.is_empty() {
        return Ok(());
    }
    if !args.json {
        write_now(&shown(points))?;
    }
    let Some(found) = found.calibration(engine.info(), survey) else {
        let closest = closest(points).map_or_else(String::new, |p| {
            format!("; the closest is γ = {} with {}", p.gamma, growth(p.perplexity_ratio, p.perplexity_ratio_error))
        });
        return Err(Failure::Other(format!(
            "no threshold that was measured keeps perplexity within {}{closest}",
            percent(args.bound, 2)
        )));
    };
    let home = if args.dry_run { None } else { Some(model::home()?).filter(|home| keeps(home, &found)) };
    if home.is_none() && !args.dry_run {
        eprintln!("mobile: this was cut short; the whole measurement that is stored is kept");
    }
    let stored = home.as_ref().map(|home| store(home, &found)).transpose()?;
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
    write_now(&advice(&report))
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

fn advice(report: &Report<'_>) -> String {
    let Calibration { gamma, bound, points, .. } = report.calibration;
    let speedup = points.iter().find(|p| p.gamma == *gamma).map_or(1.0, |p| p.speedup);
    let mut text = format!(
        "\nγ = {gamma} is the fastest whose perplexity is within {} of all experts': {:.2}× plain decoding.\n",
        percent(*bound, 2),
        speedup
    );
    if speedup < 1.0 {
        text.push_str("That is slower than decoding plainly; the policy auto will decode plainly here.\n");
    }
    for (what, path) in [("stored in", &report.stored), ("drawn in", &report.chart)] {
        if let Some(path) = path {
            text.push_str(&format!("{what} {path}\n"));
        }
    }
    text
}
