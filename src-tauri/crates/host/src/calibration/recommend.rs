//! Which of the thresholds to recommend.

use super::Point;

/// The fastest of the points whose perplexity grows by at most `bound`; between equally fast ones the better.
#[must_use]
pub fn recommend(points: &[Point], bound: f64) -> Option<Point> {
    // Rounding in the last digits must not decide whether all experts are as good as themselves.
    let within = points.iter().filter(|p| p.perplexity_ratio <= 1.0 + bound + 1e-6);
    within
        .max_by(|a, b| a.speedup.total_cmp(&b.speedup).then(b.perplexity_ratio.total_cmp(&a.perplexity_ratio)))
        .copied()
}

/// The point of the best quality.
#[must_use]
pub fn closest(points: &[Point]) -> Option<Point> {
    points.iter().min_by(|a, b| a.perplexity_ratio.total_cmp(&b.perplexity_ratio)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(gamma: f32, perplexity_ratio: f64, speedup: f64) -> Point {
        Point {
            gamma,
            perplexity_ratio,
            perplexity_ratio_error: 0.001,
            tokens_per_second: 10.0 * speedup,
            speedup,
            fallback_rate: 0.1,
            experts_used: 0.6,
        }
    }

    #[test]
    fn the_fastest_within_the_bound_is_recommended() {
        let points = [point(0.0, 1.05, 1.5), point(0.5, 1.009, 1.3), point(0.7, 1.004, 1.2), point(1.01, 1.0, 0.7)];
        let gamma = |bound| recommend(&points, bound).map(|p| p.gamma);
        assert_eq!(gamma(0.01), Some(0.5));
        assert_eq!(gamma(0.005), Some(0.7));
        assert_eq!(gamma(0.1), Some(0.0));
        assert_eq!(gamma(0.0), Some(1.01));
    }

    #[test]
    fn nothing_is_recommended_where_nothing_is_good_enough() {
        let points = [point(0.0, 1.05, 1.5), point(0.5, 1.02, 1.3)];
        assert_eq!(recommend(&points, 0.01), None);
        assert_eq!(closest(&points).map(|p| p.gamma), Some(0.5));
        assert_eq!(recommend(&[], 0.01), None);
    }

    #[test]
    fn of_equally_fast_ones_the_better_is_taken() {
        let points = [point(0.4, 1.008, 1.3), point(0.5, 1.002, 1.3)];
        assert_eq!(recommend(&points, 0.01).map(|p| p.gamma), Some(0.5));
    }
}
