//! What the answers amount to: every metric of every checkpoint, and of every two. Computes with `compliance::metrics` alone.

use anyhow::Result;
use interp_core::compliance::metrics::{
    By, Ceilings, Comparison, Delta, Endpoint, EndpointRow, Gaps, Judged, PairDelta, PairRow, Reasoning, bootstrap,
    ceilings, compare, compare_pairs, endpoints, gaps, pair_metrics, reasoning,
};
use serde::Serialize;

use super::Answered;
use super::answers::{Regime, Said};
use super::cases::Cases;
use super::checkpoints::Checkpoint;
use crate::cli::StudyComplianceArgs;

/// The cohort that is distributed as the training cases.
const TRAINING: &str = "fresh";
/// How far above the majority's share a checkpoint has to be.
const ABOVE: f64 = 0.1;

/// One checkpoint in one regime.
#[derive(Debug, Serialize)]
pub struct Alone {
    pub checkpoint: String,
    pub regime: &'static str,
    pub endpoints: Vec<EndpointRow>,
    /// On the training distribution.
    pub training: Endpoint,
    pub pairs: Vec<PairRow>,
    pub gaps: Gaps,
    /// Accuracy less that under another process' procedure.
    pub reliance: Option<Delta>,
    /// Tokens before the verdict; in free-form answers.
    pub reasoning: Option<Reasoning>,
    /// Tokens of the whole answer.
    pub n_tokens: Option<f64>,
}

/// Two checkpoints in one regime: the first less the second.
#[derive(Debug, Serialize)]
pub struct Paired {
    pub first: String,
    pub second: String,
    pub regime: &'static str,
    #[serde(flatten)]
    pub comparison: Comparison,
    pub pairs: Vec<PairDelta>,
    /// On the training distribution.
    pub ceilings: Ceilings,
    pub training: Delta,
}

/// Whether the fine-tunings are comparable.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub reached: bool,
    pub said: String,
}

/// All numbers.
pub struct Endpoints {
    pub alone: Vec<Alone>,
    pub paired: Vec<Paired>,
    /// Whether the cases have the cohort of the training distribution; else all cases stand for it.
    pub has_training: bool,
    names: Vec<String>,
}

impl Endpoints {
    /// Computes them.
    pub fn new(
        args: &StudyComplianceArgs,
        checkpoints: &[Checkpoint],
        cases: &Cases,
        answered: &[Answered],
    ) -> Result<Self> {
        let bootstrap = bootstrap(args.seed);
        let has_training = cases.records.iter().any(|record| record.cohort == TRAINING);
        let of_training = |judged: &[Judged<'_>]| -> Vec<usize> {
            (0..judged.len()).filter(|&i| !has_training || judged[i].record.cohort == TRAINING).collect()
        };
        let (mut alone, mut paired) = (Vec::new(), Vec::new());
        for regime in Regime::ALL {
            let judge = |checkpoint: &Checkpoint, said: &[Said]| -> Result<Vec<_>> {
                let one = |(said, record)| Said::judged(said, record, regime, checkpoint.tokenizer());
                Ok(said.iter().zip(&cases.records).map(one).collect::<interp_core::Result<_>>()?)
            };
            let mut judged = Vec::new();
            for (checkpoint, answered) in checkpoints.iter().zip(answered) {
                let own = judge(checkpoint, &answered.own)?;
                let other = answered.other.as_ref().map(|other| judge(checkpoint, other)).transpose()?;
                let free = regime == Regime::Free;
                let training: Vec<_> = of_training(&own).into_iter().map(|i| own[i]).collect();
                let n_tokens = answered.own.iter().map(|said| said.n_tokens).sum::<usize>() as f64 / own.len() as f64;
                alone.push(Alone {
                    checkpoint: checkpoint.name.clone(),
                    regime: regime.name(),
                    endpoints: endpoints(&own, &bootstrap)?,
                    training: Endpoint::of(&training, &bootstrap)?,
                    pairs: pair_metrics(&cases.pairs, &own, &bootstrap)?,
                    gaps: gaps(&own, &bootstrap)?,
                    reliance: other.as_ref().map(|other| Delta::between(&own, other, &bootstrap)).transpose()?,
                    reasoning: free.then(|| reasoning(&own, &bootstrap)).transpose()?,
                    n_tokens: free.then_some(n_tokens),
                });
                judged.push((checkpoint, own, training));
            }
            // Later checkpoints less earlier ones, as Δδ.
            for (i, first) in judged.iter().enumerate() {
                for second in &judged[..i] {
                    paired.push(Paired {
                        first: first.0.name.clone(),
                        second: second.0.name.clone(),
                        regime: regime.name(),
                        comparison: compare(&first.1, &second.1, &bootstrap)?,
                        pairs: compare_pairs(&cases.pairs, &first.1, &second.1, &bootstrap)?,
                        ceilings: ceilings(&first.2, &second.2, &bootstrap)?,
                        training: Delta::between(&first.2, &second.2, &bootstrap)?,
                    });
                }
            }
        }
        let names = checkpoints.iter().map(|one| one.name.clone()).collect();
        Ok(Self { alone, paired, has_training, names })
    }

