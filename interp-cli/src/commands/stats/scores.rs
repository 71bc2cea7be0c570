//! `interp stats --scores`: mean scores that no sweep of ours made, as published arrays hold them. Ranks and counts; tests
//! nothing, since single trials are not there.

use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::npy;
use interp_core::plot::{Figure, Muted};
use interp_core::scores::{GridAxis, cell_label};
use interp_core::stats;
use serde_json::{Map, Value, json};

use super::TOP;
use super::control::Kind;
use crate::cli::StatsArgs;
use crate::figure;
use crate::output::{Exit, Printer, columns, number};

/// How far two files may be apart where they hold the same number, as a share of it: both are f32, of one computation.
const SAME: f64 = 1e-5;

/// An array of scores, with what is known beside it.
struct Scores {
    axes: Vec<GridAxis>,
    values: Vec<f64>,
    /// From the file of significant heads.
    significant: Option<Vec<bool>>,
    tau: Option<f64>,
}

/// Prints ranking and counts, and draws the figure that was asked for.
pub fn print(file: &Path, args: &StatsArgs, printer: &Printer) -> Result<Exit> {
    if let Some(path) = &args.scores.figure {
        figure::check(path)?;
    }
    let scores = Scores::read(file, args)?;
    let n = scores.values.iter().filter(|score| !score.is_nan()).count();
    let top = args.top.unwrap_or(TOP);
    let order = stats::ranking(&scores.values);
    let shown = &order[..top.min(n)];
    let lowest = match args.control.as_deref().map(str::parse::<Kind>).transpose()? {
        None => None,
        Some(Kind::Lowest) => Some(stats::same_layer_lowest(&scores.values, scores.n_heads(), top)?),
        Some(_) => {
            let value = args.control.clone().unwrap_or_default();
            let problem = "needs the numbers of single trials".into();
            let hint = Some("write --control lowest, or give an output folder".into());
            return Err(Error::Selector { what: "--control", value, problem, hint }.into());
        }
    };
    if let Some(path) = &args.scores.figure {
        figure::write(&scores.figure(file, top), path)?;
        printer.talk(&format!("figure: {}", path.display()));
    }
    if args.json {
        let mut found = scores.facts(file, &order[..n]);
        let rows = shown.iter().enumerate().map(|(place, &cell)| scores.row(place + 1, cell));
        found.insert("cells".into(), rows.collect());
        if let Some(lowest) = lowest {
            found.insert("same_layer_lowest".into(), lowest.iter().map(|&cell| scores.label(cell)).collect());
        }
        printer.data(&format!("{:#}\n", Value::Object(found)))?;
        return Ok(Exit::Done);
    }
    scores.talk(&order[..n], printer);
    if let Some(lowest) = lowest {
        let labels: Vec<String> = lowest.iter().map(|&cell| scores.label(cell)).collect();
        printer.talk(&format!("control, the lowest of the same layers: {}", labels.join(", ")));
    }
    let mut head = ["rank", "head", "score"].map(String::from).to_vec();
    head.extend(scores.significant.as_ref().map(|_| "significant".to_owned()));
    let row = |(place, &cell): (usize, &usize)| {
        let mut row = vec![(place + 1).to_string(), scores.label(cell), number(scores.values[cell])];
        row.extend(scores.significant.as_ref().map(|is| if is[cell] { "yes" } else { "no" }.to_owned()));
        row
    };
    printer.data(&columns(&head, &shown.iter().enumerate().map(row).collect::<Vec<_>>()))?;
    Ok(Exit::Done)
}

impl Scores {
    fn read(file: &Path, args: &StatsArgs) -> Result<Self> {
        let (shape, values) = npy::read(file)?;
        let &[n_layers, n_heads] = shape.as_slice() else {
            return Err(refuse(file, format!("has shape {shape:?}"), "give an array [layer, head] of mean scores"));
        };
        if values.iter().all(|score| score.is_nan()) {
            return Err(refuse(file, "holds no score".into(), "give an array [layer, head] of mean scores"));
        }
        if let Some(tau) = args.scores.tau.filter(|tau| !tau.is_finite()) {
            let hint = Some("give the score above which a head counts, such as 0.22".into());
            return Err(Error::Selector {
                what: "--tau",
                value: tau.to_string(),
                problem: "not a number".into(),
                hint,
            }
            .into());
        }
        let axes = vec![GridAxis::layers(0..n_layers), GridAxis::heads(0..n_heads)];
        let mut scores = Self { axes, values, significant: None, tau: args.scores.tau };
        if let Some(other) = &args.scores.significant {
            scores.significant = Some(scores.read_significant(other, &shape)?);
        }
        Ok(scores)
    }

