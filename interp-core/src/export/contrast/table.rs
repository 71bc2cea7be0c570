//! `contrast.json` (schema `interp.contrast/1`) and `contrast.csv`: one line per metric, cell and checkpoint. Builds text;
//! writes no files.
//!
//! Head of the JSON: `schema`, `index_base` (0), `axes`, `metrics`, `head_axis`, `reference`, `checkpoints` [{`name`,
//! `model`, `n_trials` (those of its own folder), `noise_floor`}], `n_trials` (those that ran in all folders), `n_clusters`,
//! `clusters_labelled`, `bootstrap`, `test` {`kind`, `exact` (all sign vectors were enumerated), `flips`, `seed`,
//! `least_p`}, `level`.
//!
//! A line of `cells`: `metric`, the axes, `kv_head` and `label` as in `delta.json`; `checkpoint`; `mean`, `sd`, `se`, `ci`
//! and `p` of its δ, `below_floor` of its own noise floor; and, null for the reference, `change` (Δδ: `mean` less the
//! reference's), `change_se`, `change_ci`, `change_p`, `change_q`, `changed`. Sorted by metric, then axes, then checkpoints
//! as given.

use serde_json::{Map, Value, json};

use super::super::study::{AxisRecord, BootstrapRecord};
use super::super::table::{csv_of, place_of, with_cells};
use super::{Contrast, Contrasted, Judge};
use crate::scores;
use crate::site::HeadAxis;
use crate::stats::Flips;

/// `contrast.json`.
pub fn json(contrast: &Contrast, judge: &Judge, contrasted: &[Contrasted]) -> String {
    let (layout, clusters) = (contrast.layout(), contrast.clusters());
    let checkpoint = |arm: &super::Arm| {
        let noise = layout.metrics.iter().zip(&arm.study.noise);
        json!({
            "name": arm.name,
            "model": arm.study.run["model"]["checkpoint"],
            "n_trials": arm.study.rows.len(),
            "noise_floor": noise.map(|(name, noise)| (name.clone(), json!(noise))).collect::<Map<_, _>>(),
        })
    };
    let head = json!({
        "schema": "interp.contrast/1",
        "index_base": 0,
        "axes": layout.axes.iter().map(AxisRecord::from).collect::<Vec<_>>(),
        "metrics": layout.metrics,
        "head_axis": layout.head_axis.map(HeadAxis::name),
        "reference": contrast.arms()[0].name,
        "checkpoints": contrast.arms().iter().map(checkpoint).collect::<Vec<_>>(),
        "n_trials": contrast.n_trials(),
        "n_clusters": clusters.len(),
        "clusters_labelled": clusters.labelled(),
        "bootstrap": BootstrapRecord::from(&judge.bootstrap),
        "test": {
            "kind": "sign flips of clusters, two-sided",
            "exact": Flips::are_all(&clusters),
            "flips": judge.flips.n,
            "seed": judge.flips.seed,
            "least_p": judge.flips.least_p(&clusters),
        },
        "level": judge.level,
    });
    with_cells(&head, all_rows(contrast, contrasted))
}

/// `contrast.csv`, the same columns with a header line.
pub fn csv(contrast: &Contrast, contrasted: &[Contrasted]) -> String {
    csv_of(&all_rows(contrast, contrasted))
}

fn all_rows(contrast: &Contrast, contrasted: &[Contrasted]) -> Vec<Map<String, Value>> {
    let cells = 0..scores::n_cells(&contrast.layout().axes);
    contrasted.iter().flat_map(|one| cells.clone().flat_map(move |cell| rows(contrast, one, cell))).collect()
}

/// One cell, a row per checkpoint.
pub fn rows(contrast: &Contrast, contrasted: &Contrasted, cell: usize) -> Vec<Map<String, Value>> {
    let row = |(arm, effects): (usize, &Vec<super::Effect>)| {
        let effect = &effects[cell];
        let change = arm.checked_sub(1).map(|other| &contrasted.changes[other][cell]);
        let has_change = change.filter(|change| !change.stats.mean.is_nan());
        let mut row = place_of(contrast.layout(), contrasted.metric, cell);
        let columns = [
            ("checkpoint", json!(contrast.arms()[arm].name)),
            ("mean", json!(effect.stats.mean)),
            ("sd", json!(effect.stats.sd)),
            ("se", json!(effect.stats.se)),
            ("ci", json!(effect.stats.ci)),
            ("p", json!(effect.p)),
            ("below_floor", json!(effect.below_floor)),
            ("change", json!(change.map(|change| change.stats.mean))),
            ("change_se", json!(change.map(|change| change.stats.se))),
            ("change_ci", json!(change.map(|change| change.stats.ci))),
            ("change_p", json!(change.map(|change| change.p))),
            ("change_q", json!(change.map(|change| change.q))),
            ("changed", json!(has_change.map(|change| change.changed))),
        ];
        row.extend(columns.into_iter().map(|(name, value)| (name.to_owned(), value)));
        row
    };
    contrasted.effects.iter().enumerate().map(row).collect()
}
