//! What `interp attention` leaves behind: `attention.json`, `attention.csv`, an array per trial and a figure; and what it says.

use interp_core::Result;
use interp_core::export::{npy, table};
use interp_core::plot::{self, Bar, BarGroup, Bars};
use interp_core::site::HeadRef;
use interp_core::stats::{Bootstrap, CellStats, Clusters};
use serde_json::{Map as Object, Value, json};

use super::material::Material;
use crate::cli::AttentionArgs;
use crate::folder::Partial;
use crate::output::{columns, interval, number};

/// Everything that was found.
pub struct Report<'a> {
    pub args: &'a AttentionArgs,
    /// `model` of the JSON.
    pub model: Value,
    pub material: &'a Material,
    pub heads: Vec<HeadRef>,
    /// Per trial, `[head, column]`.
    pub trials: &'a [Vec<f32>],
    /// `[head, column]`.
    pub cells: Vec<CellStats>,
    pub clusters: Clusters,
    pub bootstrap: Bootstrap,
}

impl Report<'_> {
    /// Writes every file, `attention.json` last.
    pub fn write(&self, folder: &Partial) -> Result<()> {
        let shape = [self.trials.len(), self.heads.len(), self.material.columns().len()];
        folder.put("attention_per_trial.npy", &npy::encode(&shape, &self.trials.concat()))?;
        let means: Vec<f64> = self.cells.iter().map(|cell| cell.mean).collect();
        folder.put("attention.npy", &npy::encode(&shape[1..], &means))?;
        let trial = |(row, item): (usize, &super::material::Item)| {
            json!({
                "row": row,
                "id": item.id,
                "cluster": item.cluster,
                "direction": item.direction,
                "n_tokens": item.prompt.tokens.len(),
                "at": item.at,
            })
            .to_string()
        };
        let trials: Vec<String> = self.material.items.iter().enumerate().map(trial).collect();
        folder.put("trials.json", format!("[\n{}\n]\n", trials.join(",\n")).as_bytes())?;
        folder.put("attention.csv", table::csv_of(&self.rows()).as_bytes())?;
        let bars = self.bars();
        let (svg, png) = plot::bars(&bars)?;
        folder.put("attention.svg", svg.as_bytes())?;
        folder.put("attention.png", &png)?;
        folder.put("attention.json", self.json().as_bytes())
    }

    /// Heads with their columns.
    fn of_heads(&self) -> impl Iterator<Item = (HeadRef, Vec<(String, &CellStats)>)> {
        let columns = self.material.columns();
        let width = columns.len();
        self.heads.iter().enumerate().map(move |(index, &head)| {
            let cells = &self.cells[index * width..(index + 1) * width];
            (head, columns.iter().cloned().zip(cells).collect())
        })
    }

    fn rows(&self) -> Vec<Object<String, Value>> {
        let mut rows = Vec::new();
        for (head, cells) in self.of_heads() {
            for (span, cell) in cells {
                let mut row = Object::new();
                row.insert("layer".into(), json!(head.layer));
                row.insert("head".into(), json!(head.head));
                row.insert("label".into(), json!(head.to_string()));
                row.insert("span".into(), json!(span));
                row.insert("mean".into(), json!(cell.mean));
                row.insert("sd".into(), json!(cell.sd));
                row.insert("se".into(), json!(cell.se));
                row.insert("ci".into(), json!(cell.ci));
                rows.push(row);
            }
        }
        rows
    }

    /// `attention.json`.
    pub fn json(&self) -> String {
        let (args, material) = (self.args, self.material);
        let head = json!({
            "schema": "interp.attention/1",
            "index_base": 0,
            "head_axis": "query",
            "model": self.model,
            "trials": args.trials,
            "prompts": args.prompts.prompts,
            "side": if args.source { "source" } else { "base" },
            "at": args.at,
            "heads": self.heads.iter().map(HeadRef::to_string).collect::<Vec<_>>(),
            "ranked_by": args.ranked_by,
            "columns": material.columns(),
            "spans_overlap": material.overlap,
            "n_trials": self.trials.len(),
            "n_clusters": self.clusters.len(),
            "clusters_labelled": self.clusters.labelled(),
            "bootstrap": {
                "level": self.bootstrap.level, "resamples": self.bootstrap.resamples, "seed": self.bootstrap.seed,
            },
            "skipped": material.bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "tool_version": env!("CARGO_PKG_VERSION"),
        });
        table::with_cells(&head, self.rows())
    }

    /// A line per head and column.
    pub fn tables(&self) -> String {
        let level = format!("{}% interval", self.bootstrap.level * 100.0);
        let head = ["head", "to", "mean", "sd", "se", &level].map(String::from);
        let mut rows = Vec::new();
        for (head, cells) in self.of_heads() {
            for (span, cell) in cells {
                let [mean, sd, se] = [cell.mean, cell.sd, cell.se].map(number);
                rows.push(vec![head.to_string(), span, mean, sd, se, interval(cell.ci)]);
            }
        }
        let labelled =
            if self.clusters.labelled() { "" } else { " (no prompt names a cluster: each counts as its own)" };
        let text = format!("{} prompts in {} clusters{labelled}\n", self.trials.len(), self.clusters.len());
        text + &columns(&head, &rows)
    }

    fn bars(&self) -> Bars {
        let bar = |(label, cell): (String, &CellStats)| Bar { label, value: cell.mean, interval: cell.ci };
        let group = |(head, cells): (HeadRef, Vec<(String, &CellStats)>)| BarGroup {
            title: head.to_string(),
            bars: cells.into_iter().map(bar).collect(),
        };
        let model = self.model["checkpoint"].as_str().unwrap_or_default();
        Bars {
            title: "Attention to spans".into(),
            subtitle: format!("{model}: from {}, mean over {} prompts", self.args.at, self.trials.len()),
            quantity: "share of attention".into(),
            groups: self.of_heads().map(group).collect(),
        }
    }
}
