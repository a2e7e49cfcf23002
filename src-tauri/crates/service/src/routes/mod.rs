//! The routes, one file per group, and the checks in front of them.

mod chat;
mod completions;
mod docs;
mod generate;
mod hardware;
mod health;
mod metrics;
mod models;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;
use crate::error::ApiError;
use crate::guard;

/// The routes and their description.
fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(docs::about())
        .routes(routes!(health::health))
        .routes(routes!(generate::generate))
        .routes(routes!(models::list))
        .routes(routes!(models::retrieve))
        .routes(routes!(chat::chat))
        .routes(routes!(completions::completions))
        .routes(routes!(hardware::hardware))
        .routes(routes!(metrics::metrics))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::page))
}

pub(crate) fn router(app: &Shared) -> Router {
    let (routes, _) = described().split_for_parts();
    let asked = Arc::clone(app);
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| guard::origin_allowed(&asked, origin)))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request());
    let state = || Arc::clone(app);
    routes
        .fallback(|| async { ApiError::unknown_route() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(app.config.limits.body_bytes))
        // The last is the first to see a request. A browser's preflight carries no key, so it is answered before.
        .layer(from_fn_with_state(state(), guard::key))
        .layer(cors)
        .layer(from_fn_with_state(state(), guard::place))
        .layer(map_response(harden))
        .layer(from_fn_with_state(state(), guard::observe))
        .with_state(state())
}

/// Answers are for who asked, now, and are what they say they are.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> axum::http::Response<axum::body::Body> {
    tracing::error!("a request made the service panic");
    ApiError::internal().into_response()
}
