//! Fields that all answering routes share, checked and put into the engine's words.

mod policy;

use mobile_engine::{Engine, Request, Sampling};
use serde::Deserialize;
use utoipa::ToSchema;

use self::policy::PolicyField;
use crate::app::App;
use crate::config::Limits;
use crate::error::ApiError;
use crate::openai::ResponseFormat;

/// Texts that end an answer.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
pub(crate) enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The fields that all answering routes share.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Options {
    /// 0 takes the most probable token, as `/generate` does by default; elsewhere 1 is the default.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// Draw from the most probable tokens that together reach this probability.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// Makes the draws repeatable.
    seed: Option<i64>,
    /// Texts that end the answer and are not part of it.
    stop: Option<Stop>,
    /// What the answer must be: text, a JSON object, or JSON that follows a schema.
    response_format: Option<ResponseFormat>,
    /// Answer piece by piece, as server-sent events.
    stream: Option<bool>,
    /// Not OpenAI's: draw from this many of the most probable tokens; 0 is all.
    #[schema(minimum = 0, maximum = 2147483647)]
    top_k: Option<i64>,
    /// Not OpenAI's: draw from the tokens at least this probable in proportion to the most probable one.
    #[schema(minimum = 0, maximum = 1)]
    min_p: Option<f64>,
    /// Not OpenAI's: above 1, tokens that were seen already become less probable.
    #[schema(minimum = 0.01, maximum = 10)]
    repetition_penalty: Option<f64>,
    /// Not OpenAI's: which experts decode; the owner's choice by default.
    policy: Option<PolicyField>,
    /// Not OpenAI's: the threshold γ of `mobile` and `auto`.
    #[schema(minimum = 0, maximum = 2)]
    gamma: Option<f32>,
}

/// What a route adds to the options.
pub(crate) struct Route {
    /// Where the request says nothing.
    pub(crate) temperature: f64,
    /// Where the request says nothing.
    pub(crate) max_tokens: usize,
    /// The name of the field for the answer's length, and its value.
    pub(crate) asked_tokens: (&'static str, Option<i64>),
    pub(crate) logprobs: Option<usize>,
}

impl Options {
    /// Whether the answer comes piece by piece.
    pub(crate) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// A request of the engine without a prompt.
    pub(crate) async fn request(self, app: &App, engine: &Engine, route: Route) -> Result<Request, ApiError> {
        let limits = &app.config.limits;
        let temperature = within("temperature", self.temperature, route.temperature, 0.0, 2.0)?;
        let top_p = within("top_p", self.top_p, 1.0, 0.0, 1.0)?;
        let min_p = within("min_p", self.min_p, 0.0, 0.0, 1.0)?;
        let repetition_penalty = within("repetition_penalty", self.repetition_penalty, 1.0, 0.01, 10.0)?;
        let top_k = count("top_k", self.top_k, 0, 0, i32::MAX as usize)?;
        let (name, asked) = route.asked_tokens;
        let max_tokens = count(name, asked, route.max_tokens.min(limits.max_tokens), 1, limits.max_tokens)?;
        let seed = self.seed.map(i64::cast_unsigned);
        if route.logprobs.is_some() {
            let text = engine.text().clone();
            // What the tokens will be written with is read now, where it holds up nobody.
            let read = tokio::task::spawn_blocking(move || _ = text.bytes(0));
            read.await.map_err(|_| ApiError::internal())?;
        }
        Ok(Request {
            sampling: Sampling { repetition_penalty, temperature, top_k, top_p, min_p, seed },
            policy: policy::policy(self.policy, self.gamma, app.slot.policy())?,
            stop: stops(self.stop, limits)?,
            logprobs: route.logprobs,
            constraint: app.constrain(engine, self.response_format).await?,
            ..Request::new(Vec::new(), max_tokens)
        })
    }
}

fn within(name: &str, value: Option<f64>, usual: f64, low: f64, high: f64) -> Result<f32, ApiError> {
    let value = value.unwrap_or(usual);
    if (low..=high).contains(&value) {
        return Ok(value as f32);
    }
    Err(ApiError::invalid_value(name, format!("must be from {low} to {high}, found {value}")))
}

/// A whole number within bounds.
pub(crate) fn count(name: &str, value: Option<i64>, usual: usize, low: usize, high: usize) -> Result<usize, ApiError> {
    let Some(value) = value else { return Ok(usual) };
    match usize::try_from(value) {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        _ => Err(ApiError::invalid_value(name, format!("must be from {low} to {high}, found {value}"))),
    }
}

fn stops(stop: Option<Stop>, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let stops = match stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Many(texts)) => texts,
    };
    if stops.len() > limits.stops {
        return Err(ApiError::invalid_value("stop", format!("at most {} texts, found {}", limits.stops, stops.len())));
    }
    if stops.iter().any(String::is_empty) {
        return Err(ApiError::invalid_value("stop", "an empty text would end every answer at once"));
    }
    if stops.iter().any(|s| s.len() > limits.stop_bytes) {
        return Err(ApiError::invalid_value("stop", format!("a text may have at most {} bytes", limits.stop_bytes)));
    }
    Ok(stops)
}

/// A request once for each of `n` answers. With a seed each draws its own way, and the same way every time.
pub(crate) fn repeat(request: &Request, n: usize) -> Vec<Request> {
    (0..n)
        .map(|number| {
            let mut request = request.clone();
            request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(number as u64));
            request
        })
        .collect()
}
