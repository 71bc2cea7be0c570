//! Means, deviations, cluster bootstrap intervals and ranks. Plain slices in, numbers out; no tensors, no files, no names of heads.
//!
//! Trials made from the same material (the two directions of one draw, say) are not independent, so everything that
//! speaks about uncertainty works on *clusters* of trials. The estimate itself is the mean over trials; when all
//! clusters hold equally many trials it equals the mean of the cluster means.
//! Tests by flipped signs are in `signs` (cell by cell, and what many tests at once may claim) and in `max_statistic` (the whole
//! grid at once), on the same [`Clusters`].

mod bca;
mod control;
mod counts;
mod cumulative;
mod groups;
mod line;
mod max_statistic;
mod resample;
mod signs;

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub use self::bca::Interval;
pub use self::control::{Comparison, compare, deviation, draw, draws, lowest_of_layers, same_layer_lowest};
pub use self::counts::{mcnemar, wilson};
pub use self::cumulative::{CellSet, Cumulative, Curve};
pub use self::groups::{GroupSum, group_sum};
pub use self::line::Line;
pub use self::max_statistic::{FamilyTest, Permutation, max_statistic};
pub use self::resample::{Spread, resample};
pub use self::signs::{Flips, false_discovery, sign_flip};
use crate::error::{Error, Result};

/// Which trials belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    of_trial: Vec<usize>,
    n: usize,
    labelled: bool,
}

impl Clusters {
    /// One label per trial; a trial without one is a cluster of its own. Numbered by first appearance.
    pub fn new<S: AsRef<str>>(labels: &[Option<S>]) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut n = 0;
        let mut next = || {
            n += 1;
            n - 1
        };
        let of_trial = labels
            .iter()
            .map(|label| match label {
                Some(label) => *numbers.entry(label.as_ref()).or_insert_with(&mut next),
                None => next(),
            })
            .collect();
        Self { of_trial, n, labelled: !numbers.is_empty() }
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there are no trials at all.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Whether any trial carried a label. If not, intervals assume that trials are independent, and a report should say so.
    pub fn labelled(&self) -> bool {
        self.labelled
    }

    /// Number of trials in each cluster.
    fn sizes(&self) -> Vec<f64> {
        let mut sizes = vec![0.0; self.n];
        self.of_trial.iter().for_each(|&c| sizes[c] += 1.0);
        sizes
    }
}

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Confidence level, e.g. 0.95.
    pub level: f64,
    /// Number of resamples.
    pub resamples: usize,
    /// Seed; the same seed gives the same interval on every machine.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { level: 0.95, resamples: 2000, seed: 0 }
    }
}

impl Bootstrap {
    /// Errs where no interval can be drawn so; before work whose intervals would be.
    pub fn check(&self) -> Result<()> {
        let wrong =
            |what, value: String, problem: &str| Err(Error::Statistics { what, value, problem: problem.into() });
        if !(self.level > 0.0 && self.level < 1.0) {
            return wrong("confidence level", self.level.to_string(), "must lie between 0 and 1, such as 0.95");
        }
        match self.resamples {
            0 => wrong("resamples", "0".into(), "an interval needs at least one"),
            _ => Ok(()),
        }
    }
}

/// What is known about one cell. All in the metric's unit; NaN and `None` where there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellStats {
    /// Mean over trials; NaN if any trial has no finite number here.
    pub mean: f64,
    /// Standard deviation over trials (ddof 1); NaN for one trial.
    pub sd: f64,
    /// Standard error of `mean`, robust to correlation within clusters: √(C/(C−1) Σ_c (T_c − n_c·mean)²) / n, with T_c the
    /// sum over cluster c. With one trial per cluster it is sd/√n; NaN for one cluster.
    pub se: f64,
    /// Percentile interval of `mean` over resampled clusters; `None` for one cluster.
    pub ci: Option<[f64; 2]>,
    /// Bias-corrected and accelerated interval from the same resamples, with the jackknife over clusters; `None` for one
    /// cluster, and where the correction is not finite.
    pub bca: Option<[f64; 2]>,
    /// Effect size: Cohen's d of the cluster means against 0, their mean over their standard deviation (ddof 1). Not finite
    /// for one cluster, or where they do not vary.
    pub cohens_d: f64,
}

