//! What answers to cases amount to: shares with intervals, pairs, gaps, and two checkpoints on the same cases. Plain data, by the
//! definitions of the compliance contrast; where a published name has no published definition, ours is written beside it.
//!
//! Shares have two intervals: Wilson's, which takes cases for independent, and one over resampled processes, which does not.
//! Nothing depends on the order of the cases.

mod compare;
mod endpoint;
mod gaps;
mod pairs;

use serde::Serialize;

pub use self::compare::{
    Ceilings, Comparison, Delta, DeltaRow, Equivalence, PairDelta, ceilings, compare, compare_pairs,
};
pub use self::endpoint::{By, Endpoint, EndpointRow, endpoints};
pub use self::gaps::{Gaps, Reasoning, gaps, reasoning};
pub use self::pairs::{PairMetric, PairRow, pair_metrics};
use super::answer::Answer;
use super::record::Record;
use crate::error::Result;
use crate::stats::{Bootstrap, Clusters, group_sum, wilson};

/// A case and what a model answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged<'a> {
    /// The case.
    pub record: &'a Record,
    /// The answer.
    pub answer: Answer,
    /// Tokens before the verdict; `None` where there is no verdict, and in forced answers.
    pub reasoning: Option<usize>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub n: usize,
    /// hits / n; `None` of nothing.
    pub share: Option<f64>,
    /// Wilson's interval.
    pub wilson: Option<[f64; 2]>,
    /// Percentile interval over resampled processes. `None` for a single process, and where it was not drawn.
    pub clustered: Option<[f64; 2]>,
}

/// A number that is no share, with its percentile interval over resampled processes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number; `None` where a group that it needs has no case.
    pub value: Option<f64>,
    /// Its interval. `None` for a single process, and where half of the resamples lose a whole group.
    pub ci: Option<[f64; 2]>,
    /// Cases it was computed from.
    pub n: usize,
    /// Processes they are about.
    pub processes: usize,
}

/// How intervals of these metrics are drawn: 95 %, 10,000 resamples.
pub fn bootstrap(seed: u64) -> Bootstrap {
    Bootstrap { level: 0.95, resamples: 10_000, seed }
}

impl Judged<'_> {
    /// Whether the answer is the case's label; unparsed answers are wrong.
    pub fn right(&self) -> bool {
        self.answer.verdict.gold() == Some(self.record.gold)
    }
}

impl Share {
    /// Without an interval over processes.
    fn plain(yes: impl Iterator<Item = bool>, level: f64) -> Self {
        let (hits, n) = yes.fold((0, 0), |(hits, n), yes| (hits + usize::from(yes), n + 1));
        let share = (n > 0).then(|| hits as f64 / n as f64);
        Self { hits, n, share, wilson: wilson(hits, n, level), clustered: None }
    }

    /// Of outcomes with their processes.
    fn of(outcomes: &[(bool, &str)], bootstrap: &Bootstrap) -> Result<Self> {
        let values: Vec<Value<'_>> =
            outcomes.iter().map(|&(yes, process)| Value::of(number(yes), 0, process)).collect();
        let clustered = Estimate::of(values, &[1.0], bootstrap)?.ci;
        Ok(Self { clustered, ..Self::plain(outcomes.iter().map(|(yes, _)| *yes), bootstrap.level) })
    }
}

/// A number of one case, with the group it counts in.
struct Value<'a> {
    value: f64,
    group: usize,
    process: &'a str,
}

impl<'a> Value<'a> {
    fn of(value: f64, group: usize, process: &'a str) -> Self {
        Self { value, group, process }
    }
}

impl Estimate {
    /// Σ weight · mean over the groups.
    fn of(mut values: Vec<Value<'_>>, weights: &[f64], bootstrap: &Bootstrap) -> Result<Self> {
        // Clusters are numbered by first appearance, and a resample draws numbers.
        values.sort_by(|a, b| (a.process, a.group).cmp(&(b.process, b.group)).then(a.value.total_cmp(&b.value)));
        let clusters = Clusters::new(&values.iter().map(|one| Some(one.process)).collect::<Vec<_>>());
        let (numbers, groups): (Vec<f64>, Vec<usize>) = values.iter().map(|one| (one.value, one.group)).unzip();
        let sum = group_sum(&numbers, &groups, weights, &clusters, bootstrap)?;
        Ok(Self { value: sum.value, ci: sum.ci, n: values.len(), processes: clusters.len() })
    }
}

fn number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}
