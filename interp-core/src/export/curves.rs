//! What is left of a metric when more and more heads are taken away together: the curves of a cumulative ablation, from the
//! output folder of its sweep over sets of heads. Runs nothing.
//!
//! ```text
//! curves.json                       head, and one line per metric and point; curves.csv has the same lines
//! curves[.METRIC].svg, .png         the three curves, each with a band of one standard error
//! ```
//! A line: `metric`; `curve` (`ranked`, `lowest`, `random`); `k`, the number of heads; `draws`, how many sets it is the mean
//! of; `mean` of the metric itself after the ablation (metric of the unedited run less δ), `sd`, `se` (by cluster) and `ci`
//! over trials, each trial's value being its mean over the draws; `draw_sd`, the deviation of the draws' means. Of several
//! draws `se` and `ci` hold their spread too ([`CellStats::over_draws`]).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::study::{BootstrapRecord, Study};
use super::table::{csv_of, with_cells};
use super::write_atomic;
use crate::error::{Error, Result};
use crate::plot;
use crate::stats::{self, CellSet, CellStats, Curve};

/// One point of a curve, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Which curve.
    pub curve: Curve,
    /// Number of heads taken away.
    pub k: usize,
    /// Sets of heads it is the mean of.
    pub draws: usize,
    /// The metric after the ablation, over trials.
    pub stats: CellStats,
    /// Standard deviation (ddof 1) of the draws' means; `None` for one draw.
    pub draw_sd: Option<f64>,
}

/// The curves of one metric, each from k = 0 on, in the order of [`Curve::ALL`].
#[derive(Debug, Clone)]
pub struct AblationCurves {
    /// Index of the metric.
    pub metric: usize,
    /// All points.
    pub points: Vec<CurvePoint>,
}

impl AblationCurves {
    /// Of a finished sweep over `sets`, in their order.
    pub fn new(study: &Study, sets: &[CellSet], metric: usize) -> Result<Self> {
        let n_cells = study.layout.axes.iter().map(|axis| axis.labels.len()).product::<usize>();
        if n_cells != sets.len() {
            let problem = format!("the plan has {}", sets.len());
            return Err(Error::Statistics { what: "sets of heads", value: n_cells.to_string(), problem });
        }
        // The places of every point's sets; at k = 0, where nothing is edited, there are none.
        let mut places: Vec<(Curve, usize, Vec<usize>)> = Vec::new();
        for curve in Curve::ALL {
            let of_curve = sets.iter().enumerate().filter(|(_, set)| set.curve == curve);
            for (place, set) in of_curve {
                if places.last().is_none_or(|last| last.0 != curve) {
                    places.push((curve, 0, Vec::new()));
                }
                match places.last_mut() {
                    Some((_, k, of_point)) if *k == set.k => of_point.push(place),
                    _ => places.push((curve, set.k, vec![place])),
                }
            }
        }
        let after = |row: usize, place: usize| study.clean[row][metric] - f64::from(study.cells[metric][row][place]);
        let value = |row: usize, of_point: &[usize]| match of_point {
            [] => study.clean[row][metric],
            many => many.iter().map(|&place| after(row, place)).sum::<f64>() / many.len() as f64,
        };
        let rows: Vec<Vec<f64>> = (0..study.rows.len())
            .map(|row| places.iter().map(|(_, _, of_point)| value(row, of_point)).collect())
            .collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let cells = stats::summarize(&rows, &study.clusters(), &study.bootstrap)?;
        let mean = |&place: &usize| (0..rows.len()).map(|row| after(row, place)).sum::<f64>() / rows.len() as f64;
        let draw_means = |of_point: &[usize]| of_point.iter().map(mean).collect::<Vec<f64>>();
        let point = |((curve, k, of_point), stats): (&(Curve, usize, Vec<usize>), CellStats)| CurvePoint {
            curve: *curve,
            k: *k,
            draws: of_point.len().max(1),
            stats: stats.over_draws(&draw_means(of_point)),
            draw_sd: stats::deviation(&draw_means(of_point)),
        };
        let points = places.iter().zip(cells).map(point).collect();
        Ok(Self { metric, points })
    }