/// Cells computed together, so that their cluster sums stay in the processor's cache while all resamples pass over them.
const BLOCK: usize = 64;

/// Statistics of every cell. `trials[t]` holds one value per cell; all cells share one set of resampled clusters, so
/// intervals of different cells may be compared.
pub fn summarize<T: Copy + Into<f64> + Sync>(
    trials: &[&[T]],
    clusters: &Clusters,
    bootstrap: &Bootstrap,
) -> Result<Vec<CellStats>> {
    bootstrap.check()?;
    let n_cells = n_cells(trials, clusters)?;
    let draws = Draws::new(clusters, bootstrap);
    Ok(by_blocks(n_cells, |start| summarize_block(trials, start, clusters, &draws, bootstrap.level)))
}

/// How many cells every trial has.
fn n_cells<T>(trials: &[&[T]], clusters: &Clusters) -> Result<usize> {
    let wrong = |problem: &str| {
        Err(Error::Statistics { what: "trials", value: trials.len().to_string(), problem: problem.into() })
    };
    let Some(n_cells) = trials.first().map(|cells| cells.len()) else {
        return wrong("there is nothing to average");
    };
    if clusters.of_trial.len() != trials.len() || trials.iter().any(|cells| cells.len() != n_cells) {
        return wrong("cells or cluster labels do not match in number");
    }
    Ok(n_cells)
}

/// What `work` makes of every block of cells, given its first cell, in order and on all cores. Blocks are independent and
/// each is computed in a fixed order, so the number of workers changes no bit.
fn by_blocks<R: Send>(n_cells: usize, work: impl Fn(usize) -> Vec<R> + Sync) -> Vec<R> {
    let starts: Vec<usize> = (0..n_cells).step_by(BLOCK).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(starts.len().max(1));
    let share = starts.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let part = |starts: &[usize]| starts.iter().flat_map(|&start| work(start)).collect::<Vec<R>>();
        let threads: Vec<_> = starts.chunks(share).map(|starts| scope.spawn(move || part(starts))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("statistics do not panic")).collect()
    })
}

/// The sum of every cell of the block over the trials of each cluster.
fn cluster_sums<T: Copy + Into<f64>>(trials: &[&[T]], start: usize, clusters: &Clusters) -> Vec<[f64; BLOCK]> {
    let width = BLOCK.min(trials[0].len() - start);
    let mut sums = vec![[0.0f64; BLOCK]; clusters.n];
    for (cells, &c) in trials.iter().zip(&clusters.of_trial) {
        let row = &cells[start..start + width];
        sums[c].iter_mut().zip(row).for_each(|(sum, &x)| *sum += x.into());
    }
    sums
}

/// Indices from the largest value to the smallest; equal values keep their order (outer axis first), NaN come last.
/// Zeros of either sign are equal.
pub fn ranking(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // Not total_cmp: it would put 0.0 before −0.0 and so break ties by sign instead of by place.
    order.sort_by(|&a, &b| match (values[a].is_nan(), values[b].is_nan()) {
        (false, false) => values[b].partial_cmp(&values[a]).expect("neither is NaN"),
        (a, b) => a.cmp(&b),
    });
    order
}

/// The resampled clusters: per resample the clusters drawn, with how often, and the trials they hold.
struct Draws {
    counts: Vec<Vec<(u32, f64)>>,
    trials: Vec<f64>,
}

