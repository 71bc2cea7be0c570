//! `interp stats`: the cells of largest mean in an output folder, or named heads, alone or beside a control, or the unedited
//! runs; or an array of scores that no sweep of ours made. Needs no model.

mod clean;
mod control;
mod heads;
mod scores;

use anyhow::Result;
use interp_core::export::{Study, Summary, table};
use interp_core::scores::cell_label;
use interp_core::stats::{Bootstrap, Clusters, Interval, Permutation};
use serde_json::{Value, json};

use self::control::Control;
use crate::cli::{JudgeArgs, StatsArgs};
use crate::noise;
use crate::output::{Exit, Printer, columns, interval, number, probability};

/// How many cells are listed unless told otherwise.
const TOP: usize = 10;

/// How numbers are judged.
#[derive(Debug, Clone, Copy)]
struct Judge {
    bootstrap: Bootstrap,
    interval: Interval,
    permutation: Permutation,
}

/// Prints the table, or JSON.
pub fn stats(args: &StatsArgs, printer: &Printer) -> Result<Exit> {
    if let Some(file) = &args.scores.scores {
        return scores::print(file, args, printer);
    }
    let study = Study::load(args.dir.as_ref().expect("clap asks for it where there are no --scores"))?;
    let metric = study.metric(args.metric.as_deref())?;
    let judge = Judge::new(&args.judge, &study)?;
    talk(&study, &study.clusters(), printer);
    if args.clean {
        return clean::print(&study, args.metric.is_some().then_some(metric), &judge, args.json, printer);
    }
    let named = heads::cells(&study, metric, args, printer)?;
    if let Some(text) = &args.control {
        let control = Control { study: &study, metric, named, kind: text.parse()?, args };
        return control.print(&judge, printer);
    }
    ranking(&study, metric, named.as_deref(), &judge, args, printer)
}

impl Judge {
    fn new(args: &JudgeArgs, study: &Study) -> Result<Self> {
        let seed = args.seed.unwrap_or(study.bootstrap.seed);
        Ok(Self {
            bootstrap: Bootstrap {
                level: args.ci.unwrap_or(study.bootstrap.level),
                resamples: args.resamples.unwrap_or(study.bootstrap.resamples),
                seed,
            },
            interval: args.interval.parse()?,
            permutation: Permutation { alpha: args.alpha, n: args.permutations.get(), seed, two_sided: args.two_sided },
        })
    }

    /// The head of a column of intervals.
    fn interval_head(&self) -> String {
        let kind = match self.interval {
            Interval::Percentile => "",
            Interval::Bca => "BCa ",
        };
        format!("{}% {kind}interval", self.bootstrap.level * 100.0)
    }

    fn bootstrap_json(&self) -> Value {
        let Bootstrap { level, resamples, seed } = self.bootstrap;
        json!({ "level": level, "resamples": resamples, "seed": seed })
    }
}

/// The cells of largest mean, or the named ones, each with its rank among all.
fn ranking(
    study: &Study,
    metric: usize,
    named: Option<&[usize]>,
    judge: &Judge,
    args: &StatsArgs,
    printer: &Printer,
) -> Result<Exit> {
    let mut summary = study.judged(metric, &judge.bootstrap, &judge.permutation)?;
    if args.abs {
        // Stable: ties keep the order of the signed ranking. Cells without a number stay last.
        let size = |cell: &usize| Some(summary.cells[*cell].mean.abs()).filter(|size| !size.is_nan()).unwrap_or(-1.0);
        summary.order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    }
    let wanted = |cell: usize| named.is_none_or(|named| named.contains(&cell));
    let ranks: Vec<usize> = (0..summary.order.len()).filter(|&rank| wanted(summary.order[rank])).collect();
    let ranks = &ranks[..if named.is_some() { ranks.len() } else { args.top.unwrap_or(TOP).min(ranks.len()) }];
    let clusters = study.clusters();
    printer.talk(&tested(&summary, &clusters));
    noise::line_of(study, &summary).iter().for_each(|line| printer.talk(line));
    if args.json {
        let rows = table::rows(study, std::slice::from_ref(&summary));
        printer.data(&format!(
            "{:#}\n",
            json!({
                "metric": study.layout.metrics[metric],
                "delta_kind": summary.kind,
                "n_trials": study.rows.len(),
                "n_clusters": clusters.len(),
                "clusters_labelled": clusters.labelled(),
                "bootstrap": judge.bootstrap_json(),
                "threshold": table::threshold(&summary.test),
                "cells": ranks.iter().map(|&rank| &rows[rank]).collect::<Vec<_>>(),
            })
        ))?;
    } else {
        printer.data(&text(study, &summary, judge, &clusters, ranks))?;
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

/// What the test over the whole grid found, in one line.
fn tested(summary: &Summary, clusters: &Clusters) -> String {
    let (kind, test) = (&summary.kind, &summary.test);
    let (Some((n, of)), Some(tau)) = (test.count(), test.tau) else {
        let why = test.note.as_deref().unwrap_or("there is nothing to test");
        return format!("{kind}: no test over the whole grid: {why}");
    };
    let Permutation { alpha, n: vectors, two_sided, .. } = test.permutation;
    let (what, sides) = if two_sided { ("|mean|", "two-sided") } else { ("mean", "one-sided") };
    let all = if test.exact { "all " } else { "" };
    let is = if n == 1 { "is" } else { "are" };
    format!(
        "{kind}: {n} of {of} cells {is} significant over the whole grid: {what} above {tau:.4} ({sides}, alpha {alpha}, \
         {all}{vectors} sign vectors of {} clusters)",
        clusters.len()
    )
}

fn text(study: &Study, summary: &Summary, judge: &Judge, clusters: &Clusters, ranks: &[usize]) -> String {
    let mut head = [
        "rank",
        "cell",
        "mean",
        "sd",
        "se",
        &judge.interval_head(),
        "d",
        "p",
        "q",
        "significant",
        "trials",
        "clusters",
    ]
    .map(String::from)
    .to_vec();
    if summary.below_floor.is_some() {
        head.push("noise".into());
    }
    let row = |&rank: &usize| {
        let cell = summary.order[rank];
        let stats = &summary.cells[cell];
        let significant = summary.test.significant.as_ref().map(|significant| significant[cell]);
        let mut row = vec![
            (rank + 1).to_string(),
            cell_label(&study.layout.axes, cell),
            number(stats.mean),
            number(stats.sd),
            number(stats.se),
            interval(stats.interval(judge.interval)),
            number(stats.cohens_d),
            probability(summary.test.p_fwer[cell]),
            probability(summary.test.q_fdr[cell]),
            significant.map_or("-", |is| if is { "yes" } else { "no" }).into(),
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
