//! Fetching one file: lock, go on where it ends, check, move into place.

use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use mobile_files::{FromFile as _, is_weights};

use super::events::Meter;
use super::hub::Hub;
use super::plan::{Plan, Planned};
use super::retry::{Failure, Retry};
use super::sink::{Sink, Target};
use super::{Pull, PullEvent};
use crate::cache::Repository;
use crate::error::{Error, Result};

/// How often to look whether another process has finished with a file.
const POLL: Duration = Duration::from_millis(100);

/// What all files of a download share.
pub(super) struct Fetch<'a> {
    pub(super) pull: &'a Pull,
    pub(super) hub: &'a Hub,
    pub(super) repository: &'a Repository,
    pub(super) meter: &'a Meter,
    pub(super) retry: &'a Retry,
    pub(super) plan: &'a Plan,
}

impl Fetch<'_> {
    /// Puts one file among the blobs, and into the snapshot if it is not weights.
    pub(super) async fn file(&self, file: &Planned) -> Result<()> {
        let etag = file.digest.etag();
        let blob = self.repository.blob(etag);
        let whole = || fs::metadata(&blob).is_ok_and(|m| m.len() == file.size);
        if !whole() {
            let lock = Arc::new(self.lock(file).await?);
            // Another process may have fetched it meanwhile.
            if !whole() {
                self.download(file, &lock).await?;
            }
        }
        self.meter.at(file, file.size);
        // Weights make a folder a model: they are linked by `finish`, when nothing else is missing.
        if is_weights(&file.name) { Ok(()) } else { self.link(file) }
    }

    /// Makes the snapshot whole, once every file is.
    pub(super) fn finish(&self) -> Result<()> {
        self.plan.files.iter().try_for_each(|file| self.link(file))?;
        self.repository.set_commit(&self.pull.revision, &self.plan.commit)
    }

    fn link(&self, file: &Planned) -> Result<()> {
        self.repository.link(&self.plan.commit, &file.name, file.digest.etag())
    }

    async fn lock(&self, file: &Planned) -> Result<File> {
        let mut told = false;
        loop {
            if let Some(lock) = self.repository.try_lock(file.digest.etag())? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                self.meter.send(PullEvent::Waiting { file: file.name.clone() });
            }
            // The other process does not report, but its file grows.
            let there = fs::metadata(self.repository.incomplete(file.digest.etag())).map_or(0, |m| m.len());
            self.meter.at(file, there.min(file.size));
            tokio::time::sleep(POLL).await;
        }
    }

    /// Fetches and checks; a file that went wrong on the way is fetched once more from its start.
    async fn download(&self, file: &Planned, lock: &Arc<File>) -> Result<()> {
        let incomplete = self.repository.incomplete(file.digest.etag());
        let mut found = self.transfer(file, lock).await?;
        if found != file.digest.etag() {
            fs::remove_file(&incomplete).map_err(Error::write(&incomplete))?;
            self.meter.send(PullEvent::Damaged { file: file.name.clone() });
            found = self.transfer(file, lock).await?;
        }
        if found != file.digest.etag() {
            fs::remove_file(&incomplete).map_err(Error::write(&incomplete))?;
            return Err(Error::Checksum { file: file.name.clone(), expected: file.digest.etag().to_owned(), found });
        }
        let blob = self.repository.blob(file.digest.etag());
        fs::rename(&incomplete, &blob).map_err(Error::write(&blob))?;
        self.meter.send(PullEvent::Verified { file: file.name.clone() });
        Ok(())
    }

    /// Brings the incomplete file to its full size, over as many connections as that takes; gives its checksum.
    async fn transfer(&self, file: &Planned, lock: &Arc<File>) -> Result<String> {
        let open = || {
            Sink::open(Target {
                path: self.repository.incomplete(file.digest.etag()),
                size: file.size,
                digest: file.digest.clone(),
                lock: Arc::clone(lock),
                free_space: Arc::clone(&self.pull.free_space),
            })
        };
        let mut sink = open().await?;
        let mut failures = 0;
        while sink.position < file.size {
            let start = sink.position;
            self.meter.at(file, start);
            let end = self.connection(file, &mut sink).await;
            if sink.position > start {
                failures = 0;
            }
            match end {
                Ok(End::Whole) => {}
                Ok(End::WriterFailed) => return sink.close().await,
                Ok(End::TooLong) => {
                    // The server ignored the range: what was appended is the file's start.
                    sink.close().await?;
                    let path = self.repository.incomplete(file.digest.etag());
                    fs::remove_file(&path).map_err(Error::write(&path))?;
                    sink = open().await?;
                    let why = "it sent more than was asked for".to_owned();
                    let endpoint = self.pull.endpoint.clone();
                    self.retry.wait(&file.name, Failure::Again { why, wait: None, endpoint }, &mut failures).await?;
                }
                Err(failure) => self.retry.wait(&file.name, failure, &mut failures).await?,
            }
        }
        sink.close().await
    }

    /// One connection: bytes go to the sink until the file is whole or something fails.
    async fn connection(&self, file: &Planned, sink: &mut Sink) -> Result<End, Failure> {
        let mut stream = self.hub.stream(&self.plan.commit, &file.name, sink.position, file.size).await?;
        loop {
            let silent = |_| self.hub.again(format!("no data for {} s", self.pull.patience.as_secs()));
            match tokio::time::timeout(self.pull.patience, stream.next()).await.map_err(silent)? {
                Some(data) => {
                    let data = data?;
                    if sink.position + data.len() as u64 > file.size {
                        return Ok(End::TooLong);
                    }
                    if !sink.write(data).await {
                        return Ok(End::WriterFailed);
                    }
                    self.meter.at(file, sink.position);
                }
                None if sink.position == file.size => return Ok(End::Whole),
                None => return Err(self.hub.again("the connection ended early".to_owned())),
            }
        }
    }
}

/// How a connection ended that the server did not break.
enum End {
    Whole,
    TooLong,
    WriterFailed,
}
