//! Fields that several routes share, checked and put into the engine's words.

use mobile_engine::{Mobile, Policy, Request, Sampling};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::config::Limits;
use crate::error::ApiError;

/// Texts that end an answer.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
pub(crate) enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Which experts decode: a name, or a name with its parameters.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "must be full, little, mobile or auto, or an object with one of them or mass as its kind and the \
                 parameters of that kind"
)]
pub(crate) enum PolicyField {
    /// With the usual parameters.
    Name(PolicyName),
    /// With parameters.
    Parameters(PolicyParameters),
}

/// The policies that need no parameters.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PolicyName {
    Full,
    Little,
    Mobile,
    Auto,
}

/// The policies with their parameters.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PolicyParameters {
    /// All experts.
    Full {},
    /// Half of the experts.
    Little {
        /// Scale the weights of the chosen experts to the mass of all K.
        #[serde(default)]
        renormalize: bool,
    },
    /// Half of the experts where they are confident, else all.
    Mobile(MobileParameters),
    /// The fewest experts that reach a share of the routing mass.
    Mass {
        /// From 0 to 1.
        #[schema(minimum = 0, maximum = 1)]
        share: f32,
    },
    /// `mobile` wherever it is measured to be faster.
    Auto(MobileParameters),
}

/// The parameters of `mobile` and `auto`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MobileParameters {
    /// Threshold γ; above 1 every token falls back.
    #[schema(minimum = 0, maximum = 2)]
    gamma: Option<f32>,
    /// Compute tokens below γ again with all experts.
    fallback: Option<bool>,
    /// Fetch what a fallback will need ahead of time.
    prefetch: Option<bool>,
    /// Scale the weights of the chosen experts to the mass of all K.
    renormalize: Option<bool>,
}

impl From<MobileParameters> for Mobile {
    fn from(p: MobileParameters) -> Self {
        let usual = Self::default();
        Self {
            gamma: p.gamma.unwrap_or(usual.gamma),
            fallback: p.fallback.unwrap_or(usual.fallback),
            prefetch: p.prefetch.unwrap_or(usual.prefetch),
            renormalize: p.renormalize.unwrap_or(usual.renormalize),
        }
    }
}

/// The policy of a request, from what it says and what the owner has set.
fn policy(field: Option<PolicyField>, gamma: Option<f32>, usual: Policy) -> Result<Policy, ApiError> {
    let usual_mobile = match usual {
        Policy::Mobile(m) | Policy::Auto(m) => m,
        _ => Mobile::default(),
    };
    let policy = match field {
        None => match (usual, gamma) {
            (Policy::Mobile(_) | Policy::Auto(_), _) | (_, None) => usual,
            _ => Policy::Mobile(usual_mobile),
        },
        Some(PolicyField::Name(name)) => match name {
            PolicyName::Full => Policy::Full,
            PolicyName::Little => Policy::Little { renormalize: false },
            PolicyName::Mobile => Policy::Mobile(usual_mobile),
            PolicyName::Auto => Policy::Auto(usual_mobile),
        },
        Some(PolicyField::Parameters(parameters)) => match parameters {
            PolicyParameters::Full {} => Policy::Full,
            PolicyParameters::Little { renormalize } => Policy::Little { renormalize },
            PolicyParameters::Mobile(m) => Policy::Mobile(m.into()),
            PolicyParameters::Mass { share } => Policy::Mass { share },
            PolicyParameters::Auto(m) => Policy::Auto(m.into()),
        },
    };
    match policy {
        Policy::Mass { share } if !(0.0..=1.0).contains(&share) => {
            return Err(ApiError::invalid_value("policy", format!("share must be from 0 to 1, found {share}")));
        }
        Policy::Mobile(m) | Policy::Auto(m) if !(0.0..=2.0).contains(&m.gamma) => {
            return Err(ApiError::invalid_value("policy", format!("gamma must be from 0 to 2, found {}", m.gamma)));
        }
        _ => {}
    }
    let Some(gamma) = gamma else { return Ok(policy) };
    if !(0.0..=2.0).contains(&gamma) {
        return Err(ApiError::invalid_value("gamma", format!("must be from 0 to 2, found {gamma}")));
    }
    match policy {
        Policy::Mobile(m) => Ok(Policy::Mobile(Mobile { gamma, ..m })),
        Policy::Auto(m) => Ok(Policy::Auto(Mobile { gamma, ..m })),
        other => Err(ApiError::invalid_value("gamma", format!("policy {} compares nothing with it", other.name()))),
    }
}

/// What a request asks of the engine, besides its prompt.
pub(crate) struct Options {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<Stop>,
    pub(crate) policy: Option<PolicyField>,
    pub(crate) gamma: Option<f32>,
    /// The field's name, and its value.
    pub(crate) max_tokens: (&'static str, Option<i64>),
    pub(crate) logprobs: Option<usize>,
}

/// What holds where a request says nothing.
pub(crate) struct Usual {
    pub(crate) temperature: f64,
    pub(crate) max_tokens: usize,
    pub(crate) policy: Policy,
}

impl Options {
    /// A request of the engine without a prompt.
    pub(crate) fn check(self, usual: &Usual, limits: &Limits) -> Result<Request, ApiError> {
        let temperature = within("temperature", self.temperature, usual.temperature, 0.0, 2.0)?;
        let top_p = within("top_p", self.top_p, 1.0, 0.0, 1.0)?;
        let min_p = within("min_p", self.min_p, 0.0, 0.0, 1.0)?;
        let repetition_penalty = within("repetition_penalty", self.repetition_penalty, 1.0, 0.01, 10.0)?;
        let top_k = count("top_k", self.top_k, 0, 0, i32::MAX as usize)?;
        let (name, asked) = self.max_tokens;
        let max_tokens = count(name, asked, usual.max_tokens.min(limits.max_tokens), 1, limits.max_tokens)?;
        let seed = self.seed.map(i64::cast_unsigned);
        Ok(Request {
            sampling: Sampling { repetition_penalty, temperature, top_k, top_p, min_p, seed },
            policy: policy(self.policy, self.gamma, usual.policy)?,
            stop: stops(self.stop, limits)?,
            logprobs: self.logprobs,
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
