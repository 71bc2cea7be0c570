//! Is a mean 0? Signs of whole clusters flipped, and what many such tests at once may claim. Plain slices.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{BLOCK, Clusters, by_blocks, cluster_sums, n_cells};
use crate::error::{Error, Result};

/// The flips' own stream of random numbers, so that they are independent of a bootstrap with the same seed.
const STREAM: u64 = 2;

/// Up to so many clusters all sign vectors are enumerated.
pub(super) const ENUMERATED: usize = 16;

/// Sums that are equal in exact arithmetic may differ by this share of the sum of sizes.
pub(super) const SLACK: f64 = 1e-12;

/// How signs are flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flips {
    /// Number of random sign vectors; up to 16 clusters all of them are enumerated instead.
    pub n: usize,
    /// Seed; the same seed gives the same numbers on every machine.
    pub seed: u64,
}

impl Default for Flips {
    fn default() -> Self {
        Self { n: 10_000, seed: 0 }
    }
}

impl Flips {
    /// Whether all sign vectors of so many clusters are enumerated, so that neither number nor seed matters.
    pub fn are_all(clusters: &Clusters) -> bool {
        clusters.len() <= ENUMERATED
    }

    /// The least p that a test over these clusters can have.
    pub fn least_p(&self, clusters: &Clusters) -> f64 {
        match clusters.len() {
            n if n <= ENUMERATED => 2.0 / (1u64 << n) as f64,
            _ => 1.0 / (1.0 + self.n as f64),
        }
    }

