//! Which cells are run once more in a higher precision, to see how far the sweep's own precision is off. Runs nothing.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Models, Sweep};
use crate::error::Result;
use crate::intervention::{Context, Edits};
use crate::trial::Trial;

/// Cells that are drawn.
const CELLS: usize = 16;

/// Trials that they are drawn from: one in [`SHARE`], so that what is run twice stays a small part, but no more than this.
const TRIALS: usize = 4;
const SHARE: usize = 4;

/// Cells of one trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Index of the trial.
    pub trial: usize,
    /// Row-major indices of cells, sorted.
    pub cells: Vec<usize>,
}

impl Sweep {
    /// Sixteen random cells that really ran (not those that causality makes exactly 0) of the trials `done`: of a quarter of
    /// them, at least one and at most four, or of as many more as it takes to have sixteen. All cells, if there are fewer.
    /// The draw depends on the seed and on what was run, on nothing else.
    pub fn sample(&self, models: Models<'_>, trials: &[Trial], done: &[usize]) -> Result<Vec<Sample>> {
        let config = models.base.config();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut order = done.to_vec();
        order.shuffle(&mut rng);
        let enough = done.len().div_ceil(SHARE).min(TRIALS);
        let mut pool: Vec<(usize, usize)> = Vec::new();
        for (n, &index) in order.iter().enumerate() {
            if n >= enough && pool.len() >= CELLS {
                break;
            }
            let trial = &trials[index];
            let (context, source) = (Context::of_prompt(config, &trial.id), models.donating(trial));
            for cell in self.cells(config, trial)? {
                if Edits::reach(&cell.set, &trial.base, source, models.same_weights(), &context)?.is_some() {
                    pool.push((index, cell.index));
                }
            }
        }
        pool.shuffle(&mut rng);
        pool.truncate(CELLS);
        pool.sort_unstable();
        let of_trial = |cells: &[(usize, usize)]| Sample {
            trial: cells[0].0,
            cells: cells.iter().map(|&(_, cell)| cell).collect(),
        };
        Ok(pool.chunk_by(|a, b| a.0 == b.0).map(of_trial).collect())
    }
}
