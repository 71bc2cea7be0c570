//! Which cells a cumulative ablation takes away together: the first k of a ranking, as many of the lowest of the same
//! layers, and as many drawn at random (Yang et al., ICML 2025). Indices only.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::control::{choose, lowest_of_layers};
use crate::error::{Error, Result};

/// Streams of random numbers below it belong to other draws with the same seed.
const FIRST_STREAM: u64 = 1 << 32;

/// From this k on the ranking's usual step is wider, which for a model of 5,120 heads saves a quarter of the sets.
const WIDE_FROM: usize = 3500;

/// So near its end a control's curve falls, and the usual steps are narrow again.
const NARROW_TO: usize = 500;

/// One of the three curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// The first k of the ranking.
    Ranked,
    /// As many in each layer, but the lowest there.
    Lowest,
    /// k of all, drawn at random.
    Random,
}

impl Curve {
    /// In the order in which they are listed and drawn.
    pub const ALL: [Curve; 3] = [Curve::Ranked, Curve::Lowest, Curve::Random];

    /// As files write it.
    pub fn name(self) -> &'static str {
        match self {
            Curve::Ranked => "ranked",
            Curve::Lowest => "lowest",
            Curve::Random => "random",
        }
    }
}

/// How many cells are taken away, and how often at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cumulative {
    /// From one k to the next; `None` takes 2, and 8 beyond 3,500 (the lowest: 4 among the last 500).
    pub step: Option<usize>,
    /// Largest k; more than there are cells means all of them.
    pub max: usize,
    /// Random sets at every k.
    pub draws: usize,
    /// From one k of the random sets to the next; `None` takes 10 (the largest k, if that is less), and of more than 500 cells
    /// 4 among the last 500.
    pub random_step: Option<usize>,
    /// Seed of the random sets. A set depends on the seed, k and its number alone.
    pub seed: u64,
}

/// Cells taken away together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellSet {
    /// The curve it is a point of.
    pub curve: Curve,
    /// Number of cells.
    pub k: usize,
    /// Which of the random sets of this k; 0 for the other curves.
    pub draw: usize,
    /// The cells; of the first two curves the strongest or lowest first.
    pub cells: Vec<usize>,
}

impl CellSet {
    /// Unique within a plan: `ranked-4`, `lowest-4`, `random-10-3`.
    pub fn name(&self) -> String {
        let (curve, k) = (self.curve.name(), self.k);
        if self.curve == Curve::Random { format!("{curve}-{k}-{}", self.draw) } else { format!("{curve}-{k}") }
    }
}

impl Cumulative {
    /// Every set from the first step on, curve by curve; with no cell taken away all curves are the unedited run. `order`
    /// ranks all cells from the largest score to the smallest, `layer_of` says where a cell lies.
    pub fn sets(&self, order: &[usize], layer_of: impl Fn(usize) -> usize) -> Result<Vec<CellSet>> {
        let wrong = |what, value: usize, problem: &str| {
            Err(Error::Statistics { what, value: value.to_string(), problem: problem.into() })
        };
        for (what, step) in [("step", self.step), ("random step", self.random_step), ("max", Some(self.max))] {
            if step == Some(0) {
                return wrong(what, 0, "must be at least 1");
            }
        }
        let (n, max) = (order.len(), self.max.min(order.len()));
        let near_end = |k: usize| k + NARROW_TO >= n;
        let ranked = |k: usize| self.step.unwrap_or(if k > WIDE_FROM { 8 } else { 2 });
        let lowest = |k: usize| self.step.unwrap_or(if near_end(k) { ranked(k).min(4) } else { ranked(k) });
        let random =
            |k: usize| self.random_step.unwrap_or(if n > NARROW_TO && near_end(k) { 4 } else { max.clamp(1, 10) });
        for (what, step) in [("step", ranked(0)), ("random step", random(0))] {
            if step > max {
                return wrong(what, step, "is more than the heads that may be taken away");
            }
        }
        let mut sets = Vec::new();
        let mut pool = order.to_vec();
        pool.sort_unstable();
        for k in counts(max, ranked) {
            sets.push(CellSet { curve: Curve::Ranked, k, draw: 0, cells: order[..k].to_vec() });
        }
        for k in counts(max, lowest) {
            let cells = lowest_of_layers(order, &order[..k], &layer_of);
            sets.push(CellSet { curve: Curve::Lowest, k, draw: 0, cells });
        }
        for k in counts(max, random).into_iter().filter(|_| self.draws > 0) {
            for draw in 0..self.draws {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(FIRST_STREAM + ((k as u64) << 32) + draw as u64);
                sets.push(CellSet { curve: Curve::Random, k, draw, cells: choose(&pool, k, &mut rng) });
            }
        }
        Ok(sets)
    }
}

