//! An evaluation with an edit beside the same evaluation without: differences row by row, with intervals that resample clusters.

use std::path::Path;

use anyhow::Result;
use interp_core::eval::calibration;
use interp_core::export::{table, write_atomic};
use interp_core::plot::{Bar, BarGroup, Bars};
use interp_core::stats::{Bootstrap, Clusters, Spread, resample, summarize};
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
    rows: Vec<Compared>,
    clusters: usize,
}

/// A measure without and with the edit, and how their difference varies.
struct Compared {
    name: String,
    /// Rows it is a measure of.
    n: usize,
    unedited: f64,
    edited: f64,
    delta: f64,
    se: Option<f64>,
    ci: Option<[f64; 2]>,
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

    /// Means over rows; `None` where no row has both numbers.
    fn compare(&self, clusters: &[Option<String>]) -> Result<Option<Compared>> {
        let pairs = self.pairs.iter().enumerate();
        let there: Vec<(usize, (f64, f64))> = pairs.filter_map(|(row, pair)| Some((row, (*pair)?))).collect();
        if there.is_empty() {
            return Ok(None);
        }
        let labels: Vec<Option<&String>> = there.iter().map(|(row, _)| clusters[*row].as_ref()).collect();
        let differences: Vec<[f64; 1]> = there.iter().map(|(_, (plain, edited))| [plain - edited]).collect();
        let trials: Vec<&[f64]> = differences.iter().map(|one| one.as_slice()).collect();
        let stats = summarize(&trials, &Clusters::new(&labels), &Bootstrap::default())?.remove(0);
        let mean =
            |of: fn(&(f64, f64)) -> f64| there.iter().map(|(_, pair)| of(pair)).sum::<f64>() / there.len() as f64;
        Ok(Some(Compared {
            name: self.name.clone(),
            n: there.len(),
            unedited: mean(|pair| pair.0),
            edited: mean(|pair| pair.1),
            delta: stats.mean,
            se: Some(stats.se).filter(|se| se.is_finite()),
            ci: stats.ci,
        }))
    }
}

/// Statistics of all measures. `clusters` labels the rows that belong together.
pub fn paired(measures: &[Measure], clusters: &[Option<String>]) -> Result<Paired> {
    let rows: Vec<Option<Compared>> = measures.iter().map(|one| one.compare(clusters)).collect::<Result<_>>()?;
    Ok(Paired { rows: rows.into_iter().flatten().collect(), clusters: Clusters::new(clusters).len() })
}

impl Paired {
    /// Adds ECE and MCE of `(confidence, right)` by row, unedited and edited. They are no means over rows: intervals are of what
    /// both sides' errors are in every resample of rows, by cluster.
    pub fn calibrated(mut self, sides: [&[(f64, bool)]; 2], clusters: &[Option<String>]) -> Result<Self> {
        let errors = |rows: &[(f64, bool)]| {
            let found = calibration(rows);
            [found.ece, found.mce]
        };
        let [plain, edited] = sides.map(errors);
        let differences = |rows: &[usize]| {
            let drawn = |side: &[(f64, bool)]| errors(&rows.iter().map(|&row| side[row]).collect::<Vec<_>>());
            let [plain, edited] = sides.map(drawn);
            [plain[0] - edited[0], plain[1] - edited[1]]
        };
        let spreads = resample(&Clusters::new(clusters), &Bootstrap::default(), differences)?;
        for (i, (name, spread)) in ["ECE", "MCE"].into_iter().zip(spreads).enumerate() {
            self.rows.push(Compared {
                name: name.into(),
                n: sides[0].len(),
                unedited: plain[i],
                edited: edited[i],
                delta: plain[i] - edited[i],
                se: spread.map(|Spread { se, .. }| se),
                ci: spread.map(|Spread { ci, .. }| ci),
            });
        }
        Ok(self)
    }

    /// To read.
    pub fn table(&self) -> String {
        let head = ["measure", "rows", "unedited", "edited", "δ", "95 % interval"].map(String::from);
        let row = |one: &Compared| {
            let numbers = [one.unedited, one.edited, one.delta].map(number);
            [vec![one.name.clone(), one.n.to_string()], numbers.to_vec(), vec![interval(one.ci)]].concat()
        };
        columns(&head, &self.rows.iter().map(row).collect::<Vec<_>>())
    }

    fn cells(&self) -> Vec<Map<String, Value>> {
        let row = |one: &Compared| {
            let cell = json!({
                "measure": one.name,
                "rows": one.n,
                "unedited": one.unedited,
                "edited": one.edited,
                "delta": one.delta,
                "se": one.se,
                "ci": one.ci,
            });
            cell.as_object().cloned().unwrap_or_default()
        };
        self.rows.iter().map(row).collect()
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
        let bar =
            |one: &Compared| Bar { label: format!("{} ({})", one.name, one.n), value: one.delta, interval: one.ci };
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
