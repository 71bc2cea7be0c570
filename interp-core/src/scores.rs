//! The result of a sweep: named axes, labels and numbers. No tensors, no files.

use crate::error::{Error, Result};

/// One named axis of a grid with a label for every index, e.g. `head` with `H0, H1, …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridAxis {
    /// `layer`, `head`, `pos`, `span` or `set`.
    pub name: String,
    /// One label per index.
    pub labels: Vec<String>,
}

/// Effects of one trial, or their summary: `values[metric]` is row-major over `axes`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreGrid {
    /// Axes, outermost first.
    pub axes: Vec<GridAxis>,
    /// Metric names, the first one being the primary.
    pub metrics: Vec<String>,
    /// δ = metric(clean) − metric(edited) per metric and cell, in the metric's unit. NaN where a cell was not asked for.
    pub values: Vec<Vec<f64>>,
    /// Metrics of the unedited base run.
    pub clean: Vec<f64>,
    /// Metrics of the unedited source run, when there is one.
    pub source: Option<Vec<f64>>,
}

impl ScoreGrid {
    /// Number of cells: the product of the axes' lengths.
    pub fn n_cells(&self) -> usize {
        self.axes.iter().map(|axis| axis.labels.len()).product()
    }

    /// Checks that every metric has one value per cell.
    pub fn check(&self) -> Result<()> {
        let cells = self.n_cells();
        match self.values.iter().find(|values| values.len() != cells) {
            None if self.values.len() == self.metrics.len() => Ok(()),
            _ => Err(Error::Torch { context: "score grid".into(), message: format!("not {cells} values per metric") }),
        }
    }
}
