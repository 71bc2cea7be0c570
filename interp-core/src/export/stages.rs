//! Sweeps of several stages as one finding: averages by direction, the heads that stand out in each stage, and their maps beside
//! each other. From finished output folders alone; runs and tests nothing.
//!
//! ```text
//! study.json, study.csv     one line per stage and head that is listed: the columns of the stage's `delta.json` behind `stage`,
//!                           and `mean_DIRECTION`, the mean over the trials of each direction
//! study.svg, study.png      the maps of all stages
//! ```
//! A head is listed that is `significant` in its stage, and so are the first few of every stage. Where a folder's table has no
//! such column, nothing was tested, and `n_significant` is null.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::study::{Study, read_json};
use super::{table, write_atomic};
use crate::error::{Error, Result};
use crate::plot::{self, Map as HeatMap, Maps, Muted, quantity};
use crate::scores;

/// A finished sweep as a stage of a study.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What it is called, which is also the name of its folder in the study's.
    pub name: String,
    study: Study,
    /// Head of `delta.json`.
    head: Map<String, Value>,
    /// Its lines of the primary metric, in its order: from the most positive mean on.
    rows: Vec<Map<String, Value>>,
    /// The cell of every line.
    cells: Vec<usize>,
    /// Labels of directions, and the mean of every cell over the trials of each.
    directions: Vec<(String, Vec<f64>)>,
}

impl Stage {
    /// Reads a finished output folder, which must be named as the stage is called.
    pub fn load(dir: &Path, name: &str) -> Result<Self> {
        let study = Study::load(dir)?;
        let path = dir.join("delta.json");
        let mut head: Map<String, Value> = read_json(&path)?;
        let lines = head.remove("cells");
        let broken = || Error::File {
            path: path.clone(),
            problem: "is not the table of this folder's grid".into(),
            hint: Some("make the folder anew: interp sweep --spec FOLDER/run.json --out ANOTHER".into()),
        };
        let metric = &study.layout.metrics[0];
        let of_metric = |row: &Value| row.get("metric").and_then(Value::as_str) == Some(metric);
        let rows: Vec<Map<String, Value>> = match lines {
            Some(Value::Array(rows)) => {
                rows.into_iter().filter(of_metric).filter_map(|row| row.as_object().cloned()).collect()
            }
            _ => return Err(broken()),
        };
        let n_cells = scores::n_cells(&study.layout.axes);
        let labels: Vec<String> = (0..n_cells).map(|cell| scores::cell_label(&study.layout.axes, cell)).collect();
        let cell = |row: &Map<String, Value>| {
            let label = row.get("label").and_then(Value::as_str)?;
            labels.iter().position(|other| other == label)
        };
        let cells: Vec<usize> = rows.iter().filter_map(cell).collect();
        if cells.len() != n_cells || rows.len() != n_cells {
            return Err(broken());
        }
        let directions = by_direction(&study);
        Ok(Self { name: name.into(), study, head, rows, cells, directions })
    }

    /// Number of heads that the stage's test found; `None` where nothing was tested.
    pub fn n_significant(&self) -> Option<usize> {
        let tested: Vec<bool> =
            self.rows.iter().filter_map(|row| row.get("significant").and_then(Value::as_bool)).collect();
        (!tested.is_empty()).then(|| tested.into_iter().filter(|found| *found).count())
    }

    /// Why nothing was tested, where that is so.
    pub fn note(&self) -> Option<&str> {
        self.head.get("threshold")?[&self.study.layout.metrics[0]]["note"].as_str()
    }

    /// Number of heads with a number.
    pub fn n_heads(&self) -> usize {
        self.rows.iter().filter(|row| row["mean"].is_number()).count()
    }

    /// Lines of the heads that are listed: the significant ones, and the first `top`.
    pub fn listed(&self, top: usize) -> Vec<Map<String, Value>> {
        let is_listed = |place: usize| {
            let row = &self.rows[place];
            row["mean"].is_number() && (place < top || row.get("significant") == Some(&json!(true)))
        };
        (0..self.rows.len()).filter(|&place| is_listed(place)).map(|place| self.line(place)).collect()
    }

