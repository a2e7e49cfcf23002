//! Refusals and failures in OpenAI's shape, with codes that a program can match.

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mobile_engine::Error as EngineError;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// What a client is told when it gets no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// What is wrong and what to do, for people.
    message: String,
    /// The kind of error, as OpenAI names them.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What is wrong, for programs. Does not change between versions.
    code: &'static str,
    /// The field at fault.
    param: Option<String>,
}

/// What a request for an answer may be told instead, for the description of the routes.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(crate) enum Refusals {
    #[response(status = 400)]
    Request(ErrorBody),
    #[response(status = 401)]
    Key(ErrorBody),
    #[response(status = 404)]
    Model(ErrorBody),
    #[response(status = 408)]
    Slow(ErrorBody),
    #[response(status = 413)]
    Large(ErrorBody),
    #[response(status = 415)]
    Type(ErrorBody),
    #[response(status = 429)]
    Busy(ErrorBody),
    #[response(status = 503)]
    Unready(ErrorBody),
    #[response(status = 504)]
    Late(ErrorBody),
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    fn on(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The error with its field by the name that the route has for it.
    pub(crate) fn renamed(mut self, from: &str, to: &str) -> Self {
        if self.param.as_deref() == Some(from) {
            self.param = Some(to.to_owned());
        }
        self
    }

    pub(crate) fn invalid_json(why: &serde_json::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not valid JSON: {why}"))
    }

    pub(crate) fn invalid_type(param: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let param = param.into();
        Self::new(StatusCode::BAD_REQUEST, "invalid_type", format!("{param}: {why}")).on(param)
    }

    pub(crate) fn invalid_value(param: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let param = param.into();
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", format!("{param}: {why}")).on(param)
    }

    fn response_format(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_response_format", message).on("response_format")
    }

    pub(crate) fn schema_too_slow(limit: Duration) -> Self {
        let message = format!("response_format: the schema was not compiled within {} s; simplify it", limit.as_secs());
        Self::response_format(message)
    }

    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("the field {param} is required");
        Self::new(StatusCode::BAD_REQUEST, "missing_required_parameter", message).on(param)
    }

    pub(crate) fn unknown_parameter(param: impl Into<String>) -> Self {
        let param = param.into();
        let message = format!("unknown field {param}: see /docs for the fields of this route");
        Self::new(StatusCode::BAD_REQUEST, "unknown_parameter", message).on(param)
    }

    pub(crate) fn unsupported(param: impl Into<String>, what: impl std::fmt::Display) -> Self {
        let param = param.into();
        Self::new(StatusCode::BAD_REQUEST, "unsupported_parameter", format!("{param}: {what}")).on(param)
    }

    pub(crate) fn unsupported_media_type() -> Self {
        let message = "send the body as JSON, with the header Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("the body is larger than the {limit} bytes this service takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    pub(crate) fn body_unreadable() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body_unreadable", "the body could not be read to its end")
    }

    pub(crate) fn body_too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body took too long to arrive")
    }

    pub(crate) fn invalid_key() -> Self {
        let message = "this service asks peers from the network for a key: send Authorization: Bearer KEY with a \
                       key that its owner gave you";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub(crate) fn host_not_allowed() -> Self {
        let message = "the Host header names no host of this service: use its address, or have its owner add the name";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message)
    }

    pub(crate) fn origin_not_allowed() -> Self {
        let message = "pages of this origin may not use the service: have its owner add the origin";
        Self::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
    }

    pub(crate) fn unknown_route() -> Self {
        let message = "there is no such route: see /docs for those there are";
        Self::new(StatusCode::NOT_FOUND, "unknown_url", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "this route does not know the method: see the Allow header and /docs";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub(crate) fn unknown_model(asked: &str, loaded: &str) -> Self {
        let asked: String = asked.chars().take(200).collect();
        let message = format!("the model {asked:?} is not loaded here; this service answers as {loaded:?}");
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message).on("model")
    }

    pub(crate) fn no_model() -> Self {
        let message = "no model is loaded: have the service's owner choose one";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_model", message).retry(Duration::from_secs(30))
    }

    pub(crate) fn model_failed(model: &str) -> Self {
        let message = format!("the model {model:?} could not be loaded; its owner can see why in /health and the log");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "model_failed", message).retry(Duration::from_secs(30))
    }

    pub(crate) fn model_loading(model: &str) -> Self {
        let message = format!("the model {model:?} is still being loaded; try again shortly");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "model_loading", message).retry(Duration::from_secs(2))
    }

    pub(crate) fn no_template() -> Self {
        let message = "this model has no chat template: use /v1/completions or /generate";
        Self::new(StatusCode::BAD_REQUEST, "no_chat_template", message).on("messages")
    }

    pub(crate) fn shutting_down() -> Self {
        let message = "the service is shutting down; try again shortly";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message).retry(Duration::from_secs(5))
    }

    pub(crate) fn out_of_time(limit: Duration) -> Self {
        let message = format!("the answer was not finished within {} s; ask for fewer tokens", limit.as_secs_f64());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "request_timeout", message)
    }

    fn experts_unreadable() -> Self {
        let message = "a part of the model could not be read from the storage of this machine. Nothing is wrong with \
                       the request: try again shortly. If that goes on, its owner finds the file and what to do in \
                       the log";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "experts_unreadable", message).retry(Duration::from_secs(10))
    }

    pub(crate) fn internal() -> Self {
        let message = "the service failed to answer; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// As OpenAI's `type`, which follows from the status.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The error as JSON, for the response and for the event that ends a stream.
    pub(crate) fn body(&self) -> ErrorBody {
        let (message, param) = (self.message.clone(), self.param.clone());
        ErrorBody { error: ErrorDetail { message, kind: self.kind(), code: self.code, param } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::ContextExceeded { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).on("prompt")
            }
            EngineError::EmptyPrompt | EngineError::TokenId { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).on("prompt")
            }
            EngineError::Template(_) => Self::new(StatusCode::BAD_REQUEST, "template_refused", message).on("messages"),
            EngineError::Constraint(_) => Self::response_format(format!("response_format: {message}")),
            EngineError::Parameter(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_value", message),
            EngineError::NothingToHalve { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).on("policy")
            }
            EngineError::QueueFull(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message).retry(Duration::from_secs(1))
            }
            EngineError::Closed => {
                let message = "the model was taken out while it answered; try again shortly";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "model_gone", message).retry(Duration::from_secs(2))
            }
            // The message names a file: it is for the owner, not for the peer.
            EngineError::Storage { .. } => {
                tracing::error!(target: "mobile_service::engine", "{message}");
                Self::experts_unreadable()
            }
            // The message may name files: it is for the log, not for the peer.
            _ => {
                tracing::error!(target: "mobile_service::engine", "the engine failed to answer");
                tracing::debug!(target: "mobile_service::engine", %message);
                Self::internal()
            }
        }
    }
}
