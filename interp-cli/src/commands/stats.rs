//! `interp stats`: the cells of largest mean in an output folder. Needs no model.

use anyhow::Result;
use interp_core::export::{Study, Summary, table};
use interp_core::scores::cell_label;
use interp_core::stats::{Bootstrap, Clusters};
use serde_json::json;

use crate::cli::StatsArgs;
use crate::output::{Exit, Printer, columns};

/// Prints the table, or JSON.
pub fn stats(args: &StatsArgs, printer: &Printer) -> Result<Exit> {
    let study = Study::load(&args.dir)?;
    let metric = study.metric(args.metric.as_deref())?;
    let bootstrap = Bootstrap {
        level: args.ci.unwrap_or(study.bootstrap.level),
        resamples: args.resamples.unwrap_or(study.bootstrap.resamples),
        seed: args.seed.unwrap_or(study.bootstrap.seed),
    };
    let summary = study.summary(metric, &bootstrap)?;
    let clusters = study.clusters();
    talk(&study, &clusters, printer);
    if args.json {
        let mut cells = table::rows(&study, std::slice::from_ref(&summary));
        cells.truncate(args.top);
        let Bootstrap { level, resamples, seed } = bootstrap;
        printer.data(&format!(
            "{:#}\n",
            json!({
                "metric": study.layout.metrics[metric],
                "n_trials": study.rows.len(),
                "n_clusters": clusters.len(),
                "clusters_labelled": clusters.labelled(),
                "bootstrap": { "level": level, "resamples": resamples, "seed": seed },
                "cells": cells,
            })
        ))?;
    } else {
        printer.data(&text(&study, &summary, &bootstrap, &clusters, args.top))?;
    }
    Ok(Exit::Done)
}

/// What a reader must know before trusting the numbers.
fn talk(study: &Study, clusters: &Clusters, printer: &Printer) {
    if !clusters.labelled() {
        printer.talk("no trial names a cluster: each counts as its own, and the intervals take trials as independent");
    } else if clusters.len() < 2 {
        printer.talk("all trials are one cluster: there is no standard error and no interval");
    }
    if !study.skipped.is_empty() {
        printer.talk(&format!(
            "{} of {} trials were refused; see skipped.json",
            study.skipped.len(),
            study.trials.len()
        ));
    }
}

fn text(study: &Study, summary: &Summary, bootstrap: &Bootstrap, clusters: &Clusters, top: usize) -> String {
    let interval = format!("{}% interval", bootstrap.level * 100.0);
    let head = ["rank", "cell", "mean", "sd", "se", &interval, "trials", "clusters", "noise"].map(String::from);
    let number = |x: f64| if x.is_finite() { format!("{x:.4}") } else { "-".into() };
    let row = |(place, &cell): (usize, &usize)| {
        let stats = &summary.cells[cell];
        let below = summary.below_floor.as_ref().map(|below| below[cell]);
        [
            (place + 1).to_string(),
            cell_label(&study.layout.axes, cell),
            number(stats.mean),
            number(stats.sd),
            number(stats.se),
            stats.ci.map_or("-".into(), |[lo, hi]| format!("[{lo:.4}, {hi:.4}]")),
            study.rows.len().to_string(),
            clusters.len().to_string(),
            match below {
                Some(true) => "below".into(),
                Some(false) => "above".into(),
                None => "-".into(),
            },
        ]
    };
    let measured = summary.order.iter().filter(|&&cell| !summary.cells[cell].mean.is_nan());
    let rows: Vec<Vec<String>> = measured.take(top).enumerate().map(row).map(Vec::from).collect();
    columns(&head, &rows)
}
