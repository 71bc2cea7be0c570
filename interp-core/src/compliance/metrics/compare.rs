//! Two checkpoints on the same cases: differences of accuracy with paired intervals, McNemar's test and equivalence.

use serde::Serialize;

use super::endpoint::By;
use super::gaps::Gaps;
use super::pairs::{PairMetric, by_id};
use super::{Estimate, Judged, Share, Value, number};
use crate::compliance::record::Pair;
use crate::error::{Error, Result};
use crate::stats::{Bootstrap, mcnemar};

/// Two shares are equivalent if they differ by less than this for certain.
const MARGIN: f64 = 0.05;

/// Outcomes of two checkpoints on the same cases (or pairs, or halves).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Delta {
    /// How many.
    pub n: usize,
    /// Processes they are about; what is resampled.
    pub processes: usize,
    /// Share of the first and of the second checkpoint.
    pub shares: Option<[f64; 2]>,
    /// First less second.
    pub delta: Option<f64>,
    /// Percentile interval of `delta` over resampled processes.
    pub ci: Option<[f64; 2]>,
    /// Right in the first alone.
    pub only_first: usize,
    /// Right in the second alone.
    pub only_second: usize,
    /// Two-sided p of McNemar's exact test, which takes cases for independent.
    pub mcnemar_p: f64,
    /// Whether the two are the same but for a margin.
    pub equivalence: Option<Equivalence>,
}

/// Two one-sided tests as an interval: at 95 % the interval of 90 %, which misses on either side in 5 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Equivalence {
    /// Largest difference that counts as none.
    pub margin: f64,
    /// Level of the interval.
    pub level: f64,
    /// Interval of the difference over resampled processes.
    pub interval: [f64; 2],
    /// Whether it lies within ± margin.
    pub holds: bool,
}

/// One row of a table of differences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeltaRow {
    /// What the cases of this row have in common.
    pub by: By,
    /// Its value: a name, or `all`.
    pub value: String,
    /// Differences of accuracy on them.
    #[serde(flatten)]
    pub delta: Delta,
}

/// One metric over pairs, of two checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairDelta {
    /// What is counted.
    pub metric: PairMetric,
    /// Its difference.
    #[serde(flatten)]
    pub delta: Delta,
}

/// Everything about two checkpoints on the same cases; first less second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Accuracy: all cases, then by perturbation, cohort, domain and label.
    pub rows: Vec<DeltaRow>,
    /// Differences of the gaps: positive where the first checkpoint's is larger.
    pub gaps: Gaps,
    /// Difference of tokens before the verdict, over the cases where both have one.
    pub reasoning: Estimate,
}

/// Accuracies on the training distribution beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Of the first and of the second checkpoint.
    pub accuracy: [Share; 2],
    /// What their Wilson intervals have in common; `None` if nothing.
    pub overlap: Option<[f64; 2]>,
}

impl Delta {
    /// Of outcomes `(first, second, process)`.
    fn of(outcomes: &[(bool, bool, &str)], bootstrap: &Bootstrap) -> Result<Self> {
        let count = |is: fn(bool, bool) -> bool| outcomes.iter().filter(|(a, b, _)| is(*a, *b)).count();
        let n = outcomes.len();
        let values = || outcomes.iter().map(|&(a, b, process)| Value::of(number(a) - number(b), 0, process)).collect();
        let estimate = Estimate::of(values(), &[1.0], bootstrap)?;
        let level = 1.0 - 2.0 * (1.0 - bootstrap.level);
        let narrow = Estimate::of(values(), &[1.0], &Bootstrap { level, ..*bootstrap })?;
        let (only_first, only_second) = (count(|a, b| a && !b), count(|a, b| !a && b));
        Ok(Self {
            n,
            processes: estimate.processes,
            shares: (n > 0).then(|| [count(|a, _| a), count(|_, b| b)].map(|hits| hits as f64 / n as f64)),
            delta: estimate.value,
            ci: estimate.ci,
            only_first,
            only_second,
            mcnemar_p: mcnemar(only_first, only_second),
            equivalence: narrow.ci.map(|interval| Equivalence {
                margin: MARGIN,
                level,
                interval,
                holds: interval[0] > -MARGIN && interval[1] < MARGIN,
            }),
        })
    }

