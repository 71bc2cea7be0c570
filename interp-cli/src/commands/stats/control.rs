//! `interp stats --control`: named heads beside others, drawn at random or the lowest of their layers.

use std::str::FromStr;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::Study;
use interp_core::scores::cell_label;
use interp_core::stats::{self, CellStats};
use serde_json::{Value, json};

use super::Judge;
use crate::cli::StatsArgs;
use crate::output::{Exit, Printer, columns, interval, number};

/// How many draws a matched control is the mean of unless told otherwise.
const DRAWS: usize = 20;

/// `--control` as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// So many others, drawn at random.
    Random(usize),
    /// As many as are named, drawn at random among those that are not significant.
    Matched,
    /// As many of the lowest of the same layers.
    Lowest,
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> interp_core::Result<Self> {
        match text {
            "matched" => Ok(Kind::Matched),
            "lowest" => Ok(Kind::Lowest),
            _ => text.parse().map(Kind::Random).map_err(|_| Error::Selector {
                what: "--control",
                value: text.into(),
                problem: "no such control".into(),
                hint: Some("write how many heads to draw, or matched, or lowest".into()),
            }),
        }
    }
}

/// What is compared.
pub struct Control<'a> {
    /// The folder.
    pub study: &'a Study,
    /// Index of the metric.
    pub metric: usize,
    /// Cells of the named heads; `None` if none were named.
    pub named: Option<Vec<usize>>,
    /// With which others.
    pub kind: Kind,
    /// What was typed.
    pub args: &'a StatsArgs,
}

/// The cells of a control, a list per draw.
struct Others {
    draws: Vec<Vec<usize>>,
    /// What the table calls them.
    said: String,
    /// How they were found.
    how: String,
}

