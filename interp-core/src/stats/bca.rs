//! Bias-corrected and accelerated bootstrap intervals (Efron 1987), with the jackknife over clusters. Plain slices.

use std::str::FromStr;

use super::{CellStats, quantile};
use crate::error::{Error, Result};

/// Which bootstrap interval is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interval {
    /// Quantiles of the resampled means.
    #[default]
    Percentile,
    /// Those quantiles moved by bias and skewness (Efron 1987).
    Bca,
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "percentile" => Ok(Interval::Percentile),
            "bca" => Ok(Interval::Bca),
            _ => Err(Error::Selector {
                what: "interval",
                value: text.into(),
                problem: "no such interval".into(),
                hint: Some("write percentile or bca".into()),
            }),
        }
    }
}

impl CellStats {
    /// Nothing known.
    pub const NONE: Self = Self { mean: f64::NAN, sd: f64::NAN, se: f64::NAN, ci: None, bca: None, cohens_d: f64::NAN };

    /// The interval of this kind.
    pub fn interval(&self, kind: Interval) -> Option<[f64; 2]> {
        match kind {
            Interval::Percentile => self.ci,
            Interval::Bca => self.bca,
        }
    }
}

/// Resampled means this close to the mean, as a share of the numbers' size, are equal to it in exact arithmetic.
const SLACK: f64 = 1e-12;

/// The interval of `mean`, from its `resampled` values in ascending order. `sums` and `sizes` are those of the clusters. `None`
/// where the correction has no finite value: all resampled means on one side, or an acceleration too strong for the level.
pub fn interval(
    resampled: &[f64],
    mean: f64,
    sums: impl Iterator<Item = f64> + Clone,
    sizes: &[f64],
    level: f64,
) -> Option<[f64; 2]> {
    let n: f64 = sizes.iter().sum();
    let slack = SLACK * sums.clone().map(f64::abs).sum::<f64>() / n;
    let under = resampled.partition_point(|x| *x < mean - slack);
    let up_to = resampled.partition_point(|x| *x <= mean + slack);
    // Ties count half: with few clusters many resampled means are the mean itself.
    let bias = normal_quantile((under + up_to) as f64 / (2 * resampled.len()) as f64)?;

    let total: f64 = sums.clone().sum();
    let without = sums.zip(sizes).map(|(sum, size)| (total - sum) / (n - size));
    let left_out = without.clone().sum::<f64>() / sizes.len() as f64;
    let (squares, cubes) = without.fold((0.0, 0.0), |(squares, cubes), value| {
        let away: f64 = left_out - value;
        (squares + away.powi(2), cubes + away.powi(3))
    });
    let accelerates = squares > (slack * slack) * sizes.len() as f64;
    let acceleration = if accelerates { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };

    let tail = (1.0 - level) / 2.0;
    let end = |tail: f64| {
        let z = bias + normal_quantile(tail)?;
        let room = 1.0 - acceleration * z;
        (room > 0.0).then(|| quantile(resampled, normal(bias + z / room)))
    };
    Some([end(tail)?, end(1.0 - tail)?])
}

/// The chance that a standard normal number is at most `x` (Marsaglia 2004's series, to about 1e-15).
fn normal(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut k) = (x, x, 1.0);
    loop {
        k += 2.0;
        term *= x * x / k;
        let next = sum + term;
        if next == sum {
            return 0.5 + sum * (-0.5 * x * x - 0.5 * (2.0 * std::f64::consts::PI).ln()).exp();
        }
        sum = next;
    }
}