    /// One bit per cluster, set where its sign is flipped. Of all vectors only the half that leaves the last cluster alone:
    /// the other half gives the same sums with the other sign.
    fn vectors(&self, clusters: &Clusters) -> Vec<Vec<u64>> {
        if Self::are_all(clusters) {
            return (0..1u64 << (clusters.len() - 1)).map(|bits| vec![bits]).collect();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(STREAM);
        let words = clusters.len().div_ceil(64);
        (0..self.n).map(|_| (0..words).map(|_| rng.next_u64()).collect()).collect()
    }
}

/// Two-sided p of every cell's mean over trials: how often it would be as large, in either direction, if each cluster's
/// sign were a coin's. `trials[t]` holds one value per cell; all cells share the flips. (1 + #{|m_t| >= |m|}) / (1 + n),
/// and where all 2^clusters vectors are enumerated the share of them. NaN where any trial has no finite number.
pub fn sign_flip<T: Copy + Into<f64> + Sync>(trials: &[&[T]], clusters: &Clusters, flips: &Flips) -> Result<Vec<f64>> {
    let n_cells = n_cells(trials, clusters)?;
    if flips.n == 0 {
        let problem = "a test needs at least one".into();
        return Err(Error::Statistics { what: "sign flips", value: "0".into(), problem });
    }
    let (vectors, all) = (flips.vectors(clusters), Flips::are_all(clusters));
    let p = |hits: usize| match all {
        true => hits as f64 / vectors.len() as f64,
        false => (1 + hits) as f64 / (1 + vectors.len()) as f64,
    };
    Ok(by_blocks(n_cells, |start| {
        let width = BLOCK.min(n_cells - start);
        let hits = hits(&cluster_sums(trials, start, clusters), &vectors);
        hits[..width].iter().map(|&hits| hits.map_or(f64::NAN, p)).collect()
    }))
}

/// How many sign vectors give a sum at least as far from 0 as the sum itself; `None` where it is not finite.
fn hits(sums: &[[f64; BLOCK]], vectors: &[Vec<u64>]) -> [Option<usize>; BLOCK] {
    let (mut least, mut sizes) = ([0.0f64; BLOCK], [0.0f64; BLOCK]);
    for sum in sums {
        for ((least, size), x) in least.iter_mut().zip(&mut sizes).zip(sum) {
            *least += x;
            *size += x.abs();
        }
    }
    least.iter_mut().zip(&sizes).for_each(|(least, size)| *least = least.abs() - SLACK * size);
    let mut hits = [0usize; BLOCK];
    for vector in vectors {
        let mut total = [0.0f64; BLOCK];
        for (c, sum) in sums.iter().enumerate() {
            let sign = if vector[c / 64] >> (c % 64) & 1 == 1 { -1.0 } else { 1.0 };
            total.iter_mut().zip(sum).for_each(|(total, x)| *total += sign * x);
        }
        hits.iter_mut()
            .zip(total.iter().zip(&least))
            .for_each(|(hits, (x, least))| *hits += usize::from(x.abs() >= *least));
    }
    std::array::from_fn(|i| sizes[i].is_finite().then_some(hits[i]))
}

/// The false discovery rate at which each p would be taken (Benjamini and Hochberg 1995): the least, over all thresholds that
/// take it in, of p·m/rank. NaN is no test, keeps its place and does not count.
pub fn false_discovery(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let m = order.len();
    let mut q = vec![f64::NAN; p.len()];
    let mut least = 1.0f64;
    for (place, &i) in order.iter().enumerate() {
        least = least.min(p[i] * m as f64 / (m - place) as f64);
        q[i] = least;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(n: usize) -> Clusters {
        Clusters::new(&vec![None::<&str>; n])
    }

    #[test]
    fn five_clusters_by_hand() {
        // Of 32 sign vectors, none but all + and all - reach the first cell's sum of 4.8.
        let trials = [
            [0.9, 0.1, -0.2, 0.0],
            [1.1, -0.3, 0.4, 0.0],
            [0.8, 0.2, 0.1, 0.0],
            [1.3, 0.0, -0.1, 0.0],
            [0.7, -0.1, 0.3, 0.0],
        ];
        let trials: Vec<&[f64]> = trials.iter().map(<[f64; 4]>::as_slice).collect();
        let p = sign_flip(&trials, &alone(5), &Flips::default()).unwrap();
        assert_eq!(p[0], 2.0 / 32.0);
        // 1, 3, 2, 0 and 1 tenths with any signs make an odd sum, so none is nearer to 0 than the second cell's -1.
        assert_eq!(p[1], 1.0);
        // The third cell's sum is 5 tenths; in whole numbers:
        let sums = (0..32u32).map(|bits| {
            let tenths = [-2i32, 4, 1, -1, 3];
            tenths.iter().enumerate().map(|(i, x)| if bits >> i & 1 == 1 { -x } else { *x }).sum::<i32>()
        });
        assert_eq!(p[2], sums.filter(|sum| sum.abs() >= 5).count() as f64 / 32.0);
        assert_eq!(p[3], 1.0, "nothing happened");
        assert_eq!((Flips::default().least_p(&alone(5)), Flips::are_all(&alone(17))), (p[0], false));
    }

    #[test]
    fn a_cluster_flips_as_one() {
        let trials: Vec<[f32; 1]> = [1.0, 1.0, 1.0, 1.0].map(|x| [x]).to_vec();
        let trials: Vec<&[f32]> = trials.iter().map(<[f32; 1]>::as_slice).collect();
        let of = |labels: [Option<&str>; 4]| sign_flip(&trials, &Clusters::new(&labels), &Flips::default()).unwrap();
        assert_eq!(of([None; 4]), [2.0 / 16.0]);
        assert_eq!(of([Some("a"), Some("b"), Some("a"), Some("b")]), [0.5]);
        assert_eq!(of([Some("a"); 4]), [1.0]);
    }

    #[test]
    fn random_flips_are_near_the_truth_and_repeat() {
        // 20 trials of 1 and one of 0: only the two extreme vectors of 2^20 reach the sum.
        let mut values = vec![vec![1.0f32, 1.0, f32::NAN]; 20];
        // The second cell is +1 nine times and -1 eleven times: |sum| >= 2 in all but the even splits, C(20,10)/2^20 = 0.1762.
        (0..11).for_each(|t| values[t][1] = -1.0);
        let trials: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let flips = Flips { n: 10_000, seed: 3 };
        let p = sign_flip(&trials, &alone(20), &flips).unwrap();
        assert!((1.0 / 10_001.0..=3.0 / 10_001.0).contains(&p[0]), "{p:?}");
        assert!((p[1] - 0.8238).abs() < 0.015, "{p:?}");
        assert!(p[2].is_nan());
        let bits = |flips: Flips| {
            sign_flip(&trials, &alone(20), &flips).unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        assert!(bits(flips) == bits(flips) && bits(flips) != bits(Flips { seed: 4, ..flips }));
        let none = sign_flip(&trials, &alone(20), &Flips { n: 0, seed: 0 }).unwrap_err();
        assert_eq!(none.to_string(), "sign flips 0: a test needs at least one");
    }

    #[test]
    fn tests_of_nothing_are_as_often_small_as_they_say() {
        // 1000 cells of 24 clusters of two trials with a common part; the truth is 0.
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut uniform = || (rng.next_u32() as f32 / u32::MAX as f32) - 0.5;
        let mut values = Vec::new();
        for _ in 0..24 {
            let common: Vec<f32> = (0..1000).map(|_| uniform()).collect();
            (0..2).for_each(|_| values.push(common.iter().map(|x| x + 0.2 * uniform()).collect::<Vec<f32>>()));
        }
        let trials: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let labels: Vec<Option<String>> = (0..48).map(|t| Some((t / 2).to_string())).collect();
        let small = |clusters: &Clusters| {
            let p = sign_flip(&trials, clusters, &Flips { n: 1000, seed: 0 }).unwrap();
            p.iter().filter(|p| **p <= 0.1).count() as f64 / 1000.0
        };
        let clustered = small(&Clusters::new(&labels));
        assert!((0.07..0.13).contains(&clustered), "{clustered}");
        // A sign per trial must be visibly too sure of itself, or the test would prove nothing.
        let naive = small(&alone(48));
        assert!(naive > 0.18, "{naive}");
    }

    #[test]
    fn discoveries_by_hand() {
        // Sorted .005, .01, .03, .04 of four: .02, .02, .04, .04.
        let q = false_discovery(&[0.01, 0.04, 0.03, f64::NAN, 0.005]);
        for (q, by_hand) in q.iter().zip([0.02, 0.04, 0.04, f64::NAN, 0.02]) {
            assert!((q - by_hand).abs() < 1e-15 || q.is_nan() && by_hand.is_nan(), "{q}");
        }
        assert_eq!(false_discovery(&[0.5, 0.5, 1.0]), [0.75, 0.75, 1.0]);
        assert!(false_discovery(&[]).is_empty());
    }
}
