//! How what is no mean over trials, such as a calibration error, varies: computed once more from every resample of clusters.

use super::{Bootstrap, Clusters, Draws, deviation, quantile};
use crate::error::Result;

/// How one number varies over resamples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Standard deviation over resamples (ddof 1), an estimate of the standard error.
    pub se: f64,
    /// Percentile interval.
    pub ci: [f64; 2],
}

/// The spread of each of the `K` numbers that `of` makes of trials, given by index and repeated as often as they are drawn.
/// Resamples are those of [`summarize`](super::summarize) with the same clusters and settings. `None` for fewer than two
/// clusters or resamples, and where a number is not finite. Errs for settings that [`Bootstrap::check`] refuses.
pub fn resample<const K: usize>(
    clusters: &Clusters,
    bootstrap: &Bootstrap,
    of: impl Fn(&[usize]) -> [f64; K] + Sync,
) -> Result<[Option<Spread>; K]> {
    bootstrap.check()?;
    let mut members = vec![Vec::new(); clusters.n];
    clusters.of_trial.iter().enumerate().for_each(|(trial, &cluster)| members[cluster].push(trial));
    let draws = Draws::new(clusters, bootstrap);
    let one = |drawn: &Vec<(u32, f64)>| {
        let repeated = |&(cluster, count): &(u32, f64)| std::iter::repeat_n(&members[cluster as usize], count as usize);
        of(&drawn.iter().flat_map(repeated).flatten().copied().collect::<Vec<usize>>())
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = draws.counts.len().div_ceil(workers).max(1);
    let found: Vec<[f64; K]> = std::thread::scope(|scope| {
        let part = |draws: &[Vec<(u32, f64)>]| draws.iter().map(one).collect::<Vec<_>>();
        let threads: Vec<_> = draws.counts.chunks(share).map(|draws| scope.spawn(move || part(draws))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("statistics do not panic")).collect()
    });
    let tail = (1.0 - bootstrap.level) / 2.0;
    Ok(std::array::from_fn(|number| {
        let mut values: Vec<f64> = found.iter().map(|one| one[number]).collect();
        let se = deviation(&values).filter(|se| se.is_finite())?;
        values.sort_unstable_by(f64::total_cmp);
        Some(Spread { se, ci: [quantile(&values, tail), quantile(&values, 1.0 - tail)] })
    }))
}

#[cfg(test)]
mod tests {
    use super::super::summarize;
    use super::*;

    #[test]
    fn a_mean_has_the_interval_that_means_have() {
        // Sums of multiples of 1/8 are exact in any order.
        let values: Vec<f64> = (0..40).map(|t| f64::from(t * 37 % 64) / 8.0).collect();
        let labels: Vec<Option<String>> = (0..40).map(|t| Some((t % 13).to_string())).collect();
        let clusters = Clusters::new(&labels);
        let mean = |trials: &[usize]| trials.iter().map(|&trial| values[trial]).sum::<f64>() / trials.len() as f64;
        let bootstrap = Bootstrap::default();
        let [found, flat] = resample(&clusters, &bootstrap, |trials| [mean(trials), 1.0]).unwrap();
        let rows: Vec<[f64; 1]> = values.iter().map(|&x| [x]).collect();
        let rows: Vec<&[f64]> = rows.iter().map(|row| row.as_slice()).collect();
        let known = summarize(&rows, &clusters, &bootstrap).unwrap()[0];
        let found = found.unwrap();
        assert_eq!(Some(found.ci), known.ci);
        assert!((found.se / known.se - 1.0).abs() < 0.1, "{found:?} {known:?}");
        assert_eq!(flat, Some(Spread { se: 0.0, ci: [1.0; 2] }));
    }

    #[test]
    fn one_cluster_and_numbers_that_are_none_have_no_spread() {
        let one = Clusters::new(&[Some("a"), Some("a")]);
        assert_eq!(resample(&one, &Bootstrap::default(), |_| [1.0]).unwrap(), [None]);
        let two = Clusters::new(&[Some("a"), Some("b")]);
        let found = resample(&two, &Bootstrap::default(), |trials| [if trials == [0, 0] { f64::NAN } else { 1.0 }]);
        assert_eq!(found.unwrap(), [None]);
        assert!(resample(&two, &Bootstrap { resamples: 0, ..Bootstrap::default() }, |_| [1.0]).is_err());
    }
}
