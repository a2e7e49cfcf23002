//! Bodies to typed requests, with refusals that name the field.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::Shared;
use crate::error::ApiError;
use crate::options::Options;

/// A request's body as JSON: the route's own fields, those that it shares with others of its kind, and those that all
/// answering routes share.
pub(crate) struct Json<T: Body>(pub(crate) T, pub(crate) T::Shared, pub(crate) Options);

/// A body that may name OpenAI's fields beyond those that this service knows.
pub(crate) trait Body: DeserializeOwned {
    /// The fields that routes of its kind share.
    type Shared: DeserializeOwned;

    /// Looks through the fields before the rest is read; may take some out.
    fn prepare(_fields: &mut serde_json::Map<String, Value>) -> Result<(), ApiError> {
        Ok(())
    }
}

impl<T: Body> FromRequest<Shared> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::unsupported_media_type());
        }
        let limits = app.config.limits;
        let length = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > limits.body_bytes) {
            if !request.headers().contains_key(EXPECT) {
                read_on(request.into_body().into_data_stream(), limits.body_bytes).await;
            }
            return Err(ApiError::body_too_large(limits.body_bytes));
        }
        let parts = request.into_body().into_data_stream();
        let bytes = tokio::time::timeout(limits.body_time, collect(parts, limits.body_bytes))
            .await
            .map_err(|_| ApiError::body_too_slow())??;
        parse(&bytes)
    }
}

async fn collect(mut parts: BodyDataStream, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| ApiError::body_unreadable())?;
        if bytes.len() + part.len() > limit {
            read_on(parts, limit).await;
            return Err(ApiError::body_too_large(limit));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Reads a body that is too large for a moment longer: a client that still writes when its connection is closed loses
/// the refusal.
async fn read_on(mut parts: BodyDataStream, limit: usize) {
    let reading = async {
        let mut read = 0;
        while let (Some(Ok(part)), true) = (parts.next().await, read < 4 * limit) {
            read += part.len();
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|v| v.to_str()) else { return false };
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn parse<T: Body>(bytes: &[u8]) -> Result<Json<T>, ApiError> {
    let mut body: Value = serde_json::from_slice(bytes).map_err(|e| ApiError::invalid_json(&e))?;
    let Value::Object(fields) = &mut body else {
        return Err(ApiError::invalid_type("body", "must be a JSON object"));
    };
    T::prepare(fields)?;
    fields.values_mut().for_each(write_whole_numbers);
    let options = take(&mut body)?;
    let shared = take(&mut body)?;
    match read(&body)? {
        (own, unknown) if unknown.is_empty() => Ok(Json(own, shared, options)),
        (_, mut unknown) => Err(ApiError::unknown_parameter(unknown.swap_remove(0))),
    }
}

/// What `body` says, whose fields are taken out.
fn take<T: DeserializeOwned>(body: &mut Value) -> Result<T, ApiError> {
    let (taken, mut unknown) = read(body)?;
    if let Value::Object(fields) = body {
        fields.retain(|name, _| unknown.contains(name));
        // The others are not fields of the body, but of something in it that was taken.
        unknown.retain(|name| !fields.contains_key(name));
    }
    if unknown.is_empty() { Ok(taken) } else { Err(ApiError::unknown_parameter(unknown.swap_remove(0))) }
}

/// What `body` says, and the names of the fields that `T` does not have.
fn read<T: DeserializeOwned>(body: &Value) -> Result<(T, Vec<String>), ApiError> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(body, &mut track);
    match serde_ignored::deserialize(tracked, |path| unknown.push(name(&path))) {
        Ok(read) => Ok((read, unknown)),
        Err(error) => Err(ApiError::invalid_type(track.path().to_string(), error)),
    }
}

/// A field's name as serde_path_to_error writes it: `messages[0].content`.
fn name(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", name(parent)),
        Path::Map { parent, key } => match name(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => name(parent),
    }
}

/// `3.0` is a whole number in JSON, though not for serde.
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let exact = |f: &f64| f.fract() == 0.0 && f.abs() < 9e15;
            if let Some(float) = number.as_f64().filter(|f| number.is_f64() && exact(f)) {
                *number = (float as i64).into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(write_whole_numbers),
        Value::Object(map) => map.values_mut().for_each(write_whole_numbers),
        _ => {}
    }
}