    /// The stage's name, the columns of the folder's table, and the means by direction.
    fn line(&self, place: usize) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("stage".into(), json!(self.name));
        line.extend(self.rows[place].clone());
        for (direction, means) in &self.directions {
            line.insert(format!("mean_{direction}"), json!(means[self.cells[place]]));
        }
        line
    }

    /// What `study.json` says of the stage besides its heads.
    fn describe(&self) -> Value {
        let sweep = &self.study.run["spec"]["sweep"];
        let mut stage = json!({
            "name": self.name,
            "folder": self.name,
            "positions": sweep["positions"],
            "trials": sweep["trials"],
            "trials_sha256": self.study.run["spec"]["trials_sha256"],
            "n_significant": self.n_significant(),
        });
        for key in ["n_trials", "n_clusters", "noise_floor", "threshold"] {
            if let Some(value) = self.head.get(key) {
                stage[key] = value.clone();
            }
        }
        stage
    }

    /// The stage's map on scale `scale`: what is not significant is paler, what is under the noise floor grey.
    fn map(&self, scale: usize) -> HeatMap {
        let n = self.rows.len();
        let (mut values, mut grey, mut pale) = (vec![f64::NAN; n], vec![false; n], vec![false; n]);
        let mut outlined = Vec::new();
        let tested = self.n_significant();
        for (row, &cell) in self.rows.iter().zip(&self.cells) {
            let significant = row.get("significant") == Some(&json!(true));
            values[cell] = row["mean"].as_f64().unwrap_or(f64::NAN);
            grey[cell] = row.get("below_floor") == Some(&json!(true));
            pale[cell] = tested.is_some() && !significant;
            if significant {
                outlined.push(cell);
            }
        }
        let found = match tested {
            None => ": not tested".into(),
            Some(0) => ": no significant head".into(),
            Some(1) => ": 1 significant head".into(),
            Some(n) => format!(": {n} significant heads"),
        };
        let axes = self.study.layout.axes.clone();
        let title = format!("{}{found}", self.name);
        let muted = tested.map(|_| Muted { cells: pale, said: "not significant in its stage".into() });
        HeatMap { title, axes, values, below_floor: Some(grey), muted, outlined, scale }
    }
}

/// Writes tables and figure of a study, each file atomically and `study.json` last. `head` begins `study.json`; `top` heads of
/// every stage are listed whatever was found.
pub fn write_stages(dir: &Path, stages: &[Stage], head: Map<String, Value>, top: usize) -> Result<()> {
    let rows: Vec<Map<String, Value>> = stages.iter().flat_map(|stage| stage.listed(top)).collect();
    let mut all = head;
    all.insert("stages".into(), stages.iter().map(Stage::describe).collect());
    let maps = figure(stages, all.get("model").and_then(|model| model["checkpoint"].as_str()));
    write_atomic(&dir.join("study.svg"), plot::maps_svg(&maps)?.as_bytes())?;
    write_atomic(&dir.join("study.png"), &plot::maps_png(&maps)?)?;
    write_atomic(&dir.join("study.csv"), table::csv_of(&rows).as_bytes())?;
    write_atomic(&dir.join("study.json"), table::with_cells(&Value::Object(all), rows).as_bytes())
}

fn figure(stages: &[Stage], checkpoint: Option<&str>) -> Maps {
    let trials = stages.first().map_or(0, |stage| stage.study.rows.len());
    let checkpoint = checkpoint.map(|name| format!("{name}: ")).unwrap_or_default();
    let scale = |stage: &Stage| quantity("δ", &stage.study.layout.metrics[0]);
    Maps {
        title: "Effect per layer and head, by stage".into(),
        subtitle: format!("{checkpoint}mean over {trials} trials, every stage on a scale of its own"),
        // A stage's effects can be many times those of another, which would be white on its scale.
        scales: stages.iter().map(scale).collect(),
        rows: vec![stages.iter().enumerate().map(|(scale, stage)| stage.map(scale)).collect()],
    }
}

/// Directions in the order in which they first come, with the mean of every cell over their trials.
fn by_direction(study: &Study) -> Vec<(String, Vec<f64>)> {
    let n_cells = scores::n_cells(&study.layout.axes);
    let mut sums: Vec<(String, Vec<f64>, usize)> = Vec::new();
    for (&trial, cells) in study.rows.iter().zip(&study.cells[0]) {
        let Some(direction) = &study.trials[trial].direction else { continue };
        let place = sums.iter().position(|(name, ..)| name == direction).unwrap_or_else(|| {
            sums.push((direction.clone(), vec![0.0; n_cells], 0));
            sums.len() - 1
        });
        let (_, sum, n) = &mut sums[place];
        sum.iter_mut().zip(cells).for_each(|(sum, &x)| *sum += f64::from(x));
        *n += 1;
    }
    let mean = |(name, sum, n): (String, Vec<f64>, usize)| (name, sum.into_iter().map(|x| x / n as f64).collect());
    sums.into_iter().map(mean).collect()
}
