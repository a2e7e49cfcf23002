//! Who is important, as the window writes it: one flat record whatever the kind.

use mobile_engine::{DEFAULT_GAMMA, DEFAULT_SHARE, Mobile};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum PolicyKind {
    Auto,
    Full,
    Little,
    Mobile,
    Mass,
}

impl PolicyKind {
    /// In the order they are offered.
    pub(crate) const ALL: [Self; 5] = [Self::Auto, Self::Full, Self::Mobile, Self::Little, Self::Mass];

    /// The kind of this name in the engine's statistics.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Full => "full",
            Self::Little => "little",
            Self::Mobile => "mobile",
            Self::Mass => "mass",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub(crate) struct Policy {
    pub(crate) kind: PolicyKind,
    /// The confidence below which a little token is generated again; above 1 every token is.
    pub(crate) gamma: f32,
    pub(crate) fallback: bool,
    pub(crate) prefetch: bool,
    pub(crate) renormalize: bool,
    /// Routing mass kept by `mass`.
    pub(crate) share: f32,
}

impl Default for Policy {
    fn default() -> Self {
        let Mobile { fallback, prefetch, renormalize, .. } = Mobile::default();
        Self { kind: PolicyKind::Auto, gamma: DEFAULT_GAMMA, fallback, prefetch, renormalize, share: DEFAULT_SHARE }
    }
}

impl From<Policy> for mobile_engine::Policy {
    fn from(policy: Policy) -> Self {
        let Policy { kind, gamma, fallback, prefetch, renormalize, share } = policy;
        let mobile = Mobile { gamma, fallback, prefetch, renormalize };
        match kind {
            PolicyKind::Auto => Self::Auto(mobile),
            PolicyKind::Full => Self::Full,
            PolicyKind::Little => Self::Little { renormalize },
            PolicyKind::Mobile => Self::Mobile(mobile),
            PolicyKind::Mass => Self::Mass { share },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_engines_names() {
        for kind in PolicyKind::ALL {
            let policy = mobile_engine::Policy::from(Policy { kind, ..Policy::default() });
            assert_eq!(policy.name(), kind.name());
            assert_eq!(PolicyKind::named(policy.name()), Some(kind));
        }
    }

    #[test]
    fn the_default_is_the_engines() {
        assert_eq!(mobile_engine::Policy::from(Policy::default()), mobile_engine::Policy::default());
    }
}
