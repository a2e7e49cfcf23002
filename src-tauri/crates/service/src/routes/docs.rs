//! `GET /openapi.json`, and `GET /docs`, which is the same for people.

use std::sync::LazyLock;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse};
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;

use crate::error::ErrorBody;
use crate::openai::Asked;
use crate::options::Options;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "MoBiLE",
        description = "Mixture-of-Experts language models with big and little experts, behind OpenAI's API. Peers from \
                   the network show a key as `Authorization: Bearer KEY`; this machine needs none. Every refusal has \
                   the shape of OpenAI's errors and a stable `code`.",
        license(name = "MIT"),
    ),
    components(schemas(Options, Asked))
)]
struct About;

/// The description without the routes.
pub(super) fn about() -> Document {
    About::openapi()
}

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let document = super::described().into_openapi();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["security"] = json!([{}, { "key": [] }]);
    document["components"]["securitySchemes"] = json!({ "key": { "type": "http", "scheme": "bearer" } });
    rename_wildcards(&mut document);
    share(&mut document, "Options", &["ChatRequest", "CompletionRequest", "GenerateRequest"]);
    share(&mut document, "Asked", &["ChatRequest", "CompletionRequest"]);
    close_requests(&mut document);
    // Flattened, and left out for peers that are not to see them.
    document["components"]["schemas"]["Details"]["required"] = json!([]);
    document
});

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let mut environment = Environment::new();
    let _ = environment.add_template("docs.html", include_str!("docs.html"));
    let page = environment.get_template("docs.html").and_then(|t| t.render(context! { api => Serde(&*DOCUMENT) }));
    page.unwrap_or_else(|error| error.to_string())
});

/// OpenAPI knows no wildcards: axum's `{*model}` is its `{model}`.
fn rename_wildcards(document: &mut Value) {
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    }
}

/// Requests have the fields that they share besides their own.
fn share(document: &mut Value, shared: &str, requests: &[&str]) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let Some(shared) = schemas.shift_remove(shared) else { return };
    for name in requests {
        let Some(request) = schemas.get_mut(*name) else { continue };
        if let (Some(own), Some(fields)) = (request["properties"].as_object_mut(), shared["properties"].as_object()) {
            own.extend(fields.clone());
        }
        let required = shared["required"].as_array().into_iter().flatten().cloned();
        match request["required"].as_array_mut() {
            Some(own) => own.extend(required),
            None => request["required"] = required.collect(),
        }
    }
}

/// Fields that a request does not know are refused, which the schemas do not say by themselves.
fn close_requests(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    for (name, schema) in schemas {
        if ["PolicyParameters", "Part", "ResponseFormat"].contains(&name.as_str()) {
            for variant in schema["oneOf"].as_array_mut().into_iter().flatten() {
                variant["unevaluatedProperties"] = Value::Bool(false);
            }
        }
        if name.ends_with("Request") || ["Message", "NamedSchema", "StreamOptions"].contains(&name.as_str()) {
            schema["additionalProperties"] = Value::Bool(false);
        }
    }
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "service",
    responses((status = 200, body = Object), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn openapi() -> axum::Json<&'static Value> {
    axum::Json(&DOCUMENT)
}

/// This description, for people
#[utoipa::path(
    get,
    path = "/docs",
    tag = "service",
    responses((status = 200, body = String, content_type = "text/html; charset=utf-8"), (status = 401, body = ErrorBody)),
)]
pub(crate) async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, policy), (CONTENT_TYPE, "text/html; charset=utf-8")], Html(PAGE.as_str()))
}