/// The first step, and from each k the next, up to `max`.
fn counts(max: usize, step: impl Fn(usize) -> usize) -> Vec<usize> {
    std::iter::successors(Some(step(0)), |&k| Some(k.saturating_add(step(k)))).take_while(|&k| k <= max).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PLAN: Cumulative = Cumulative { step: None, max: usize::MAX, draws: 10, random_step: None, seed: 0 };

    fn of(sets: &[CellSet], curve: Curve) -> Vec<&CellSet> {
        sets.iter().filter(|set| set.curve == curve).collect()
    }

    #[test]
    fn a_small_model_by_hand() {
        // Four layers of eight; the ranking is the reverse of the cells' own order.
        let order: Vec<usize> = (0..32).rev().collect();
        let sets = PLAN.sets(&order, |cell| cell / 8).unwrap();
        let ks = |curve| of(&sets, curve).iter().map(|set| set.k).collect::<Vec<_>>();
        assert_eq!(ks(Curve::Ranked), (2..=32).step_by(2).collect::<Vec<_>>());
        assert_eq!(ks(Curve::Lowest), ks(Curve::Ranked));
        assert_eq!(ks(Curve::Random), [[10; 10], [20; 10], [30; 10]].concat());
        assert_eq!(sets[1].cells, [31, 30, 29, 28]);
        assert_eq!(sets[4].cells, [31, 30, 29, 28, 27, 26, 25, 24, 23, 22]);
        assert_eq!(of(&sets, Curve::Lowest)[4].cells, [24, 25, 26, 27, 28, 29, 30, 31, 16, 17]);
        let names: BTreeSet<String> = sets.iter().map(CellSet::name).collect();
        assert!(names.len() == sets.len() && names.contains("lowest-4") && names.contains("random-30-9"));
        for set in &sets {
            let distinct: BTreeSet<usize> = set.cells.iter().copied().collect();
            assert!(distinct.len() == set.k && set.cells.len() == set.k && distinct.iter().all(|&cell| cell < 32));
        }
    }

    #[test]
    fn random_sets_are_even_and_depend_on_seed_k_and_number_alone() {
        let order: Vec<usize> = (0..32).collect();
        let plan = Cumulative { draws: 2000, random_step: Some(16), max: 16, ..PLAN };
        let sets = plan.sets(&order, |cell| cell / 8).unwrap();
        let mut counts = [0; 32];
        of(&sets, Curve::Random).iter().flat_map(|set| &set.cells).for_each(|&cell| counts[cell] += 1);
        // Every cell in half of 2,000 sets; a deviation of 110 is five standard deviations.
        assert!(counts.iter().all(|count| (890..1110).contains(count)), "{counts:?}");
        let few = Cumulative { draws: 3, random_step: Some(8), max: 16, ..PLAN }.sets(&order, |cell| cell / 8).unwrap();
        let at = |sets: &[CellSet], draw| {
            let found = sets.iter().find(|set| (set.curve, set.k, set.draw) == (Curve::Random, 16, draw));
            found.unwrap().cells.clone()
        };
        assert_eq!((at(&few, 0), at(&few, 2)), (at(&sets, 0), at(&sets, 2)));
        let other = Cumulative { seed: 1, ..plan }.sets(&order, |cell| cell / 8).unwrap();
        assert_ne!(at(&other, 0), at(&sets, 0));
    }

    #[test]
    fn the_usual_steps_of_a_large_model() {
        let order: Vec<usize> = (0..5120).collect();
        let sets = Cumulative { draws: 1, ..PLAN }.sets(&order, |cell| cell / 64).unwrap();
        let gaps = |curve| {
            let ks: Vec<usize> = of(&sets, curve).iter().map(|set| set.k).collect();
            let gap = |at: usize| ks.windows(2).find(|pair| pair[0] >= at).map(|pair| pair[1] - pair[0]).unwrap();
            (ks[0], gap(0), gap(4000), gap(4900), *ks.last().unwrap())
        };
        assert_eq!(gaps(Curve::Ranked), (2, 2, 8, 8, 5118));
        assert_eq!(gaps(Curve::Lowest), (2, 2, 8, 4, 5118));
        assert_eq!(gaps(Curve::Random), (10, 10, 10, 4, 5120));
    }

    #[test]
    fn plans_that_cannot_be_are_refused() {
        let said =
            |plan: Cumulative| plan.sets(&[0, 1, 2], |_| 0).map_or_else(|error| error.to_string(), |_| "".into());
        assert_eq!(said(Cumulative { step: Some(0), ..PLAN }), "step 0: must be at least 1");
        assert_eq!(said(Cumulative { random_step: Some(0), ..PLAN }), "random step 0: must be at least 1");
        assert_eq!(said(Cumulative { max: 0, ..PLAN }), "max 0: must be at least 1");
        assert_eq!(
            said(Cumulative { random_step: Some(4), ..PLAN }),
            "random step 4: is more than the heads that may be taken away"
        );
        let small = Cumulative { max: 8, ..PLAN }.sets(&(0..32).collect::<Vec<_>>(), |cell| cell / 8).unwrap();
        assert!(of(&small, Curve::Random).iter().all(|set| set.k == 8) && of(&small, Curve::Random).len() == 10);
        assert_eq!(said(Cumulative { max: 1, ..PLAN }), "step 2: is more than the heads that may be taken away");
    }
}
