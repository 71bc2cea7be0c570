//! Endpoint accuracy: how often the answer is the label, over all cases and by perturbation, cohort, domain and label.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Estimate, Judged, Share, Value, number};
use crate::compliance::record::{Gold, Perturbation};
use crate::error::Result;
use crate::stats::Bootstrap;

/// What cases are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Nothing: one row of all.
    All,
    /// How the case was made.
    Perturbation,
    /// Its part of the corpus.
    Cohort,
    /// Its field of work.
    Domain,
    /// Its label.
    Gold,
}

/// How often answers are right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Endpoint {
    /// Right answers; unparsed ones are wrong.
    pub accuracy: Share,
    /// Mean of the accuracies on the two labels; no value where one does not occur.
    pub balanced: Estimate,
    /// Answers without a verdict, or with both.
    pub unparsed: Share,
    /// Answers that say compliant.
    pub positive: Share,
    /// Answers cut off at their budget.
    pub truncated: Share,
    /// Verdicts with a word of doubt, or a negation that is not read, beside them.
    pub doubtful: Share,
    /// Share of the label that occurs more often, which is what answering it always would give.
    pub majority: Option<f64>,
}

/// One row of a table of endpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointRow {
    /// What the cases of this row have in common.
    pub by: By,
    /// Its value: a name, or `all`.
    pub value: String,
    /// Their numbers.
    #[serde(flatten)]
    pub endpoint: Endpoint,
}

impl By {
    /// All, in the order of tables.
    pub const ALL: [By; 5] = [By::All, By::Perturbation, By::Cohort, By::Domain, By::Gold];

    /// The value of a case.
    pub fn value<'a>(self, judged: &Judged<'a>) -> &'a str {
        match self {
            By::All => "all",
            By::Perturbation => judged.record.perturbation.name(),
            By::Cohort => &judged.record.cohort,
            By::Domain => &judged.record.domain,
            By::Gold => judged.record.gold.word(),
        }
    }

    /// The values that occur: perturbations and labels in the order of tables, others by name.
    pub(super) fn values<'a>(self, judged: &[Judged<'a>]) -> Vec<&'a str> {
        let found: BTreeSet<&str> = judged.iter().map(|one| self.value(one)).collect();
        match self {
            By::Perturbation => {
                Perturbation::ALL.map(Perturbation::name).into_iter().filter(|name| found.contains(name)).collect()
            }
            By::Gold => Gold::ALL.map(Gold::word).into_iter().filter(|word| found.contains(word)).collect(),
            By::All | By::Cohort | By::Domain => found.into_iter().collect(),
        }
    }
}

impl Endpoint {
    /// Of any cases.
    pub fn of(judged: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Self> {
        let plain = |yes: fn(&Judged<'_>) -> bool| Share::plain(judged.iter().map(yes), bootstrap.level);
        let outcomes: Vec<(bool, &str)> = judged.iter().map(|one| (one.right(), &*one.record.process_id)).collect();
        let values = judged.iter().map(|one| {
            Value::of(number(one.right()), usize::from(one.record.gold == Gold::NonCompliant), &one.record.process_id)
        });
        let compliant = judged.iter().filter(|one| one.record.gold == Gold::Compliant).count();
        let most = compliant.max(judged.len() - compliant);
        Ok(Self {
            accuracy: Share::of(&outcomes, bootstrap)?,
            balanced: Estimate::of(values.collect(), &[0.5, 0.5], bootstrap)?,
            unparsed: plain(|one| one.answer.verdict.gold().is_none()),
            positive: plain(|one| one.answer.verdict.gold() == Some(Gold::Compliant)),
            truncated: plain(|one| one.answer.truncated),
            doubtful: plain(|one| one.answer.doubtful),
            majority: (!judged.is_empty()).then(|| most as f64 / judged.len() as f64),
        })
    }

    /// How far accuracy is above the majority's share for certain: the lower end of its interval (of two, the lower one) less
    /// that share, −1 to 1.
    pub fn above_majority(&self) -> Option<f64> {
        let ends = [self.accuracy.wilson, self.accuracy.clustered].into_iter().flatten().map(|interval| interval[0]);
        Some(ends.reduce(f64::min)? - self.majority?)
    }
}

/// One row for all cases, then one for each perturbation, cohort, domain and label that occurs.
pub fn endpoints(judged: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Vec<EndpointRow>> {
    let mut rows = Vec::new();
    for by in By::ALL {
        for value in by.values(judged) {
            let some: Vec<Judged<'_>> = judged.iter().filter(|one| by.value(one) == value).copied().collect();
            rows.push(EndpointRow { by, value: value.into(), endpoint: Endpoint::of(&some, bootstrap)? });
        }
    }
    Ok(rows)
}
