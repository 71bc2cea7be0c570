//! Pearson's correlation in the steps of `numpy.corrcoef`, so that published values come out to the last digit.

use super::sums::{by_blocks, in_order};

/// r of pairs; `None` for fewer than two, where one side does not vary, and where a number is too large to be squared.
pub fn correlation(one: &[f64], other: &[f64]) -> Option<f64> {
    let n = one.len().min(other.len());
    if n < 2 {
        return None;
    }
    let deviations = |values: &[f64]| {
        let mean = by_blocks(&values[..n]) / n as f64;
        values[..n].iter().map(|value| value - mean).collect::<Vec<f64>>()
    };
    let (one, other) = (deviations(one), deviations(other));
    let scale = 1.0 / (n - 1) as f64;
    let covariance =
        |a: &[f64], b: &[f64]| in_order(&a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>()) * scale;
    let (sd_one, sd_other) = (covariance(&one, &one).sqrt(), covariance(&other, &other).sqrt());
    let r = covariance(&one, &other) / sd_one / sd_other;
    let known = r.is_finite() && sd_one.is_finite() && sd_other.is_finite();
    known.then(|| r.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_constants() {
        assert_eq!(correlation(&[1.0, 2.0, 4.0], &[3.0, 5.0, 9.0]), Some(1.0));
        assert_eq!(correlation(&[1.0, 2.0], &[5.0, 3.0]).map(f64::round), Some(-1.0));
        assert_eq!(correlation(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(correlation(&[1.0], &[3.0]), None);
        assert_eq!(correlation(&[1.0, 2.0], &[1e300, 0.0]), None);
    }
}
