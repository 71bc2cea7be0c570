//! What `interp rsa` leaves behind: `rsa.json`, `rsa.csv`, arrays and figures; and what it says.

use interp_core::export::{npy, table};
use interp_core::plot::{Map, Maps};
use interp_core::rsa::{weighted_matrix, weighted_mean};
use interp_core::scores::{GridAxis, cell_label};
use interp_core::site::{HeadAxis, HeadRef};
use interp_core::{Result, stats};
use serde_json::{Map as Object, Value, json};

use super::Features;
use super::material::Material;
use crate::cli::RsaArgs;
use crate::folder::Partial;
use crate::output::{columns, number};
use crate::ranked::Chosen;

/// Rows of a matrix drawn apart; of more, neighbours are drawn as their mean.
const DRAWN: usize = 120;

/// Everything that was found.
pub struct Report<'a> {
    pub args: &'a RsaArgs,
    /// `model` of the JSON.
    pub model: Value,
    pub axis: HeadAxis,
    pub material: &'a Material,
    pub features: &'a Features,
    /// Per hypothesis, `[row, row]`.
    pub expected: Vec<Vec<f64>>,
    /// Per hypothesis and head.
    pub r: Vec<Vec<Option<f64>>>,
    pub chosen: Option<Chosen>,
}

impl Report<'_> {
    /// Writes every file, `rsa.json` last.
    pub fn write(&self, folder: &Partial) -> Result<()> {
        let (n_layers, n_heads) = self.features.grid();
        let n_rows = self.material.n_rows();
        let r: Vec<f64> = self.r.iter().flatten().map(|r| r.unwrap_or(f64::NAN)).collect();
        folder.put("rsa.npy", &npy::encode(&[self.r.len(), n_layers, n_heads], &r))?;
        for (one, expected) in self.material.hypotheses.iter().zip(&self.expected) {
            let small: Vec<f32> = expected.iter().map(|&x| x as f32).collect();
            folder.put(&format!("expected.{}.npy", one.name), &npy::encode(&[n_rows, n_rows], &small))?;
        }
        let rows: Vec<String> = self.material.rows().into_iter().map(|row| Value::Object(row).to_string()).collect();
        folder.put("rows.json", format!("[\n{}\n]\n", rows.join(",\n")).as_bytes())?;
        if let Some(chosen) = &self.chosen {
            self.write_similarity(chosen, folder)?;
        }
        folder.put("rsa.csv", self.csv().as_bytes())?;
        folder.draw("rsa", &self.heat_maps())?;
        folder.put("rsa.json", self.json().as_bytes())
    }

    fn write_similarity(&self, chosen: &Chosen, folder: &Partial) -> Result<()> {
        let n_rows = self.material.n_rows();
        let of = |head: &HeadRef| self.features.similarity(head.layer, head.head);
        let matrices: Vec<Vec<f64>> = chosen.heads.iter().map(of).collect();
        let all: Vec<f32> = matrices.concat().iter().map(|&x| x as f32).collect();
        folder.put("similarity.npy", &npy::encode(&[matrices.len(), n_rows, n_rows], &all))?;
        let weighed = matrices.iter().map(Vec::as_slice).zip(chosen.weights.iter().copied());
        let Some(mean) = weighted_matrix(weighed) else { return Ok(()) };
        folder.put("similarity_mean.npy", &npy::encode(&[n_rows, n_rows], &mean))?;
        folder.draw("similarity", &self.matrices(chosen, &mean))
    }

    /// Weighted mean r over the chosen heads, per hypothesis.
    fn weighted(&self, chosen: &Chosen) -> Vec<Option<f64>> {
        let n_heads = self.features.grid().1;
        let heads = || chosen.heads.iter().zip(&chosen.weights);
        let of = |r: &Vec<Option<f64>>| weighted_mean(heads().map(|(h, &w)| (r[h.layer * n_heads + h.head], w)));
        self.r.iter().map(of).collect()
    }

    fn axes(&self) -> Vec<GridAxis> {
        let (n_layers, n_heads) = self.features.grid();
        vec![GridAxis::layers(0..n_layers), GridAxis::heads(0..n_heads)]
    }

    /// Per head a line, with a column per hypothesis.
    fn cells(&self) -> Vec<Object<String, Value>> {
        let axes = self.axes();
        let n_heads = self.features.grid().1;
        let row = |cell: usize| {
            let mut row = Object::new();
            row.insert("layer".into(), json!(cell / n_heads));
            row.insert("head".into(), json!(cell % n_heads));
            row.insert("label".into(), json!(cell_label(&axes, cell)));
            let r = self.material.hypotheses.iter().zip(&self.r);
            row.insert(
                "r".into(),
                r.map(|(one, r)| (one.name.clone(), json!(r[cell]))).collect::<Object<_, _>>().into(),
            );
            row
        };
        (0..axes[0].labels.len() * n_heads).map(row).collect()
    }

    /// `rsa.json`.
    pub fn json(&self) -> String {
        let args = self.args;
        let names: Vec<&str> = self.material.hypotheses.iter().map(|one| one.name.as_str()).collect();
        let chosen = self.chosen.as_ref().map(|chosen| {
            let by: Object<String, Value> =
                names.iter().map(|&n| n.to_owned()).zip(self.weighted(chosen).into_iter().map(|r| json!(r))).collect();
            json!({
                "heads": chosen.heads.iter().map(HeadRef::to_string).collect::<Vec<_>>(),
                "weights": chosen.weights,
                "asked": args.heads,
                "ranked_by": args.ranked_by,
                "weighted_mean_r": by,
            })
        });
        let head = json!({
            "schema": "interp.rsa/1",
            "index_base": 0,
            "model": self.model,
            "site": args.site,
            "head_axis": self.axis.name(),
            "positions": args.positions,
            "similarity": "cosine",
            "comparison": "Pearson r of the strictly lower triangles",
            "hypotheses": names,
            "n_prompts": self.material.pieces.len(),
            "n_rows": self.material.n_rows(),
            "add_swap": args.add_swap,
            "limit": args.limit,
            "material": args.trials.as_ref().or(args.prompts.as_ref()),
            "labels": args.labels,
            "material_sha256": self.material.sha256,
            "chosen": chosen,
            "tool_version": env!("CARGO_PKG_VERSION"),
        });
        table::with_cells(&head, self.cells())
    }

    /// `rsa.csv`: a line per head and hypothesis.
    fn csv(&self) -> String {
        let line = |cell: Object<String, Value>| {
            let rs = cell["r"].as_object().cloned().unwrap_or_default();
            rs.into_iter().map(move |(name, r)| {
                let mut row = cell.clone();
                row.remove("r");
                row.insert("hypothesis".into(), json!(name));
                row.insert("r".into(), r);
                row
            })
        };
        table::csv_of(&self.cells().into_iter().flat_map(line).collect::<Vec<_>>())
    }

    /// The heads of largest r, and the weighted means.
    pub fn tables(&self) -> String {
        let axes = self.axes();
        let names: Vec<String> = self.material.hypotheses.iter().map(|one| format!("r {}", one.name)).collect();
        let mut text = format!(
            "{} rows of {} prompts at {}\n",
            self.material.n_rows(),
            self.material.pieces.len(),
            self.args.site
        );
        for (one, r) in self.material.hypotheses.iter().zip(&self.r) {
            let empty = r.iter().filter(|r| r.is_none()).count();
            if empty > 0 {
                text += &format!("{}: no r for {empty} heads, where all rows are alike or none is\n", one.name);
            }
        }
        // `max` passes over what is no number.
        let largest = |cell: usize| self.r.iter().map(|r| r[cell].unwrap_or(f64::NAN)).fold(f64::NAN, f64::max);
        let order = stats::ranking(&(0..self.r[0].len()).map(largest).collect::<Vec<f64>>());
        let head: Vec<String> = std::iter::once("head".to_owned()).chain(names.clone()).collect();
        let row = |label: String, r: Vec<Option<f64>>| -> Vec<String> {
            std::iter::once(label).chain(r.into_iter().map(|r| number(r.unwrap_or(f64::NAN)))).collect()
        };
        let of_cell = |cell: usize| self.r.iter().map(|r| r[cell]).collect();
        let mut rows: Vec<Vec<String>> =
            order.into_iter().take(self.args.top).map(|cell| row(cell_label(&axes, cell), of_cell(cell))).collect();
        if let Some(chosen) = &self.chosen {
            rows.push(row(format!("weighted mean of {} heads", chosen.heads.len()), self.weighted(chosen)));
        }
        text + &columns(&head, &rows)
    }

    fn subtitle(&self) -> String {
        let model = self.model["checkpoint"].as_str().unwrap_or_default();
        let (rows, prompts) = (self.material.n_rows(), self.material.pieces.len());
        format!("{model}: {} at {}, {rows} rows of {prompts} prompts", self.args.site, self.args.positions)
    }

    fn heat_maps(&self) -> Maps {
        let n_heads = self.features.grid().1;
        let chosen = self.chosen.as_ref().map(|chosen| chosen.heads.as_slice()).unwrap_or_default();
        let map = |(one, r): (&super::material::Hypothesis, &Vec<Option<f64>>)| Map {
            title: one.name.clone(),
            axes: self.axes(),
            values: r.iter().map(|r| r.unwrap_or(f64::NAN)).collect(),
            below_floor: None,
            muted: None,
            outlined: chosen.iter().map(|head| head.layer * n_heads + head.head).collect(),
            scale: 0,
        };
        Maps {
            title: "Fit of each head's similarities to hypotheses".into(),
            subtitle: self.subtitle(),
            scales: vec!["Pearson's r".into()],
            rows: vec![self.material.hypotheses.iter().zip(&self.r).map(map).collect()],
        }
    }

    fn matrices(&self, chosen: &Chosen, mean: &[f64]) -> Maps {
        let n = self.material.n_rows();
        let block = n.div_ceil(DRAWN);
        let map = |title: String, matrix: &[f64], scale: usize| {
            let (labels, values) = drawn(matrix, n, block);
            let axis = GridAxis::named("row", labels);
            Map {
                title,
                axes: vec![axis.clone(), axis],
                values,
                below_floor: None,
                muted: None,
                outlined: Vec::new(),
                scale,
            }
        };
        let by = if self.args.ranked_by.is_some() { ", weighted by δ" } else { "" };
        let title = match chosen.heads.as_slice() {
            [head] => head.to_string(),
            heads => format!("mean of {} heads{by}", heads.len()),
        };
        let mut row = vec![map(title, mean, 0)];
        let expected = self.material.hypotheses.iter().zip(&self.expected);
        row.extend(expected.map(|(one, matrix)| map(format!("expected: {}", one.name), matrix, 1)));
        let blocks = if block > 1 { format!("; a cell is the mean of {block} x {block}") } else { String::new() };
        Maps {
            title: "Similarity of rows".into(),
            subtitle: format!("{}{blocks}", self.subtitle()),
            scales: vec!["cosine similarity".into(), "expected".into()],
            rows: vec![row],
        }
    }
}

/// A matrix in blocks of `block` rows and columns, each by its mean, with the first row of each as label.
fn drawn(matrix: &[f64], n: usize, block: usize) -> (Vec<String>, Vec<f64>) {
    let starts: Vec<usize> = (0..n).step_by(block).collect();
    let mean = |i: usize, j: usize| {
        let (rows, columns) = (i..n.min(i + block), j..n.min(j + block));
        let count = (rows.len() * columns.len()) as f64;
        rows.flat_map(|row| columns.clone().map(move |column| matrix[row * n + column])).sum::<f64>() / count
    };
    let values = starts.iter().flat_map(|&i| starts.iter().map(move |&j| mean(i, j))).collect();
    (starts.iter().map(usize::to_string).collect(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_matrices_are_drawn_in_blocks() {
        let matrix: Vec<f64> = (0..9).map(f64::from).collect();
        assert_eq!(drawn(&matrix, 3, 1), (vec!["0".into(), "1".into(), "2".into()], matrix.clone()));
        let (labels, values) = drawn(&matrix, 3, 2);
        assert_eq!((labels, values), (vec!["0".to_owned(), "2".into()], vec![2.0, 3.5, 6.5, 8.0]));
    }
}
