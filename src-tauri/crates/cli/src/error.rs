//! What a command can end with, and the exit code that says so to scripts.

use std::process::ExitCode;

use mobile_engine::Error;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The model could not be found or loaded: exit code 3.
    #[error("{0}")]
    Model(String),
    /// The engine refused the request: exit code 4.
    #[error("{0}")]
    Request(Error),
    /// Standard input is not usable: exit code 2, as for a bad argument.
    #[error("{0}")]
    Input(String),
    /// Standard output or a file could not be written: exit code 1.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// Anything else: exit code 1.
    #[error("{0}")]
    Other(String),
    /// Ctrl-C: exit code 130.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Output(_) | Self::Other(_) => 1,
            Self::Input(_) => 2,
            Self::Model(_) => 3,
            Self::Request(_) => 4,
            Self::Interrupted => 130,
        })
    }
}

/// Exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad arguments or input, 3 the model cannot be \
                                     loaded, 4 the request was refused, 130 interrupted.";
