//! `mobile eval`: how well a policy predicts a text that is known.

mod items;
mod report;
mod sweep;

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use mobile_engine::{Engine, Policy, Prefill};
use mobile_host::{Baseline, Item, MeasureError, Measured, Readers, Setting, write_json};

use self::report::{Line, Report};
use self::sweep::MassCurve;
use crate::args::EvalArgs;
use crate::error::Failure;
use crate::generate::write_now;
use crate::{interrupt, model};

pub(crate) use self::items::read;
pub(crate) use self::report::{growth, label};

pub(crate) fn run(args: &EvalArgs) -> Result<(), Failure> {
    interrupt::install()?;
    let engine = model::load(&args.model)?;
    let items = items::items(&engine, args)?;
    interrupt::measuring();
    let policy = args.policy.policy(engine.info());
    policy.check(engine.info().top_k).map_err(Failure::Request)?;
    let chat = args.chat.is_some();
    let file = args.text.as_ref().or(args.chat.as_ref()).map(|p| p.display().to_string()).unwrap_or_default();
    let report = Report {
        model: engine.info(),
        file,
        kind: if chat { "chat" } else { "text" },
        items: items.len(),
        tokens: items.iter().map(|i| i.forced.len() as u64).sum(),
        prefill: args.prefill.into(),
        complete: false,
        rows: Vec::new(),
    };
    let setting = Setting { prefill: args.prefill.into(), batch: args.batch.into() };
    let output = args.output.as_deref();
    let mut evaluation = Evaluation { engine: &engine, items: &items, setting, chat, output, baseline: None, report };
    let measured = evaluation.all(args, policy);
    // What was measured before an error is shown all the same.
    evaluation.show(args.json)?;
    measured?;
    if evaluation.report.complete { Ok(()) } else { Err(Failure::Interrupted) }
}

struct Evaluation<'a> {
    engine: &'a Engine,
    items: &'a [Item],
    setting: Setting,
    chat: bool,
    output: Option<&'a Path>,
    baseline: Option<Baseline>,
    report: Report<'a>,
}

impl Evaluation<'_> {
    fn all(&mut self, args: &EvalArgs, policy: Policy) -> Result<(), Failure> {
        // All others are compared with the big model, so it goes first.
        if !self.one(Policy::Full)? {
            return Ok(());
        }
        let policies = match args.sweep {
            true => sweep::policies(&args.gammas),
            false => vec![policy],
        };
        for policy in policies {
            if policy != Policy::Full && !self.one(policy)? {
                return Ok(());
            }
        }
        if args.sweep {
            let Some(curve) = MassCurve::measure(self.engine, self.items, self.setting)? else { return Ok(()) };
            for policy in curve.equal_to(self.report.rows.clone().iter().map(|line| line.experts_used)) {
                if !self.one(policy)? {
                    return Ok(());
                }
            }
        }
        self.report.complete = true;
        self.save()
    }

    /// Measures one policy; false when it was cut short.
    fn one(&mut self, policy: Policy) -> Result<bool, Failure> {
        let bar = progress(self.report.tokens, &label(&policy));
        let baseline = self.baseline.as_ref();
        // What the others are compared with never reads a prompt with half of the experts.
        let prefill = if policy == Policy::Full { Prefill::All } else { self.setting.prefill };
        let setting = Setting { prefill, ..self.setting };
        let mut measured = measure(self.engine, self.items, policy, setting, baseline, |n| bar.set_position(n))?;
        bar.finish_and_clear();
        if self.baseline.is_none() {
            measured.is_baseline();
            self.baseline = Some(std::mem::take(&mut measured.thoughts));
        }
        self.report.rows.extend(Line::new(policy, &measured, self.chat));
        self.save()?;
        Ok(measured.complete)
    }

    fn save(&self) -> Result<(), Failure> {
        let Some(path) = self.output else { return Ok(()) };
        write_json(path, &self.report, Readers::Everybody).map_err(Failure::Output)
    }

    fn show(&self, json: bool) -> Result<(), Failure> {
        if json {
            let text = serde_json::to_string_pretty(&self.report).map_err(|e| Failure::Other(e.to_string()))?;
            return write_now(&format!("{text}\n"));
        }
        let Report { model, file, kind, items, tokens, .. } = &self.report;
        eprintln!("{} on {file}: {tokens} tokens in {items} {kind} items", model.name);
        write_now(&self.report.table())
    }
}

/// As [`mobile_host::measure`]; Ctrl-C ends it early with what has been counted.
fn measure(
    engine: &Engine,
    items: &[Item],
    policy: Policy,
    setting: Setting,
    baseline: Option<&Baseline>,
    mut progress: impl FnMut(u64),
) -> Result<Measured, Failure> {
    let go_on = |tokens| {
        progress(tokens);
        !interrupt::requested()
    };
    Ok(mobile_host::measure(engine, items, policy, setting, baseline, go_on)?)
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Engine(error) => Self::Request(error),
            MeasureError::ShortText { .. } => Self::Input(error.to_string()),
            MeasureError::NoProbability => Self::Other(error.to_string()),
        }
    }
}

/// A bar of tokens on standard error.
pub(crate) fn progress(tokens: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} tokens, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(tokens).with_style(style).with_message(what.to_owned())
}