impl Draws {
    /// Empty for fewer than two clusters, where resampling says nothing.
    fn new(clusters: &Clusters, bootstrap: &Bootstrap) -> Self {
        let resamples = if clusters.n < 2 { 0 } else { bootstrap.resamples };
        let sizes = clusters.sizes();
        let mut rng = ChaCha8Rng::seed_from_u64(bootstrap.seed);
        let mut draws = Self { counts: Vec::with_capacity(resamples), trials: Vec::with_capacity(resamples) };
        for _ in 0..resamples {
            let mut counts = vec![0u32; clusters.n];
            (0..clusters.n).for_each(|_| counts[below(&mut rng, clusters.n)] += 1);
            let drawn = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            let drawn: Vec<(u32, f64)> = drawn.map(|(c, &count)| (c as u32, f64::from(count))).collect();
            draws.trials.push(drawn.iter().map(|&(c, count)| count * sizes[c as usize]).sum());
            draws.counts.push(drawn);
        }
        draws
    }
}

/// Pearson's correlation; 0 where one side varies and the other does not, `None` where neither does and for fewer than three
/// pairs.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let deviations = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        x.iter().map(|x| x - mean).collect::<Vec<f64>>()
    };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let varies = |x: &[f64]| x.iter().any(|&value| value != x[0]);
    match (varies(a), varies(b)) {
        _ if a.len() < 3 => None,
        (true, true) => {
            let (a, b) = (deviations(a), deviations(b));
            Some((product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()).clamp(-1.0, 1.0))
        }
        (false, false) => None,
        _ => Some(0.0),
    }
}

/// A number under `n`. Written out rather than taken from `rand`, whose ranges may change between versions; its bias is
/// under 2⁻⁴⁰.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

