//! What both OpenAI routes are asked beside the fields that all answering routes share.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::config::Limits;
use crate::error::ApiError;
use crate::options::count;

/// The fields that both OpenAI routes share.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Asked {
    /// The model that must answer, as `/v1/models` names it.
    #[schema(required, value_type = String)]
    model: Option<String>,
    /// Answers to each prompt; 1 by default.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<i64>,
    /// What the stream carries besides.
    stream_options: Option<StreamOptions>,
    /// Extension: report what MoBiLE did with each token.
    mobile: Option<bool>,
}

/// What a stream carries besides the answer.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// End with a chunk that has the usage and no choices.
    include_usage: Option<bool>,
    /// OpenAI's padding against eavesdroppers: only `false` is known here.
    include_obfuscation: Option<bool>,
}

/// What a request asks of its answers besides their content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Answers to each prompt.
    pub(crate) n: usize,
    pub(crate) logprobs: bool,
    pub(crate) mobile: bool,
    /// End a stream with its usage.
    pub(crate) usage: bool,
}

impl Asked {
    pub(crate) fn model(&mut self) -> Result<String, ApiError> {
        self.model.take().ok_or_else(|| ApiError::missing("model"))
    }

    pub(crate) fn wanted(self, stream: bool, logprobs: bool, limits: &Limits) -> Result<Wanted, ApiError> {
        let n = count("n", self.n, 1, 1, limits.choices)?;
        let mobile = self.mobile.unwrap_or(false);
        Ok(Wanted { n, logprobs, mobile, usage: include_usage(stream, self.stream_options)? })
    }
}

/// Whether a stream ends with its usage.
fn include_usage(stream: bool, options: Option<StreamOptions>) -> Result<bool, ApiError> {
    let Some(options) = options else { return Ok(false) };
    if !stream {
        return Err(ApiError::invalid_value("stream_options", "only a stream has them: set stream"));
    }
    if options.include_obfuscation == Some(true) {
        return Err(ApiError::unsupported("stream_options.include_obfuscation", "streams are not padded"));
    }
    Ok(options.include_usage.unwrap_or(false))
}