/// The number whose [`normal`] is `p`; `None` for 0 and 1.
pub(super) fn normal_quantile(p: f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0) {
        return None;
    }
    // Above the middle the curve bends down, so that Newton's steps from there come closer and never pass the place.
    let (upper, sign) = if p < 0.5 { (1.0 - p, -1.0) } else { (p, 1.0) };
    let mut x = 0.0f64;
    loop {
        let slope = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let next = x + (upper - normal(x)) / slope;
        if next <= x || next > 8.0 {
            return Some(sign * x);
        }
        x = next;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bootstrap, Clusters, summarize};
    use super::*;

    #[test]
    fn the_normal_distribution() {
        for (x, p) in
            [(0.0, 0.5), (1.0, 0.841_344_746_068_542_9), (-1.959_963_984_540_054, 0.025), (-6.0, 9.865_876e-10)]
        {
            assert!((normal(x) - p).abs() < 1e-15, "{x}: {}", normal(x));
        }
        for p in [1e-9, 0.025, 0.3, 0.5, 0.975] {
            assert!((normal(normal_quantile(p).unwrap()) - p).abs() < 1e-15, "{p}");
        }
        assert!((normal_quantile(0.975).unwrap() - 1.959_963_984_540_054).abs() < 1e-12);
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0), normal(40.0)), (None, None, 1.0));
    }

    fn alone(n: usize) -> Clusters {
        Clusters::new(&vec![None::<&str>; n])
    }

    /// Means of all 4^4 resamples of four numbers.
    fn all_resamples(values: [f64; 4]) -> Vec<f64> {
        let mut means: Vec<f64> =
            (0..256).map(|i| (0..4).map(|place| values[i >> (2 * place) & 3]).sum::<f64>() / 4.0).collect();
        means.sort_unstable_by(f64::total_cmp);
        means
    }

    #[test]
    fn an_interval_by_hand() {
        // Four clusters of one trial. The mean's acceleration is its skewness by Σd³ / (6 (Σd²)^1.5).
        let values = [0.0, 0.0, 1.0, 5.0];
        let resampled = all_resamples(values);
        let found = interval(&resampled, 1.5, values.into_iter(), &[1.0; 4], 0.8).unwrap();
        let under = resampled.iter().filter(|x| **x < 1.5).count() as f64;
        let equal = resampled.iter().filter(|x| **x == 1.5).count() as f64;
        let bias = normal_quantile((under + equal / 2.0) / 256.0).unwrap();
        let away = values.map(|x| x - 1.5);
        let squares: f64 = away.iter().map(|d| d * d).sum();
        let acceleration = away.iter().map(|d| d * d * d).sum::<f64>() / (6.0 * squares.powf(1.5));
        assert!(acceleration > 0.05 && bias > 0.0);
        for (found, z) in found.into_iter().zip([-1.281_551_565_544_600_4, 1.281_551_565_544_600_4]) {
            let at = normal(bias + (bias + z) / (1.0 - acceleration * (bias + z)));
            assert!((found - quantile(&resampled, at)).abs() < 1e-12, "{found}");
        }
        // A long tail to the right moves the interval to the right of the percentile interval.
        assert!(found[0] >= quantile(&resampled, 0.1) && found[1] > quantile(&resampled, 0.9), "{found:?}");
    }

    #[test]
    fn numbers_without_skew_or_spread() {
        // Symmetric: bias and acceleration are 0 up to ties, and the interval is the percentile interval.
        let values = [-3.0, -1.0, 1.0, 3.0];
        let resampled = all_resamples(values);
        let found = interval(&resampled, 0.0, values.into_iter(), &[1.0; 4], 0.9).unwrap();
        for (found, at) in found.into_iter().zip([0.05, 0.95]) {
            assert!((found - quantile(&resampled, at)).abs() < 1e-9);
        }
        // A tenth is no sum of halves: equal resampled means may differ by a rounding.
        let same: Vec<Vec<f32>> = vec![vec![0.1]; 7];
        let rows: Vec<&[f32]> = same.iter().map(Vec::as_slice).collect();
        let cell = summarize(&rows, &alone(7), &Bootstrap::default()).unwrap()[0];
        let [lo, hi] = cell.bca.unwrap();
        assert!((lo - cell.mean).abs() < 1e-12 && (hi - cell.mean).abs() < 1e-12);
        assert_eq!(interval(&[1.0, 2.0], 0.0, [1.0, 2.0].into_iter(), &[1.0; 2], 0.9), None, "all on one side");
    }

    #[test]
    fn clusters_are_left_out_whole() {
        // Two trials per cluster that are equal: the same as one trial per cluster, up to the number of trials.
        let values: Vec<Vec<f64>> = (0..40).map(|t| vec![f64::from((t / 2 * t / 2) as u32 % 17).powi(2)]).collect();
        let doubled: Vec<Vec<f64>> = (0..40).map(|t| values[t / 2 * 2].clone()).collect();
        let single: Vec<Vec<f64>> = (0..20).map(|c| values[c * 2].clone()).collect();
        let labels: Vec<Option<String>> = (0..40).map(|t| Some((t / 2).to_string())).collect();
        fn rows(values: &[Vec<f64>]) -> Vec<&[f64]> {
            values.iter().map(Vec::as_slice).collect()
        }
        let pairs = summarize(&rows(&doubled), &Clusters::new(&labels), &Bootstrap::default()).unwrap()[0];
        let ones = summarize(&rows(&single), &alone(20), &Bootstrap::default()).unwrap()[0];
        let (pairs, ones) = (pairs.bca.unwrap(), ones.bca.unwrap());
        assert!((pairs[0] - ones[0]).abs() < 1e-9 && (pairs[1] - ones[1]).abs() < 1e-9, "{pairs:?} {ones:?}");
    }
}
