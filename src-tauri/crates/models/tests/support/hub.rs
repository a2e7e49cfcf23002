//! A hub for tests: serves a folder of `OWNER/NAME/` models as the Hugging Face hub does, and misbehaves on request.
//!
//! Safetensors are in LFS here: their `resolve` address redirects to one that serves the bytes, with the sha256 in the
//! header of the redirect. Everything else is answered directly, with git's object id as etag.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Segments, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// The one commit of every model.
pub const COMMIT: &str = "5f5e7d31c40e45c4a8b9d5e9a7a9e3f2b1c0d4e6";

/// Bytes between two looks at the clock of a slow connection.
const CHUNK: usize = 4096;

/// How an answer goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// The byte at this place of the file is another.
    Corrupt(usize),
    /// So many bytes a second.
    Slow(usize),
    /// Ranges are ignored, as some proxies do.
    NoRanges,
}

/// A request for bytes of a file, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The file.
    pub file: String,
    /// The first byte.
    pub start: usize,
    /// Bytes handed over to the network.
    pub bytes: usize,
}

/// A running hub. It stops with the runtime it was started on.
#[derive(Debug, Clone)]
pub struct Hub {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<Switches>,
}

#[derive(Debug, Default)]
struct Switches {
    /// Faults by part of the path; one with a count goes away after so many answers.
    faults: Vec<(String, Fault, Option<usize>)>,
    /// The one token that is accepted, where one is asked for.
    token: Option<String>,
    served: Vec<Served>,
    requests: HashMap<String, usize>,
    /// By path and time of change: a large file is not worth a sha256 per request.
    hashes: HashMap<(PathBuf, SystemTime), String>,
}

impl Hub {
    /// Serves `folder` on a free port of the loopback interface, or on `port`.
    pub async fn start(folder: &Path, port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { folder: folder.to_owned(), state: Mutex::default() });
        let router = Router::new()
            .route("/api/models/{owner}/{name}", get(info))
            .route("/api/models/{owner}/{name}/revision/{revision}", get(info_of_revision))
            .route("/api/models/{owner}/{name}/tree/{revision}", get(tree))
            .route("/{owner}/{name}/resolve/{revision}/{file}", get(resolve))
            .route("/lfs/{owner}/{name}/{file}", get(lfs))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), misbehave))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        Self { address, shared }
    }

    /// The address to set as `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers to paths that contain `part` go wrong, `times` times or always.
    pub fn fault(&self, part: &str, fault: Fault, times: Option<usize>) {
        self.switches().faults.push((part.to_owned(), fault, times));
    }

    /// Everything goes well again.
    pub fn heal(&self) {
        self.switches().faults.clear();
    }

    /// Files are given out with this token only.
    pub fn require_token(&self, token: &str) {
        self.switches().token = Some(token.to_owned());
    }

    /// The bytes that were given out.
    pub fn served(&self) -> Vec<Served> {
        self.switches().served.clone()
    }

    /// Requests for paths that contain `part`.
    pub fn requests(&self, part: &str) -> usize {
        self.switches().requests.iter().filter(|(path, _)| path.contains(part)).map(|(_, n)| n).sum()
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.shared.switches()
    }
}

impl Shared {
    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.state.lock().expect("no test panics inside")
    }

    /// Whether a fault of this kind is due for `path`; counts it.
    fn due<T>(&self, path: &str, kind: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut switches = self.switches();
        let (at, found) = switches.faults.iter().enumerate().find_map(|(at, (part, fault, left))| {
            (path.contains(part.as_str()) && *left != Some(0)).then(|| kind(fault)).flatten().map(|f| (at, f))
        })?;
        if let Some(left) = &mut switches.faults[at].2 {
            *left -= 1;
        }
        Some(found)
    }

    fn model(&self, owner: &str, name: &str) -> Option<PathBuf> {
        let plain = |part: &str| !part.starts_with('.');
        Some(self.folder.join(owner).join(name)).filter(|p| plain(owner) && plain(name) && p.is_dir())
    }

    fn sha256(&self, path: &Path, data: &[u8]) -> String {
        let changed = path.metadata().and_then(|m| m.modified()).expect("a file of the folder");
        let key = (path.to_owned(), changed);
        if let Some(known) = self.switches().hashes.get(&key) {
            return known.clone();
        }
        let hash = sha256(data);
        self.switches().hashes.insert(key, hash.clone());
        hash
    }

    fn file(&self, owner: &str, name: &str, file: &str) -> Option<Vec<u8>> {
        let path = self.model(owner, name)?.join(file);
        (!file.starts_with('.')).then(|| std::fs::read(path).ok()).flatten()
    }
}

