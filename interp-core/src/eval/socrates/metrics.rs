//! All numbers of a set of predictions.

use super::{Distances, Group, Prediction, groups};
use crate::eval::correlation;
use crate::eval::sums::mean_by_blocks;

/// Rows of the cleaned subset have numbers of at most this size: scales of ten points and less.
pub const CLEAN: f64 = 10.0;

/// Distances of one study: means over its conditions.
#[derive(Debug, Clone, PartialEq)]
pub struct Study {
    /// The study.
    pub study: String,
    /// Rows with both numbers, in conditions that were measured.
    pub rows: usize,
    /// Conditions with at least two rows.
    pub conditions: usize,
    /// Mean of their `w1_self_minmax`.
    pub self_minmax: f64,
    /// Mean of their `w1_ref_range`, over conditions where people differ.
    pub ref_range: Option<f64>,
    /// Mean of the uniform guesser's, over the same.
    pub uniform: Option<f64>,
}

/// What predictions amount to. `None` where there is nothing to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Rows.
    pub rows: usize,
    /// Rows with both numbers, over which everything else is.
    pub n: usize,
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// Root mean squared error.
    pub rmse: Option<f64>,
    /// Pearson's r.
    pub correlation: Option<f64>,
    /// Share of rows whose two numbers are equal.
    pub exact: Option<f64>,
    /// Mean of `w1_self_minmax` over conditions.
    pub self_minmax: Option<f64>,
    /// Conditions that it is over: those with at least two rows.
    pub conditions: usize,
    /// Conditions with a single row, which have no distribution and are left out.
    pub single: usize,
    /// Mean of `w1_ref_range` over conditions where people differ.
    pub ref_range: Option<f64>,
    /// Conditions that it is over.
    pub ref_conditions: usize,
    /// The uniform guesser's mean over the same conditions.
    pub uniform: Option<f64>,
    /// By study, in order of first appearance.
    pub studies: Vec<Study>,
    /// By condition: the group, and its distances where it has any.
    pub groups: Vec<(Group, Option<Distances>)>,
}

/// Rows whose numbers are both there and at most [`CLEAN`] in size.
pub fn cleaned(rows: &[Prediction]) -> Vec<Prediction> {
    let small = |row: &&Prediction| row.pair().is_some_and(|(a, b)| a.abs() <= CLEAN && b.abs() <= CLEAN);
    rows.iter().filter(small).cloned().collect()
}

/// Metrics of `rows`.
pub fn metrics(rows: &[Prediction]) -> Metrics {
    let pairs: Vec<(f64, f64)> = rows.iter().filter_map(Prediction::pair).collect();
    let (truth, predicted): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let mean_of = |of: fn(f64, f64) -> f64| mean_by_blocks(&pairs.iter().map(|&(a, b)| of(a, b)).collect::<Vec<f64>>());
    let groups: Vec<(Group, Option<Distances>)> =
        groups(rows).into_iter().map(|group| (group.clone(), group.distances())).collect();
    let measured: Vec<(&Group, Distances)> =
        groups.iter().filter_map(|(group, distances)| Some((group, (*distances)?))).collect();
    let all = |of: fn(&Distances) -> Option<f64>| -> Vec<f64> { measured.iter().filter_map(|(_, d)| of(d)).collect() };
    let ref_ranges = all(|distances| distances.ref_range);
    Metrics {
        rows: rows.len(),
        n: pairs.len(),
        mae: mean_of(|a, b| (b - a).abs()),
        rmse: mean_of(|a, b| (a - b) * (a - b)).map(f64::sqrt).filter(|rmse| rmse.is_finite()),
        correlation: correlation(&truth, &predicted),
        exact: mean_of(|a, b| f64::from(u8::from(a == b))),
        self_minmax: mean_by_blocks(&all(|distances| Some(distances.self_minmax))),
        conditions: measured.len(),
        single: groups.len() - measured.len(),
        ref_range: mean_by_blocks(&ref_ranges),
        ref_conditions: ref_ranges.len(),
        uniform: mean_by_blocks(&all(|distances| distances.uniform)),
        studies: studies(&measured),
        groups,
    }
}

fn studies(measured: &[(&Group, Distances)]) -> Vec<Study> {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in measured {
        if !names.contains(&group.study.as_str()) {
            names.push(&group.study);
        }
    }
    let study = |name: &str| {
        let own: Vec<&(&Group, Distances)> = measured.iter().filter(|(group, _)| group.study == name).collect();
        let all = |of: fn(&Distances) -> Option<f64>| -> Vec<f64> { own.iter().filter_map(|(_, d)| of(d)).collect() };
        Study {
            study: name.to_owned(),
            rows: own.iter().map(|(group, _)| group.truth.len()).sum(),
            conditions: own.len(),
            self_minmax: mean_by_blocks(&all(|d| Some(d.self_minmax))).unwrap_or(0.0),
            ref_range: mean_by_blocks(&all(|d| d.ref_range)),
            uniform: mean_by_blocks(&all(|d| d.uniform)),
        }
    };
    names.into_iter().map(study).collect()
}
