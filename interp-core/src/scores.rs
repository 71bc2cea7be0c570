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

/// Where an index lies on an axis, as files write it: `19` for `L19`, the label itself for a span or a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coordinate {
    /// The number of a layer, head or position (negative positions count from the end).
    Number(i64),
    /// The name of a span or a set.
    Name(String),
}

impl GridAxis {
    /// An axis with the given labels.
    pub fn named(name: &str, labels: Vec<String>) -> Self {
        Self { name: name.into(), labels }
    }

    /// `layer`, labelled `L0, L1, …`.
    pub fn layers(layers: impl IntoIterator<Item = usize>) -> Self {
        Self::named("layer", layers.into_iter().map(|layer| format!("L{layer}")).collect())
    }

    /// `head`, labelled `H0, H1, …`.
    pub fn heads(heads: impl IntoIterator<Item = usize>) -> Self {
        Self::named("head", heads.into_iter().map(|head| format!("H{head}")).collect())
    }

    /// `pos`, labelled `P0, P1, …`; positions counted from the end are `P-1, P-2, …`.
    pub fn positions(positions: impl IntoIterator<Item = i64>) -> Self {
        Self::named("pos", positions.into_iter().map(|pos| format!("P{pos}")).collect())
    }

    /// Where `index` lies: numbers are read off labels of layers, heads and positions only.
    pub fn coordinate(&self, index: usize) -> Coordinate {
        let label = &self.labels[index];
        let number = match self.name.as_str() {
            "layer" => label.strip_prefix('L'),
            "head" => label.strip_prefix('H'),
            "pos" => label.strip_prefix('P'),
            _ => None,
        };
        match number.and_then(|digits| digits.parse().ok()) {
            Some(number) => Coordinate::Number(number),
            None => Coordinate::Name(label.clone()),
        }
    }
}

/// Number of cells of a grid: the product of the axes' lengths.
pub fn n_cells(axes: &[GridAxis]) -> usize {
    axes.iter().map(|axis| axis.labels.len()).product()
}

/// Index on every axis of the `cell`th value in row-major order.
pub fn unravel(axes: &[GridAxis], mut cell: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = axes
        .iter()
        .rev()
        .map(|axis| {
            let index = cell % axis.labels.len();
            cell /= axis.labels.len();
            index
        })
        .collect();
    indices.reverse();
    indices
}

/// What a reader calls the cell: the labels joined by dots, e.g. `L19.H17`.
pub fn cell_label(axes: &[GridAxis], cell: usize) -> String {
    let labels: Vec<&str> = axes.iter().zip(unravel(axes, cell)).map(|(axis, i)| axis.labels[i].as_str()).collect();
    labels.join(".")
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
        n_cells(&self.axes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_named_row_major() {
        let axes = [GridAxis::layers(4..7), GridAxis::heads(0..5)];
        assert_eq!((n_cells(&axes), unravel(&axes, 7)), (15, vec![1, 2]));
        assert_eq!(cell_label(&axes, 7), "L5.H2");
        assert_eq!(axes[0].coordinate(1), Coordinate::Number(5));
        assert_eq!(GridAxis::positions([3, -1]).coordinate(1), Coordinate::Number(-1));
        let sets = GridAxis::named("set", vec!["L1".into()]);
        assert_eq!(sets.coordinate(0), Coordinate::Name("L1".into()), "a set may be called anything");
    }
}
