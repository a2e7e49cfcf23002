//! `GET /v1/models`.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Shared;
use crate::error::{ApiError, ErrorBody};
use crate::slot::{ModelState, ReadyModel};

/// The models that answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// A model that answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    /// The name to ask for it by.
    id: String,
    object: &'static str,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// Context in tokens.
    context_length: usize,
    /// Experts per layer.
    experts: usize,
    /// Experts per token of the big model.
    top_k: usize,
    /// Experts per token of the little model.
    little_k: usize,
}

impl From<&ReadyModel> for Model {
    fn from(ready: &ReadyModel) -> Self {
        let info = ready.engine.info();
        Self {
            id: info.name.clone(),
            object: "model",
            created: ready.since,
            owned_by: "mobile",
            context_length: info.context,
            experts: info.experts,
            top_k: info.top_k,
            little_k: info.little_k,
        }
    }
}

/// The models that answer
///
/// One, or none while none is loaded.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI",
    responses((status = 200, body = ModelList), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn list(State(app): State<Shared>) -> Json<ModelList> {
    let data = match app.slot.state() {
        ModelState::Ready(ready) => vec![Model::from(&ready)],
        _ => Vec::new(),
    };
    Json(ModelList { object: "list", data })
}

/// One model
#[utoipa::path(
    get,
    path = "/v1/models/{*model}",
    tag = "OpenAI",
    params(("model" = String, Path, description = "The model's name; may contain slashes.")),
    responses(
        (status = 200, body = Model),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub(crate) async fn retrieve(
    State(app): State<Shared>,
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Json<Model>, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::invalid_value("model", "the name is not valid UTF-8"))?;
    Ok(Json(Model::from(&app.ready(Some(&name))?)))
}
