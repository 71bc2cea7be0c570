//! The first Wasserstein distance between two samples of a line: the area between their distribution functions.

use super::sums::by_blocks;

/// ∫|F − G| of two samples, which may differ in size; in the values' unit. `None` where one is empty or not finite.
pub fn wasserstein(one: &[f64], other: &[f64]) -> Option<f64> {
    let finite = |values: &[f64]| !values.is_empty() && values.iter().all(|value| value.is_finite());
    if !finite(one) || !finite(other) {
        return None;
    }
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (one, other) = (sorted(one), sorted(other));
    let all = sorted(&[one.as_slice(), &other].concat());
    let below = |values: &[f64], x: f64| values.partition_point(|value| *value <= x) as f64 / values.len() as f64;
    let areas: Vec<f64> = all
        .windows(2)
        .map(|ends| (below(&one, ends[0]) - below(&other, ends[0])).abs() * (ends[1] - ends[0]))
        .collect();
    Some(by_blocks(&areas))
}

/// [`wasserstein`] from a sample in [0, 1] to the uniform distribution there, exactly.
pub fn to_uniform(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| !(0.0..=1.0).contains(value)) {
        return None;
    }
    let mut ends = values.to_vec();
    ends.extend([0.0, 1.0]);
    ends.sort_by(f64::total_cmp);
    let below = |x: f64| values.iter().filter(|value| **value <= x).count() as f64 / values.len() as f64;
    // Between two values F is constant and the other function is x: one triangle, or two.
    let area = |ends: &[f64]| {
        let (level, a, b) = (below(ends[0]), ends[0], ends[1]);
        match level {
            _ if level <= a => ((b - level).powi(2) - (a - level).powi(2)) / 2.0,
            _ if level >= b => ((level - a).powi(2) - (level - b).powi(2)) / 2.0,
            _ => ((level - a).powi(2) + (b - level).powi(2)) / 2.0,
        }
    };
    Some(by_blocks(&ends.windows(2).map(area).collect::<Vec<f64>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distances() {
        let known = |one: &[f64], other: &[f64]| wasserstein(one, other).unwrap();
        assert!((known(&[0.0, 0.0, 1.0], &[0.0, 0.5, 1.0]) - 1.0 / 6.0).abs() < 1e-15);
        assert!((known(&[0.0, 1.0], &[0.25, 0.25, 1.0]) - 0.25).abs() < 1e-15);
        assert_eq!(known(&[3.0, 1.0], &[1.0, 3.0]), 0.0);
        assert_eq!(wasserstein(&[], &[1.0]), None);
        assert_eq!(wasserstein(&[f64::NAN], &[1.0]), None);
    }

    #[test]
    fn the_uniform_distribution_is_the_limit_of_its_grids() {
        assert_eq!(to_uniform(&[0.0]), Some(0.5));
        assert_eq!(to_uniform(&[0.5]), Some(0.25));
        assert_eq!(to_uniform(&[0.0, 1.0]), Some(0.25));
        assert_eq!(to_uniform(&[1.5]), None);
        let grid: Vec<f64> = (0..2000).map(|i| (f64::from(i) + 0.5) / 2000.0).collect();
        for values in [vec![0.1, 0.1, 0.9], vec![0.0, 0.3], vec![1.0, 1.0, 0.2, 0.6]] {
            let (exact, near) = (to_uniform(&values).unwrap(), wasserstein(&values, &grid).unwrap());
            assert!((exact - near).abs() < 1e-3, "{values:?}: {exact} {near}");
        }
    }
}