    /// Accuracy of the first less that of the second. With the answers to the same cases under another process's procedure
    /// ([`super::super::other_procedures`]) as second, this is *procedure reliance*. Errs where the two are not answers to the
    /// same cases.
    pub fn between(first: &[Judged<'_>], second: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Self> {
        let outcomes = matched(first, second)?;
        let outcomes: Vec<(bool, bool, &str)> =
            outcomes.iter().map(|(a, b)| (a.right(), b.right(), &*a.record.process_id)).collect();
        Self::of(&outcomes, bootstrap)
    }
}

/// Compares two checkpoints. Errs where they did not answer the same cases.
pub fn compare(first: &[Judged<'_>], second: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Comparison> {
    let matched = matched(first, second)?;
    let mut rows = Vec::new();
    for by in By::ALL {
        for value in by.values(first) {
            let some = matched.iter().filter(|(a, _)| by.value(a) == value);
            let outcomes: Vec<(bool, bool, &str)> =
                some.map(|(a, b)| (a.right(), b.right(), &*a.record.process_id)).collect();
            rows.push(DeltaRow { by, value: value.into(), delta: Delta::of(&outcomes, bootstrap)? });
        }
    }
    let gaps = Gaps::of(matched.iter().map(|(a, b)| (a, number(a.right()) - number(b.right()))), bootstrap)?;
    let longer = |(a, b): &(Judged<'_>, Judged<'_>)| Some(a.reasoning? as f64 - b.reasoning? as f64);
    let lengths = matched.iter().filter_map(|both| Some(Value::of(longer(both)?, 0, &both.0.record.process_id)));
    Ok(Comparison { rows, gaps, reasoning: Estimate::of(lengths.collect(), &[1.0], bootstrap)? })
}

/// Every metric over pairs, of two checkpoints. Errs on a pair that names a case without an answer.
pub fn compare_pairs(
    pairs: &[Pair],
    first: &[Judged<'_>],
    second: &[Judged<'_>],
    bootstrap: &Bootstrap,
) -> Result<Vec<PairDelta>> {
    let (first, second) = (by_id(first), by_id(second));
    let row = |metric: PairMetric| {
        let (a, b) = (metric.over(pairs, &first)?, metric.over(pairs, &second)?);
        let outcomes: Vec<(bool, bool, &str)> = a.iter().zip(&b).map(|(a, b)| (a.0, b.0, a.1)).collect();
        Ok(PairDelta { metric, delta: Delta::of(&outcomes, bootstrap)? })
    };
    PairMetric::ALL.into_iter().map(row).collect()
}

/// Accuracies beside each other; give the cases of the training distribution.
pub fn ceilings(first: &[Judged<'_>], second: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Ceilings> {
    let accuracy = |judged: &[Judged<'_>]| {
        let outcomes: Vec<(bool, &str)> = judged.iter().map(|one| (one.right(), &*one.record.process_id)).collect();
        Share::of(&outcomes, bootstrap)
    };
    let accuracy = [accuracy(first)?, accuracy(second)?];
    let both = accuracy[0].wilson.zip(accuracy[1].wilson);
    let overlap = both.map(|(a, b)| [a[0].max(b[0]), a[1].min(b[1])]).filter(|[low, high]| low <= high);
    Ok(Ceilings { accuracy, overlap })
}

/// Answers to the same cases, side by side.
fn matched<'a>(first: &[Judged<'a>], second: &[Judged<'a>]) -> Result<Vec<(Judged<'a>, Judged<'a>)>> {
    let (by_first, by_second) = (by_id(first), by_id(second));
    let lonely = first.iter().find(|one| !by_second.contains_key(&*one.record.id));
    let lonely = lonely.or_else(|| second.iter().find(|one| !by_first.contains_key(&*one.record.id)));
    match lonely {
        Some(one) => Err(Error::Selector {
            what: "case",
            value: one.record.id.clone(),
            problem: "only one of the two checkpoints answered it".into(),
            hint: Some("compare answers to the same cases".into()),
        }),
        None => Ok(first.iter().map(|one| (*one, by_second[&*one.record.id])).collect()),
    }
}
