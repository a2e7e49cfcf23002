//! Where the bytes of a file go: onto the disk and through its checksum, on a thread of its own.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mobile_files::FromFile as _;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{ELSEWHERE, FreeSpace, RESERVE};
use crate::error::{Error, Result};

/// Bytes between two looks at the free space.
const LOOK: u64 = 64 << 20;

/// The checksum of a file, which is also its name among the blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digest {
    /// Of a file in LFS.
    Sha256(String),
    /// Git's own, of a small file: SHA-1 over a header and the file.
    Git(String),
}

impl Digest {
    pub(super) fn git(oid: &str) -> Option<Self> {
        crate::cache::is_hash(oid).then(|| Self::Git(oid.to_ascii_lowercase()))
    }

    pub(super) fn etag(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::Git(text) => text,
        }
    }
}

/// A checksum being computed.
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(digest: &Digest, size: u64) -> Self {
        match digest {
            Digest::Sha256(_) => Self::Sha256(Sha256::new()),
            Digest::Git(_) => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(data),
            Self::Git(h) => h.update(data),
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Self::Sha256(h) => hex(&h.finalize()),
            Self::Git(h) => hex(&h.finalize()),
        }
    }
}

/// A file that is being written.
pub(super) struct Sink {
    /// Bytes handed over, those found on the disk included.
    pub(super) position: u64,
    sender: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<String>>,
}

/// What a sink needs to know of its file.
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// Held by the writer until its last byte is out, also when the download was cancelled before.
    pub(super) lock: std::sync::Arc<File>,
    pub(super) free_space: FreeSpace,
}

impl Sink {
    /// Goes on with the file where it ends; a file longer than it should be starts anew.
    pub(super) async fn open(target: Target) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(16);
        let opened = spawn_blocking(move || open(target)).await.map_err(died)??;
        let position = opened.written;
        Ok(Self { position, sender, writer: spawn_blocking(move || opened.drain(receiver)) })
    }

    /// Takes the next bytes; `false` when the writer has failed, which [`Sink::close`] then tells.
    pub(super) async fn write(&mut self, data: Bytes) -> bool {
        self.position += data.len() as u64;
        self.sender.send(data).await.is_ok()
    }

    /// Waits until all is on the disk; gives the checksum.
    pub(super) async fn close(self) -> Result<String> {
        drop(self.sender);
        self.writer.await.map_err(died)?
    }
}

fn died(error: tokio::task::JoinError) -> Error {
    Error::write("the download")(std::io::Error::other(error))
}

struct Writer {
    target: Target,
    file: File,
    hasher: Hasher,
    written: u64,
}

fn open(target: Target) -> Result<Writer> {
    let path = &target.path;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::write(folder))?;
    let options = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = options.map_err(Error::write(path))?;
    if file.metadata().map_err(Error::read(path))?.len() > target.size {
        file.set_len(0).map_err(Error::write(path))?;
    }
    let mut hasher = Hasher::new(&target.digest, target.size);
    let mut buffer = vec![0; 1 << 20];
    let mut written = 0;
    loop {
        match file.read(&mut buffer).map_err(Error::read(path))? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                written += n as u64;
            }
        }
    }
    file.seek(SeekFrom::Start(written)).map_err(Error::write(path))?;
    Ok(Writer { target, file, hasher, written })
}

impl Writer {
    fn drain(mut self, mut receiver: mpsc::Receiver<Bytes>) -> Result<String> {
        let mut look = self.written;
        while let Some(data) = receiver.blocking_recv() {
            if self.written >= look {
                self.check_space()?;
                look = self.written + LOOK;
            }
            self.file.write_all(&data).map_err(|e| self.failed(e))?;
            self.hasher.update(&data);
            self.written += data.len() as u64;
        }
        self.file.sync_all().map_err(|e| self.failed(e))?;
        drop(self.target.lock);
        Ok(self.hasher.finish())
    }

    fn check_space(&self) -> Result<()> {
        let free = (self.target.free_space)(&self.target.path)?;
        if free < RESERVE { Err(self.full(free)) } else { Ok(()) }
    }

    fn failed(&self, error: std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::StorageFull || error.kind() == std::io::ErrorKind::QuotaExceeded {
            self.full((self.target.free_space)(&self.target.path).unwrap_or(0))
        } else {
            Error::write(&self.target.path)(error)
        }
    }

    fn full(&self, free: u64) -> Error {
        let path = self.target.path.parent().unwrap_or(Path::new(".")).to_owned();
        Error::DiskFull { path, needed: self.target.size - self.written + RESERVE, free, instead: ELSEWHERE }
    }
}
