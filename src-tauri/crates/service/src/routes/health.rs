//! `GET /health`.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use mobile_engine::{Counters, Progress};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Shared;
use crate::guard::Trusted;
use crate::slot::ModelState;

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    status: Status,
    /// `cpu` or `gpu`.
    device: &'static str,
    /// The model that answers, or is being loaded.
    model: Option<String>,
    /// Whether MLX works on this machine.
    mlx_available: bool,
    /// For this machine and for peers with a key.
    #[serde(flatten)]
    details: Option<Details>,
}

/// `healthy`: requests are answered. `initializing`: no model yet. `loading`. `error`: the model failed to load.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Healthy,
    Initializing,
    Loading,
    Error,
}

/// What not every peer is told.
#[derive(Debug, Serialize, ToSchema)]
struct Details {
    /// Why there is no model, when one failed to load.
    error: Option<String>,
    /// How far loading has come.
    #[schema(value_type = Option<Object>)]
    progress: Option<Progress>,
    queue: Queue,
    memory: Memory,
    /// Open connections.
    connections: usize,
    uptime_seconds: f64,
    /// Of this service.
    version: &'static str,
    /// Counters of the loaded model's requests, those that are running included.
    #[schema(value_type = Object)]
    totals: Counters,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Queue {
    /// Requests being decoded.
    running: usize,
    /// Requests waiting for a turn.
    waiting: usize,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Memory {
    /// Bytes MLX holds.
    active_bytes: usize,
    /// The most bytes MLX has held.
    peak_bytes: usize,
    /// Bytes of the model's weights.
    weight_bytes: usize,
    /// Bytes of the experts in memory: where they are streamed and memory got short, less than their budget.
    expert_bytes: usize,
}

/// How the service is
///
/// Always 200: `status` says whether requests will be answered. Needs no key; without one it says less.
#[utoipa::path(get, path = "/health", tag = "service", responses((status = 200, body = Health)))]
pub(crate) async fn health(State(app): State<Shared>, Extension(Trusted(trusted)): Extension<Trusted>) -> Json<Health> {
    let (mut error, mut progress, mut queue, mut memory) = (None, None, Queue::default(), Memory::default());
    let mut totals = Counters::default();
    let mut device = app.device.map_or("cpu", |d| d.name());
    let (status, model) = match app.slot.state() {
        ModelState::Empty => (Status::Initializing, None),
        ModelState::Loading { model, progress: now } => {
            progress = Some(now);
            (Status::Loading, Some(model))
        }
        ModelState::Failed { model, message } => {
            error = Some(message);
            (Status::Error, Some(model))
        }
        ModelState::Ready(ready) => {
            let (info, status) = (ready.engine.info(), ready.engine.status());
            device = info.device.name();
            queue = Queue { running: status.running, waiting: status.queued };
            memory = Memory {
                active_bytes: status.memory_bytes,
                peak_bytes: status.peak_memory_bytes,
                weight_bytes: info.weight_bytes,
                expert_bytes: status.expert_memory_bytes,
            };
            totals = status.totals;
            (Status::Healthy, Some(info.name.clone()))
        }
    };
    let uptime_seconds = round(app.started.elapsed());
    let (connections, version) = (app.clients.connections(), env!("CARGO_PKG_VERSION"));
    let details = Details { error, progress, queue, memory, connections, uptime_seconds, version, totals };
    let mlx_available = app.device.is_some();
    Json(Health { status, device, model, mlx_available, details: trusted.then_some(details) })
}

fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
