//! A sweep's results on their way into the output folder, with what is known only beside or after the trials: the weights'
//! fingerprint, the noise floor, hashes, cost.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use interp_core::Result;
use interp_core::export::{NoiseFloor, RunFolder};
use interp_core::hash::{FileHash, Hashes};
use interp_core::scores::ScoreGrid;
use interp_core::sweep::{Sink, TrialNoise, TrialReport};
use serde_json::{Value, json};

use super::Prepared;
use super::floor::{self, Outcome, Reference};
use super::load::Loaded;
use crate::timing::Timing;

/// The sink of `interp sweep`.
pub struct Folder<'a> {
    pub folder: &'a mut RunFolder,
    pub prepared: &'a Prepared,
    pub loaded: &'a Loaded,
    /// Of the weights.
    pub hashes: &'a WeightHashes,
    /// Whether the precision part of the noise floor is wanted.
    pub wants_floor: bool,
    pub timing: Timing,
    /// What was found at the end; nothing after an interruption.
    pub end: Option<End>,
}

/// Hashes of weight files, computed beside the run and waited for when the first folder is finished.
pub struct WeightHashes {
    running: RefCell<Option<Hashes>>,
    found: RefCell<Vec<FileHash>>,
}

impl WeightHashes {
    /// Starts on the files.
    pub fn start(files: Vec<PathBuf>) -> Self {
        Self { running: RefCell::new(Some(Hashes::start(files))), found: RefCell::default() }
    }

    fn wait(&self) -> Result<Vec<FileHash>> {
        if let Some(running) = self.running.take() {
            *self.found.borrow_mut() = running.wait()?;
        }
        Ok(self.found.borrow().clone())
    }
}

/// What the end of a run shows.
pub struct End {
    /// Per metric.
    pub floors: Vec<NoiseFloor>,
    /// Why the precision part is missing although it was wanted.
    pub failed: Option<String>,
}

impl Sink for Folder<'_> {
    fn begin(&mut self, n_trials: usize) -> Result<()> {
        self.folder.begin(n_trials)
    }

    fn has(&self, index: usize) -> bool {
        self.folder.has(index)
    }

    fn trial(&mut self, index: usize, grid: &ScoreGrid, report: &TrialReport) -> Result<ControlFlow<()>> {
        self.timing.trial(index, report);
        self.folder.note(note(&self.prepared.fingerprint()?, &report.noise));
        self.folder.trial(index, grid, report)
    }

    fn skip(&mut self, index: usize, reason: &str) -> Result<ControlFlow<()>> {
        self.folder.skip(index, reason)
    }

    fn finish(&mut self) -> Result<()> {
        let mut floors = floors(self.folder, self.prepared.sweep.metrics.len());
        let reference = if self.wants_floor {
            let start = Instant::now();
            let effects = self.folder.effects()?;
            match floor::measure(self.prepared, self.loaded, &effects, &mut floors) {
                Outcome::Done(reference) => {
                    self.timing.floor_s = Some(start.elapsed().as_secs_f64());
                    reference
                }
                Outcome::Interrupted => return Ok(()),
            }
        } else {
            Reference::none("--no-floor")
        };
        let mut described = self.prepared.describe(&self.hashes.wait()?);
        if let Some(transfer) = self.loaded.describe_maps() {
            described.insert("transfer".into(), transfer);
        }
        described.insert("noise_reference".into(), reference.record);
        self.folder.describe(described, floors.iter().copied().map(Some).collect());
        self.end = Some(End { floors, failed: reference.failed });
        self.folder.finish()
    }
}

/// What the journal keeps with a trial.
fn note(fingerprint: &str, noise: &[TrialNoise]) -> Value {
    let noise: Vec<Value> = noise.iter().map(|n| json!({ "repeat": n.repeat, "batch": n.batch })).collect();
    json!({ "weights": fingerprint, "noise": noise })
}

/// The weights' fingerprint in a note.
pub fn weights_of(note: &Value) -> Option<&str> {
    note["weights"].as_str()
}

/// Repeat and batch noise of all trials, those of earlier starts included.
fn floors(folder: &RunFolder, n_metrics: usize) -> Vec<NoiseFloor> {
    let of_metric = |metric: usize| {
        let notes = folder.notes().values().map(|note| {
            let noise = &note["noise"][metric];
            TrialNoise { repeat: noise["repeat"].as_f64(), batch: noise["batch"].as_f64() }
        });
        let TrialNoise { repeat, batch } = notes.fold(TrialNoise::default(), TrialNoise::max);
        NoiseFloor { repeat, batch, ..NoiseFloor::default() }
    };
    (0..n_metrics).map(of_metric).collect()
}
