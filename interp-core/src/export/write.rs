//! A [`Study`] to the files of an output folder. The folder's life while a sweep runs is [`super::RunFolder`]'s business.

use std::path::Path;

use serde::Serialize;

use super::study::{Study, TrialRecord};
use super::{npy, table, write_atomic};
use crate::error::Result;
use crate::plot::{self, Figure};
use crate::site::HeadAxis;

impl Study {
    /// Writes every file, each atomically and `run.json` last: a folder that has it is complete.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let put = |name: &str, bytes: &[u8]| write_atomic(&dir.join(name), bytes);
        let grid: Vec<usize> = self.layout.axes.iter().map(|axis| axis.labels.len()).collect();
        let per_trial: Vec<usize> = [self.rows.len()].into_iter().chain(grid.iter().copied()).collect();
        let per_metric = [self.rows.len(), self.layout.metrics.len()];
        let mut summaries = Vec::new();
        for metric in 0..self.layout.metrics.len() {
            let summary = self.summary(metric, &self.bootstrap)?;
            let means: Vec<f64> = summary.cells.iter().map(|cell| cell.mean).collect();
            put(&self.layout.file("delta", metric, "npy"), &npy::encode(&grid, &means))?;
            if let Some(means) = summary.significant_means() {
                put(&self.layout.file("delta_significant", metric, "npy"), &npy::encode(&grid, &means))?;
            }
            let cells = npy::encode(&per_trial, &self.cells[metric].concat());
            put(&self.layout.file("delta_per_trial", metric, "npy"), &cells)?;
            if plot::can_draw(&self.layout.axes) {
                let figure = self.figure(&summary, plot::TOP);
                put(&self.layout.file("heatmap", metric, "svg"), plot::svg(&figure)?.as_bytes())?;
                put(&self.layout.file("heatmap", metric, "png"), &plot::png(&figure)?)?;
            }
            summaries.push(summary);
        }
        put("metric_clean.npy", &npy::encode(&per_metric, &self.clean.concat()))?;
        if let Some(source) = &self.source {
            put("metric_source.npy", &npy::encode(&per_metric, &source.concat()))?;
        }
        put("trials.json", lines(&self.trial_records()).as_bytes())?;
        put("skipped.json", lines(&self.skipped).as_bytes())?;
        put("delta.json", table::json(self, &summaries).as_bytes())?;
        put("delta.csv", table::csv(self, &summaries).as_bytes())?;
        put("run.json", &pretty(&self.run))
    }

    /// The figure of one metric, with its `top` cells of largest |mean| outlined and cells that are not significant muted.
    pub fn figure(&self, summary: &super::Summary, top: usize) -> Figure {
        let layout = &self.layout;
        let word = |key: &str| self.run["spec"]["sweep"].get(key).and_then(|value| value.as_str());
        let site = word("site").zip(word("edit")).zip(word("positions"));
        let site = site.map(|((site, edit), positions)| format!("{edit} at {site}, positions {positions}, "));
        let heads = if layout.head_axis == Some(HeadAxis::Kv) { "key-value heads, " } else { "" };
        let model = self.run["model"]["checkpoint"].as_str().map(|name| format!("{name}: ")).unwrap_or_default();
        let trials = match self.rows.len() {
            1 => "1 trial".to_owned(),
            n => format!("mean over {n} trials"),
        };
        Figure {
            title: format!(
                "Effect per {}",
                layout.axes.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(" and ")
            ),
            subtitle: format!("{model}{}{heads}{trials}", site.unwrap_or_default()),
            metric: layout.metrics[summary.metric].clone(),
            axes: layout.axes.clone(),
            values: summary.cells.iter().map(|cell| cell.mean).collect(),
            intervals: summary.cells.iter().map(|cell| cell.ci).collect(),
            below_floor: summary.below_floor.clone(),
            muted: summary.muted(),
            top,
        }
    }

    fn trial_records(&self) -> Vec<TrialRecord> {
        let record = |(index, trial): (usize, &super::TrialRow)| {
            let row = self.rows.binary_search(&index).ok();
            TrialRecord {
                row,
                id: trial.id.clone(),
                cluster: trial.cluster.clone(),
                direction: trial.direction.clone(),
                status: if row.is_some() { "done" } else { "skipped" }.into(),
            }
        };
        self.trials.iter().enumerate().map(record).collect()
    }
}

/// Indented JSON with a final newline.
pub(super) fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain data is JSON");
    bytes.push(b'\n');
    bytes
}

/// A JSON array with one element per line: readable, and a diff shows one trial.
fn lines<T: Serialize>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|x| serde_json::to_string(x).expect("plain data is JSON")).collect();
    if items.is_empty() { "[]\n".into() } else { format!("[\n{}\n]\n", items.join(",\n")) }
}
