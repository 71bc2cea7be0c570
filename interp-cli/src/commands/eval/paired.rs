//! An evaluation with an edit beside the same evaluation without: differences row by row, with intervals that resample clusters.

use std::path::Path;

use anyhow::Result;
use interp_core::export::{table, write_atomic};
use interp_core::plot::{Bar, BarGroup, Bars};
use interp_core::stats::{Bootstrap, CellStats, Clusters, summarize};
use serde_json::{Map, Value, json};

use super::figures;
use crate::output::{columns, interval, number};

/// One number per row, without and with the edit. A row that lacks either is left out.
pub struct Measure {
    /// What it is called.
    pub name: String,
    /// `(unedited, edited)`, row by row.
    pub pairs: Vec<Option<(f64, f64)>>,
}

/// Measures with their statistics.
pub struct Paired {
    rows: Vec<(String, usize, [f64; 2], CellStats)>,
    /// Numbers that are no means over rows, and have no interval: `(name, unedited, edited)`.
    whole: Vec<(String, f64, f64)>,
    clusters: usize,
}

impl Measure {
    /// From two lists, row by row.
    pub fn new(
        name: &str,
        plain: impl Iterator<Item = Option<f64>>,
        edited: impl Iterator<Item = Option<f64>>,
    ) -> Self {
        Self { name: name.into(), pairs: plain.zip(edited).map(|(a, b)| a.zip(b)).collect() }
    }
}

/// Statistics of all measures. `clusters` labels the rows that belong together.
pub fn paired(measures: &[Measure], clusters: &[Option<String>], whole: Vec<(String, f64, f64)>) -> Result<Paired> {
    let mut rows = Vec::new();
    for Measure { name, pairs } in measures {
        let there: Vec<(usize, (f64, f64))> =
            pairs.iter().enumerate().filter_map(|(row, pair)| Some((row, (*pair)?))).collect();
        if there.is_empty() {
            continue;
        }
        let labels: Vec<Option<&String>> = there.iter().map(|(row, _)| clusters[*row].as_ref()).collect();
        let differences: Vec<[f64; 1]> = there.iter().map(|(_, (plain, edited))| [plain - edited]).collect();
        let trials: Vec<&[f64]> = differences.iter().map(|one| one.as_slice()).collect();
        let stats = summarize(&trials, &Clusters::new(&labels), &Bootstrap::default())?.remove(0);
        let mean =
            |of: fn(&(f64, f64)) -> f64| there.iter().map(|(_, pair)| of(pair)).sum::<f64>() / there.len() as f64;
        rows.push((name.clone(), there.len(), [mean(|pair| pair.0), mean(|pair| pair.1)], stats));
    }
    Ok(Paired { rows, whole, clusters: Clusters::new(clusters).len() })
}

impl Paired {
    /// To read.
    pub fn table(&self) -> String {
        let head = ["measure", "rows", "unedited", "edited", "δ", "95 % interval"].map(String::from);
        let row = |(name, n, [plain, edited], stats): &(String, usize, [f64; 2], CellStats)| {
            vec![name.clone(), n.to_string(), number(*plain), number(*edited), number(stats.mean), interval(stats.ci)]
        };
        let whole = |(name, plain, edited): &(String, f64, f64)| {
            vec![name.clone(), "-".into(), number(*plain), number(*edited), number(plain - edited), "-".into()]
        };
        columns(&head, &self.rows.iter().map(row).chain(self.whole.iter().map(whole)).collect::<Vec<_>>())
    }

    fn cells(&self) -> Vec<Map<String, Value>> {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let row = |(name, n, [plain, edited], stats): &(String, usize, [f64; 2], CellStats)| {
            map(json!({
                "measure": name,
                "rows": n,
                "unedited": plain,
                "edited": edited,
                "delta": stats.mean,
                "se": Some(stats.se).filter(|se| se.is_finite()),
                "ci": stats.ci,
            }))
        };
        let whole = |(name, plain, edited): &(String, f64, f64)| {
            map(json!({
                "measure": name,
                "rows": Value::Null,
                "unedited": plain,
                "edited": edited,
                "delta": plain - edited,
                "se": Value::Null,
                "ci": Value::Null,
            }))
        };
        self.rows.iter().map(row).chain(self.whole.iter().map(whole)).collect()
    }

    /// `paired.json`, `paired.csv` and the figure.
    pub fn write(&self, out: &Path, settings: &Value) -> Result<()> {
        let head = json!({
            "schema": "interp.eval-paired/1",
            "delta": "unedited - edited",
            "n_clusters": self.clusters,
            "bootstrap": { "level": 0.95, "resamples": Bootstrap::default().resamples, "seed": 0 },
            "settings": settings,
        });
        write_atomic(&out.join("paired.json"), table::with_cells(&head, self.cells()).as_bytes())?;
        write_atomic(&out.join("paired.csv"), table::csv_of(&self.cells()).as_bytes())?;
        let bar = |(name, n, _, stats): &(String, usize, [f64; 2], CellStats)| Bar {
            label: format!("{name} ({n})"),
            value: stats.mean,
            interval: stats.ci,
        };
        figures::bars(
            out,
            "paired",
            &Bars {
                title: "What the edit takes away".into(),
                subtitle: format!("unedited less edited, row by row; intervals over {} clusters", self.clusters),
                quantity: "δ".into(),
                groups: vec![BarGroup { title: "By metric".into(), bars: self.rows.iter().map(bar).collect() }],
            },
        )
    }
}