async fn misbehave(State(hub): State<Arc<Shared>>, request: Request, next: axum::middleware::Next) -> Response {
    let path = request.uri().path().to_owned();
    *hub.switches().requests.entry(path.clone()).or_default() += 1;
    let status = |fault: &Fault| match fault {
        Fault::Status(code, headers) => Some((*code, headers.clone())),
        _ => None,
    };
    if let Some((code, headers)) = hub.due(&path, status) {
        let mut response = StatusCode::from_u16(code).expect("a status").into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().expect("a header"));
        }
        return response;
    }
    next.run(request).await
}

async fn info(hub: State<Arc<Shared>>, Segments((owner, name)): Segments<(String, String)>) -> Response {
    info_of_revision(hub, Segments((owner, name, "main".to_owned()))).await
}

async fn info_of_revision(
    State(hub): State<Arc<Shared>>,
    Segments((owner, name, revision)): Segments<(String, String, String)>,
) -> Response {
    let Some(folder) = hub.model(&owner, &name) else { return missing("RepoNotFound") };
    if revision != "main" && revision != COMMIT {
        return missing("RevisionNotFound");
    }
    let siblings: Vec<Value> = files(&folder).into_iter().map(|f| json!({ "rfilename": f })).collect();
    let id = format!("{owner}/{name}");
    let body = json!({
        "_id": "0", "id": id, "modelId": id, "sha": COMMIT, "private": false, "gated": false, "disabled": false,
        "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
    });
    axum::Json(body).into_response()
}

async fn tree(
    State(hub): State<Arc<Shared>>,
    Segments((owner, name, _)): Segments<(String, String, String)>,
) -> Response {
    let Some(folder) = hub.model(&owner, &name) else { return missing("RepoNotFound") };
    let entry = |file: String| {
        let data = std::fs::read(folder.join(&file)).expect("a file of the folder");
        if !is_lfs(&file) {
            return json!({ "type": "file", "path": file, "size": data.len(), "oid": git_oid(&data) });
        }
        let sha = hub.sha256(&folder.join(&file), &data);
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {}\n", data.len());
        let lfs = json!({ "oid": sha, "size": data.len(), "pointerSize": pointer.len() });
        json!({ "type": "file", "path": file, "size": data.len(), "oid": git_oid(pointer.as_bytes()), "lfs": lfs })
    };
    axum::Json(files(&folder).into_iter().map(entry).collect::<Vec<_>>()).into_response()
}

async fn resolve(
    State(hub): State<Arc<Shared>>,
    Segments((owner, name, revision, file)): Segments<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some(folder) = hub.model(&owner, &name) else { return missing("RepoNotFound") };
    if revision != "main" && revision != COMMIT {
        return missing("RevisionNotFound");
    }
    let wanted = hub.switches().token.clone();
    if let Some(token) = wanted {
        match headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
            None => return refused(StatusCode::UNAUTHORIZED),
            Some(given) if given != format!("Bearer {token}") => return refused(StatusCode::FORBIDDEN),
            Some(_) => {}
        }
    }
    let Some(data) = hub.file(&owner, &name, &file) else { return missing("EntryNotFound") };
    let commit = ("x-repo-commit", COMMIT.to_owned());
    if is_lfs(&file) {
        return (
            StatusCode::FOUND,
            [
                commit,
                ("location", format!("http://localhost:{}/lfs/{owner}/{name}/{file}", port(&headers))),
                ("x-linked-etag", format!("\"{}\"", hub.sha256(&folder.join(&file), &data))),
                ("x-linked-size", data.len().to_string()),
            ],
        )
            .into_response();
    }
    let etag = git_oid(&data);
    let mut response = bytes(&hub, &file, &method, &headers, data, &etag);
    response.headers_mut().insert(commit.0, commit.1.parse().expect("a header"));
    response
}

