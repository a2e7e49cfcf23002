//! The fields `policy` and `gamma`.

use mobile_engine::{Mobile, Policy};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::ApiError;

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
pub(super) fn policy(field: Option<PolicyField>, gamma: Option<f32>, usual: Policy) -> Result<Policy, ApiError> {
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
