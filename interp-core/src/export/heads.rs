//! Heads on a folder's grid: which cell a head is, and which heads have the largest effects. Computes no statistics of its own.

use std::fmt::Display;

use super::study::Study;
use crate::error::{Error, Result};
use crate::scores::{self, Coordinate};
use crate::site::HeadRef;
use crate::stats;

impl Study {
    /// The head of every cell of a layer x head grid, row-major; errs for every other grid.
    fn heads(&self) -> Result<Vec<HeadRef>> {
        let axes = &self.layout.axes;
        let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
        let head = |cell: usize| match scores::unravel(axes, cell)[..] {
            [layer, head] => match (axes[0].coordinate(layer), axes[1].coordinate(head)) {
                (Coordinate::Number(layer), Coordinate::Number(head)) => {
                    Some(HeadRef { layer: layer.try_into().ok()?, head: head.try_into().ok()? })
                }
                _ => None,
            },
            _ => None,
        };
        let heads: Option<Vec<HeadRef>> = match names[..] {
            ["layer", "head"] => (0..scores::n_cells(axes)).map(head).collect(),
            _ => None,
        };
        heads.ok_or_else(|| {
            let hint = Some("give the folder of a sweep with --grid layer-head".into());
            Error::Selector { what: "grid", value: names.join(" x "), problem: "has no heads".into(), hint }
        })
    }

    /// Cells with a finite number in every trial, row-major.
    pub fn measured(&self, metric: usize) -> Vec<usize> {
        let rows = &self.cells[metric];
        let cells = 0..scores::n_cells(&self.layout.axes);
        cells.filter(|&cell| !rows.is_empty() && rows.iter().all(|row| row[cell].is_finite())).collect()
    }

    /// The cell of each head. Errs for a head that is not on the grid, was not measured, or is named twice.
    pub fn cells_of_heads(&self, metric: usize, named: &[HeadRef]) -> Result<Vec<usize>> {
        self.places("head", metric, &self.heads()?, named)
    }

    /// Whether the grid is one of layers and parts of an adapter.
    pub fn has_parts(&self) -> bool {
        self.layout.axes.iter().map(|axis| axis.name.as_str()).eq(["layer", "part"])
    }

    /// The cell of each part, named as tables name it (`L0.MLP`). Errs as [`cells_of_heads`](Self::cells_of_heads) does.
    pub fn cells_of_parts(&self, metric: usize, named: &[String]) -> Result<Vec<usize>> {
        let axes = &self.layout.axes;
        let all: Vec<String> = (0..scores::n_cells(axes)).map(|cell| scores::cell_label(axes, cell)).collect();
        self.places("part", metric, &all, named)
    }

    /// The cells whose names are `named`; `all` has one name per cell, of a `what`.
    fn places<N: PartialEq + Display>(
        &self,
        what: &'static str,
        metric: usize,
        all: &[N],
        named: &[N],
    ) -> Result<Vec<usize>> {
        let measured = self.measured(metric);
        let mut cells = Vec::with_capacity(named.len());
        for name in named {
            let refuse = |problem: &str, hint: String| Error::Selector {
                what,
                value: name.to_string(),
                problem: problem.into(),
                hint: Some(hint),
            };
            let cell = all.iter().position(|other| other == name).ok_or_else(|| {
                let ends = |axis: &scores::GridAxis| match &axis.labels[..] {
                    [first, .., last] => format!("{first} to {last}"),
                    labels => labels.concat(),
                };
                let axes: Vec<String> = self.layout.axes.iter().map(ends).collect();
                refuse("not on this folder's grid", format!("the grid has {}", axes.join(" and ")))
            })?;
            if !measured.contains(&cell) {
                let hint = format!("{} of the grid's {} {what}s were measured", measured.len(), all.len());
                return Err(refuse("was not measured in this run", hint));
            }
            if cells.contains(&cell) {
                return Err(refuse("named twice", format!("name each {what} once")));
            }
            cells.push(cell);
        }
        Ok(cells)
    }

