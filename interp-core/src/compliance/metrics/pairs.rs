//! Pairs of cases: do both halves come out right, and does the verdict follow an exchange of two events?

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::{Judged, Share};
use crate::compliance::record::{Pair, PairKind};
use crate::error::{Error, Result};
use crate::stats::Bootstrap;

/// What is counted over pairs. A case that stands in several pairs counts in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairMetric {
    /// Flip pairs with both halves right; 0 for any constant answer, 0.25 for a coin.
    FlipRate,
    /// Anchor pairs with both halves right. (The published 0.467 beside `plain` 0.576 and `flip_rate` 0.219 cannot be an
    /// accuracy over halves: flip halves would then be right so often that both are in over 0.36 of pairs.)
    AnchorAcc,
    /// Right halves of flip and anchor pairs.
    Plain,
    /// Swaps that change the label: swapped cases that are right.
    AccSwapped,
    /// Swaps that change the label: original cases that are right.
    AccOriginal,
    /// Swaps that change the label: both right.
    PairAcc,
    /// Swaps that change the label: both verdicts parsed, and different.
    FollowRate,
    /// Swaps that keep the label: both verdicts parsed, and the same.
    Stability,
}

/// One metric over all pairs that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairRow {
    /// What is counted.
    pub metric: PairMetric,
    /// The pairs, or halves, for which it holds.
    #[serde(flatten)]
    pub share: Share,
}

impl PairMetric {
    /// All, in the order of tables.
    pub const ALL: [PairMetric; 8] = [
        PairMetric::FlipRate,
        PairMetric::AnchorAcc,
        PairMetric::Plain,
        PairMetric::AccSwapped,
        PairMetric::AccOriginal,
        PairMetric::PairAcc,
        PairMetric::FollowRate,
        PairMetric::Stability,
    ];

    /// The name, as it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            PairMetric::FlipRate => "flip_rate",
            PairMetric::AnchorAcc => "anchor_acc",
            PairMetric::Plain => "plain",
            PairMetric::AccSwapped => "acc_swapped",
            PairMetric::AccOriginal => "acc_original",
            PairMetric::PairAcc => "pair_acc",
            PairMetric::FollowRate => "follow_rate",
            PairMetric::Stability => "stability",
        }
    }

    /// What a pair adds: nothing where the metric is not about it, and two outcomes where halves count.
    fn outcomes(self, kind: PairKind, a: &Judged<'_>, b: &Judged<'_>) -> Vec<bool> {
        let flips = a.record.gold != b.record.gold;
        let both = a.right() && b.right();
        let verdicts = a.answer.verdict.gold().zip(b.answer.verdict.gold());
        match (self, kind) {
            (PairMetric::FlipRate, PairKind::Flip) | (PairMetric::AnchorAcc, PairKind::Anchor) => vec![both],
            (PairMetric::Plain, PairKind::Flip | PairKind::Anchor) => vec![a.right(), b.right()],
            (PairMetric::AccSwapped, PairKind::Swap) if flips => vec![b.right()],
            (PairMetric::AccOriginal, PairKind::Swap) if flips => vec![a.right()],
            (PairMetric::PairAcc, PairKind::Swap) if flips => vec![both],
            (PairMetric::FollowRate, PairKind::Swap) if flips => vec![verdicts.is_some_and(|(a, b)| a != b)],
            (PairMetric::Stability, PairKind::Swap) if !flips => vec![verdicts.is_some_and(|(a, b)| a == b)],
            _ => vec![],
        }
    }

    /// Outcomes over all pairs, in the pairs' order, with their processes.
    pub(super) fn over<'a>(self, pairs: &[Pair], judged: &HashMap<&str, Judged<'a>>) -> Result<Vec<(bool, &'a str)>> {
        let mut outcomes = Vec::new();
        for pair in pairs {
            let half = |id: &str| {
                judged.get(id).ok_or_else(|| Error::Selector {
                    what: "pair",
                    value: format!("{}, {}", pair.a, pair.b),
                    problem: format!("there is no answer to {id:?}"),
                    hint: Some("answer every case that a pair names, or take the pair out".into()),
                })
            };
            let (a, b) = (half(&pair.a)?, half(&pair.b)?);
            outcomes.extend(self.outcomes(pair.kind, a, b).into_iter().map(|yes| (yes, &*a.record.process_id)));
        }
        Ok(outcomes)
    }
}

impl fmt::Display for PairMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Every metric over pairs, in the order of tables; of nothing where no pair is of its kind. Errs on a pair that names a case
/// without an answer.
pub fn pair_metrics(pairs: &[Pair], judged: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Vec<PairRow>> {
    let judged = by_id(judged);
    let row = |metric: PairMetric| Ok(PairRow { metric, share: Share::of(&metric.over(pairs, &judged)?, bootstrap)? });
    PairMetric::ALL.into_iter().map(row).collect()
}

pub(super) fn by_id<'a>(judged: &[Judged<'a>]) -> HashMap<&'a str, Judged<'a>> {
    judged.iter().map(|one| (&*one.record.id, *one)).collect()
}
