//! Named cells against others, drawn at random or the lowest of their layers, trial by trial. Plain slices.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Bootstrap, CellStats, Clusters, below, ranking, summarize};
use crate::error::{Error, Result};

/// The draw's own stream of random numbers, so that it is independent of a bootstrap with the same seed.
const STREAM: u64 = 1;

/// Named cells beside a control. All three are over trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Mean over the named cells.
    pub named: CellStats,
    /// Mean over the control's cells.
    pub control: CellStats,
    /// The first less the second, within each trial.
    pub difference: CellStats,
}

/// `n` different cells of `pool`, in the pool's order. The same seed draws the same cells on every machine.
pub fn draw(pool: &[usize], n: usize, seed: u64) -> Result<Vec<usize>> {
    Ok(draws(pool, n, 1, seed)?.concat())
}

/// `times` draws of `n` different cells of `pool` each, in the pool's order; the first is [`draw`]'s. Draws are independent: a
/// cell may be in several. All of them, one behind the other, are a control for [`compare`]: the mean of the draws' means.
pub fn draws(pool: &[usize], n: usize, times: usize, seed: u64) -> Result<Vec<Vec<usize>>> {
    let wrong = |problem: String| Error::Statistics { what: "control", value: n.to_string(), problem };
    if n == 0 {
        return Err(wrong("a control needs at least one cell".into()));
    }
    if times == 0 {
        let problem = "a control needs at least one".into();
        return Err(Error::Statistics { what: "draws", value: "0".into(), problem });
    }
    if n > pool.len() {
        let cells = if pool.len() == 1 { "cell was" } else { "cells were" };
        return Err(wrong(format!("only {} other {cells} measured", pool.len())));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    Ok((0..times).map(|_| choose(pool, n, &mut rng)).collect())
}

/// `n` different cells of `pool`, in the pool's order; `n` is at most the pool's size.
pub(super) fn choose(pool: &[usize], n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut places: Vec<usize> = (0..pool.len()).collect();
    for i in 0..n {
        let other = i + below(rng, pool.len() - i);
        places.swap(i, other);
    }
    places.truncate(n);
    places.sort_unstable();
    places.into_iter().map(|place| pool[place]).collect()
}

/// For each layer with m of the `k` heads of highest score, the m heads of lowest score of that layer. `scores` is `[layer,
/// head]` row-major with `n_heads` per layer, NaN where a head was not measured. Errs if fewer than `k` heads were measured.
pub fn same_layer_lowest(scores: &[f64], n_heads: usize, k: usize) -> Result<Vec<usize>> {
    // Cells without a number come last.
    let measured = scores.iter().filter(|score| !score.is_nan()).count();
    if k > measured {
        let problem = format!("only {measured} heads were measured");
        return Err(Error::Statistics { what: "heads", value: k.to_string(), problem });
    }
    let order = &ranking(scores)[..measured];
    Ok(lowest_of_layers(order, &order[..k], |cell| cell / n_heads))
}

/// For every layer as many of its lowest cells as `named` has there: the control of Yang et al. (ICML 2025), which edits
/// the same number of heads in the same layers. `order` ranks all cells from the largest score to the smallest, as
/// [`super::ranking`] does, and `layer_of` says where a cell lies. The lowest of a layer comes first, layers in the order
/// in which `named` first has them. Where `named` has more than half of a layer, the two overlap.
pub fn lowest_of_layers(order: &[usize], named: &[usize], layer_of: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut wanted: Vec<(usize, usize)> = Vec::new();
    for layer in named.iter().map(|&cell| layer_of(cell)) {
        match wanted.iter_mut().find(|(known, _)| *known == layer) {
            Some((_, n)) => *n += 1,
            None => wanted.push((layer, 1)),
        }
    }
    let layer_of = &layer_of;
    let lowest = |(layer, n)| order.iter().rev().copied().filter(|&cell| layer_of(cell) == layer).take(n).collect();
    wanted.into_iter().map(lowest).collect::<Vec<Vec<usize>>>().concat()
}

/// Standard deviation (ddof 1); `None` for fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.len() > 1).then(|| (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
}