    /// The `k` heads of largest mean.
    pub fn top_heads(&self, metric: usize, k: usize) -> Result<Vec<HeadRef>> {
        let (heads, measured) = (self.heads()?, self.measured(metric));
        if k == 0 || k > measured.len() {
            let problem = format!("{} heads were measured", measured.len());
            let hint = Some(format!("take 1 to {}", measured.len()));
            return Err(Error::Selector { what: "heads", value: format!("top:{k}"), problem, hint });
        }
        // Cells without a number come last.
        Ok(stats::ranking(&self.means(metric)).into_iter().take(k).map(|cell| heads[cell]).collect())
    }

    /// Layers and heads per layer that the model of a layer x head grid has at least, and exactly. Errs for every other grid.
    pub fn head_grid(&self) -> Result<(usize, usize)> {
        let layers = self.heads()?.iter().map(|head| head.layer + 1).max().unwrap_or(0);
        Ok((layers, self.layout.axes[1].labels.len()))
    }

    /// For each layer with m of the `named` cells, the cells of the m heads of lowest mean of that layer, by the metric of `by`
    /// (another folder over the same heads, or this one). Errs if a named head is itself among them.
    pub fn lowest_of_layers(&self, metric: usize, named: &[usize], by: (&Study, usize)) -> Result<Vec<usize>> {
        let (heads, (ranking, of)) = (self.heads()?, by);
        let named: Vec<HeadRef> = named.iter().map(|&cell| heads[cell]).collect();
        let cells = ranking.cells_of_heads(of, &named)?;
        let (means, n_heads) = (ranking.means(of), ranking.layout.axes[1].labels.len());
        let order: Vec<usize> = stats::ranking(&means).into_iter().filter(|&cell| !means[cell].is_nan()).collect();
        let lowest = stats::lowest_of_layers(&order, &cells, |cell| cell / n_heads);
        if let Some(cell) = lowest.iter().find(|cell| cells.contains(cell)) {
            let problem = format!("{} is one of the lowest of its layer itself", ranking.heads()?[*cell]);
            let hint = Some("name fewer heads of that layer".into());
            return Err(Error::Selector { what: "control", value: "lowest".into(), problem, hint });
        }
        let ranked = ranking.heads()?;
        self.cells_of_heads(metric, &lowest.into_iter().map(|cell| ranked[cell]).collect::<Vec<_>>())
    }

