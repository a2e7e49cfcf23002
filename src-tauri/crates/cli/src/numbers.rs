//! Small statistics.

use serde::Serialize;

/// The middle and the ends of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` for no values at all.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Some(Self { median: quantile(values, 0.5)?, min: quantile(values, 0.0)?, max: quantile(values, 1.0)? })
    }
}

/// The value that a share `q` of `values` lies below, between two of them where it falls there.
pub(crate) fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// The x at which the line through `points`, which climbs in both coordinates, reaches `y`; the nearest end where it
/// does not.
pub(crate) fn invert(points: &[(f64, f64)], y: f64) -> Option<f64> {
    let first = points.first().filter(|p| y <= p.1);
    let between = points.windows(2).find(|pair| pair[0].1 < y && y <= pair[1].1);
    match (first, between) {
        (Some(first), _) => Some(first.0),
        (None, Some(pair)) => {
            let part = (y - pair[0].1) / (pair[1].1 - pair[0].1);
            Some(pair[0].0 + (pair[1].0 - pair[0].0) * part)
        }
        (None, None) => points.last().map(|p| p.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_values() {
        let values = [3.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.5), Some(2.5));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(Spread::of(&values), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_share_of_the_values_lies_below_its_quantile() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let gamma = quantile(&values, 0.2).expect("a quantile");
        assert_eq!(values.iter().filter(|&&v| v < gamma).count(), 20);
    }

    #[test]
    fn a_curve_is_inverted_by_interpolation() {
        let points = [(0.2, 0.3), (0.6, 0.5), (1.0, 1.0)];
        assert_eq!(invert(&points, 0.4), Some(0.4));
        assert_eq!(invert(&points, 0.1), Some(0.2));
        assert_eq!(invert(&points, 1.5), Some(1.0));
        assert_eq!(invert(&[], 0.5), None);
    }
}
