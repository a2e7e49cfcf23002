//! Log files: one a day, kept for a week.

use std::path::Path;

use tracing_appender::rolling::{RollingFileAppender, Rotation};

use crate::error::Failure;

/// Between them stands the day, so that the names are in the order of time.
const PREFIX: &str = "serve";
const SUFFIX: &str = "log";
const KEPT: usize = 7;

/// What writes them.
pub(crate) fn appender(folder: &Path) -> Result<RollingFileAppender, Failure> {
    // The appender looks for old files before it makes the folder, and complains where there is none.
    std::fs::create_dir_all(folder)?;
    let builder = RollingFileAppender::builder().rotation(Rotation::DAILY).filename_prefix(PREFIX);
    let builder = builder.filename_suffix(SUFFIX).max_log_files(KEPT);
    builder.build(folder).map_err(|e| Failure::Output(std::io::Error::other(e)))
}
