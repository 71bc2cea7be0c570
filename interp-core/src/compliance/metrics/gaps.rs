//! Gaps between kinds of cases, and how long answers reason before their verdict.

use serde::Serialize;

use super::{Estimate, Judged, Value, number};
use crate::compliance::record::Perturbation;
use crate::error::Result;
use crate::stats::{Bootstrap, quantile};

/// Differences of accuracies between kinds of cases, as shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gaps {
    /// Surface gap: mean accuracy of the two baselines less that of the two adversarial surfaces.
    pub surface: Estimate,
    /// Order gap: accuracy on `baseline_compliant` less that on `step_reorder_invalid`.
    pub order: Estimate,
}

/// Tokens before the verdict, over the cases in which they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reasoning {
    /// Their mean.
    pub mean: Estimate,
    /// First quartile, median and third quartile, interpolated.
    pub quartiles: Option<[f64; 3]>,
    /// Cases left out: no verdict.
    pub without: usize,
}

const SURFACE: [(Perturbation, f64); 4] = [
    (Perturbation::BaselineCompliant, 0.5),
    (Perturbation::BaselineNoncompliant, 0.5),
    (Perturbation::AdversarialSurfaceCompliant, -0.5),
    (Perturbation::AdversarialSurfaceNoncompliant, -0.5),
];

const ORDER: [(Perturbation, f64); 2] =
    [(Perturbation::BaselineCompliant, 1.0), (Perturbation::StepReorderInvalid, -1.0)];

/// Both gaps; no value where a perturbation that they need does not occur.
pub fn gaps(judged: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Gaps> {
    Gaps::of(judged.iter().map(|one| (one, number(one.right()))), bootstrap)
}

impl Gaps {
    /// Of any number per case.
    pub(super) fn of<'a>(
        values: impl Iterator<Item = (&'a Judged<'a>, f64)> + Clone,
        bootstrap: &Bootstrap,
    ) -> Result<Self> {
        let gap = |weights: &[(Perturbation, f64)]| {
            let group = |one: &Judged<'_>| weights.iter().position(|(kind, _)| *kind == one.record.perturbation);
            let values =
                values.clone().filter_map(|(one, value)| Some(Value::of(value, group(one)?, &one.record.process_id)));
            Estimate::of(values.collect(), &weights.iter().map(|(_, weight)| *weight).collect::<Vec<f64>>(), bootstrap)
        };
        Ok(Self { surface: gap(&SURFACE)?, order: gap(&ORDER)? })
    }
}

/// Reasoning length.
pub fn reasoning(judged: &[Judged<'_>], bootstrap: &Bootstrap) -> Result<Reasoning> {
    let counted = || judged.iter().filter_map(|one| Some((one.reasoning? as f64, &*one.record.process_id)));
    let values = counted().map(|(tokens, process)| Value::of(tokens, 0, process)).collect();
    let mut sorted: Vec<f64> = counted().map(|(tokens, _)| tokens).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    Ok(Reasoning {
        mean: Estimate::of(values, &[1.0], bootstrap)?,
        quartiles: (!sorted.is_empty()).then(|| [0.25, 0.5, 0.75].map(|q| quantile(&sorted, q))),
        without: judged.len() - sorted.len(),
    })
}
