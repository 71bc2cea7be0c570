//! The numbers of one output folder in memory, and reading them back. Needs no model and no tokenizer.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kind::FullTransfer;
use super::noise::NoiseFloor;
use super::npy;
use crate::error::{Error, Result};
use crate::plot::Muted;
use crate::scores::{self, GridAxis};
use crate::site::HeadAxis;
use crate::stats::{self, Bootstrap, CellStats, Clusters, FamilyTest, Permutation};

/// What the arrays' axes mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Axes of one trial's grid, outermost first.
    pub axes: Vec<GridAxis>,
    /// Metric names, the primary one first.
    pub metrics: Vec<String>,
    /// Which heads a `head` axis counts, if there is one.
    pub head_axis: Option<HeadAxis>,
    /// Query heads that share a KV head, when known; adds the column `kv_head` to tables over query heads.
    pub heads_per_kv: Option<usize>,
}

/// One trial of the trial file, as far as results need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialRow {
    /// Unique within the run.
    pub id: String,
    /// The draw of material it comes from.
    pub cluster: Option<String>,
    /// Free label.
    pub direction: Option<String>,
}

/// A trial that has no numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Index in the trial file.
    pub index: usize,
    /// Id of the trial.
    pub id: String,
    /// Why it was refused.
    pub reason: String,
}

/// All numbers of a finished run.
#[derive(Debug, Clone)]
pub struct Study {
    /// Meaning of the arrays.
    pub layout: Layout,
    /// Every trial of the trial file, in its order.
    pub trials: Vec<TrialRow>,
    /// Index into `trials` of every row of the arrays.
    pub rows: Vec<usize>,
    /// Trials without numbers.
    pub skipped: Vec<Skipped>,
    /// `[metric][row][cell]`, cells row-major.
    pub cells: Vec<Vec<Vec<f32>>>,
    /// `[row][metric]` of the unedited base run.
    pub clean: Vec<Vec<f64>>,
    /// `[row][metric]` of the unedited source run, when trials have a source.
    pub source: Option<Vec<Vec<f64>>>,
    /// How `delta.json`'s intervals were drawn.
    pub bootstrap: Bootstrap,
    /// Noise floor per metric; `None` where it was not measured.
    pub noise: Vec<Option<NoiseFloor>>,
    /// `run.json` as it stands.
    pub run: Value,
}

/// One metric over all cells.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Index of the metric.
    pub metric: usize,
    /// Per cell, row-major.
    pub cells: Vec<CellStats>,
    /// Cells from the largest mean to the smallest, ties in axes order, cells without a number last.
    pub order: Vec<usize>,
    /// Per cell, whether |mean| is under the noise floor; `None` if no floor was measured.
    pub below_floor: Option<Vec<bool>>,
    /// Which cells are significant, over the whole grid.
    pub test: FamilyTest,
    /// What δ is, see [`Study::delta_kind`].
    pub kind: String,
    /// What `cma_logit_diff_norm` divides by, for causal mediation scores.
    pub full_transfer: Option<FullTransfer>,
}

