//! Which means of a whole grid are not 0? One sign per cluster, shared by all cells, and the largest mean of the grid as the
//! statistic, so that the chance of naming any cell wrongly is bounded over all of them. Plain slices.
//!
//! The test is that of Yang et al. (ICML 2025, appendix B.2) as two reimplementations describe it. Their clusters are single
//! prompts; ours are draws of material, since the directions of one draw are all but copies of each other.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::signs::{ENUMERATED, SLACK};
use super::{BLOCK, Clusters, by_blocks, cluster_sums, false_discovery, n_cells, quantile};
use crate::error::{Error, Result};

/// The signs' own stream of random numbers, so that they are independent of a bootstrap with the same seed.
const STREAM: u64 = 3;

/// Cells that are summed together: as many running sums as stay in registers, and a strip of as many clusters as trials
/// usually have stays in the nearest cache.
const STRIP: usize = 16;

/// How the test is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Permutation {
    /// The chance, over the whole grid, that any cell is called significant where none is.
    pub alpha: f64,
    /// Number of random sign vectors; up to 16 clusters all 2^clusters of them are enumerated instead.
    pub n: usize,
    /// Seed; the same seed gives the same numbers on every machine.
    pub seed: u64,
    /// Whether strong negative means count too.
    pub two_sided: bool,
}

impl Default for Permutation {
    fn default() -> Self {
        Self { alpha: 0.05, n: 5000, seed: 0, two_sided: false }
    }
}

/// What the test found. The statistic is the mean over clusters of each cluster's mean, in the metric's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyTest {
    /// How it was made; `n` is the number of sign vectors that were really used.
    pub permutation: Permutation,
    /// Whether those were all there are.
    pub exact: bool,
    /// The (1 − α) quantile of the grid's largest mean under flipped signs: a cell is significant above it. `None` where the
    /// test cannot be made.
    pub tau: Option<f64>,
    /// Family-wise p of every cell; NaN for a cell that was not measured in every trial, and everywhere for one cluster.
    pub p_fwer: Vec<f64>,
    /// Benjamini and Hochberg's false discovery rate of every cell, over each cell's own p by the same signs.
    pub q_fdr: Vec<f64>,
    /// Whether each cell is significant; `None` where the test cannot be made.
    pub significant: Option<Vec<bool>>,
    /// Why it cannot be made.
    pub note: Option<String>,
}

impl FamilyTest {
    /// A test of nothing.
    pub(crate) fn none(n_cells: usize, permutation: Permutation, why: &str) -> Self {
        Self {
            permutation,
            exact: false,
            tau: None,
            p_fwer: vec![f64::NAN; n_cells],
            q_fdr: vec![f64::NAN; n_cells],
            significant: None,
            note: Some(why.into()),
        }
    }

    /// Whether this cell was tested and is not significant.
    pub fn is_insignificant(&self, cell: usize) -> bool {
        !self.p_fwer[cell].is_nan() && self.significant.as_ref().is_some_and(|significant| !significant[cell])
    }

    /// How many cells are significant, of how many tested; `None` where the test cannot be made.
    pub fn count(&self) -> Option<(usize, usize)> {
        let significant = self.significant.as_ref()?;
        let tested = self.p_fwer.iter().filter(|p| !p.is_nan()).count();
        Some((significant.iter().filter(|is| **is).count(), tested))
    }
}

impl Permutation {
    fn check(&self) -> Result<()> {
        let wrong =
            |what, value: String, problem: &str| Err(Error::Statistics { what, value, problem: problem.into() });
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return wrong("alpha", self.alpha.to_string(), "must lie between 0 and 1, such as 0.05");
        }
        if self.n == 0 {
            return wrong("permutations", "0".into(), "a test needs at least one");
        }
        Ok(())
    }

    /// One sign per cluster and vector, `[vector][cluster]` as ±1.
    fn signs(&self, n_clusters: usize) -> Vec<f64> {
        let sign = |bits: u64, place: usize| if bits >> place & 1 == 1 { -1.0 } else { 1.0 };
        if n_clusters <= ENUMERATED {
            return (0..1u64 << n_clusters)
                .flat_map(|bits| (0..n_clusters).map(move |cluster| sign(bits, cluster)))
                .collect();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(STREAM);
        let mut signs = Vec::with_capacity(self.n * n_clusters);
        for _ in 0..self.n {
            let mut bits = 0;
            for cluster in 0..n_clusters {
                if cluster % 64 == 0 {
                    bits = rng.next_u64();
                }
                signs.push(sign(bits, cluster % 64));
            }
        }
        signs
    }

    /// A statistic as it is compared: its size, or itself.
    fn side(&self, mean: f64) -> f64 {
        if self.two_sided { mean.abs() } else { mean }
    }
}

