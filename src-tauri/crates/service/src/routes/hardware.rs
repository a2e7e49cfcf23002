//! `GET /v1/hardware`.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use crate::app::Shared;
use crate::error::ErrorBody;

/// The machine
///
/// Host name, chip, cores, memory, GPU cores, Metal and MLX, as far as the machine can say.
#[utoipa::path(
    get,
    path = "/v1/hardware",
    tag = "service",
    responses((status = 200, body = Object), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn hardware(State(app): State<Shared>) -> Json<Value> {
    Json(app.config.hardware.clone())
}
