//! Arguments of the commands that measure.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs};
use mobile_engine::DEFAULT_SHARE;
use mobile_host::Survey;

use super::{ModelArgs, PolicyArg, PolicyArgs, PrefillArg};

/// `mobile eval`.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("source").required(true).args(["text", "chat"]))]
pub(crate) struct EvalArgs {
    /// A text to predict, in windows of which the first token is the prompt.
    pub(crate) text: Option<PathBuf>,
    /// JSON lines, each with `messages` and the `reference` answer to predict.
    #[arg(long, value_name = "FILE")]
    pub(crate) chat: Option<PathBuf>,
    /// What ends a document of the text. Where it is one token of the vocabulary, it is predicted too.
    #[arg(long, conflicts_with = "chat")]
    pub(crate) separator: Option<String>,
    /// Tokens of a window.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..), conflicts_with = "chat")]
    pub(crate) window: u32,
    /// Only about this many tokens, in windows or rows spread evenly over the file.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) tokens: Option<u64>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Which experts read the prompt.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) prefill: PrefillArg,
    /// The whole table: full, little, mobile at the thresholds with and without renormalizing, and mass at as many
    /// experts as each of them.
    #[arg(long, conflicts_with_all = ["policy", "gamma", "no_fallback", "renormalize", "share"])]
    pub(crate) sweep: bool,
    /// Thresholds of the sweep.
    #[arg(long, value_delimiter = ',', default_value = "0,0.5,0.6,0.7,0.8,0.9,1.01", requires = "sweep")]
    pub(crate) gammas: Vec<f32>,
    /// Windows or rows decoded together.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) batch: u16,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the JSON object here, again after every line that is measured.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `mobile bench`.
#[derive(Debug, ClapArgs)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Lengths of the prompt.
    #[arg(long, value_delimiter = ',', default_value = "512", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) prompt_tokens: Vec<u32>,
    /// Tokens decoded after the first.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tokens: u32,
    /// Runs of each policy, after one that is not counted.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Sequences decoded together; the speed is that of all of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub(crate) batch: u16,
    /// Only these policies.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "POLICY")]
    pub(crate) only: Vec<PolicyArg>,
    /// Threshold of mobile and auto; by default what `mobile calibrate` found for the model, else 0.7.
    #[arg(long)]
    pub(crate) gamma: Option<f32>,
    /// Instead of a threshold, the share of tokens that are to fall back, from 0 to 1; several give a line each.
    #[arg(long, value_delimiter = ',', conflicts_with = "gamma", value_parser = rate)]
    pub(crate) fallback_rate: Vec<f64>,
    /// Share of the routing weight that mass reaches.
    #[arg(long, default_value_t = DEFAULT_SHARE)]
    pub(crate) share: f32,
    /// Scale half of the experts to the routing weight of all.
    #[arg(long)]
    pub(crate) renormalize: bool,
    /// Take the prompts from this text rather than from the built-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw a chart.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// `mobile calibrate`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// A text like those the model will write; by default a built-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// How much perplexity may grow over that of all experts.
    #[arg(long, default_value = "1%", value_parser = percent)]
    pub(crate) bound: f64,
    /// Thresholds to try.
    #[arg(long, value_delimiter = ',', default_value = "0,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,0.95,1.01")]
    pub(crate) gammas: Vec<f32>,
    /// Scale half of the experts to the routing weight of all.
    #[arg(long)]
    pub(crate) renormalize: bool,
    /// Only about this many tokens of the text, in windows spread evenly over it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) tokens: Option<u64>,
    /// Tokens decoded for one measurement of speed.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) speed_tokens: u32,
    /// Measurements of speed of each threshold, at different places of the text.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Where to draw the curve; beside the stored calibration by default.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Measure and recommend, but store nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

impl CalibrateArgs {
    /// What is to be measured.
    pub(crate) fn survey(&self) -> Survey {
        Survey {
            gammas: self.gammas.clone(),
            bound: self.bound,
            renormalize: self.renormalize,
            tokens: self.tokens,
            speed_tokens: self.speed_tokens as usize,
            runs: self.runs as usize,
        }
    }
}

/// `1%` or `0.01`.
fn percent(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 100.0));
    match number.trim().parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(n / unit),
        _ => Err("give a share from 0 on, as in 1% or 0.01".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.0..=1.0).contains(&n) => Ok(n),
        _ => Err("give a share from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_what_the_app_measures() {
        use crate::args::{Args, Command};
        use clap::Parser as _;
        let Command::Calibrate(args) = Args::parse_from(["mobile", "calibrate"]).command else { panic!("calibrate") };
        assert_eq!(args.survey(), Survey::default());
    }

    #[test]
    fn a_bound_is_a_share_or_a_percentage() {
        assert_eq!(percent("1%"), Ok(0.01));
        assert_eq!(percent("0.02"), Ok(0.02));
        assert!(percent("-1%").is_err() && percent("much").is_err() && percent("inf").is_err());
    }
}
