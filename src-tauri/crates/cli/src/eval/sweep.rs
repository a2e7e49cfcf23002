//! The policies of `--sweep`, and the share at which `mass` computes as many experts as another policy.

use mobile_engine::{Engine, Mobile, Policy};
use mobile_host::{Item, Setting, sample};

use super::measure;
use crate::error::Failure;
use crate::numbers::invert;

/// Shares measured on the sample; what lies between is interpolated.
const SHARES: [f32; 9] = [0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96, 1.0];
/// Tokens of the sample.
const SAMPLE: u64 = 2048;

/// Little and mobile, with and without renormalizing. Full comes before them: all are compared with it.
pub(super) fn policies(gammas: &[f32]) -> Vec<Policy> {
    [false, true]
        .into_iter()
        .flat_map(|renormalize| {
            let mobile = move |&gamma| Policy::Mobile(Mobile { gamma, renormalize, ..Mobile::default() });
            std::iter::once(Policy::Little { renormalize }).chain(gammas.iter().map(mobile))
        })
        .collect()
}

/// How many experts `mass` uses at which share, from a sample of the items.
pub(super) struct MassCurve(Vec<(f64, f64)>);

impl MassCurve {
    /// `None` under Ctrl-C.
    pub(super) fn measure(engine: &Engine, items: &[Item], setting: Setting) -> Result<Option<Self>, Failure> {
        let items = sample(items.to_vec(), Some(SAMPLE));
        let mut points = Vec::new();
        for share in SHARES {
            let measured = measure(engine, &items, Policy::Mass { share }, setting, None, |_| {})?;
            if !measured.complete {
                return Ok(None);
            }
            points.push((f64::from(share), measured.experts_used()));
        }
        Ok(Some(Self(points)))
    }

    /// `mass` at about this many experts, each such policy once; nothing for what only all of the experts reach.
    pub(super) fn equal_to(&self, used: impl Iterator<Item = f64>) -> Vec<Policy> {
        let mut shares: Vec<f32> = used
            .filter(|&used| used < 0.995)
            .filter_map(|used| invert(&self.0, used))
            .map(|share| ((share * 1000.0).round() / 1000.0) as f32)
            .collect();
        shares.sort_unstable_by(f32::total_cmp);
        shares.dedup();
        shares.into_iter().map(|share| Policy::Mass { share }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_has_every_threshold_twice() {
        assert_eq!(policies(&[0.0, 0.7]).len(), 6);
    }

    #[test]
    fn mass_is_set_to_as_many_experts() {
        let curve = MassCurve(vec![(0.2, 0.3), (0.6, 0.5), (1.0, 1.0)]);
        let policies = curve.equal_to([0.75, 0.5, 0.5, 1.2].into_iter());
        assert_eq!(policies, [Policy::Mass { share: 0.6 }, Policy::Mass { share: 0.8 }]);
    }
}
