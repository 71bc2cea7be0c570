//! `interp stats --control N`: named heads beside the mean of N others drawn at random.

use anyhow::Result;
use interp_core::Error;
use interp_core::export::Study;
use interp_core::scores::cell_label;
use interp_core::stats::{self, Bootstrap, CellStats};
use serde_json::{Value, json};

use super::{bootstrap_json, interval_head};
use crate::output::{Exit, Printer, columns, interval, number};

/// What is compared.
pub struct Control<'a> {
    /// The folder.
    pub study: &'a Study,
    /// Index of the metric.
    pub metric: usize,
    /// Cells of the named heads; `None` if none were named.
    pub named: Option<Vec<usize>>,
    /// Size of the control.
    pub n: usize,
}

impl Control<'_> {
    /// Prints heads, control and paired difference.
    pub fn print(self, bootstrap: &Bootstrap, is_json: bool, printer: &Printer) -> Result<Exit> {
        let Self { study, metric, named, n } = self;
        let named = named.ok_or_else(|| Error::Selector {
            what: "--control",
            value: n.to_string(),
            problem: "there are no heads to compare with it".into(),
            hint: Some("add --heads L19.H17, or --heads top:1 --ranked-by DIR".into()),
        })?;
        let pool: Vec<usize> = study.measured(metric).into_iter().filter(|cell| !named.contains(cell)).collect();
        let control = stats::draw(&pool, n, bootstrap.seed)?;
        let trials: Vec<&[f32]> = study.cells[metric].iter().map(Vec::as_slice).collect();
        let clusters = study.clusters();
        let comparison = stats::compare(&trials, &named, &control, &clusters, bootstrap)?;
        let labels = |cells: &[usize]| -> Vec<String> {
            cells.iter().map(|&cell| cell_label(&study.layout.axes, cell)).collect()
        };
        let (named, control) = (labels(&named), labels(&control));
        let rows = [
            ("heads", named.join(","), comparison.named),
            ("control", format!("mean of {n} others"), comparison.control),
            ("difference", "difference".to_owned(), comparison.difference),
        ];
        if is_json {
            printer.data(&format!(
                "{:#}\n",
                json!({
                    "metric": study.layout.metrics[metric],
                    "n_trials": study.rows.len(),
                    "n_clusters": clusters.len(),
                    "clusters_labelled": clusters.labelled(),
                    "bootstrap": bootstrap_json(bootstrap),
                    "heads": named,
                    "control": control,
                    "rows": rows.iter().map(|(row, _, stats)| json_row(row, stats)).collect::<Vec<_>>(),
                })
            ))?;
            return Ok(Exit::Done);
        }
        printer.talk(&format!("control, drawn with seed {}: {}", bootstrap.seed, control.join(", ")));
        let head = ["", "mean", "sd", "se", &interval_head(bootstrap), "trials", "clusters"].map(String::from);
        let row = |(_, label, stats): &(&str, String, CellStats)| {
            let [mean, sd, se] = [stats.mean, stats.sd, stats.se].map(number);
            let n = [study.rows.len(), clusters.len()].map(|n| n.to_string());
            vec![label.clone(), mean, sd, se, interval(stats.ci), n[0].clone(), n[1].clone()]
        };
        printer.data(&columns(&head, &rows.iter().map(row).collect::<Vec<_>>()))?;
        Ok(Exit::Done)
    }
}

fn json_row(row: &str, stats: &CellStats) -> Value {
    json!({ "row": row, "mean": stats.mean, "sd": stats.sd, "se": stats.se, "ci": stats.ci })
}
