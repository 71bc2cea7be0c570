//! One number of one named head, as all tables of the study have it.

use anyhow::Result;
use interp_core::export::Study;
use interp_core::site::HeadRef;
use interp_core::stats::Permutation;
use serde_json::{Map, Value, json};

/// A line of `heads.csv`.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub measure: &'static str,
    /// Of which checkpoint.
    pub checkpoint: String,
    /// The other checkpoint, the span or the control, where there is one.
    pub other: Option<String>,
    /// Of which head.
    pub head: HeadRef,
    /// Trials.
    pub n_trials: usize,
    /// The number.
    pub mean: f64,
    /// Its interval over processes.
    pub ci: Option<[f64; 2]>,
    /// Over the whole grid where the grid was tested as a whole, else the head's own.
    pub p: Option<f64>,
    /// Among all heads.
    pub rank: Option<usize>,
    /// Whether it is significant, or changed.
    pub found: Option<bool>,
}

/// How a sweep is read.
#[derive(Clone, Copy)]
pub struct Measure {
    /// What it is called.
    pub name: &'static str,
    /// 1 for δ, −1 for what is gained.
    pub sign: f64,
    /// How its heads are tested.
    pub permutation: Permutation,
}

impl Row {
    /// As a line of JSON and CSV.
    pub fn map(&self) -> Map<String, Value> {
        let line = json!({
            "measure": self.measure,
            "checkpoint": self.checkpoint,
            "other": self.other,
            "layer": self.head.layer,
            "head": self.head.head,
            "label": self.head.to_string(),
            "n_trials": self.n_trials,
            "mean": self.mean,
            "ci": self.ci,
            "p": self.p,
            "rank": self.rank,
            "significant": self.found,
        });
        line.as_object().cloned().unwrap_or_default()
    }
}

/// The named heads' lines of a sweep over all heads.
pub fn of_study(
    study: &Study,
    measure: Measure,
    checkpoint: &str,
    other: Option<&str>,
    named: &[HeadRef],
) -> Result<Vec<Row>> {
    let summary = study.judged(0, &study.bootstrap, &measure.permutation)?;
    let cells = study.cells_of_heads(0, named)?;
    let row = |(head, cell): (&HeadRef, usize)| {
        let stats = &summary.cells[cell];
        let place = summary.order.iter().position(|&other| other == cell).unwrap_or(0);
        // The least δ is the largest gain.
        let rank = if measure.sign < 0.0 { summary.order.len() - place } else { place + 1 };
        let ci = stats.ci.map(|[low, high]| if measure.sign < 0.0 { [-high, -low] } else { [low, high] });
        Row {
            measure: measure.name,
            checkpoint: checkpoint.into(),
            other: other.map(Into::into),
            head: *head,
            n_trials: study.rows.len(),
            mean: measure.sign * stats.mean,
            ci,
            p: Some(summary.test.p_fwer[cell]),
            rank: Some(rank),
            found: summary.test.significant.as_ref().map(|significant| significant[cell]),
        }
    };
    Ok(named.iter().zip(cells).map(row).collect())
}
