//! Arguments of every command.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use mobile_engine::{
    Bits, Compute, DEFAULT_GAMMA, DEFAULT_SHARE, Mobile, ModelInfo, Policy, Prefill, Replacement, Sampling,
};
use mobile_host::MemoryChoice;

pub(crate) use self::library::{ImportArgs, InfoArgs, ListArgs, PullArgs, RemoveArgs};
pub(crate) use self::measuring::{BenchArgs, CalibrateArgs, EvalArgs};
pub(crate) use self::service::{InstallArgs, LogsArgs, ServiceArgs, ServiceCommand};
pub(crate) use self::serving::{KeysArgs, KeysCommand, LogFormat, NodesArgs, ServeArgs};
use crate::calibration;
use crate::error::EXIT_CODES;

mod library;
mod measuring;
mod service;
mod serving;

/// Mixture-of-Experts models with big and little experts.
#[derive(Debug, Parser)]
#[command(name = "mobile", version, about, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer one prompt.
    Generate(GenerateArgs),
    /// Talk with a model; /help lists what can be typed.
    Chat(ChatArgs),
    /// Quantize a checkpoint into mlx-lm's layout, or arrange its experts for streaming.
    Convert(ConvertArgs),
    /// Measure a policy's quality on a text or a chat file: perplexity, accuracy, agreement with all experts.
    Eval(EvalArgs),
    /// Measure the policies' speed side by side.
    Bench(BenchArgs),
    /// Find the threshold that suits a model on this machine, and remember it.
    Calibrate(CalibrateArgs),
    /// Answer over HTTP: OpenAI's routes, and /generate with MoBiLE's decision for every token.
    Serve(ServeArgs),
    /// Make, list and revoke the keys that clients from the network must show.
    Keys(KeysArgs),
    /// List the endpoints that announce themselves on this network.
    Nodes(NodesArgs),
    /// Keep the endpoint running whenever you are logged in.
    Service(ServiceArgs),
    /// List the models on this machine, or those that can be had.
    List(ListArgs),
    /// Show what a model is and whether it fits this machine.
    Info(InfoArgs),
    /// Fetch a model from the hub; an interrupted download goes on where it was.
    Pull(PullArgs),
    /// Add a local folder to the library.
    Import(ImportArgs),
    /// Remove a model from the library, and what was arranged of it for streaming.
    Rm(RemoveArgs),
    /// Show what this machine has.
    Doctor(DoctorArgs),
}

/// `mobile generate`.
#[derive(Debug, ClapArgs)]
pub(crate) struct GenerateArgs {
    /// The prompt; `-`, or nothing when standard input is no terminal, reads it from there.
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) decoding: DecodingArgs,
    /// Take the prompt as it is, without the chat template.
    #[arg(long)]
    pub(crate) raw: bool,
    /// A system message before the prompt.
    #[arg(long, conflicts_with = "raw")]
    pub(crate) system: Option<String>,
    /// End the answer before this text; may be given several times.
    #[arg(long)]
    pub(crate) stop: Vec<String>,
    /// Answer in JSON that follows the schema in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json_schema: Option<PathBuf>,
    /// Go on past end-of-sequence tokens.
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Which experts read the prompt.
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) prefill: PrefillArg,
    /// Print one JSON object: text, tokens, stats.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mobile chat`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) decoding: DecodingArgs,
    /// A system message.
    #[arg(long)]
    pub(crate) system: Option<String>,
}

