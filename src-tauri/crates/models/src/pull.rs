//! From a hub id to a model that is ready: look first, then fetch what is missing, file by file.
//!
//! Files go into the Hugging Face cache. A file grows as `blobs/CHECKSUM.incomplete` under a lock shared with
//! huggingface_hub, is checked, renamed to `blobs/CHECKSUM`, and only then linked into the snapshot; whatever ends the
//! process in between, the next attempt goes on from the bytes that are there.

mod environment;
mod events;
mod fetch;
mod hub;
mod plan;
mod retry;
mod sink;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc::UnboundedSender;
pub use tokio_util::sync::CancellationToken;

use crate::cache::{Repository, is_revision};
use crate::checkpoint::inspect;
use crate::error::{Error, Result};
use crate::files::free_space;
use crate::id::ModelId;
use crate::library::Library;
use events::Meter;
pub use events::PullEvent;
use fetch::Fetch;
use hub::Hub;
use plan::Plan;
pub use plan::Preview;
use retry::Retry;

/// Bytes that a download leaves free on the disk, so that the system goes on working.
pub const RESERVE: u64 = 512 << 20;

/// What to do where the cache has no room.
const ELSEWHERE: &str = "set HF_HOME to a folder on another disk";

/// How free space is asked for; see [`free_space`].
pub type FreeSpace = Arc<dyn Fn(&Path) -> Result<u64> + Send + Sync>;

/// A download that can be looked at, run, cancelled and run again.
#[derive(Clone)]
pub struct Pull {
    /// The model.
    pub id: ModelId,
    /// Branch, tag or commit.
    pub revision: String,
    /// The cache's folder.
    pub cache: PathBuf,
    /// Address of the hub or a mirror: `HF_ENDPOINT`.
    pub endpoint: String,
    /// Token of the user's account: `HF_TOKEN`, or what `hf auth login` stored.
    pub token: Option<String>,
    /// Whether to leave the network alone: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Files fetched at the same time.
    pub parallel: usize,
    /// Failures in a row, without a byte in between, after which to give up.
    pub attempts: u32,
    /// Wait after the first failure; doubled after each further one, up to half a minute.
    pub backoff: Duration,
    /// How long a server may be silent.
    pub patience: Duration,
    /// How free space is asked for.
    pub free_space: FreeSpace,
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, revision, cache, endpoint, offline, .. } = self;
        f.debug_struct("Pull")
            .field("id", id)
            .field("revision", revision)
            .field("cache", cache)
            .field("endpoint", endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", offline)
            .finish_non_exhaustive()
    }
}

impl Pull {
    /// A download of `main` into the library's cache, by the environment's settings.
    #[must_use]
    pub fn new(id: ModelId, library: &Library) -> Self {
        Self {
            id,
            revision: "main".to_owned(),
            cache: library.cache().to_owned(),
            endpoint: environment::endpoint(),
            token: environment::token(),
            offline: environment::offline(),
            parallel: 3,
            attempts: 6,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            free_space: Arc::new(free_space),
        }
    }

    /// What would be fetched, with the model's sizes from its config. Nothing is written.
    ///
    /// # Errors
    /// As [`Pull::run`], but for the disk.
    pub async fn preview(&self) -> Result<Preview> {
        if self.offline {
            return Err(Error::Offline(self.id.to_string()));
        }
        self.check_revision()?;
        let retry = Retry::new(self, None);
        let plan = Plan::make(&self.hub()?, &self.repository(), &self.revision, &retry).await?;
        Ok(plan.preview(&self.id))
    }

    /// Fetches what is missing; gives the folder to load. Run again after an error or a cancellation, it goes on from
    /// the bytes that are there. Events are sent to `events` as they happen; nobody has to listen.
    ///
    /// # Errors
    /// [`Error::Architecture`] or [`Error::NotAModel`] before any weight is fetched; [`Error::DiskFull`] before or
    /// while; [`Error::Cancelled`]; what the hub refuses; [`Error::Hub`] when it keeps failing; [`Error::Checksum`].
    pub async fn run(&self, events: UnboundedSender<PullEvent>, cancel: &CancellationToken) -> Result<PathBuf> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Cancelled),
            result = self.fetch_all(events) => result,
        }
    }

    async fn fetch_all(&self, events: UnboundedSender<PullEvent>) -> Result<PathBuf> {
        self.check_revision()?;
        let repository = self.repository();
        let cached = repository.commit(&self.revision).map(|c| repository.snapshot(&c)).filter(|p| inspect(p).is_ok());
        if self.offline {
            return cached.ok_or_else(|| Error::Offline(self.id.to_string()));
        }
        let hub = self.hub()?;
        let mut retry = Retry::new(self, Some(events.clone()));
        if cached.is_some() {
            retry.attempts = retry.attempts.min(2);
        }
        let plan = match (Plan::make(&hub, &repository, &self.revision, &retry).await, cached) {
            (Err(Error::Hub { why, .. }), Some(path)) => {
                tracing::warn!("{why}; using {} as it was downloaded before", self.id);
                let _ = events.send(PullEvent::Done { path: path.clone() });
                return Ok(path);
            }
            (plan, _) => plan?,
        };
        let meter = Meter::new(&plan, events.clone());
        let missing = plan.missing_bytes();
        let (needed, free) = (missing + RESERVE, (self.free_space)(&repository.root)?);
        if missing > 0 && needed > free {
            return Err(Error::DiskFull { path: self.cache.clone(), needed, free, instead: ELSEWHERE });
        }
        let retry = Retry::new(self, Some(events.clone()));
        let fetch = Fetch { pull: self, hub: &hub, repository: &repository, meter: &meter, retry: &retry, plan: &plan };
        let files: Vec<_> = plan.files.iter().map(|file| fetch.file(file).boxed()).collect();
        let fetched = futures_util::stream::iter(files).buffer_unordered(self.parallel.max(1));
        fetched.try_collect::<()>().await?;
        fetch.finish()?;
        let path = repository.snapshot(&plan.commit);
        inspect(&path)?;
        let _ = events.send(PullEvent::Done { path: path.clone() });
        Ok(path)
    }

    fn check_revision(&self) -> Result<()> {
        if is_revision(&self.revision) {
            return Ok(());
        }
        let Self { id, revision, endpoint, .. } = self;
        Err(Error::NoRevision { id: id.to_string(), revision: revision.clone(), endpoint: endpoint.clone() })
    }

    fn repository(&self) -> Repository {
        Repository::new(&self.cache, &self.id)
    }

    fn hub(&self) -> Result<Hub> {
        Hub::connect(self)
    }
}
