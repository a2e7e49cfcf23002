//! Arguments of `mobile serve`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args as ClapArgs, Subcommand, ValueEnum};

use super::{ModelArgs, PolicyArgs};

/// What `mobile serve --help` says of the configuration file.
const CONFIG_HELP: &str = "\
Configuration file:
  TOML, by default config.toml in MOBILE_HOME, with the flags' names without their dashes:

      model = \"allenai/OLMoE-1B-7B-0125-Instruct\"
      lan = true          # needs a key first: mobile keys create NAME
      policy = \"mobile\"
      gamma = 0.8

  A flag wins over the environment, the environment over the file, the file over the defaults.";

/// `mobile serve`.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = CONFIG_HELP)]
pub(crate) struct ServeArgs {
    /// The configuration file; config.toml in MOBILE_HOME by default.
    #[arg(long, env = "MOBILE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Let other computers on the network reach the endpoint; without it only this one can.
    #[arg(long, env = "MOBILE_LAN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, hide_default_value = true, value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::Set, hide_possible_values = true, conflicts_with = "host")]
    pub(crate) lan: bool,
    /// Address to listen on instead.
    #[arg(long, env = "MOBILE_HOST", conflicts_with = "lan")]
    pub(crate) host: Option<IpAddr>,
    /// Port to listen on; 0 takes any that is free.
    #[arg(long, env = "MOBILE_PORT", default_value_t = mobile_service::DEFAULT_PORT)]
    pub(crate) port: u16,
    /// A key that clients from the network must show, besides those of `mobile keys`; may be given several times.
    /// Clients on this machine need none.
    #[arg(long = "key", env = "MOBILE_KEY", hide_env_values = true, value_delimiter = ',')]
    pub(crate) keys: Vec<String>,
    /// Let clients from the network in without a key.
    #[arg(long, env = "MOBILE_NO_KEY", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, hide_default_value = true, value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::Set, hide_possible_values = true)]
    pub(crate) no_key: bool,
    /// A host name under which clients may ask for this machine, besides its own.
    #[arg(long, env = "MOBILE_ALLOW_HOST", value_delimiter = ',')]
    pub(crate) allow_host: Vec<String>,
    /// A web origin whose pages may use the endpoint, as in https://example.org.
    #[arg(long, env = "MOBILE_ALLOW_ORIGIN", value_delimiter = ',')]
    pub(crate) allow_origin: Vec<String>,
    /// Announce the endpoint by Bonjour, for `mobile nodes` to find; done by default where the network can reach it.
    #[arg(long, env = "MOBILE_ANNOUNCE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true, conflicts_with = "no_announce")]
    pub(crate) announce: Option<bool>,
    /// Do not announce the endpoint.
    #[arg(long, conflicts_with = "announce")]
    pub(crate) no_announce: bool,
    /// Requests decoded together at most.
    #[arg(long, env = "MOBILE_MAX_SEQUENCES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_sequences: u16,
    /// Requests that may wait for their turn; more are refused with status 429.
    #[arg(long, env = "MOBILE_QUEUE", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) queue: u16,
    /// How log lines look.
    #[arg(long, env = "MOBILE_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Which log lines are written: error, warn, info, debug, trace, or a filter as in tracing's EnvFilter.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log_level: String,
    /// Write log lines here instead of to standard error: a file a day, kept for a week.
    #[arg(long, env = "MOBILE_LOG_FOLDER", value_name = "FOLDER")]
    pub(crate) log_folder: Option<PathBuf>,
    /// The policy for requests that name none.
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `mobile keys`.
#[derive(Debug, ClapArgs)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What to do with the keys. What runs, `mobile serve` or the app, follows at once.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, this once; only its hash is kept.
    Create {
        /// Whose it is.
        name: String,
    },
    /// List the names of the keys.
    List {
        /// Print one JSON array, with hashes and times.
        #[arg(long)]
        json: bool,
    },
    /// Refuse a key from now on.
    Revoke {
        /// Whose it is.
        name: String,
    },
}

/// `mobile nodes`.
#[derive(Debug, ClapArgs)]
pub(crate) struct NodesArgs {
    /// How long to look.
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Print one JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let valid = |s: &f64| (0.0..=3600.0).contains(s);
    text.parse().ok().filter(valid).ok_or_else(|| "must be a number of seconds, 3600 at most".to_owned())
}
