//! What `interp contrast` says: the cells that changed most, and the lines of named heads. Of the primary metric.

use std::path::Path;

use interp_core::export::{Contrast, Contrasted, Judge};
use interp_core::scores::cell_label;
use interp_core::stats::Flips;
use serde_json::{Map, Value, json};

use crate::output::{Printer, columns, interval, number, probability};

/// What is reported.
pub struct Report<'a> {
    pub contrast: &'a Contrast,
    pub judge: &'a Judge,
    pub contrasted: &'a Contrasted,
    /// Cells of the heads asked for.
    pub named: Vec<usize>,
    /// How many of the most changed cells.
    pub top: usize,
}

impl Report<'_> {
    /// Tables.
    pub fn talk(&self, printer: &Printer) {
        let Self { contrast, judge, contrasted, .. } = self;
        let (arms, clusters) = (contrast.arms(), contrast.clusters());
        let labelled = if clusters.labelled() { "" } else { " (no trial names a cluster: each counts as its own)" };
        printer.talk(&format!("{} trials ran in all, in {} clusters{labelled}", contrast.n_trials(), clusters.len()));
        let least = judge.flips.least_p(&clusters);
        let n = (1..arms.len()).map(|arm| contrasted.ranking(arm).len()).min().unwrap_or(0);
        if least >= judge.level {
            let remedy = if Flips::are_all(&clusters) { "more clusters are needed" } else { "give more --flips" };
            printer.talk(&format!("no p can be under {}: {remedy} to find a change", probability(least)));
        } else if least * n as f64 >= judge.level {
            printer.talk(&format!(
                "note: over {n} cells a lone change cannot have a q under {}; at least {} must change at once{}",
                judge.level,
                (least * n as f64 / judge.level).floor() as usize + 1,
                if Flips::are_all(&clusters) { ", or there must be more clusters" } else { ", or give more --flips" },
            ));
        }
        for (arm, other) in arms.iter().enumerate().skip(1) {
            let order = contrasted.ranking(arm);
            let changed = self.n_changed(arm);
            printer.talk(&format!(
                "{} − {} ({}): {changed} of {} cells changed (q < {}, and above both noise floors)",
                other.name,
                arms[0].name,
                contrast.layout().metrics[contrasted.metric],
                order.len(),
                judge.level,
            ));
            let rows: Vec<Vec<String>> = order.iter().take(self.top).map(|&cell| self.change(arm, cell)).collect();
            let names = [format!("δ {}", arms[0].name), format!("δ {}", other.name)];
            self.table(printer, &["cell", &names[0], &names[1], "Δδ", "interval", "p", "q", "changed"], &rows);
        }
        if !self.named.is_empty() {
            let head = ["cell", "checkpoint", "δ", "interval", "p", "Δδ", "interval", "p", "q", "changed"];
            let cells = self.named.iter();
            let rows: Vec<Vec<String>> =
                cells.flat_map(|&cell| (0..arms.len()).map(move |arm| self.line(arm, cell))).collect();
            self.table(printer, &head, &rows);
        }
    }

    /// The same as JSON, with the columns of `contrast.json`.
    pub fn json(&self, out: &Path) -> Value {
        let Self { contrast, contrasted, .. } = self;
        let (arms, clusters) = (contrast.arms(), contrast.clusters());
        let changes: Map<String, Value> = arms
            .iter()
            .enumerate()
            .skip(1)
            .map(|(arm, other)| {
                let cells = contrasted.ranking(arm).into_iter().take(self.top);
                let rows: Vec<_> = cells.map(|cell| contrast.rows(contrasted, cell).swap_remove(arm)).collect();
                (other.name.clone(), json!({ "n_changed": self.n_changed(arm), "most_changed": rows }))
            })
            .collect();
        json!({
            "folder": out,
            "metric": contrast.layout().metrics[contrasted.metric],
            "reference": arms[0].name,
            "n_trials": contrast.n_trials(),
            "n_clusters": clusters.len(),
            "clusters_labelled": clusters.labelled(),
            "level": self.judge.level,
            "changes": changes,
            "heads": self.named.iter().flat_map(|&cell| contrast.rows(contrasted, cell)).collect::<Vec<_>>(),
        })
    }

    fn n_changed(&self, arm: usize) -> usize {
        self.contrasted.changes[arm - 1].iter().filter(|change| change.changed).count()
    }

    fn label(&self, cell: usize) -> String {
        cell_label(&self.contrast.layout().axes, cell)
    }

    fn change(&self, arm: usize, cell: usize) -> Vec<String> {
        let effects = [0, arm].map(|arm| number(self.contrasted.effects[arm][cell].stats.mean));
        [vec![self.label(cell)], effects.to_vec(), self.difference(arm, cell)].concat()
    }

    fn line(&self, arm: usize, cell: usize) -> Vec<String> {
        let effect = &self.contrasted.effects[arm][cell];
        let name = self.contrast.arms()[arm].name.clone();
        let own =
            vec![self.label(cell), name, number(effect.stats.mean), interval(effect.stats.ci), probability(effect.p)];
        let change = if arm == 0 { vec![String::from("-"); 5] } else { self.difference(arm, cell) };
        [own, change].concat()
    }

    fn difference(&self, arm: usize, cell: usize) -> Vec<String> {
        let change = &self.contrasted.changes[arm - 1][cell];
        vec![
            number(change.stats.mean),
            interval(change.stats.ci),
            probability(change.p),
            probability(change.q),
            if change.changed { "yes" } else { "no" }.into(),
        ]
    }

    fn table(&self, printer: &Printer, head: &[&str], rows: &[Vec<String>]) {
        let interval = format!("{}% interval", self.judge.bootstrap.level * 100.0);
        let head: Vec<String> =
            head.iter().map(|name| if *name == "interval" { interval.clone() } else { (*name).to_owned() }).collect();
        columns(&head, rows).lines().for_each(|line| printer.talk(line));
    }
}