    /// Which heads a file of significant ones names: those that are not 0, and those must have their score there.
    fn read_significant(&self, file: &Path, shape: &[usize]) -> Result<Vec<bool>> {
        let (found, values) = npy::read(file)?;
        if found != shape {
            let problem = format!("has shape {found:?}, the scores have {shape:?}");
            return Err(refuse(file, problem, "give the file that belongs to --scores"));
        }
        let is_other = |cell: &usize| {
            let (here, score) = (values[*cell], self.values[*cell]);
            let is_same = (here - score).abs() <= SAME * score.abs();
            here != 0.0 && !is_same
        };
        if let Some(cell) = (0..values.len()).find(is_other) {
            let problem = format!("{} is {} there and {} here", self.label(cell), self.values[cell], values[cell]);
            return Err(refuse(file, problem, "give the file that belongs to --scores"));
        }
        Ok(values.iter().map(|&value| value != 0.0).collect())
    }

    fn n_heads(&self) -> usize {
        self.axes[1].labels.len()
    }

    fn label(&self, cell: usize) -> String {
        cell_label(&self.axes, cell)
    }

    /// The heads of `order` that are significant, and the others.
    fn parted(&self, order: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
        let significant = self.significant.as_ref()?;
        Some(order.iter().partition(|cell| significant[**cell]))
    }

    fn n_above(&self, tau: f64) -> usize {
        self.values.iter().filter(|score| **score > tau).count()
    }

    /// Sum, mean, mean size.
    fn sums(&self, order: &[usize]) -> [f64; 3] {
        // In the array's order, so that the sum is everybody's.
        let finite = || self.values.iter().filter(|score| !score.is_nan());
        let n = order.len() as f64;
        let sum: f64 = finite().sum();
        [sum, sum / n, finite().map(|score| score.abs()).sum::<f64>() / n]
    }

    /// Everything but single heads, for JSON. `order` holds the measured heads from the highest on.
    fn facts(&self, file: &Path, order: &[usize]) -> Map<String, Value> {
        let [sum, mean, mean_abs] = self.sums(order);
        let value =
            |cell: Option<&usize>| cell.map(|&cell| json!({ "label": self.label(cell), "score": self.values[cell] }));
        let mut facts = json!({
            "scores": file,
            "index_base": 0,
            "n_layers": self.axes[0].labels.len(),
            "n_heads": self.n_heads(),
            "n_measured": order.len(),
            "sum": sum,
            "mean": mean,
            "mean_abs": mean_abs,
            "largest": value(order.first()),
            "smallest": value(order.last()),
        });
        if let Some((significant, others)) = self.parted(order) {
            facts["significant"] = json!({
                "n": significant.len(),
                "smallest": value(significant.last()),
                "largest_other": value(others.first()),
                "mean_layer": self.mean_layer(&significant),
            });
        }
        if let Some(tau) = self.tau {
            facts["above"] = json!({ "tau": tau, "n": self.n_above(tau) });
        }
        facts.as_object().cloned().expect("it was built as one")
    }

    fn mean_layer(&self, cells: &[usize]) -> f64 {
        cells.iter().map(|cell| (cell / self.n_heads()) as f64).sum::<f64>() / cells.len() as f64
    }

    fn row(&self, rank: usize, cell: usize) -> Value {
        let (layer, head) = (cell / self.n_heads(), cell % self.n_heads());
        let mut row = json!({
            "rank": rank, "layer": layer, "head": head, "label": self.label(cell), "score": self.values[cell],
        });
        if let Some(significant) = &self.significant {
            row["significant"] = json!(significant[cell]);
        }
        row
    }

    fn talk(&self, order: &[usize], printer: &Printer) {
        let [sum, mean, mean_abs] = self.sums(order);
        let at = |cell: Option<&usize>| {
            cell.map_or("none".into(), |&cell| format!("{} ({})", number(self.values[cell]), self.label(cell)))
        };
        printer.talk(&format!(
            "{} heads of {} layers, sum {sum:.6}, mean {mean:.6}, mean size {mean_abs:.6}, from {} to {}",
            order.len(),
            self.axes[0].labels.len(),
            at(order.last()),
            at(order.first())
        ));
        if let Some((significant, others)) = self.parted(order) {
            printer.talk(&format!(
                "{} are significant, in layer {:.2} on average; the least of them {}, the largest other {}",
                significant.len(),
                self.mean_layer(&significant),
                at(significant.last()),
                at(others.first())
            ));
        }
        if let Some(tau) = self.tau {
            printer.talk(&format!("{} are above {tau}", self.n_above(tau)));
        }
    }

    /// The heat map; muted where the file, or else tau, says that a head is not significant.
    fn figure(&self, file: &Path, top: usize) -> Figure {
        let muted = match (&self.significant, self.tau) {
            (Some(is), _) => Some((is.iter().map(|is| !is).collect(), "not significant".to_owned())),
            (None, Some(tau)) => Some((self.values.iter().map(|x| *x <= tau).collect(), format!("not above {tau}"))),
            (None, None) => None,
        };
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Figure {
            title: "Score per layer and head".into(),
            subtitle: name,
            metric: "score".into(),
            axes: self.axes.clone(),
            values: self.values.clone(),
            intervals: vec![None; self.values.len()],
            below_floor: None,
            muted: muted.map(|(cells, said)| Muted { cells, said }),
            top,
        }
    }
}

fn refuse(file: &Path, problem: String, hint: &str) -> anyhow::Error {
    Error::File { path: file.into(), problem, hint: Some(hint.into()) }.into()
}
