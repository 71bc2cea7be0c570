//! Sweeps of several checkpoints over the same grid and trials, compared cell by cell, from their output folders alone. Runs
//! nothing.
//!
//! ```text
//! contrast.json, contrast.csv       one table, see `contrast/table.rs`
//! contrast[.METRIC].svg, .png       every checkpoint's heat map on one scale, and every Δδ beside or below them
//! run.json                          what was compared; written last
//! ```
//! The first checkpoint is the reference, and Δδ is δ less the reference's δ, in the metric's unit. Every number is over the
//! trials that ran in all folders, so that a δ may differ from its own folder's where a trial was refused by another.

mod figure;
mod table;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::run_folder::difference;
use super::study::{Layout, Study};
use super::write::pretty;
use super::write_atomic;
use crate::error::{Error, Result};
use crate::plot;
use crate::scores::GridAxis;
use crate::stats::{self, Bootstrap, CellStats, Clusters, Flips};

/// Fields of a sweep's spec in which checkpoints may differ; the trials are compared by their content.
const OWN: [&str; 6] = ["model", "dtype", "weights", "device", "trials", "max_rows"];

/// The sweep of one checkpoint.
#[derive(Debug, Clone)]
pub struct Arm {
    /// What the checkpoint is called.
    pub name: String,
    /// Its output folder.
    pub dir: PathBuf,
    /// What the folder holds.
    pub study: Study,
}

/// How differences are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judge {
    /// How intervals are drawn.
    pub bootstrap: Bootstrap,
    /// How p is found.
    pub flips: Flips,
    /// The false discovery rate under which a difference counts as a change.
    pub level: f64,
}

/// Sweeps that may be compared.
#[derive(Debug, Clone)]
pub struct Contrast {
    arms: Vec<Arm>,
    /// Indices of the trials that ran in all of them.
    trials: Vec<usize>,
}

/// δ of one cell under one checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    /// Over the trials that ran in all folders.
    pub stats: CellStats,
    /// Two-sided, by flipped signs of clusters.
    pub p: f64,
    /// Whether |mean| is under the checkpoint's own noise floor, if one was measured.
    pub below_floor: Option<bool>,
}

/// Δδ of one cell: δ under a checkpoint less δ under the reference, trial by trial.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Over the trials that ran in all folders.
    pub stats: CellStats,
    /// Two-sided, by flipped signs of clusters.
    pub p: f64,
    /// The false discovery rate at which it would be taken, among all measured cells of the grid.
    pub q: f64,
    /// Whether q is under the level, and |mean| above the noise floors of both checkpoints.
    pub changed: bool,
}

/// One metric over all cells.
#[derive(Debug, Clone)]
pub struct Contrasted {
    /// Index of the metric.
    pub metric: usize,
    /// `[arm][cell]`.
    pub effects: Vec<Vec<Effect>>,
    /// `[arm - 1][cell]`: the reference has none.
    pub changes: Vec<Vec<Change>>,
}

impl Judge {
    /// Errs for a level that is no rate.
    pub fn check(&self) -> Result<()> {
        if self.level > 0.0 && self.level < 1.0 {
            return Ok(());
        }
        let (value, problem) = (self.level.to_string(), "must lie between 0 and 1, such as 0.05".into());
        Err(Error::Statistics { what: "false discovery rate", value, problem })
    }
}

impl Contrast {
    /// The first arm is the reference. Errs for fewer than two arms, for arms of other grids, edits or trials than the
    /// reference's, and where no trial ran in all.
    pub fn new(arms: Vec<Arm>) -> Result<Self> {
        let [reference, others @ ..] = arms.as_slice() else {
            return Err(too_few(0));
        };
        if others.is_empty() {
            return Err(too_few(1));
        }
        others.iter().try_for_each(|other| other.check_against(reference))?;
        let ran = |trial: &usize| others.iter().all(|other| other.study.rows.binary_search(trial).is_ok());
        let trials: Vec<usize> = reference.study.rows.iter().copied().filter(ran).collect();
        if trials.is_empty() {
            let problem = "no trial ran in all folders: their skipped.json say why".into();
            return Err(Error::Statistics { what: "trials", value: "0".into(), problem });
        }
        Ok(Self { arms, trials })
    }

