//! The sets of heads of a cumulative ablation, as `run.json` keeps them: the ranking and the steps, from which every set
//! follows. Thousands of sets need not be written out.

use interp_core::Result;
use interp_core::site::HeadRef;
use interp_core::stats::{CellSet, Cumulative};
use interp_core::sweep::HeadSet;
use serde::{Deserialize, Serialize};

/// What is taken away together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPlan {
    /// Heads from the strongest to the weakest: `L2.H6`.
    pub ranked: Vec<String>,
    /// From one number of heads to the next; the usual steps where there is none.
    pub step: Option<usize>,
    /// Most heads; all where there is none.
    pub max: Option<usize>,
    /// Random sets at every number of heads.
    pub random_draws: usize,
    /// From one number of random heads to the next.
    pub random_step: Option<usize>,
}

impl SetPlan {
    /// The sets in their order, a cell being a place among [`SetPlan::heads`].
    pub fn cells(&self, seed: u64) -> Result<Vec<CellSet>> {
        let (ranked, heads) = (self.ranked()?, self.heads()?);
        // By the heads' own order, so that random sets do not depend on the ranking.
        let place = |head: &HeadRef| heads.binary_search(head).expect("they are the same heads");
        let order: Vec<usize> = ranked.iter().map(place).collect();
        let plan = Cumulative {
            step: self.step,
            max: self.max.unwrap_or(usize::MAX),
            draws: self.random_draws,
            random_step: self.random_step,
            seed,
        };
        plan.sets(&order, |cell| heads[cell].layer)
    }

    /// The same sets as a sweep takes them.
    pub fn head_sets(&self, seed: u64) -> Result<Vec<HeadSet>> {
        let heads = self.heads()?;
        let set =
            |set: CellSet| HeadSet { name: set.name(), heads: set.cells.iter().map(|&cell| heads[cell]).collect() };
        Ok(self.cells(seed)?.into_iter().map(set).collect())
    }

    fn ranked(&self) -> Result<Vec<HeadRef>> {
        self.ranked.iter().map(|head| head.parse()).collect()
    }

    /// The heads in their own order.
    fn heads(&self) -> Result<Vec<HeadRef>> {
        let mut heads = self.ranked()?;
        heads.sort_unstable();
        heads.dedup();
        Ok(heads)
    }
}
