//! `GET /metrics`.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::app::Shared;
use crate::error::ErrorBody;
use crate::slot::ModelState;

/// Counters for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "service",
    responses(
        (status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"),
        (status = 401, body = ErrorBody),
    ),
)]
pub(crate) async fn metrics(State(app): State<Shared>) -> impl IntoResponse {
    let ready = match app.slot.state() {
        ModelState::Ready(ready) => Some(ready),
        _ => None,
    };
    let engine = ready.as_ref().map(|r| (r.engine.info().name.as_str(), r.engine.status()));
    let text = app.metrics.render(app.clients.connections(), app.started.elapsed().as_secs_f64(), engine);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