    /// As [`Contrast::new`] for sweeps of different trial files that share trials: those of one id, of which every file must say the
    /// same. For checkpoints that answer different prompts rightly.
    pub fn matched(mut arms: Vec<Arm>) -> Result<Self> {
        let ran = |arm: &Arm, id: &str| arm.study.rows.iter().any(|&row| arm.study.trials[row].id == id);
        let Some(reference) = arms.first() else { return Err(too_few(0)) };
        let ids = reference.study.rows.iter().map(|&row| reference.study.trials[row].id.clone());
        let ids: Vec<String> = ids.filter(|id| arms.iter().all(|arm| ran(arm, id))).collect();
        arms.iter_mut().for_each(|arm| arm.study = arm.study.of_trials(&ids));
        let content = reference_content(&arms);
        arms.iter_mut().for_each(|arm| arm.study.run["spec"]["trials_sha256"] = content.clone());
        Self::new(arms)
    }

    /// The sweeps, the reference first.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// What the grids mean.
    pub fn layout(&self) -> &Layout {
        &self.arms[0].study.layout
    }

    /// Number of trials that ran in all folders.
    pub fn n_trials(&self) -> usize {
        self.trials.len()
    }

    /// Which of those trials belong together.
    pub fn clusters(&self) -> Clusters {
        let trials = &self.arms[0].study.trials;
        Clusters::new(&self.trials.iter().map(|&trial| trials[trial].cluster.as_deref()).collect::<Vec<_>>())
    }

    /// Compares one metric.
    pub fn compare(&self, metric: usize, judge: &Judge) -> Result<Contrasted> {
        judge.check()?;
        let clusters = self.clusters();
        let rows: Vec<Vec<&[f32]>> = self.arms.iter().map(|arm| arm.rows(metric, &self.trials)).collect();
        let floors: Vec<Option<f64>> = self.arms.iter().map(|arm| arm.floor(metric)).collect();
        let effects = rows.iter().zip(&floors).map(|(rows, floor)| {
            let p = stats::sign_flip(rows, &clusters, &judge.flips)?;
            let cells = stats::summarize(rows, &clusters, &judge.bootstrap)?.into_iter().zip(p);
            let below = |mean: f64| floor.filter(|_| !mean.is_nan()).map(|floor| mean.abs() < floor);
            Ok(cells.map(|(stats, p)| Effect { stats, p, below_floor: below(stats.mean) }).collect())
        });
        let changes = rows[1..].iter().zip(&floors[1..]).map(|(other, floor)| {
            let differences: Vec<Vec<f64>> = other.iter().zip(&rows[0]).map(|(a, b)| less(a, b)).collect();
            let differences: Vec<&[f64]> = differences.iter().map(Vec::as_slice).collect();
            let p = stats::sign_flip(&differences, &clusters, &judge.flips)?;
            let q = stats::false_discovery(&p);
            // A floor that was not measured cannot hold anything back; the files say that it was not.
            let noise = floor.unwrap_or(0.0).max(floors[0].unwrap_or(0.0));
            let cells = stats::summarize(&differences, &clusters, &judge.bootstrap)?.into_iter().zip(p).zip(q);
            let change = |((stats, p), q): ((CellStats, f64), f64)| Change {
                stats,
                p,
                q,
                changed: q < judge.level && stats.mean.abs() > noise,
            };
            Ok(cells.map(change).collect())
        });
        Ok(Contrasted { metric, effects: effects.collect::<Result<_>>()?, changes: changes.collect::<Result<_>>()? })
    }

    /// Compares every metric and writes every file, each atomically, `run.json` with `run` last.
    pub fn write(&self, dir: &Path, judge: &Judge, run: &Map<String, Value>) -> Result<Vec<Contrasted>> {
        let put = |name: &str, bytes: &[u8]| write_atomic(&dir.join(name), bytes);
        let metrics = 0..self.layout().metrics.len();
        let contrasted = metrics.map(|metric| self.compare(metric, judge)).collect::<Result<Vec<_>>>()?;
        put("contrast.json", table::json(self, judge, &contrasted).as_bytes())?;
        put("contrast.csv", table::csv(self, &contrasted).as_bytes())?;
        if plot::can_draw(&self.layout().axes) {
            for one in &contrasted {
                let figure = figure::figure(self, judge, one);
                put(&self.layout().file("contrast", one.metric, "svg"), plot::maps_svg(&figure)?.as_bytes())?;
                put(&self.layout().file("contrast", one.metric, "png"), &plot::maps_png(&figure)?)?;
            }
        }
        put("run.json", &pretty(run))?;
        Ok(contrasted)
    }

