//! `interp stats --clean`: what the unedited runs measured, by direction.

use anyhow::Result;
use interp_core::export::Study;
use interp_core::stats::{self, Bootstrap, CellStats, Clusters};
use serde_json::json;

use super::Judge;
use crate::output::{Exit, Printer, columns, interval, number};

/// One line of the table.
struct Line<'a> {
    metric: &'a str,
    /// `clean` (base) or `source`.
    run: &'static str,
    /// `None` where trials name no direction; `all` for all of them together.
    direction: Option<&'a str>,
    n_trials: usize,
    n_clusters: usize,
    stats: CellStats,
}

/// Prints the means of one metric, or of all.
pub fn print(study: &Study, metric: Option<usize>, judge: &Judge, is_json: bool, printer: &Printer) -> Result<Exit> {
    let lines = lines(study, metric, &judge.bootstrap)?;
    if is_json {
        let line = |line: &Line<'_>| {
            let CellStats { mean, sd, se, ci, bca, .. } = line.stats;
            json!({
                "metric": line.metric, "run": line.run, "direction": line.direction,
                "n_trials": line.n_trials, "n_clusters": line.n_clusters,
                "mean": mean, "sd": sd, "se": se, "ci": ci, "bca_ci": bca,
            })
        };
        let rows: Vec<_> = lines.iter().map(line).collect();
        printer.data(&format!("{:#}\n", json!({ "bootstrap": judge.bootstrap_json(), "rows": rows })))?;
        return Ok(Exit::Done);
    }
    let head = ["run", "direction", "metric", "mean", "sd", "se", &judge.interval_head(), "trials", "clusters"];
    let row = |line: &Line<'_>| {
        let [mean, sd, se] = [line.stats.mean, line.stats.sd, line.stats.se].map(number);
        let [run, direction, metric] = [line.run, line.direction.unwrap_or("-"), line.metric].map(String::from);
        let [n_trials, n_clusters] = [line.n_trials, line.n_clusters].map(|n| n.to_string());
        vec![run, direction, metric, mean, sd, se, interval(line.stats.interval(judge.interval)), n_trials, n_clusters]
    };
    printer.data(&columns(&head.map(String::from), &lines.iter().map(row).collect::<Vec<_>>()))?;
    Ok(Exit::Done)
}

fn lines<'a>(study: &'a Study, metric: Option<usize>, bootstrap: &Bootstrap) -> Result<Vec<Line<'a>>> {
    let metrics = metric.map_or(0..study.layout.metrics.len(), |metric| metric..metric + 1);
    let trial = |row: usize| &study.trials[study.rows[row]];
    let mut groups: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
    for row in 0..study.rows.len() {
        let direction = trial(row).direction.as_deref();
        match groups.iter_mut().find(|(other, _)| *other == direction) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((direction, vec![row])),
        }
    }
    if groups.len() > 1 {
        groups.push((Some("all"), (0..study.rows.len()).collect()));
    }
    let runs = [("clean", Some(&study.clean)), ("source", study.source.as_ref())];
    let mut lines = Vec::new();
    for metric in metrics {
        for (run, values) in runs.into_iter().filter_map(|(run, values)| Some((run, values?))) {
            for (direction, rows) in &groups {
                // A trial without a source has no number for it.
                let rows: Vec<usize> = rows.iter().copied().filter(|&row| !values[row][metric].is_nan()).collect();
                if rows.is_empty() {
                    continue;
                }
                let labels: Vec<Option<&str>> = rows.iter().map(|&row| trial(row).cluster.as_deref()).collect();
                let clusters = Clusters::new(&labels);
                let cells: Vec<&[f64]> = rows.iter().map(|&row| &values[row][metric..metric + 1]).collect();
                let stats = stats::summarize(&cells, &clusters, bootstrap)?[0];
                let (n_trials, n_clusters) = (rows.len(), clusters.len());
                let metric = study.layout.metrics[metric].as_str();
                lines.push(Line { metric, run, direction: *direction, n_trials, n_clusters, stats });
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use interp_core::export::{Layout, TrialRow};
    use interp_core::scores::GridAxis;

    use super::*;

    #[test]
    fn unedited_runs_are_averaged_by_direction() {
        let trial = |id: &str, cluster: &str, direction: &str| TrialRow {
            id: id.into(),
            cluster: Some(cluster.into()),
            direction: Some(direction.into()),
        };
        let study = Study {
            layout: Layout {
                axes: vec![GridAxis::named("set", vec!["none".into()])],
                metrics: vec!["acc".into()],
                head_axis: None,
                heads_per_kv: None,
            },
            trials: ["a", "b", "c"]
                .iter()
                .flat_map(|cluster| ["ABA", "ABB"].map(|rule| trial(&format!("{cluster}-{rule}"), cluster, rule)))
                .collect(),
            rows: (0..6).collect(),
            skipped: vec![],
            cells: vec![vec![vec![0.0]; 6]],
            clean: [1.0, 1.0, 0.0, 1.0, 1.0, 1.0].map(|x| vec![x]).to_vec(),
            source: Some([0.5, f64::NAN, 0.5, f64::NAN, 0.5, f64::NAN].map(|x| vec![x]).to_vec()),
            bootstrap: Bootstrap::default(),
            noise: vec![None],
            run: json!({}),
        };
        let lines = lines(&study, None, &Bootstrap::default()).unwrap();
        let found: Vec<_> =
            lines.iter().map(|l| (l.run, l.direction.unwrap(), l.n_trials, l.n_clusters, l.stats.mean)).collect();
        assert_eq!(
            found,
            [
                ("clean", "ABA", 3, 3, 2.0 / 3.0),
                ("clean", "ABB", 3, 3, 1.0),
                ("clean", "all", 6, 3, 5.0 / 6.0),
                ("source", "ABA", 3, 3, 0.5),
                ("source", "all", 3, 3, 0.5),
            ]
        );
        // ABA: 1, 0, 1, one per cluster: sd/√3 = √(1/3)/√3 = 1/3. All: cluster sums 2, 1, 2 about 5/3: √(3/2 · 2/3)/6.
        assert!((lines[0].stats.se - 1.0 / 3.0).abs() < 1e-15);
        assert!((lines[2].stats.se - 1.0 / 6.0).abs() < 1e-15);
        assert_eq!(lines[1].stats.ci, Some([1.0, 1.0]));
    }
}
