//! `response_format`: what an answer must be.

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;

/// What an answer must be. An answer that `max_tokens` cuts short is not complete, and its `finish_reason` is `length`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ResponseFormat {
    /// Any text.
    Text {},
    /// A JSON object.
    JsonObject {},
    /// JSON that follows a schema.
    JsonSchema {
        /// The schema and its name.
        json_schema: NamedSchema,
    },
}

/// A schema and its name.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedSchema {
    /// Letters, digits, `_` and `-`; changes nothing.
    #[schema(pattern = "^[a-zA-Z0-9_-]{1,64}$")]
    name: String,
    /// What the answer is for; changes nothing.
    #[allow(dead_code)]
    description: Option<String>,
    /// A JSON schema. Keywords that cannot be followed are refused by name.
    #[schema(value_type = Object)]
    schema: Value,
    /// Changes nothing: the schema is always followed to the letter.
    #[allow(dead_code)]
    strict: Option<bool>,
}

impl ResponseFormat {
    /// The schema of the answer, if it has one.
    pub(crate) fn schema(self) -> Result<Option<Value>, ApiError> {
        match self {
            Self::Text {} => Ok(None),
            Self::JsonObject {} => Ok(Some(json!({ "type": "object" }))),
            Self::JsonSchema { json_schema: NamedSchema { name, schema, .. } } => {
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                if plain && (1..=64).contains(&name.len()) {
                    return Ok(Some(schema));
                }
                let why = "must be 1 to 64 letters, digits, underscores or hyphens";
                Err(ApiError::invalid_value("response_format.json_schema.name", why))
            }
        }
    }
}
