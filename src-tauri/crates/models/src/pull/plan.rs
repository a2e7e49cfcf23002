//! What is to be fetched, decided before a byte of weights is: the commit, the files, their checksums, and whether
//! the model is one that can be run at all.

use std::fs;
use std::path::Path;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use mobile_files::{FromFile as _, INDEX, MAX_TEXT, is_weights, shards_of_index};
use serde::Serialize;

use super::hub::{Hub, Listed};
use super::retry::Retry;
use super::sink::Digest;
use crate::cache::Repository;
use crate::error::{Error, Result};
use crate::files::is_needed;
use crate::id::ModelId;
use crate::shape::Shape;

/// Larger than any file that a hub takes; sums of such sizes do not overflow.
const MAX_FILE: u64 = 1 << 44;

/// A download that has been looked at and not begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The model.
    pub id: String,
    /// The commit that would be fetched.
    pub commit: String,
    /// Family and sizes, from the config.
    pub shape: Shape,
    /// Files.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes still to be fetched.
    pub missing: u64,
}

/// The files of a commit that are needed.
pub(super) struct Plan {
    pub(super) commit: String,
    pub(super) shape: Shape,
    pub(super) files: Vec<Planned>,
}

/// One file that is needed.
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// Bytes of it on the disk when the plan was made.
    pub(super) present: u64,
}

impl Plan {
    pub(super) async fn make(hub: &Hub, repository: &Repository, revision: &str, retry: &Retry) -> Result<Self> {
        let commit = retry.run("the model's page", || hub.commit(revision).boxed()).await?;
        let listed = retry.run("the list of files", || hub.list(&commit).boxed()).await?;
        let id = hub.id();
        let shape = {
            let text = small(hub, retry, &commit, &listed, "config.json").await?;
            let text = text.ok_or_else(|| Error::NotAModel { id: id.to_owned(), what: "no config.json".to_owned() })?;
            Shape::parse(&text, Path::new("config.json")).map_err(|e| of_model(e, id))?
        };
        let index = small(hub, retry, &commit, &listed, INDEX).await?;
        let wanted = select(listed, index.as_deref(), id)?;
        let digests: Vec<_> = wanted.iter().map(|file| digest(hub, retry, &commit, file).boxed()).collect();
        let digests: Vec<Digest> = futures_util::stream::iter(digests).buffered(4).try_collect().await?;
        let files = wanted
            .into_iter()
            .zip(digests)
            .map(|(Listed { name, size, .. }, digest)| {
                let present = present(repository, &digest, size);
                Planned { name, size, digest, present }
            })
            .collect();
        Ok(Self { commit, shape, files })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size - f.present).sum()
    }

    pub(super) fn preview(self, id: &ModelId) -> Preview {
        Preview {
            id: id.to_string(),
            files: self.files.len(),
            bytes: self.bytes(),
            missing: self.missing_bytes(),
            commit: self.commit,
            shape: self.shape,
        }
    }
}

/// The text of a small file, if it is listed.
async fn small(hub: &Hub, retry: &Retry, commit: &str, listed: &[Listed], name: &str) -> Result<Option<String>> {
    let Some(file) = listed.iter().find(|f| f.name == name) else { return Ok(None) };
    if file.size > MAX_TEXT {
        return Err(Error::config(Path::new(name), format!("{} bytes is more than it may have", file.size)));
    }
    let bytes = retry.run(name, || hub.read(commit, name, file.size).boxed()).await?;
    let text = String::from_utf8(bytes).map_err(|_| Error::config(Path::new(name), "not UTF-8"))?;
    Ok(Some(text))
}

/// The checksum of a file; for one in LFS the hub is asked.
async fn digest(hub: &Hub, retry: &Retry, commit: &str, file: &Listed) -> Result<Digest> {
    if file.lfs {
        return retry.run(&file.name, || hub.sha256(commit, &file.name).boxed()).await.map(Digest::Sha256);
    }
    let what = || format!("{} has no checksum", file.name);
    Digest::git(&file.oid).ok_or_else(|| Error::NotAModel { id: hub.id().to_owned(), what: what() })
}

/// The files that are needed: small ones first, then the weights that the index names, or `model.safetensors`.
fn select(listed: Vec<Listed>, index: Option<&str>, id: &str) -> Result<Vec<Listed>> {
    let missing = |what: String| Error::NotAModel { id: id.to_owned(), what };
    let shards = match index {
        Some(text) => shards_of_index(text, Path::new(INDEX))?,
        None => vec!["model.safetensors".to_owned()],
    };
    let tokenizer = "tokenizer.json".to_owned();
    if let Some(absent) = shards.iter().chain([&tokenizer]).find(|s| listed.iter().all(|f| f.name != **s)) {
        return Err(missing(format!("no {absent}")));
    }
    let mut wanted: Vec<Listed> = listed
        .into_iter()
        .filter(|f| is_needed(&f.name) && (!is_weights(&f.name) || shards.contains(&f.name)))
        .collect();
    let most = |f: &Listed| if is_weights(&f.name) { MAX_FILE } else { MAX_TEXT };
    if let Some(file) = wanted.iter().find(|f| f.size > most(f)) {
        return Err(missing(format!("{} would have {} bytes", file.name, file.size)));
    }
    wanted.sort_by(|a, b| (is_weights(&a.name), &a.name).cmp(&(is_weights(&b.name), &b.name)));
    Ok(wanted)
}

/// Bytes of a file that are on the disk, whole or in part.
fn present(repository: &Repository, digest: &Digest, size: u64) -> u64 {
    let length = |path| fs::metadata(path).ok().map(|m| m.len());
    match length(repository.blob(digest.etag())) {
        Some(n) if n == size => size,
        _ => length(repository.incomplete(digest.etag())).filter(|n| *n <= size).unwrap_or(0),
    }
}

/// Names the model where the parser could only name the file.
fn of_model(error: Error, id: &str) -> Error {
    match error {
        Error::Architecture { found, supported, .. } => Error::Architecture { model: id.to_owned(), found, supported },
        other => other,
    }
}