fn summarize_block<T: Copy + Into<f64>>(
    trials: &[&[T]],
    start: usize,
    clusters: &Clusters,
    draws: &Draws,
    level: f64,
) -> Vec<CellStats> {
    let width = BLOCK.min(trials[0].len() - start);
    let n = trials.len() as f64;
    let sums = cluster_sums(trials, start, clusters);
    let mut resampled = vec![Vec::with_capacity(draws.counts.len()); width];
    for (drawn, size) in draws.counts.iter().zip(&draws.trials) {
        let mut total = [0.0f64; BLOCK];
        for &(c, count) in drawn {
            total.iter_mut().zip(&sums[c as usize]).for_each(|(total, sum)| *total += count * sum);
        }
        resampled.iter_mut().zip(total).for_each(|(means, total)| means.push(total / size));
    }
    let sizes = clusters.sizes();
    let cells = resampled.iter_mut().enumerate().map(|(i, resampled)| {
        let values = || trials.iter().map(|cells| cells[start + i].into());
        if values().any(|x| !x.is_finite()) {
            return CellStats::NONE;
        }
        let mean = values().sum::<f64>() / n;
        let sd = (values().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let spread: f64 = sums.iter().zip(&sizes).map(|(sum, size)| (sum[i] - size * mean).powi(2)).sum();
        let c = clusters.n as f64;
        let se = if c > 1.0 { (c / (c - 1.0) * spread).sqrt() / n } else { f64::NAN };
        let tail = (1.0 - level) / 2.0;
        resampled.sort_unstable_by(f64::total_cmp);
        let has_interval = !resampled.is_empty();
        let ci = has_interval.then(|| [quantile(resampled, tail), quantile(resampled, 1.0 - tail)]);
        let of_cell = sums.iter().map(|sum| sum[i]);
        let bca = has_interval.then(|| bca::interval(resampled, mean, of_cell.clone(), &sizes, level)).flatten();
        let cohens_d = cohens_d(of_cell.zip(&sizes).map(|(sum, size)| sum / size));
        CellStats { mean, sd, se, ci, bca, cohens_d }
    });
    cells.collect()
}

/// The mean of numbers over their standard deviation (ddof 1).
fn cohens_d(means: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let n = means.len() as f64;
    let mean = means.clone().sum::<f64>() / n;
    let sd = (means.map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    // Equal numbers whose mean was rounded have no spread.
    if sd < 1e-12 * mean.abs() { mean / 0.0 } else { mean / sd }
}

/// Quantile with linear interpolation, as numpy's default.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_by_hand() {
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[-1.0, -3.0, -5.0]), Some(-1.0));
        let found = correlation(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 4.0, 3.0]).unwrap();
        assert!((found - 0.6).abs() < 1e-15, "{found}");
        assert_eq!(correlation(&[1.0, 2.0], &[1.0, 2.0]), None, "two points always lie on a line");
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0]), Some(0.0));
        assert_eq!(correlation(&[0.1, 0.1, 0.1], &[0.7, 0.7, 0.7]), None);
    }

    fn rows(values: &[Vec<f32>]) -> Vec<&[f32]> {
        values.iter().map(Vec::as_slice).collect()
    }

    fn alone(n: usize) -> Clusters {
        Clusters::new(&vec![None::<&str>; n])
    }

    #[test]
    fn one_cell_by_hand() {
        let values: Vec<Vec<f32>> = [2.0, 4.0, 4.0, 6.0].iter().map(|&x| vec![x]).collect();
        let own = &summarize(&rows(&values), &alone(4), &Bootstrap::default()).unwrap()[0];
        assert_eq!(own.mean, 4.0);
        assert!((own.sd - (8.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!((own.se - own.sd / 2.0).abs() < 1e-15, "one trial per cluster: sd/√n");
        assert!((own.cohens_d - 4.0 / own.sd).abs() < 1e-15);
        // Two clusters of two: means 3 and 5, so se = sd of (3, 5) / √2 = 1; their resampled means are 3, 4 or 5.
        let pairs = Clusters::new(&[Some("a"), Some("a"), Some("b"), Some("b")]);
        let paired = &summarize(&rows(&values), &pairs, &Bootstrap::default()).unwrap()[0];
        assert_eq!((paired.mean, paired.sd, paired.se), (own.mean, own.sd, 1.0));
        assert_eq!(paired.ci, Some([3.0, 5.0]));
        // Their means' sd is √2.
        assert!((paired.cohens_d - 8.0f64.sqrt()).abs() < 1e-15);
        assert_eq!((paired.interval(Interval::Percentile), paired.interval(Interval::Bca)), (paired.ci, paired.bca));
    }

    #[test]
    fn unequal_clusters_keep_the_mean_over_trials() {
        let values: Vec<Vec<f32>> = [0.0, 0.0, 0.0, 8.0].iter().map(|&x| vec![x]).collect();
        let clusters = Clusters::new(&[Some("a"), Some("a"), Some("a"), Some("b")]);
        let cell = &summarize(&rows(&values), &clusters, &Bootstrap::default()).unwrap()[0];
        // T − n·mean is −6 and 6; √(2·72)/4 = 3.
        assert_eq!((cell.mean, cell.se), (2.0, 3.0));
    }

    #[test]
    fn nothing_to_say_stays_nothing() {
        let values = vec![vec![1.0, f32::NAN], vec![2.0, f32::NAN]];
        let cells = summarize(&rows(&values), &alone(2), &Bootstrap::default()).unwrap();
        assert!(cells[0].ci.is_some());
        assert!(cells[1].mean.is_nan() && cells[1].sd.is_nan() && cells[1].ci.is_none());
        let one = summarize(&rows(&values), &Clusters::new(&[Some("a"), Some("a")]), &Bootstrap::default()).unwrap();
        assert!(one[0].se.is_nan() && one[0].ci.is_none() && one[0].mean == 1.5);
        assert!(one[0].bca.is_none() && one[0].cohens_d.is_nan());
        assert!(summarize::<f32>(&[], &alone(0), &Bootstrap::default()).is_err());
        assert!(summarize(&rows(&values), &alone(2), &Bootstrap { level: 1.0, ..Bootstrap::default() }).is_err());
    }

    #[test]
    fn intervals_cover_the_truth_about_as_often_as_they_say() {
        // 400 independent cells of 60 clusters x 2 trials that share a common part within a cluster; the truth is 0.
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut uniform = || (rng.next_u32() as f32 / u32::MAX as f32) - 0.5;
        let (n_clusters, n_cells) = (60, 400);
        let mut values = Vec::new();
        for _ in 0..n_clusters {
            let common: Vec<f32> = (0..n_cells).map(|_| uniform()).collect();
            (0..2).for_each(|_| values.push(common.iter().map(|c| c + 0.2 * uniform()).collect()));
        }
        let labels: Vec<Option<String>> = (0..2 * n_clusters).map(|t| Some((t / 2).to_string())).collect();
        let covered = |clusters: &Clusters| {
            let cells =
                summarize(&rows(&values), clusters, &Bootstrap { resamples: 500, ..Bootstrap::default() }).unwrap();
            cells.iter().filter(|cell| cell.ci.is_some_and(|[lo, hi]| lo <= 0.0 && 0.0 <= hi)).count() as f64
                / n_cells as f64
        };
        let clustered = covered(&Clusters::new(&labels));
        assert!((0.90..0.98).contains(&clustered), "{clustered}");
        // Ignoring the clusters must be visibly too sure of itself, or the test would prove nothing.
        let naive = covered(&alone(2 * n_clusters));
        assert!(naive < 0.88, "{naive}");
    }

    #[test]
    fn order_within_clusters_does_not_matter_and_seeds_repeat() {
        // Multiples of 1/8 add exactly, so equality is exact.
        let value = |t: usize, i: usize| ((t * 37 + i * 11) % 64) as f32 / 8.0;
        let values: Vec<Vec<f32>> = (0..12).map(|t| (0..130).map(|i| value(t, i)).collect()).collect();
        let label = |t: usize| Some((t % 4).to_string());
        let order = [8, 5, 2, 11, 4, 1, 10, 3, 0, 9, 6, 7];
        let (mut moved, mut labels) = (vec![Vec::new(); 12], vec![None; 12]);
        for (to, &from) in order.iter().enumerate() {
            moved[to] = values[from].clone();
            labels[to] = label(from);
        }
        // Same order of first appearance (0, 1, 2, 3) means the same numbers and so the same draws.
        assert_eq!(labels[..4].iter().flatten().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        let clusters = Clusters::new(&(0..12).map(label).collect::<Vec<_>>());
        let a = summarize(&rows(&values), &clusters, &Bootstrap::default()).unwrap();
        let b = summarize(&rows(&moved), &Clusters::new(&labels), &Bootstrap::default()).unwrap();
        for (a, b) in a.iter().zip(&b) {
            assert_eq!((a.mean, a.se, a.ci), (b.mean, b.se, b.ci));
        }
        let intervals = |seed| {
            let cells = summarize(&rows(&values), &alone(12), &Bootstrap { seed, ..Bootstrap::default() }).unwrap();
            cells.iter().filter_map(|cell| cell.ci).flatten().map(f64::to_bits).collect::<Vec<_>>()
        };
        assert!(intervals(0) == intervals(0) && intervals(0) != intervals(1));
    }

    #[test]
    fn a_48_by_40_sweep_of_200_trials_is_summarized_while_one_looks() {
        let value = |t: usize, i: usize| ((t * 37 + i * 11) % 641) as f32;
        let values: Vec<Vec<f32>> = (0..200).map(|t| (0..1920).map(|i| value(t, i)).collect()).collect();
        let start = std::time::Instant::now();
        summarize(&rows(&values), &alone(200), &Bootstrap::default()).unwrap();
        // About 0.2 s in the dev profile; the bound leaves room for a busy machine.
        assert!(start.elapsed().as_secs_f64() < 4.0, "{:?}", start.elapsed());
    }

    #[test]
    fn ranks_break_ties_by_place_and_put_nan_last() {
        assert_eq!(ranking(&[0.0, f64::NAN, 1.0, -0.0, 0.0, 1.0]), [2, 5, 0, 3, 4, 1]);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
    }
}