    /// Whether every fine-tuning is above the majority, and every two are equal, on the training distribution and in free-form answers.
    pub fn found(&self) -> Found {
        let tuned = &self.names[1..];
        let free = |regime: &str| regime == Regime::Free.name();
        let above: Vec<(String, Option<f64>, f64)> = self
            .alone
            .iter()
            .filter(|one| free(one.regime) && tuned.contains(&one.checkpoint))
            .map(|one| {
                let share = one.training.accuracy.share.unwrap_or(f64::NAN);
                (one.checkpoint.clone(), one.training.above_majority(), share)
            })
            .collect();
        let equal: Vec<(&Paired, bool)> = self
            .paired
            .iter()
            .filter(|pair| free(pair.regime) && tuned.contains(&pair.first) && tuned.contains(&pair.second))
            .map(|pair| (pair, pair.training.equivalence.is_some_and(|equivalence| equivalence.holds)))
            .collect();
        let all_above = above.iter().all(|(_, points, _)| points.is_some_and(|points| points >= ABOVE));
        let reached = all_above && equal.iter().all(|(_, holds)| *holds);
        let points = |x: f64| format!("{:+.1}", 100.0 * x);
        let mut said: Vec<String> = above
            .iter()
            .map(|(name, lower, share)| {
                let lower = lower.map_or("no interval".into(), |lower| {
                    format!("{} points above the majority class at least", points(lower))
                });
                format!("{name} {:.1} % ({lower})", 100.0 * share)
            })
            .collect();
        said.extend(equal.iter().map(|(pair, holds)| {
            let interval = pair.training.equivalence.map(|one| one.interval);
            let interval =
                interval.map_or("no interval".into(), |[low, high]| format!("[{}, {}]", points(low), points(high)));
            format!(
                "{} − {} within ±5 points: {} {interval}",
                pair.first,
                pair.second,
                if *holds { "yes" } else { "no" }
            )
        }));
        let on = if self.has_training { "cohort fresh" } else { "all cases, for there is no cohort fresh" };
        let goal = match equal.is_empty() {
            true => "10 points above the majority class",
            false => "10 points above the majority class each, and within ±5 points of each other",
        };
        let verdict = if reached { "Reached" } else { "Not reached" };
        Found { reached, said: format!("{verdict} on the training distribution ({on}): {goal}: {}.", said.join("; ")) }
    }

    /// The row of one checkpoint and value.
    pub fn row<'a>(&'a self, checkpoint: &str, regime: Regime, by: By, value: &str) -> Option<&'a Endpoint> {
        let alone = self.of(checkpoint, regime)?;
        alone.endpoints.iter().find(|row| row.by == by && row.value == value).map(|row| &row.endpoint)
    }

    /// One checkpoint in one regime.
    pub fn of(&self, checkpoint: &str, regime: Regime) -> Option<&Alone> {
        self.alone.iter().find(|one| one.checkpoint == checkpoint && one.regime == regime.name())
    }
}