    /// The columns of `contrast.json` for one cell, a row per checkpoint.
    pub fn rows(&self, contrasted: &Contrasted, cell: usize) -> Vec<Map<String, Value>> {
        table::rows(self, contrasted, cell)
    }
}

impl Contrasted {
    /// Measured cells of an arm other than the reference: those that changed first, each part from the largest |Δδ| on.
    pub fn ranking(&self, arm: usize) -> Vec<usize> {
        let changes = &self.changes[arm - 1];
        let mut cells: Vec<usize> = (0..changes.len()).filter(|&cell| !changes[cell].stats.mean.is_nan()).collect();
        let key = |cell: usize| (changes[cell].changed, changes[cell].stats.mean.abs());
        cells.sort_by(|&a, &b| {
            let ((a_changed, a), (b_changed, b)) = (key(a), key(b));
            b_changed.cmp(&a_changed).then(b.total_cmp(&a))
        });
        cells
    }
}

impl Arm {
    /// δ of these trials, `[trial][cell]`.
    fn rows(&self, metric: usize, trials: &[usize]) -> Vec<&[f32]> {
        let row = |trial| self.study.rows.binary_search(trial).expect("it ran in all folders");
        trials.iter().map(|trial| self.study.cells[metric][row(trial)].as_slice()).collect()
    }

    fn floor(&self, metric: usize) -> Option<f64> {
        self.study.noise[metric].as_ref()?.largest()
    }

    /// Errs unless this sweep differs from the reference by its checkpoint alone.
    fn check_against(&self, reference: &Arm) -> Result<()> {
        let refuse = |problem: String, hint: &str| {
            let hint = Some(hint.into());
            Err(Error::File { path: self.dir.clone(), problem, hint })
        };
        let name = &reference.name;
        if let Some(problem) = self.study.layout.unlike(&reference.study.layout) {
            let hint = "compare checkpoints of one geometry, swept with the same flags";
            return refuse(format!("its grid is not that of {name}: {problem}"), hint);
        }
        if let Some((field, found, wanted)) = difference("", &question(&self.study), &question(&reference.study)) {
            let field = field.trim_start_matches('.');
            let hint = "compare sweeps that were made with the same flags";
            return refuse(
                format!("asks another question than {name}: `{field}` is {found} here, {wanted} there"),
                hint,
            );
        }
        let content = |study: &Study| study.run["spec"]["trials_sha256"].clone();
        if self.study.trials != reference.study.trials || content(&self.study) != content(&reference.study) {
            return refuse(format!("its trials are not those of {name}"), "sweep both with the same trial file");
        }
        Ok(())
    }
}

impl Layout {
    /// How this grid differs from another, in words; `None` if cells mean the same in both.
    pub fn unlike(&self, other: &Layout) -> Option<String> {
        let names = |axes: &[GridAxis]| axes.iter().map(|axis| axis.name.clone()).collect::<Vec<_>>().join(" x ");
        let (ours, theirs) = (names(&self.axes), names(&other.axes));
        if ours != theirs {
            return Some(format!("it is {ours}, not {theirs}"));
        }
        for (ours, theirs) in self.axes.iter().zip(&other.axes) {
            let (name, n, wanted) = (&ours.name, ours.labels.len(), theirs.labels.len());
            if n != wanted {
                return Some(format!("axis `{name}` has {n} labels, not {wanted}"));
            }
            if let Some((label, other)) = ours.labels.iter().zip(&theirs.labels).find(|(label, other)| label != other) {
                return Some(format!("axis `{name}` has {label} where that one has {other}"));
            }
        }
        if self.metrics != other.metrics {
            return Some(format!("it holds {}, not {}", self.metrics.join(", "), other.metrics.join(", ")));
        }
        (self.head_axis != other.head_axis).then(|| "it counts other heads".into())
    }
}

/// What a sweep asks, without what may differ between checkpoints.
fn question(study: &Study) -> Value {
    let mut spec = study.run["spec"]["sweep"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, _| !OWN.contains(&key.as_str()));
    }
    spec
}

/// What takes the place of the files' hashes where only a part of each is compared.
fn reference_content(arms: &[Arm]) -> Value {
    arms.iter().map(|arm| arm.study.run["spec"]["trials_sha256"].clone()).collect()
}

fn less(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

fn too_few(n: usize) -> Error {
    let problem = "a contrast needs at least two".into();
    Error::Statistics { what: "checkpoints", value: n.to_string(), problem }
}

#[cfg(test)]
mod tests;
