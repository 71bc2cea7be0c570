//! `interp stats`: the cells of largest mean in an output folder, or named heads, alone or beside a control, or the unedited
//! runs. Needs no model.

mod clean;
mod control;
mod heads;

use anyhow::Result;
use interp_core::export::{Study, Summary, table};
use interp_core::scores::cell_label;
use interp_core::stats::{Bootstrap, Clusters};
use serde_json::{Value, json};

use self::control::Control;
use crate::cli::StatsArgs;
use crate::noise;
use crate::output::{Exit, Printer, columns, interval, number};

/// How many cells are listed unless told otherwise.
const TOP: usize = 10;

/// Prints the table, or JSON.
pub fn stats(args: &StatsArgs, printer: &Printer) -> Result<Exit> {
    let study = Study::load(&args.dir)?;
    let metric = study.metric(args.metric.as_deref())?;
    let bootstrap = Bootstrap {
        level: args.ci.unwrap_or(study.bootstrap.level),
        resamples: args.resamples.unwrap_or(study.bootstrap.resamples),
        seed: args.seed.unwrap_or(study.bootstrap.seed),
    };
    talk(&study, &study.clusters(), printer);
    if args.clean {
        return clean::print(&study, args.metric.is_some().then_some(metric), &bootstrap, args.json, printer);
    }
    let named = heads::cells(&study, metric, args, printer)?;
    if let Some(n) = args.control {
        return Control { study: &study, metric, named, n }.print(&bootstrap, args.json, printer);
    }
    ranking(&study, metric, named.as_deref(), &bootstrap, args, printer)
}

/// The cells of largest mean, or the named ones, each with its rank among all.
fn ranking(
    study: &Study,
    metric: usize,
    named: Option<&[usize]>,
    bootstrap: &Bootstrap,
    args: &StatsArgs,
    printer: &Printer,
) -> Result<Exit> {
    let mut summary = study.summary(metric, bootstrap)?;
    if args.abs {
        // Stable: ties keep the order of the signed ranking. Cells without a number stay last.
        let size = |cell: &usize| Some(summary.cells[*cell].mean.abs()).filter(|size| !size.is_nan()).unwrap_or(-1.0);
        summary.order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    }
    let wanted = |cell: usize| named.is_none_or(|named| named.contains(&cell));
    let ranks: Vec<usize> = (0..summary.order.len()).filter(|&rank| wanted(summary.order[rank])).collect();
    let ranks = &ranks[..if named.is_some() { ranks.len() } else { args.top.unwrap_or(TOP).min(ranks.len()) }];
    let clusters = study.clusters();
    noise::line_of(study, &summary).iter().for_each(|line| printer.talk(line));
    if args.json {
        let rows = table::rows(study, std::slice::from_ref(&summary));
        printer.data(&format!(
            "{:#}\n",
            json!({
                "metric": study.layout.metrics[metric],
                "n_trials": study.rows.len(),
                "n_clusters": clusters.len(),
                "clusters_labelled": clusters.labelled(),
                "bootstrap": bootstrap_json(bootstrap),
                "cells": ranks.iter().map(|&rank| &rows[rank]).collect::<Vec<_>>(),
            })
        ))?;
    } else {
        printer.data(&text(study, &summary, bootstrap, &clusters, ranks))?;
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

fn text(study: &Study, summary: &Summary, bootstrap: &Bootstrap, clusters: &Clusters, ranks: &[usize]) -> String {
    let mut head = ["rank", "cell", "mean", "sd", "se", &interval_head(bootstrap), "trials", "clusters"]
        .map(String::from)
        .to_vec();
    if summary.below_floor.is_some() {
        head.push("noise".into());
    }
    let row = |&rank: &usize| {
        let cell = summary.order[rank];
        let stats = &summary.cells[cell];
        let mut row = vec![
            (rank + 1).to_string(),
            cell_label(&study.layout.axes, cell),
            number(stats.mean),
            number(stats.sd),
            number(stats.se),
            interval(stats.ci),
            study.rows.len().to_string(),
            clusters.len().to_string(),
        ];
        if let Some(below) = &summary.below_floor {
            row.push(if below[cell] { "below".into() } else { "above".into() });
        }
        row
    };
    let measured = ranks.iter().filter(|&&rank| !summary.cells[summary.order[rank]].mean.is_nan());
    let rows: Vec<Vec<String>> = measured.map(row).collect();
    columns(&head, &rows)
}

/// The head of a column of intervals.
fn interval_head(bootstrap: &Bootstrap) -> String {
    format!("{}% interval", bootstrap.level * 100.0)
}

fn bootstrap_json(bootstrap: &Bootstrap) -> Value {
    json!({ "level": bootstrap.level, "resamples": bootstrap.resamples, "seed": bootstrap.seed })
}
