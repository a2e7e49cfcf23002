//! Who may speak to the service: the checks every request passes before its route.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::app::{App, Shared};
use crate::config::is_loopback;
use crate::error::ApiError;
use crate::ids;
use crate::server::Ends;

/// Whether a request may see what is not for every peer: it comes from this machine, shows a key, or none is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trusted(pub(crate) bool);

/// Routes that answer without a key, with less.
const OPEN: [&str; 1] = ["/health"];

/// Names the request, counts it and logs what happened to it; never its content.
pub(crate) async fn observe(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = ids::new("req_");
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    request.headers_mut().remove("x-request-id");
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    let status = response.status().as_u16();
    app.metrics.responded(&route, status);
    tracing::info!(%id, %method, route, status, ms = started.elapsed().as_secs_f64() * 1e3, "request");
    response
}

/// A page that a browser loaded from elsewhere must not reach the service, be it by a name that was rebound to this
/// machine (Host) or by a request across origins (Origin).
pub(crate) async fn place(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let local = request.extensions().get::<Ends>().map(|ends| ends.local);
    if !host(&request).is_some_and(|host| host_allowed(&app, &host, local)) {
        return ApiError::host_not_allowed().into_response();
    }
    let foreign = |origin: &HeaderValue| !origin_allowed(&app, origin);
    if request.headers().get_all(ORIGIN).iter().any(foreign) {
        return ApiError::origin_not_allowed().into_response();
    }
    next.run(request).await
}

/// Asks peers from the network for a key.
pub(crate) async fn key(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Ends>().map(|ends| ends.peer);
    let shown = bearer(request.headers()).and_then(|secret| app.config.keys.recognise(secret));
    let trusted = !app.config.require_key || peer.is_some_and(is_loopback) || shown.is_some();
    if !trusted && !OPEN.contains(&request.uri().path()) {
        return ApiError::invalid_key().into_response();
    }
    if let Some(peer) = peer {
        app.clients.asked(peer, shown);
    }
    request.extensions_mut().insert(Trusted(trusted));
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// The host that was asked for, in lower case, without port and brackets. `None` unless there is exactly one.
fn host(request: &Request) -> Option<String> {
    let mut headers = request.headers().get_all(HOST).iter();
    let authority = match (headers.next(), headers.next()) {
        (Some(host), None) => host.to_str().ok()?.parse::<Authority>().ok()?,
        _ => return None,
    };
    Some(bare(authority.host()))
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase()
}

/// Loopback always; the configured names; and, where the network can reach the service, the machine's own names and the
/// address that the connection came in on.
fn host_allowed(app: &App, host: &str, local: Option<IpAddr>) -> bool {
    let known = |names: &[String]| names.iter().any(|name| bare(name) == host);
    if host == "localhost" || known(&app.config.hosts) {
        return true;
    }
    match host.parse::<IpAddr>() {
        Ok(ip) if is_loopback(ip) => true,
        Ok(ip) => app.config.is_lan() && Some(ip.to_canonical()) == local,
        Err(_) => app.config.is_lan() && known(&app.names),
    }
}

/// Loopback pages, the app's own window, and what is configured.
pub(crate) fn origin_allowed(app: &App, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    if app.config.origins.iter().any(|o| o.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let Ok(authority) = rest.parse::<Authority>() else { return false };
    let host = bare(authority.host());
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(is_loopback);
    match scheme {
        "tauri" => host == "localhost",
        "http" | "https" => loopback || host == "tauri.localhost",
        _ => false,
    }
}