impl Study {
    /// Reads a finished output folder.
    pub fn load(dir: &Path) -> Result<Self> {
        let run: Value = match read_json(&dir.join("run.json")) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let unfinished = dir.join("partial").is_dir();
                let (problem, hint) = match (unfinished, dir.is_dir()) {
                    (true, _) => ("the run in this folder is not finished", "the command that started it resumes it"),
                    (_, true) => {
                        ("not an output folder: no run.json", "give the folder that `interp sweep --out` wrote")
                    }
                    _ => ("no such folder", "give the folder that `interp sweep --out` wrote"),
                };
                return Err(Error::File { path: dir.into(), problem: problem.into(), hint: Some(hint.into()) });
            }
            other => other?,
        };
        if run.get("layout").is_none() {
            return Err(no_sweep(dir, &run));
        }
        let header: RunHeader = RunHeader::deserialize(&run).map_err(json_error(dir.join("run.json")))?;
        let layout = header.layout.layout().ok_or_else(|| Error::Field {
            path: dir.join("run.json"),
            field: "layout.head_axis".into(),
            problem: "neither query nor kv".into(),
            hint: None,
        })?;
        let trial_rows: Vec<TrialRecord> = read_json(&dir.join("trials.json"))?;
        let rows: Vec<usize> = (0..trial_rows.len()).filter(|&i| trial_rows[i].row.is_some()).collect();
        let n_metrics = layout.metrics.len();
        let per_row = |name: &str| Ok::<_, Error>(split(&array(dir, name, &[rows.len(), n_metrics])?, n_metrics));
        let n_cells = scores::n_cells(&layout.axes);
        let mut shape = vec![rows.len()];
        shape.extend(layout.axes.iter().map(|axis| axis.labels.len()));
        let cells = (0..n_metrics).map(|metric| {
            let values = array(dir, &layout.file("delta_per_trial", metric, "npy"), &shape)?;
            Ok(split(&values.iter().map(|&x| x as f32).collect::<Vec<f32>>(), n_cells))
        });
        Ok(Self {
            cells: cells.collect::<Result<_>>()?,
            clean: per_row("metric_clean.npy")?,
            source: if dir.join("metric_source.npy").exists() { Some(per_row("metric_source.npy")?) } else { None },
            skipped: read_json(&dir.join("skipped.json"))?,
            trials: trial_rows.into_iter().map(TrialRecord::trial).collect(),
            noise: layout.metrics.iter().map(|name| header.noise_floor.get(name).copied().flatten()).collect(),
            bootstrap: header.bootstrap.into(),
            layout,
            rows,
            run,
        })
    }

    /// The same study of the trials with these ids alone, in this order. Ids without numbers are left out.
    pub fn of_trials(&self, ids: &[String]) -> Self {
        let row = |id: &String| self.rows.iter().position(|&trial| &self.trials[trial].id == id);
        let rows: Vec<usize> = ids.iter().filter_map(row).collect();
        let of = |values: &Vec<Vec<f64>>| rows.iter().map(|&row| values[row].clone()).collect::<Vec<_>>();
        let cells = |values: &Vec<Vec<f32>>| rows.iter().map(|&row| values[row].clone()).collect();
        Self {
            trials: rows.iter().map(|&row| self.trials[self.rows[row]].clone()).collect(),
            rows: (0..rows.len()).collect(),
            skipped: Vec::new(),
            cells: self.cells.iter().map(cells).collect(),
            clean: of(&self.clean),
            source: self.source.as_ref().map(of),
            layout: self.layout.clone(),
            bootstrap: self.bootstrap,
            noise: self.noise.clone(),
            run: self.run.clone(),
        }
    }

    /// Index of a metric by name, or the primary one.
    pub fn metric(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name else { return Ok(0) };
        self.layout.metrics.iter().position(|metric| metric == name).ok_or_else(|| Error::Selector {
            what: "metric",
            value: name.into(),
            problem: "not in this folder".into(),
            hint: Some(format!("the folder holds {}", self.layout.metrics.join(", "))),
        })
    }

    /// Which rows belong together.
    pub fn clusters(&self) -> Clusters {
        let labels: Vec<Option<&str>> = self.rows.iter().map(|&t| self.trials[t].cluster.as_deref()).collect();
        Clusters::new(&labels)
    }

    /// The test whose result `delta.json` shows: one-sided over the whole grid at 0.05, with the bootstrap's seed.
    pub fn permutation(&self) -> Permutation {
        Permutation { seed: self.bootstrap.seed, ..Permutation::default() }
    }

    /// Statistics of every cell of one metric, as `delta.json` has them.
    pub fn summary(&self, metric: usize, bootstrap: &Bootstrap) -> Result<Summary> {
        self.judged(metric, bootstrap, &self.permutation())
    }

    /// Statistics of every cell of one metric, with a test of one's own. Without any row, every cell is empty.
    pub fn judged(&self, metric: usize, bootstrap: &Bootstrap, permutation: &Permutation) -> Result<Summary> {
        let rows: Vec<&[f32]> = self.cells[metric].iter().map(Vec::as_slice).collect();
        let n_cells = scores::n_cells(&self.layout.axes);
        let (cells, test) = if rows.is_empty() {
            (vec![CellStats::NONE; n_cells], FamilyTest::none(n_cells, *permutation, "no trial has numbers"))
        } else {
            let clusters = self.clusters();
            (stats::summarize(&rows, &clusters, bootstrap)?, stats::max_statistic(&rows, &clusters, permutation)?)
        };
        let order = stats::ranking(&cells.iter().map(|cell| cell.mean).collect::<Vec<_>>());
        let floor = self.noise[metric].as_ref().and_then(NoiseFloor::largest);
        let below_floor = floor.map(|floor| cells.iter().map(|cell| cell.mean.abs() < floor).collect());
        let (kind, full_transfer) = (self.delta_kind(metric), self.full_transfer(metric));
        Ok(Summary { metric, cells, order, below_floor, test, kind, full_transfer })
    }
}

impl Summary {
    /// The mean of every significant cell and 0 elsewhere, as Yang et al. publish theirs; `None` where no test could be made,
    /// so that a missing test is not read as "none".
    pub fn significant_means(&self) -> Option<Vec<f64>> {
        let significant = self.test.significant.as_ref()?;
        let mean = |(cell, is): (&CellStats, &bool)| if *is { cell.mean } else { 0.0 };
        Some(self.cells.iter().zip(significant).map(mean).collect())
    }

    /// Cells that were tested and are not significant, as figures mute them; `None` where no test could be made.
    pub fn muted(&self) -> Option<Muted> {
        self.test.significant.as_ref()?;
        let cells = (0..self.cells.len()).map(|cell| self.test.is_insignificant(cell)).collect();
        let Permutation { alpha, two_sided, .. } = self.test.permutation;
        let sides = if two_sided { "two-sided" } else { "one-sided" };
        Some(Muted { cells, said: format!("not significant (over the whole grid, {sides}, α = {alpha})") })
    }
}