    /// Mean over trials of every cell; NaN where it is not measured in all.
    fn means(&self, metric: usize) -> Vec<f64> {
        let rows = &self.cells[metric];
        let mean = |cell: usize| rows.iter().map(|row| f64::from(row[cell])).sum::<f64>() / rows.len() as f64;
        let finite = |mean: f64| if mean.is_finite() { mean } else { f64::NAN };
        (0..scores::n_cells(&self.layout.axes)).map(|cell| finite(mean(cell))).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export::{Layout, TrialRow};
    use crate::scores::GridAxis;
    use crate::site::HeadAxis;
    use crate::stats::Bootstrap;

    /// Layers 1 and 2, heads 0 to 2; L2.H0 was not asked for.
    fn study(axes: Vec<GridAxis>) -> Study {
        Study {
            layout: Layout { axes, metrics: vec!["prob".into()], head_axis: Some(HeadAxis::Query), heads_per_kv: None },
            trials: vec![TrialRow { id: "a".into(), cluster: None, direction: None }],
            rows: vec![0],
            skipped: vec![],
            cells: vec![vec![vec![0.1, 0.9, 0.2, f32::NAN, 0.5, 0.3]]],
            clean: vec![vec![1.0]],
            source: None,
            bootstrap: Bootstrap { resamples: 10, ..Bootstrap::default() },
            noise: vec![None],
            run: json!({}),
        }
    }

    fn grid() -> Study {
        study(vec![GridAxis::layers(1..3), GridAxis::heads(0..3)])
    }

    fn shown(error: &Error) -> String {
        format!("{error}\nhint: {}", error.hint().unwrap_or_default())
    }

    #[test]
    fn heads_are_found_on_the_grid() {
        let study = grid();
        let heads = |text: &[&str]| text.iter().map(|head| head.parse().unwrap()).collect::<Vec<HeadRef>>();
        assert_eq!(study.cells_of_heads(0, &heads(&["L2.H1", "L1.H0"])).unwrap(), [4, 0]);
        assert_eq!(study.measured(0), [0, 1, 2, 4, 5]);
        assert_eq!(study.top_heads(0, 2).unwrap(), heads(&["L1.H1", "L2.H1"]));
        let refused = |text: &[&str]| shown(&study.cells_of_heads(0, &heads(text)).unwrap_err());
        assert_eq!(
            refused(&["L0.H0"]),
            "head `L0.H0`: not on this folder's grid\nhint: the grid has L1 to L2 and H0 to H2"
        );
        assert_eq!(
            refused(&["L2.H0"]),
            "head `L2.H0`: was not measured in this run\nhint: 5 of the grid's 6 heads were measured"
        );
        assert_eq!(refused(&["L2.H1", "L2.H1"]), "head `L2.H1`: named twice\nhint: name each head once");
        let top = |k| shown(&study.top_heads(0, k).unwrap_err());
        assert_eq!(top(6), "heads `top:6`: 5 heads were measured\nhint: take 1 to 5");
        assert_eq!(top(0), "heads `top:0`: 5 heads were measured\nhint: take 1 to 5");
    }

    #[test]
    fn parts_are_found_by_their_names() {
        let names = ["H0", "KV0", "MLP"].map(String::from).to_vec();
        let parts = study(vec![GridAxis::layers(1..3), GridAxis::named("part", names)]);
        assert!(parts.has_parts() && !grid().has_parts());
        let found = |text: &[&str]| parts.cells_of_parts(0, &text.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(found(&["L2.MLP", "L1.KV0"]).unwrap(), [5, 1]);
        assert_eq!(
            shown(&found(&["L1.MLPS"]).unwrap_err()),
            "part `L1.MLPS`: not on this folder's grid\nhint: the grid has L1 to L2 and H0 to MLP"
        );
        assert_eq!(
            shown(&found(&["L2.H0"]).unwrap_err()),
            "part `L2.H0`: was not measured in this run\nhint: 5 of the grid's 6 parts were measured"
        );
    }

    #[test]
    fn the_lowest_of_the_same_layers() {
        let found = grid();
        // Layer 1 holds 0.1, 0.9, 0.2; layer 2 nothing, 0.5, 0.3.
        assert_eq!(found.lowest_of_layers(0, &[1, 4], (&found, 0)).unwrap(), [0, 5]);
        let error = shown(&found.lowest_of_layers(0, &[0], (&found, 0)).unwrap_err());
        let hint = "hint: name fewer heads of that layer";
        assert_eq!(error, format!("control `lowest`: L1.H0 is one of the lowest of its layer itself\n{hint}"));
        // By another folder, whose grid begins elsewhere.
        let mut other = study(vec![GridAxis::layers(0..2), GridAxis::heads(0..3)]);
        other.cells[0][0] = vec![0.0, 0.0, 0.0, 0.7, 0.9, 0.1];
        assert_eq!(found.lowest_of_layers(0, &[1], (&other, 0)).unwrap(), [2]);
    }

    #[test]
    fn grids_without_heads_are_refused() {
        let hint = "hint: give the folder of a sweep with --grid layer-head";
        let positions = study(vec![GridAxis::layers(1..3), GridAxis::positions(0..3)]);
        assert_eq!(shown(&positions.top_heads(0, 1).unwrap_err()), format!("grid `layer x pos`: has no heads\n{hint}"));
        let sets = study(vec![GridAxis::named("set", ["a", "b", "c", "d", "e", "f"].map(String::from).to_vec())]);
        assert_eq!(shown(&sets.cells_of_heads(0, &[]).unwrap_err()), format!("grid `set`: has no heads\n{hint}"));
    }
}
