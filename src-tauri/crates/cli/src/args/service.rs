//! Arguments of `mobile service`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

/// `mobile service`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

/// What to do with the service.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Run `mobile serve` from now on whenever you are logged in; again after a change of program or settings.
    Install(InstallArgs),
    /// Stop the service and forget it. Settings, logs and models stay.
    Uninstall,
    /// Say whether the service runs; the exit code is 0 only if it does.
    Status,
    /// Show the service's last log lines.
    Logs(LogsArgs),
}

/// `mobile service install`.
#[derive(Debug, ClapArgs)]
pub(crate) struct InstallArgs {
    /// The configuration file: the service has its settings from there, not from your shell; config.toml in MOBILE_HOME by
    /// default.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `mobile service logs`.
#[derive(Debug, ClapArgs)]
pub(crate) struct LogsArgs {
    /// Lines to show.
    #[arg(long, short = 'n', default_value_t = 50)]
    pub(crate) lines: usize,
    /// Go on showing lines as they are written.
    #[arg(long, short)]
    pub(crate) follow: bool,
}
