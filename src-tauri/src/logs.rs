//! A log file a day, kept for a week.

use std::path::Path;

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;

/// Sets what is written, as `RUST_LOG` does elsewhere.
const FILTER: &str = "MOBILE_LOG";

pub(crate) fn start(folder: &Path) {
    let filter = || EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    // The appender counts old files before it makes the folder, and complains to standard error where there is none.
    if let Err(error) = std::fs::create_dir_all(folder) {
        eprintln!("{}: {error}", folder.display());
    }
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("mobile")
        .filename_suffix("log")
        .max_log_files(7)
        .build(folder);
    match file {
        Ok(file) => tracing_subscriber::fmt()
            .with_ansi(false)
            .with_env_filter(filter())
            // To say on standard error that a line is lost would end what is going on, where nobody reads that.
            .log_internal_errors(false)
            .with_writer(std::sync::Mutex::new(file))
            .init(),
        Err(error) => {
            tracing_subscriber::fmt().with_env_filter(filter()).init();
            tracing::warn!("no log file: {error}");
        }
    }
}