impl CellStats {
    /// The mean over several random draws, each with a mean of its own, where statistics over trials know of trials alone: other
    /// draws would be other cells. `se` becomes √(se² + sd²/n) with sd that of the n draws' means, intervals wider by the same
    /// factor. One draw changes nothing.
    #[must_use]
    pub fn over_draws(self, means: &[f64]) -> Self {
        let Some(sd) = deviation(means) else { return self };
        let se = self.se.hypot(sd / (means.len() as f64).sqrt());
        let ends = |ends: [f64; 2]| match self.se > 0.0 {
            true => ends.map(|end| self.mean + (end - self.mean) * se / self.se),
            // Trials that all agree have no width; 1.96 standard errors hold 95 % of a normal distribution.
            false => [self.mean - 1.96 * se, self.mean + 1.96 * se],
        };
        Self { se, ci: self.ci.map(ends), bca: self.bca.map(ends), ..self }
    }
}

/// Compares the mean of `named` with the mean of `control`, both indices into every trial's cells.
pub fn compare(
    trials: &[&[f32]],
    named: &[usize],
    control: &[usize],
    clusters: &Clusters,
    bootstrap: &Bootstrap,
) -> Result<Comparison> {
    let mean = |trial: &[f32], cells: &[usize]| {
        cells.iter().map(|&cell| f64::from(trial[cell])).sum::<f64>() / cells.len() as f64
    };
    let rows: Vec<[f64; 3]> = trials
        .iter()
        .map(|trial| {
            let (named, control) = (mean(trial, named), mean(trial, control));
            [named, control, named - control]
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(<[f64; 3]>::as_slice).collect();
    let cells = summarize(&rows, clusters, bootstrap)?;
    Ok(Comparison { named: cells[0], control: cells[1], difference: cells[2] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_by_hand() {
        // Named: cells 0 and 1, means per trial 2, 4, 6, 4. Control: cells 2 and 4, means 1, 1, 3, 3. Cell 3 is nobody's.
        let trials: [[f32; 5]; 4] = [
            [1.0, 3.0, 0.0, f32::NAN, 2.0],
            [4.0, 4.0, 1.0, f32::NAN, 1.0],
            [8.0, 4.0, 2.0, f32::NAN, 4.0],
            [3.0, 5.0, 3.0, f32::NAN, 3.0],
        ];
        let trials: Vec<&[f32]> = trials.iter().map(<[f32; 5]>::as_slice).collect();
        let alone = Clusters::new(&[None::<&str>; 4]);
        let Comparison { named, control, difference } =
            compare(&trials, &[0, 1], &[2, 4], &alone, &Bootstrap::default()).unwrap();
        // Deviations −2, 0, 2, 0: sd √(8/3), se √(8/3)/2. Control ±1: sd √(4/3). Differences 1, 3, 3, 1: sd √(4/3).
        let close = |a: f64, b: f64| (a - b).abs() < 1e-15;
        assert_eq!((named.mean, control.mean, difference.mean), (4.0, 2.0, 2.0));
        assert!(close(named.se, (2.0f64 / 3.0).sqrt()) && close(control.se, (1.0f64 / 3.0).sqrt()));
        assert!(close(difference.sd, (4.0f64 / 3.0).sqrt()) && close(difference.se, (1.0f64 / 3.0).sqrt()));

        // In clusters {1, 2} and {3, 4} the differences' means are 2 and 2: nothing varies between clusters.
        let pairs = Clusters::new(&[Some("a"), Some("a"), Some("b"), Some("b")]);
        let paired = compare(&trials, &[0, 1], &[2, 4], &pairs, &Bootstrap::default()).unwrap();
        assert_eq!((paired.difference.se, paired.difference.ci), (0.0, Some([2.0, 2.0])));
        // The heads' cluster means are 3 and 5: se = sd/√2 = 1, and resampling gives 3, 4 or 5.
        assert_eq!((paired.named.se, paired.named.ci), (1.0, Some([3.0, 5.0])));
        assert_eq!((paired.control.se, paired.control.ci), (1.0, Some([1.0, 3.0])));
    }

    #[test]
    fn draws_are_an_error_of_their_own() {
        assert_eq!((deviation(&[1.0]), deviation(&[1.0, 3.0])), (None, Some(2f64.sqrt())));
        let over_trials = CellStats { mean: 2.0, sd: 1.0, se: 0.3, ci: Some([1.4, 2.9]), bca: None, cohens_d: 1.0 };
        assert_eq!(over_trials.over_draws(&[2.0]), over_trials);
        // √(0.3² + 0.4²) = 0.5: intervals are 5/3 as wide.
        let both = over_trials.over_draws(&[2.0 - 0.32f64.sqrt() / 2f64.sqrt(), 2.0 + 0.32f64.sqrt() / 2f64.sqrt()]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(both.se, 0.5) && close(both.ci.unwrap()[0], 1.0) && close(both.ci.unwrap()[1], 3.5), "{both:?}");
        assert_eq!((both.mean, both.sd, both.bca), (2.0, 1.0, None));
        let agreed = CellStats { se: 0.0, ci: Some([2.0; 2]), ..over_trials }.over_draws(&[1.0, 3.0]);
        assert!(close(agreed.se, 1.0) && close(agreed.ci.unwrap()[1], 3.96), "{agreed:?}");
    }

    #[test]
    fn draws_are_different_cells_of_the_pool_and_repeat_with_their_seed() {
        let pool: Vec<usize> = (10..42).collect();
        let drawn = draw(&pool, 20, 0).unwrap();
        assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.iter().all(|cell| pool.contains(cell)));
        assert_eq!((drawn.len(), &drawn), (20, &draw(&pool, 20, 0).unwrap()));
        assert_ne!(drawn, draw(&pool, 20, 1).unwrap());
        assert_eq!(draw(&pool, 32, 5).unwrap(), pool, "all of them");
        // Every cell is as likely as every other: 3,200 draws of 1 in 32, so about 100 each.
        let mut counts = [0; 42];
        (0..3200).for_each(|seed| counts[draw(&pool, 1, seed).unwrap()[0]] += 1);
        assert!(counts[10..].iter().all(|count| (60..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_lowest_of_the_same_layers() {
        // Two layers of four cells; the last two of layer 1 are equal, and the later one counts as lower.
        let scores = [0.9, 0.1, -0.5, 0.3, 0.8, 0.7, 0.0, 0.0];
        let order = ranking(&scores);
        let lowest = |k: usize| lowest_of_layers(&order, &order[..k], |cell| cell / 4);
        assert_eq!(order, [0, 4, 5, 3, 1, 6, 7, 2]);
        assert_eq!((lowest(0), lowest(1), lowest(3)), (vec![], vec![2], vec![2, 7, 6]));
        let mut all = lowest(8);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn draws_that_cannot_be_made_are_refused() {
        let refused = |pool: &[usize], n| draw(pool, n, 0).unwrap_err().to_string();
        assert_eq!(refused(&[1, 2, 3], 4), "control 4: only 3 other cells were measured");
        assert_eq!(refused(&[1], 2), "control 2: only 1 other cell was measured");
        assert_eq!(refused(&[1], 0), "control 0: a control needs at least one cell");
        assert_eq!(draws(&[1], 1, 0, 0).unwrap_err().to_string(), "draws 0: a control needs at least one");
    }

    #[test]
    fn several_draws_begin_with_the_one_and_average_to_the_pool() {
        let pool: Vec<usize> = (0..30).collect();
        let several = draws(&pool, 5, 400, 7).unwrap();
        assert_eq!((several.len(), &several[0]), (400, &draw(&pool, 5, 7).unwrap()));
        assert!(several.iter().all(|one| one.len() == 5 && one.is_sorted_by(|a, b| a < b)) && several[0] != several[1]);
        // 2,000 cells among 30: about 67 each.
        let count = |cell: usize| several.iter().filter(|one| one.contains(&cell)).count();
        assert!(pool.iter().all(|&cell| (35..105).contains(&count(cell))));
    }

    #[test]
    fn the_lowest_of_the_layers_of_the_highest() {
        // Layers of three: the two highest cells are 1 and 3, the next 5.
        let scores = [0.1, 0.9, -0.5, 0.8, 0.0, 0.7, f64::NAN, 0.2, 0.2];
        assert_eq!(same_layer_lowest(&scores, 3, 2).unwrap(), [2, 4]);
        // Two of the second layer: its lowest two, one of which is among the highest.
        assert_eq!(same_layer_lowest(&scores, 3, 3).unwrap(), [2, 4, 5]);
        // What was not measured is no control.
        assert_eq!(same_layer_lowest(&scores, 3, 8).unwrap().len(), 8);
        assert!(same_layer_lowest(&scores, 3, 0).unwrap().is_empty());
        let error = same_layer_lowest(&scores, 3, 9).unwrap_err().to_string();
        assert_eq!(error, "heads 9: only 8 heads were measured");
    }
}
