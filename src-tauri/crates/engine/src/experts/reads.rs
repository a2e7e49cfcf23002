//! What can be set about reading streamed experts.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How streamed experts are read.
#[derive(Clone)]
pub struct ExpertReads {
    /// How long an expert is waited for while the storage answers nothing. Then what needs it fails.
    pub patience: Duration,
    /// Called before every read, on the thread that reads: to measure and test with a storage that is slower, fails (by
    /// the error given) or hangs.
    pub before: Option<Arc<BeforeRead>>,
}

/// What comes before a read.
type BeforeRead = dyn Fn(ExpertRead<'_>) -> io::Result<()> + Send + Sync;

/// One read of an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertRead<'a> {
    /// The layer's file.
    pub file: &'a Path,
    /// The expert.
    pub expert: usize,
    /// Whether nobody waits for it yet.
    pub ahead: bool,
}

impl Default for ExpertReads {
    /// Ten seconds: a disk that slept is awake by then.
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), before: None }
    }
}

impl fmt::Debug for ExpertReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpertReads").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl ExpertReads {
    pub(super) fn begin(&self, read: ExpertRead<'_>) -> io::Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before(read))
    }
}
