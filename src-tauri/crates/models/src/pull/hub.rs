//! Asking the hub: by the hf-hub crate, but for the one thing it does not give out, the checksum of a large file.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use hf_hub::repository::{HFRepository, RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFClient, HFError};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::redirect::Policy;

use super::Pull;
use super::retry::Failure;
use crate::error::Error;

/// A connection to the hub, for one model.
pub(super) struct Hub {
    id: String,
    endpoint: String,
    token: Option<String>,
    repository: HFRepository<RepoTypeModel>,
    direct: reqwest::Client,
    patience: Duration,
}

/// A file as the hub lists it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: u64,
    /// Git's object id: of the file, or of its pointer where the file itself is in LFS.
    pub(super) oid: String,
    pub(super) lfs: bool,
}

impl Hub {
    pub(super) fn connect(pull: &Pull) -> Result<Self, Error> {
        let agent = concat!("mobile/", env!("CARGO_PKG_VERSION"));
        let client = |redirects| {
            reqwest::Client::builder()
                .user_agent(agent)
                .connect_timeout(pull.patience)
                .read_timeout(pull.patience)
                .redirect(redirects)
                .build()
        };
        let broken = |e: String| Error::Hub { endpoint: pull.endpoint.clone(), why: e };
        let mut builder = HFClient::builder()
            .endpoint(&pull.endpoint)
            .cache_dir(&pull.cache)
            .client(client(Policy::default()).map_err(|e| broken(e.to_string()))?)
            // Failures are counted, shown and waited for here, not twice.
            .retry_max_attempts(0);
        if let Some(token) = &pull.token {
            builder = builder.token(token);
        }
        let api = builder.build().map_err(|e| broken(e.to_string()))?;
        Ok(Self {
            id: pull.id.to_string(),
            endpoint: pull.endpoint.clone(),
            token: pull.token.clone(),
            repository: api.model(pull.id.owner(), pull.id.name()),
            direct: client(Policy::none()).map_err(|e| broken(e.to_string()))?,
            patience: pull.patience,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The commit that a branch or tag is at.
    pub(super) async fn commit(&self, revision: &str) -> Result<String, Failure> {
        let info = self.repository.info().revision(revision).send();
        let info = self.patiently(info).await?;
        info.sha
            .filter(|sha| crate::cache::is_hash(sha))
            .ok_or_else(|| self.failed(format!("it names no commit for {}", self.id)))
    }

    /// The files of a commit.
    pub(super) async fn list(&self, commit: &str) -> Result<Vec<Listed>, Failure> {
        let entries = self.repository.list_tree().revision(commit).send().map_err(|e| self.failure(e))?;
        let entries: Vec<RepoTreeEntry> = self.patiently(entries.try_collect()).await?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| match entry {
                RepoTreeEntry::File { oid, size, path, lfs, .. } => {
                    Some(Listed { name: path, size, oid, lfs: lfs.is_some() })
                }
                RepoTreeEntry::Directory { .. } => None,
            })
            .collect())
    }

    /// The whole of a small file; not one byte more than the `size` it was listed with is taken in.
    pub(super) async fn read(&self, commit: &str, name: &str, size: u64) -> Result<Vec<u8>, Failure> {
        let mut stream = self.stream(commit, name, 0, size).await?;
        let mut data = Vec::new();
        let all = async {
            while let Some(chunk) = stream.next().await {
                data.extend_from_slice(&chunk?);
                if data.len() as u64 > size {
                    return Err(self.failed(format!("{name} is longer than it says")));
                }
            }
            Ok(())
        };
        let silent = |_| self.again(format!("{name} took more than {} s", self.patience.as_secs()));
        tokio::time::timeout(self.patience, all).await.map_err(silent)??;
        if data.len() as u64 == size { Ok(data) } else { Err(self.again(format!("{name} ended early"))) }
    }

    /// The bytes of a file from `start` on.
    pub(super) async fn stream(
        &self,
        commit: &str,
        name: &str,
        start: u64,
        size: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, Failure>> + Unpin, Failure> {
        let range = (start > 0).then_some(start..size);
        let request = self.repository.download_file_stream().filename(name).revision(commit).maybe_range(range);
        let (_, stream) = self.patiently(request.send()).await?;
        Ok(stream.map(|item| item.map_err(|e| self.failure(e))))
    }

    /// The sha256 of a file in LFS: the hub tells it in the header of the redirect to where the file is.
    pub(super) async fn sha256(&self, commit: &str, name: &str) -> Result<String, Failure> {
        let mut url = format!("{}/{}/resolve/{commit}/{name}", self.endpoint, self.id);
        for _ in 0..4 {
            let mut request = self.direct.head(&url);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.map_err(|e| self.again(cause(&e)))?;
            let header = |headers: &HeaderMap, name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
            let headers = response.headers();
            let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
            let status = response.status();
            if !status.is_success() && !status.is_redirection() {
                let wait = header(headers, "retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs);
                let code = header(headers, "x-error-code");
                return Err(self.refused(status.as_u16(), code.as_deref(), wait));
            }
            // A renamed repository answers with a path on the hub itself.
            match header(headers, LOCATION.as_str()).filter(|l| l.starts_with('/') && !l.starts_with("//")) {
                Some(moved) if headers.get("x-linked-etag").is_none() => url = format!("{}{moved}", self.endpoint),
                _ => {
                    let etag = etag.unwrap_or_default();
                    let sha = etag.trim_start_matches("W/").trim_matches('"');
                    return if sha.len() == 64 && sha.bytes().all(|b| b.is_ascii_hexdigit()) {
                        Ok(sha.to_ascii_lowercase())
                    } else {
                        Err(self.failed(format!("it gives no checksum for {name}")))
                    };
                }
            }
        }
        Err(self.failed(format!("it redirects {name} in circles")))
    }

    async fn patiently<T>(&self, request: impl Future<Output = Result<T, HFError>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.patience, request).await {
            Ok(result) => result.map_err(|e| self.failure(e)),
            Err(_) => Err(self.again(format!("no answer for {} s", self.patience.as_secs()))),
        }
    }

    fn failure(&self, error: HFError) -> Failure {
        let status = |status, c: Option<&str>, wait| self.refused(status, c, wait);
        match error {
            HFError::AuthRequired { context } => status(401, context.error_code.as_deref(), None),
            HFError::Forbidden { context } => status(403, context.error_code.as_deref(), None),
            HFError::RateLimited { retry_after, context } => status(429, context.error_code.as_deref(), retry_after),
            HFError::Http { context } => status(context.status.as_u16(), context.error_code.as_deref(), None),
            HFError::RepoNotFound { .. } => status(404, None, None),
            HFError::RevisionNotFound { revision, context, .. } => {
                let unknown = context.and_then(|c| c.error_code).is_none_or(|c| c == "RepoNotFound");
                if unknown {
                    return status(404, None, None);
                }
                let (id, endpoint) = (self.id.clone(), self.endpoint.clone());
                Failure::Fatal(Error::NoRevision { id, revision, endpoint })
            }
            HFError::EntryNotFound { path, .. } => Failure::Fatal(Error::NoFile { id: self.id.clone(), file: path }),
            HFError::Request { source, .. } => self.again(cause(&source)),
            other => self.failed(other.to_string()),
        }
    }

    /// What a refusal means. The hub answers 401 for what does not exist as well, and says so in `code`.
    fn refused(&self, status: u16, code: Option<&str>, wait: Option<Duration>) -> Failure {
        let (id, endpoint) = (self.id.clone(), self.endpoint.clone());
        match (status, code) {
            (401 | 403, Some("GatedRepo")) => Failure::Fatal(Error::Gated { id, endpoint }),
            (401 | 403 | 404, Some("RepoNotFound")) | (404, _) => Failure::Fatal(Error::NoRepository { id, endpoint }),
            (401, _) => Failure::Fatal(Error::Unauthorized { id, endpoint }),
            (403, _) => Failure::Fatal(Error::Forbidden { id, endpoint }),
            (429, _) => Failure::Again { why: "too many requests (429)".to_owned(), wait, endpoint },
            (408 | 500..=599, _) => Failure::Again { why: format!("it answered {status}"), wait, endpoint },
            _ => self.failed(format!("it answered {status}")),
        }
    }

    /// A failure that another attempt may mend.
    pub(super) fn again(&self, why: String) -> Failure {
        Failure::Again { why, wait: None, endpoint: self.endpoint.clone() }
    }

    fn failed(&self, why: String) -> Failure {
        Failure::Fatal(Error::Hub { endpoint: self.endpoint.clone(), why })
    }
}

/// What is at the bottom of an error, which is all of it that somebody can do something about.
fn cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error).to_string()
}