/// Tests every cell against the largest of the grid. `trials[t]` holds one value per cell; a cell without a finite number in
/// every trial does not count. With T sign vectors, p = (1 + #{M_t ≥ m}) / (1 + T), or the share of them where all 2^clusters
/// are enumerated; M_t is the largest mean (two-sided: |mean|) of the grid under the t-th, m the cell's own. A cell is
/// significant if m exceeds the (1 − α) quantile of the M_t, interpolated linearly. Where even the least p of so few clusters
/// is above α, nothing can be significant, and the result says so.
pub fn max_statistic<T: Copy + Into<f64> + Sync>(
    trials: &[&[T]],
    clusters: &Clusters,
    permutation: &Permutation,
) -> Result<FamilyTest> {
    permutation.check()?;
    let n_cells = n_cells(trials, clusters)?;
    let n_clusters = clusters.len();
    if n_clusters < 2 {
        return Ok(FamilyTest::none(n_cells, *permutation, "all trials are one cluster: signs cannot be flipped"));
    }
    let exact = n_clusters <= ENUMERATED;
    let signs = permutation.signs(n_clusters);
    let n_vectors = signs.len() / n_clusters;
    let means = Means::new(trials, clusters);
    let observed = Observed::new(&means, n_clusters, permutation);

    // A worker takes sign vectors and every cell: the largest of a grid needs no second worker, and the rest is counting.
    let rounds: Vec<Round> = by_blocks(n_vectors, |start| {
        let vectors = &signs[start * n_clusters..(start + BLOCK).min(n_vectors) * n_clusters];
        vec![means.round(vectors, n_clusters, permutation, &observed.least)]
    });
    let mut largest: Vec<f64> = rounds.iter().flat_map(|round| round.largest.iter().copied()).collect();
    largest.sort_unstable_by(f64::total_cmp);

    let p = |hits: usize| match exact {
        true => hits as f64 / n_vectors as f64,
        false => (1 + hits) as f64 / (1 + n_vectors) as f64,
    };
    let (mut p_fwer, mut p_alone) = (vec![f64::NAN; n_cells], vec![f64::NAN; n_cells]);
    for (place, &cell) in means.cells.iter().enumerate() {
        let least = observed.least[place];
        p_fwer[cell] = p(n_vectors - largest.partition_point(|largest| *largest < least));
        p_alone[cell] = p(rounds.iter().map(|round| usize::from(round.hits[place])).sum());
    }
    let mut test = FamilyTest {
        permutation: Permutation { n: n_vectors, ..*permutation },
        exact,
        tau: None,
        q_fdr: false_discovery(&p_alone),
        p_fwer,
        significant: None,
        note: None,
    };
    // Two sign vectors, all + and all −, give the same |m|.
    let least = if exact { (1.0 + f64::from(u8::from(permutation.two_sided))) / n_vectors as f64 } else { p(0) };
    if means.cells.is_empty() {
        test.note = Some("no cell has a number in every trial".into());
    } else if least > permutation.alpha {
        let vectors = if exact { format!("{n_clusters} clusters") } else { format!("{n_vectors} sign vectors") };
        test.note = Some(format!("{vectors}: the least p is {least:.3}, above alpha {}", permutation.alpha));
    } else {
        let tau = quantile(&largest, 1.0 - permutation.alpha);
        let mut significant = vec![false; n_cells];
        means.cells.iter().zip(&observed.means).for_each(|(&cell, &m)| significant[cell] = m > tau);
        (test.tau, test.significant) = (Some(tau), Some(significant));
    }
    Ok(test)
}