impl Layout {
    /// Name of a per-metric file: `delta.npy` for the primary metric, `delta.acc.npy` for a further one.
    pub fn file(&self, stem: &str, metric: usize, extension: &str) -> String {
        match metric {
            0 => format!("{stem}.{extension}"),
            _ => format!("{stem}.{}.{extension}", self.metrics[metric]),
        }
    }
}

/// `run.json` as far as reading needs it.
#[derive(Deserialize)]
struct RunHeader {
    layout: LayoutRecord,
    bootstrap: BootstrapRecord,
    #[serde(default)]
    noise_floor: std::collections::BTreeMap<String, Option<NoiseFloor>>,
}

/// [`Layout`] as `run.json` holds it.
#[derive(Serialize, Deserialize)]
pub(super) struct LayoutRecord {
    axes: Vec<AxisRecord>,
    metrics: Vec<String>,
    head_axis: Option<String>,
    heads_per_kv: Option<usize>,
}

/// A [`GridAxis`] as files hold it.
#[derive(Serialize, Deserialize)]
pub(super) struct AxisRecord {
    name: String,
    labels: Vec<String>,
}

/// [`Bootstrap`] as `run.json` holds it.
#[derive(Serialize, Deserialize)]
pub(super) struct BootstrapRecord {
    level: f64,
    resamples: usize,
    seed: u64,
}

/// A line of `trials.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct TrialRecord {
    pub(super) row: Option<usize>,
    pub(super) id: String,
    pub(super) cluster: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) status: String,
}

impl TrialRecord {
    fn trial(self) -> TrialRow {
        TrialRow { id: self.id, cluster: self.cluster, direction: self.direction }
    }
}

impl From<&GridAxis> for AxisRecord {
    fn from(axis: &GridAxis) -> Self {
        Self { name: axis.name.clone(), labels: axis.labels.clone() }
    }
}

impl From<&Layout> for LayoutRecord {
    fn from(layout: &Layout) -> Self {
        Self {
            axes: layout.axes.iter().map(AxisRecord::from).collect(),
            metrics: layout.metrics.clone(),
            head_axis: layout.head_axis.map(|axis| axis.name().into()),
            heads_per_kv: layout.heads_per_kv,
        }
    }
}

impl LayoutRecord {
    fn layout(self) -> Option<Layout> {
        let head_axis = match self.head_axis.as_deref() {
            None => None,
            Some(name) => Some([HeadAxis::Query, HeadAxis::Kv].into_iter().find(|axis| axis.name() == name)?),
        };
        let axes = self.axes.into_iter().map(|axis| GridAxis { name: axis.name, labels: axis.labels }).collect();
        Some(Layout { axes, metrics: self.metrics, head_axis, heads_per_kv: self.heads_per_kv })
    }
}

impl From<&Bootstrap> for BootstrapRecord {
    fn from(b: &Bootstrap) -> Self {
        Self { level: b.level, resamples: b.resamples, seed: b.seed }
    }
}

impl From<BootstrapRecord> for Bootstrap {
    fn from(b: BootstrapRecord) -> Self {
        Self { level: b.level, resamples: b.resamples, seed: b.seed }
    }
}

/// A folder of something else. A contrast's names the sweeps that it compares.
fn no_sweep(dir: &Path, run: &Value) -> Error {
    let text = |field: &str| run[field].as_str();
    let by = text("command").map(|command| format!("`interp {command}`")).or(text("schema").map(str::to_owned));
    let problem = format!("no folder of a sweep: its run.json is of {}", by.as_deref().unwrap_or("something else"));
    // Its own sweeps are named from the contrast's folder.
    let folder = |arm: &Value| {
        let (named, inside) = (PathBuf::from(arm["folder"].as_str()?), dir.join(arm["folder"].as_str()?));
        Some(if inside.is_dir() { inside } else { named }.display().to_string())
    };
    let sweeps: Vec<String> = run["checkpoints"].as_array().into_iter().flatten().filter_map(folder).collect();
    let hint = match sweeps.is_empty() {
        true => "give the folder that `interp sweep --out` wrote".to_owned(),
        false => format!("give one of the sweeps that it compares: {}", sweeps.join(", ")),
    };
    Error::File { path: dir.into(), problem, hint: Some(hint) }
}

/// Reads one JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(json_error(path.into()))
}

fn json_error(path: PathBuf) -> impl FnOnce(serde_json::Error) -> Error {
    move |source| Error::Json { path, line: None, source }
}

fn array(dir: &Path, name: &str, expected: &[usize]) -> Result<Vec<f64>> {
    let path = dir.join(name);
    let (shape, values) = npy::read(&path)?;
    if shape == expected {
        return Ok(values);
    }
    let problem = format!("has shape {shape:?}, but run.json and trials.json imply {expected:?}");
    Err(Error::File { path, problem, hint: None })
}

fn split<T: Clone>(values: &[T], width: usize) -> Vec<Vec<T>> {
    values.chunks(width.max(1)).map(<[T]>::to_vec).collect()
}