    /// The point of a curve at k, if it has one.
    pub fn at(&self, curve: Curve, k: usize) -> Option<&CurvePoint> {
        self.points.iter().find(|point| (point.curve, point.k) == (curve, k))
    }

    /// The lines of this metric.
    pub fn lines(&self, study: &Study) -> Vec<Map<String, Value>> {
        let line = |point: &CurvePoint| {
            let columns = [
                ("metric", json!(study.layout.metrics[self.metric])),
                ("curve", json!(point.curve.name())),
                ("k", json!(point.k)),
                ("draws", json!(point.draws)),
                ("mean", json!(point.stats.mean)),
                ("sd", json!(point.stats.sd)),
                ("se", json!(point.stats.se)),
                ("ci", json!(point.stats.ci)),
                ("draw_sd", json!(point.draw_sd)),
            ];
            columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        self.points.iter().map(line).collect()
    }

    fn figure(&self, study: &Study) -> plot::Curves {
        let points = |curve: Curve| {
            let of_curve = self.points.iter().filter(move |point| point.curve == curve);
            let band = |stats: &CellStats| [stats.mean - stats.se, stats.mean + stats.se];
            let drawn = |p: &CurvePoint| plot::Point { x: p.k as f64, y: p.stats.mean, band: Some(band(&p.stats)) };
            of_curve.map(drawn).collect::<Vec<_>>()
        };
        let draws = self.points.iter().map(|point| point.draws).max().unwrap_or(1);
        let name = |curve| match curve {
            Curve::Ranked => "first of the ranking".to_owned(),
            Curve::Lowest => "lowest of the same layers".to_owned(),
            Curve::Random => format!("at random, {draws} draws"),
        };
        let curve = |curve| plot::Curve { name: name(curve), points: points(curve) };
        let word = |key: &str| study.run["spec"]["sweep"].get(key).and_then(Value::as_str).unwrap_or_default();
        let model = study.run["model"]["checkpoint"].as_str().map(|name| format!("{name}: ")).unwrap_or_default();
        let trials = if study.rows.len() == 1 { "1 trial".to_owned() } else { format!("{} trials", study.rows.len()) };
        plot::Curves {
            title: "Heads taken away together".into(),
            subtitle: format!(
                "{model}{} at {}, positions {}; mean over {trials}, bands of one standard error",
                word("edit"),
                word("site"),
                word("positions")
            ),
            x: "Number of heads".into(),
            y: plot::quantity("mean", &study.layout.metrics[self.metric]),
            curves: Curve::ALL.into_iter().map(curve).filter(|curve| !curve.points.is_empty()).collect(),
        }
    }

    /// Writes the files of all metrics beside those of the sweep, each atomically. `head` stands in `curves.json` before the
    /// lines, with what the sets are and where their order comes from.
    pub fn write(all: &[Self], study: &Study, head: &Map<String, Value>, dir: &Path) -> Result<()> {
        let put = |name: &str, bytes: &[u8]| write_atomic(&dir.join(name), bytes);
        let clusters = study.clusters();
        let mut full = json!({
            "schema": "interp.curves/1",
            "index_base": 0,
            "metrics": study.layout.metrics,
            "n_trials": study.rows.len(),
            "n_clusters": clusters.len(),
            "clusters_labelled": clusters.labelled(),
            "bootstrap": BootstrapRecord::from(&study.bootstrap),
        });
        head.iter().for_each(|(key, value)| full[key] = value.clone());
        let lines: Vec<Map<String, Value>> = all.iter().flat_map(|curves| curves.lines(study)).collect();
        put("curves.csv", csv_of(&lines).as_bytes())?;
        for curves in all {
            let figure = curves.figure(study);
            put(&study.layout.file("curves", curves.metric, "svg"), plot::curves_svg(&figure)?.as_bytes())?;
            put(&study.layout.file("curves", curves.metric, "png"), &plot::curves_png(&figure)?)?;
        }
        put("curves.json", with_cells(&full, lines).as_bytes())
    }
}
