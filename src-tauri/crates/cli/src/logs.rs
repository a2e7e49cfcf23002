//! Log files, one a day, kept for a week; and what is said without any.

use std::fs::File;
use std::io::stderr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;

use crate::error::Failure;

/// Between them stands the day, so that the names are in the order of time.
const PREFIX: &str = "serve";
const SUFFIX: &str = "log";
const KEPT: usize = 7;

/// Bytes that the file behind standard error may have at the start.
const MOST_BESIDE: u64 = 1 << 20;

/// Shows on standard error what the program's own parts warn of, for commands that keep no log.
pub(crate) fn warnings() {
    let ours = EnvFilter::new("mobile_models=warn,mobile_host=warn,mobile_engine=warn");
    let lines = tracing_subscriber::fmt().with_env_filter(ours).with_writer(stderr).with_ansi(false);
    lines.without_time().with_target(false).log_internal_errors(false).init();
}

/// What writes them.
pub(crate) fn appender(folder: &Path) -> Result<RollingFileAppender, Failure> {
    // The appender looks for old files before it makes the folder, and complains where there is none.
    std::fs::create_dir_all(folder)?;
    let builder = RollingFileAppender::builder().rotation(Rotation::DAILY).filename_prefix(PREFIX);
    let builder = builder.filename_suffix(SUFFIX).max_log_files(KEPT);
    builder.build(folder).map_err(|e| Failure::Output(std::io::Error::other(e)))
}

/// The files of a folder, the oldest first; none where there is no folder yet.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == SUFFIX)
            && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(ours).collect();
    files.sort_unstable();
    files
}

/// Empties the file that launchd appends standard error to, once it has grown large: nobody else would.
pub(crate) fn bound_standard_error() {
    let Ok(file) = stderr().as_fd().try_clone_to_owned().map(File::from) else { return };
    if file.metadata().is_ok_and(|m| m.is_file() && m.len() > MOST_BESIDE) {
        let _ = file.set_len(0);
    }
}