async fn lfs(
    State(hub): State<Arc<Shared>>,
    Segments((owner, name, file)): Segments<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if headers.contains_key(header::AUTHORIZATION) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(data) = hub.file(&owner, &name, &file) else { return missing("EntryNotFound") };
    let etag = hub.sha256(&hub.folder.join(&owner).join(&name).join(&file), &data);
    bytes(&hub, &file, &method, &headers, data, &etag)
}

/// The bytes of a file, or the range that was asked for, with the faults that are due.
fn bytes(
    hub: &Arc<Shared>,
    file: &str,
    method: &Method,
    headers: &HeaderMap,
    mut data: Vec<u8>,
    etag: &str,
) -> Response {
    let total = data.len();
    let ignores = hub.due(file, |f| matches!(f, Fault::NoRanges).then_some(())).is_some();
    let range = headers.get(header::RANGE).and_then(|v| v.to_str().ok()).filter(|_| !ignores);
    let (status, start, end) = match range.map(|r| parse_range(r, total)) {
        None => (StatusCode::OK, 0, total),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, end - start)
        .header(header::ETAG, format!("\"{etag}\""));
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(header::CONTENT_RANGE, format!("bytes {start}-{}/{total}", end - 1));
    }
    if method == Method::HEAD {
        return response.body(Body::empty()).expect("an answer");
    }
    if let Some(at) = hub.due(file, |f| if let Fault::Corrupt(at) = f { Some(*at) } else { None }) {
        data[at] ^= 1;
    }
    let cut = hub.due(file, |f| if let Fault::Cut(after) = f { Some(*after) } else { None });
    let speed = hub.due(file, |f| if let Fault::Slow(speed) = f { Some(*speed) } else { None });
    let sent = data[start..end].to_vec();
    let at = {
        let mut switches = hub.switches();
        switches.served.push(Served { file: file.to_owned(), start, bytes: 0 });
        switches.served.len() - 1
    };
    let hub = Arc::clone(hub);
    let stream = futures_util::stream::unfold((0, false), move |(done, ended)| {
        let (hub, left) = (Arc::clone(&hub), sent.get(done..).unwrap_or_default());
        let allowed = cut.map_or(left.len(), |c| c.saturating_sub(done).min(left.len()));
        let chunk = Bytes::copy_from_slice(&left[..allowed.min(CHUNK)]);
        let over = ended || left.is_empty();
        async move {
            if over {
                return None;
            }
            if chunk.is_empty() {
                // What was handed over so far should arrive before the connection breaks.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return Some((Err(std::io::Error::other("cut")), (done, true)));
            }
            if let Some(speed) = speed {
                tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / speed as f64)).await;
            }
            hub.switches().served[at].bytes += chunk.len();
            let done = done + chunk.len();
            Some((Ok(chunk), (done, false)))
        }
    });
    response.body(Body::from_stream(stream)).expect("an answer")
}

/// First byte and the one after the last of `bytes=A-B` or `bytes=A-`.
fn parse_range(text: &str, total: usize) -> Option<(usize, usize)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    let end = if end.is_empty() { total } else { end.parse::<usize>().ok()? + 1 };
    (start < end.min(total)).then_some((start, end.min(total)))
}

/// The storage has another name than the hub, as it has in the world: clients must not take their token there.
fn port(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).expect("a host");
    host.rsplit(':').next().expect("a port")
}

fn missing(code: &'static str) -> Response {
    (StatusCode::NOT_FOUND, [("x-error-code", code)]).into_response()
}

fn refused(status: StatusCode) -> Response {
    (status, [("x-error-code", "GatedRepo")]).into_response()
}

fn is_lfs(file: &str) -> bool {
    file.ends_with(".safetensors")
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The sha256 of a file.
pub fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// Git's object id of a file.
pub fn git_oid(data: &[u8]) -> String {
    hex(&Sha1::new().chain_update(format!("blob {}\0", data.len())).chain_update(data).finalize())
}