impl Control<'_> {
    /// Prints heads, control and paired difference.
    pub fn print(&self, judge: &Judge, printer: &Printer) -> Result<Exit> {
        let Self { study, metric, .. } = *self;
        let named = self.named.clone().ok_or_else(|| Error::Selector {
            what: "--control",
            value: self.args.control.clone().unwrap_or_default(),
            problem: "there are no heads to compare with it".into(),
            hint: Some("add --heads L19.H17, or --heads top:1 --ranked-by DIR".into()),
        })?;
        let Others { draws, said, how } = self.others(&named, judge)?;
        let trials: Vec<&[f32]> = study.cells[metric].iter().map(Vec::as_slice).collect();
        let clusters = study.clusters();
        // Draws are of one size, so the mean of all their cells is the mean of their means.
        let mut comparison = stats::compare(&trials, &named, &draws.concat(), &clusters, &judge.bootstrap)?;
        let mean = |draw: &Vec<usize>| {
            let sum = |trial: &&[f32]| draw.iter().map(|&cell| f64::from(trial[cell])).sum::<f64>();
            trials.iter().map(sum).sum::<f64>() / (trials.len() * draw.len()) as f64
        };
        let means: Vec<f64> = draws.iter().map(mean).collect();
        comparison.control = comparison.control.over_draws(&means);
        comparison.difference = comparison.difference.over_draws(&means);
        let labels = |cells: &[usize]| -> Vec<String> {
            cells.iter().map(|&cell| cell_label(&study.layout.axes, cell)).collect()
        };
        let named = labels(&named);
        let draws: Vec<Vec<String>> = draws.iter().map(|draw| labels(draw)).collect();
        let rows = [
            ("heads", named.join(","), comparison.named),
            ("control", said, comparison.control),
            ("difference", "difference".to_owned(), comparison.difference),
        ];
        if self.args.json {
            let mut found = json!({
                "metric": study.layout.metrics[metric],
                "delta_kind": study.delta_kind(metric),
                "n_trials": study.rows.len(),
                "n_clusters": clusters.len(),
                "clusters_labelled": clusters.labelled(),
                "bootstrap": judge.bootstrap_json(),
                "heads": named,
                "control_kind": self.args.control,
                "rows": rows.iter().map(|(row, _, stats)| json_row(row, stats)).collect::<Vec<_>>(),
            });
            // One draw is a list of heads, several are a list of such lists.
            let (key, value) = match draws.as_slice() {
                [one] => ("control", json!(one)),
                several => ("controls", json!(several)),
            };
            found[key] = value;
            printer.data(&format!("{found:#}\n"))?;
            return Ok(Exit::Done);
        }
        match draws.as_slice() {
            [one] => printer.talk(&format!("control, {how}: {}", one.join(", "))),
            several => printer.talk(&format!("control, {how}: {} draws of {}", several.len(), several[0].len())),
        }
        let head = ["", "mean", "sd", "se", &judge.interval_head(), "trials", "clusters"].map(String::from);
        let row = |(_, label, stats): &(&str, String, CellStats)| {
            let [mean, sd, se] = [stats.mean, stats.sd, stats.se].map(number);
            let n = [study.rows.len(), clusters.len()].map(|n| n.to_string());
            let interval = interval(stats.interval(judge.interval));
            vec![label.clone(), mean, sd, se, interval, n[0].clone(), n[1].clone()]
        };
        printer.data(&columns(&head, &rows.iter().map(row).collect::<Vec<_>>()))?;
        Ok(Exit::Done)
    }

    fn others(&self, named: &[usize], judge: &Judge) -> Result<Others> {
        let Self { study, metric, args, .. } = *self;
        let seed = judge.bootstrap.seed;
        let others: Vec<usize> = study.measured(metric).into_iter().filter(|cell| !named.contains(cell)).collect();
        let times = |usual: usize| args.draws.map_or(usual, usize::from);
        let (draws, what) = match self.kind {
            Kind::Lowest => {
                if args.draws.is_some() {
                    let problem = "draws nothing at random".into();
                    let hint = Some("leave --draws out, or write --control matched".into());
                    return Err(Error::Selector { what: "--control", value: "lowest".into(), problem, hint }.into());
                }
                let ranking = args.ranked_by.as_deref().map(Study::load).transpose()?;
                let by = ranking.as_ref().map_or((study, metric), |ranking| (ranking, 0));
                let lowest = study.lowest_of_layers(metric, named, by)?;
                let said = format!("the {} lowest of the same layers", lowest.len());
                return Ok(Others { draws: vec![lowest], said, how: "the lowest of the same layers".into() });
            }
            Kind::Random(n) => (stats::draws(&others, n, times(1), seed)?, format!("{n} others")),
            Kind::Matched => {
                let test = study.judged(metric, &judge.bootstrap, &judge.permutation)?.test;
                if let Some(note) = &test.note {
                    let problem = format!("no test says which heads are not significant: {note}");
                    let hint = Some("write --control N to draw from all other heads".into());
                    return Err(Error::Selector { what: "--control", value: "matched".into(), problem, hint }.into());
                }
                let pool: Vec<usize> = others.into_iter().filter(|&cell| test.is_insignificant(cell)).collect();
                let n = named.len();
                (stats::draws(&pool, n, times(DRAWS), seed)?, format!("{n} not significant"))
            }
        };
        let said = match draws.len() {
            1 => format!("mean of {what}"),
            n => format!("mean of {n} draws of {what}"),
        };
        Ok(Others { draws, said, how: format!("drawn with seed {seed}") })
    }
}

fn json_row(row: &str, stats: &CellStats) -> Value {
    let CellStats { mean, sd, se, ci, bca, .. } = stats;
    json!({ "row": row, "mean": mean, "sd": sd, "se": se, "ci": ci, "bca_ci": bca })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_counted_or_named() {
        let kinds = ["20", "matched", "lowest"].map(|text| text.parse::<Kind>().unwrap());
        assert_eq!(kinds, [Kind::Random(20), Kind::Matched, Kind::Lowest]);
        for text in ["", "-1", "random", "1.5"] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
    }
}