/// Cluster means of the cells that have all their numbers.
struct Means {
    /// Those cells.
    cells: Vec<usize>,
    /// `[strip][cluster]`, the last strip filled up with zeros.
    strips: Vec<Vec<[f64; STRIP]>>,
}

/// Sign vectors that one worker took together.
struct Round {
    /// Per vector, the largest of the grid.
    largest: Vec<f64>,
    /// Per cell, how many vectors reach its own mean; at most [`BLOCK`].
    hits: Vec<u8>,
}

/// The means themselves.
struct Observed {
    /// As compared.
    means: Vec<f64>,
    /// What counts as reaching them: less by what rounding may do to sums that are equal in exact arithmetic.
    least: Vec<f64>,
}

impl Means {
    fn new<T: Copy + Into<f64> + Sync>(trials: &[&[T]], clusters: &Clusters) -> Self {
        let n_cells = trials[0].len();
        let sizes = clusters.sizes();
        // Sums of a block, `[cluster]`, and whether each cell's are all finite.
        let blocks = by_blocks(n_cells, |start| vec![cluster_sums(trials, start, clusters)]);
        let column = |cell: usize| blocks[cell / BLOCK].iter().map(move |sums| sums[cell % BLOCK]);
        let cells: Vec<usize> = (0..n_cells).filter(|&cell| column(cell).all(f64::is_finite)).collect();
        let strip = |cells: &[usize]| {
            let mut strip = vec![[0.0; STRIP]; sizes.len()];
            for (place, &cell) in cells.iter().enumerate() {
                let means = column(cell).zip(&sizes).map(|(sum, size)| sum / size);
                strip.iter_mut().zip(means).for_each(|(row, mean)| row[place] = mean);
            }
            strip
        };
        Self { strips: cells.chunks(STRIP).map(strip).collect(), cells }
    }

    /// How many cells of a strip are cells.
    fn width(&self, strip: usize) -> usize {
        STRIP.min(self.cells.len() - strip * STRIP)
    }

    /// Takes a few sign vectors over all cells. Vectors are the inner loop, so that a strip stays in the nearest cache.
    fn round(&self, vectors: &[f64], n_clusters: usize, permutation: &Permutation, least: &[f64]) -> Round {
        let n = n_clusters as f64;
        let mut round =
            Round { largest: vec![f64::NEG_INFINITY; vectors.len() / n_clusters], hits: vec![0; self.cells.len()] };
        for (index, strip) in self.strips.iter().enumerate() {
            let (first, width) = (index * STRIP, self.width(index));
            for (signs, largest) in vectors.chunks_exact(n_clusters).zip(&mut round.largest) {
                let sums = signed_sums(strip, signs);
                for (place, sum) in sums[..width].iter().enumerate() {
                    let mean = permutation.side(sum / n);
                    *largest = largest.max(mean);
                    round.hits[first + place] += u8::from(mean >= least[first + place]);
                }
            }
        }
        round
    }
}

impl Observed {
    fn new(means: &Means, n_clusters: usize, permutation: &Permutation) -> Self {
        let (n, unflipped) = (n_clusters as f64, vec![1.0; n_clusters]);
        let (mut found, mut least) = (Vec::new(), Vec::new());
        for (index, strip) in means.strips.iter().enumerate() {
            let sums = signed_sums(strip, &unflipped);
            for (place, sum) in sums[..means.width(index)].iter().enumerate() {
                let size = strip.iter().map(|row| row[place].abs()).sum::<f64>() / n;
                let mean = permutation.side(sum / n);
                found.push(mean);
                least.push(mean - SLACK * size);
            }
        }
        Self { means: found, least }
    }
}

/// The sums of a strip's cells over clusters, each cluster with its sign.
fn signed_sums(strip: &[[f64; STRIP]], signs: &[f64]) -> [f64; STRIP] {
    let mut sums = [0.0; STRIP];
    for (row, &sign) in strip.iter().zip(signs) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += sign * x);
    }
    sums
}

#[cfg(test)]
mod tests;