/// `mobile convert`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ConvertArgs {
    /// Folder of the original checkpoint, or the id of a model in the library.
    pub(crate) source: String,
    /// Folder to make; must not exist.
    pub(crate) target: PathBuf,
    /// Bits per weight: 4 by default, and with --streamed as the source has them.
    #[arg(long, value_parser = one_of(["2", "3", "4", "6", "8"]))]
    pub(crate) bits: Option<i32>,
    /// Weights that share a scale.
    #[arg(long, default_value_t = 64, value_parser = one_of(["32", "64", "128"]))]
    pub(crate) group_size: i32,
    /// Arrange the experts so that they can be streamed, one piece each, instead of writing mlx-lm's layout.
    #[arg(long)]
    pub(crate) streamed: bool,
    /// With --streamed, the dtype to compute with; by default f32 on a CPU and bf16 on a GPU.
    #[arg(long, value_enum, requires = "streamed")]
    pub(crate) dtype: Option<DtypeArg>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mobile doctor`.
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which model, and how it is loaded.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Folder of a checkpoint, or the id of a model in the library; the embedded model by default.
    #[arg(long, env = "MOBILE_MODEL")]
    pub(crate) model: Option<String>,
    /// Dtype of activations and unquantized weights; by default f32 on a CPU and bf16 on a GPU.
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DtypeArg>,
    /// Quantize on load what is not quantized yet.
    #[arg(long, value_parser = one_of(["4", "8"]))]
    pub(crate) bits: Option<i32>,
    /// Memory for experts: auto (all of them where they fit, else what is free), all, a share like 25%, or a size like
    /// 6GB. Where it is less than all of them, the others are streamed from disk; the first time, they are arranged for
    /// that under the program's home.
    #[arg(long, env = "MOBILE_EXPERT_MEMORY", default_value = "auto", value_name = "SIZE|PERCENT")]
    pub(crate) expert_memory: MemoryChoice,
    /// Which streamed expert leaves for another: the one not used for the longest time (lru), or the one used least often,
    /// where older uses count less (lfu).
    #[arg(long, value_enum, default_value_t)]
    pub(crate) expert_replacement: ReplacementArg,
    /// While a layer is computed, fetch the streamed experts that the next one will probably want. The policy auto does
    /// so anyway where it measures that it pays.
    #[arg(long)]
    pub(crate) look_ahead: bool,
    /// Keep streamed experts out of the system's file cache, to measure what the disk gives.
    #[arg(long)]
    pub(crate) no_page_cache: bool,
}

impl ModelArgs {
    pub(crate) fn compute(&self) -> Option<Compute> {
        self.dtype.map(Into::into)
    }

    pub(crate) fn quantize(&self) -> Option<Bits> {
        self.bits.map(Bits::new)
    }
}

/// How tokens are drawn and which experts decode them.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Decoding")]
pub(crate) struct DecodingArgs {
    /// Tokens of the answer at most.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,
    /// 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Only the fewest most probable tokens that reach this probability.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Only this many most probable tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Only tokens at least this probable in proportion to the most probable one.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// Above 1, tokens already seen become less probable.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repetition_penalty: f32,
    /// Makes sampling repeatable.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

/// Which experts decode.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct PolicyArgs {
    /// Which experts decode: all (full), half (little), half with fallback (mobile), by routing mass (mass), or mobile
    /// wherever it is measured to pay (auto).
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) policy: PolicyArg,
    /// Threshold: a token that half of the experts are less sure of is computed again with all. By default what
    /// `mobile calibrate` found for the model, else 0.7.
    #[arg(long)]
    pub(crate) gamma: Option<f32>,
    /// Never compute a token again.
    #[arg(long)]
    pub(crate) no_fallback: bool,
    /// Do not fetch a fallback's experts ahead of time (streamed experts only).
    #[arg(long)]
    pub(crate) no_prefetch: bool,
    /// Scale half of the experts to the routing weight of all.
    #[arg(long)]
    pub(crate) renormalize: bool,
    /// For `--policy mass`: the share of the routing weight to reach.
    #[arg(long, default_value_t = DEFAULT_SHARE)]
    pub(crate) share: f32,
}

impl PolicyArgs {
    /// The policy for a model.
    pub(crate) fn policy(&self, model: &ModelInfo) -> Policy {
        let calibrated = || calibration::stored_gamma(model, self.renormalize);
        let mobile = Mobile {
            gamma: self.gamma.or_else(calibrated).unwrap_or(DEFAULT_GAMMA),
            fallback: !self.no_fallback,
            prefetch: !self.no_prefetch,
            renormalize: self.renormalize,
        };
        match self.policy {
            PolicyArg::Full => Policy::Full,
            PolicyArg::Little => Policy::Little { renormalize: self.renormalize },
            PolicyArg::Mobile => Policy::Mobile(mobile),
            PolicyArg::Mass => Policy::Mass { share: self.share },
            PolicyArg::Auto => Policy::Auto(mobile),
        }
    }
}

impl DecodingArgs {
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            repetition_penalty: self.repetition_penalty,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
        }
    }
}

/// Names of the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArg {
    Full,
    Little,
    Mobile,
    Mass,
    Auto,
}

/// Names of the replacement policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplacementArg {
    Lru,
    Lfu,
}

impl Default for ReplacementArg {
    fn default() -> Self {
        match Replacement::default() {
            Replacement::Lru => Self::Lru,
            Replacement::Lfu => Self::Lfu,
        }
    }
}

impl From<ReplacementArg> for Replacement {
    fn from(arg: ReplacementArg) -> Self {
        match arg {
            ReplacementArg::Lru => Self::Lru,
            ReplacementArg::Lfu => Self::Lfu,
        }
    }
}

/// Names of the compute dtypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    F32,
    Bf16,
    F16,
}

impl From<DtypeArg> for Compute {
    fn from(arg: DtypeArg) -> Self {
        match arg {
            DtypeArg::F32 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
            DtypeArg::F16 => Self::F16,
        }
    }
}

/// Names of the prefill choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrefillArg {
    All,
    Half,
}

impl From<PrefillArg> for Prefill {
    fn from(arg: PrefillArg) -> Self {
        match arg {
            PrefillArg::All => Self::All,
            PrefillArg::Half => Self::Half,
        }
    }
}

/// An integer out of a few.
fn one_of<const N: usize>(values: [&'static str; N]) -> impl TypedValueParser<Value = i32> {
    PossibleValuesParser::new(values).try_map(|value| value.parse::<i32>())
}
