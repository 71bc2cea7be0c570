//! The life of an output folder while its sweep runs: journal, resume, lock, and the final files. Computes no effects.
//!
//! While the run lasts the folder holds `partial/`: `spec.json` (what is being run), `trials.bin` (one entry per finished
//! trial) and `lock`. The final files are always written from the journal, so a run that was stopped and resumed ends in
//! the same bytes as one that was not. `partial/spec.json` is removed first at the end: with `run.json` and without it, the
//! folder is finished.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::journal::{Entry, Journal, Numbers};
use super::noise::NoiseFloor;
use super::study::{BootstrapRecord, Layout, LayoutRecord, Skipped, Study, TrialRow, read_json};
use super::write::pretty;
use super::write_atomic;
use crate::error::{Error, Result};
use crate::scores::{self, ScoreGrid};
use crate::stats::Bootstrap;
use crate::sweep::Sink;
use crate::sweep::TrialReport;

/// What a folder is for. Two plans with the same `spec`, layout, number of trials and bootstrap are the same run.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// Identity of the run: command, hashes of model and trials, seeds, …; nothing that changes from one start to the next.
    pub spec: Value,
    /// Meaning of the grids to come.
    pub layout: Layout,
    /// The trials, in the order of their indices.
    pub trials: Vec<TrialRow>,
    /// How the intervals of `delta.json` are drawn.
    pub bootstrap: Bootstrap,
}

/// What was found at the place of an output folder.
#[derive(Debug)]
pub enum Opened {
    /// A new run, or one to go on with.
    Ready(Box<RunFolder>),
    /// This very run, already finished. Nothing was touched.
    Finished,
}

/// An output folder that a sweep is writing. Only one process can hold it; dropping it keeps what was done.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    plan: RunPlan,
    journal: Journal,
    /// Per trial, whether the journal has it.
    done: Vec<bool>,
    notes: BTreeMap<usize, Value>,
    next_note: Option<Value>,
    described: Map<String, Value>,
    noise: Vec<Option<NoiseFloor>>,
    /// Held until drop; the kernel releases it even after SIGKILL.
    _lock: File,
}

enum State {
    Fresh,
    Mine,
    Finished,
}

impl RunFolder {
    /// Creates the folder, or goes on with the run in it. Refuses a folder that holds anything else before touching it.
    pub fn open(dir: &Path, plan: RunPlan) -> Result<Opened> {
        if dir.is_file() {
            let hint = Some("give a new or an empty folder".into());
            return Err(Error::File { path: dir.into(), problem: "is a file, not a folder".into(), hint });
        }
        let identity = identity(&plan);
        let partial = dir.join("partial");
        let lock = loop {
            if let State::Finished = state(dir, &identity)? {
                return Ok(Opened::Finished);
            }
            fs::create_dir_all(&partial).map_err(Error::io("create", &partial))?;
            if let Some(lock) = lock(dir, &partial.join("lock"))? {
                break lock;
            }
        };
        // Asked again under the lock: another process may have finished meanwhile.
        match state(dir, &identity)? {
            State::Finished => return Ok(Opened::Finished),
            State::Fresh => write_atomic(&partial.join("spec.json"), &pretty(&identity))?,
            State::Mine => {}
        }
        let path = partial.join("trials.bin");
        let (journal, entries) = Journal::open(&path)?;
        let n_metrics = plan.layout.metrics.len();
        let n_numbers = n_metrics * scores::n_cells(&plan.layout.axes);
        let fits = |entry: &Entry| {
            let numbers = |n: &Numbers| n.clean.len() == n_metrics && n.cells.len() == n_numbers;
            entry.index < plan.trials.len() && entry.outcome.as_ref().map_or(true, numbers)
        };
        if !entries.iter().all(fits) {
            let hint = Some("remove the folder and run again".into());
            return Err(Error::File { path, problem: "does not fit the spec.json beside it".into(), hint });
        }
        let mut done = vec![false; plan.trials.len()];
        entries.iter().for_each(|entry| done[entry.index] = true);
        let notes = entries.into_iter().filter_map(|entry| Some((entry.index, entry.note?))).collect();
        let noise = vec![None; n_metrics];
        let dir = dir.to_path_buf();
        let described = Map::new();
        let folder = Self { dir, plan, journal, done, notes, next_note: None, described, noise, _lock: lock };
        Ok(Opened::Ready(Box::new(folder)))
    }

    /// Gives up a run that has nothing yet, and takes away what opening it made; a run that has something keeps it.
    pub fn abandon(self) -> Result<()> {
        if self.n_done() > 0 {
            return Ok(());
        }
        remove_partial(&self.dir)?;
        // Only an empty folder can be removed, and nothing was asked of any other.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Number of trials that are finished or refused, those of earlier starts included.
    pub fn n_done(&self) -> usize {
        self.done.iter().filter(|done| **done).count()
    }

    /// Keeps `note` with the next trial, across resumes: what a trial taught about the whole run, such as its noise.
    pub fn note(&mut self, note: Value) {
        self.next_note = Some(note);
    }

    /// Notes by trial index, those of earlier starts included.
    pub fn notes(&self) -> &BTreeMap<usize, Value> {
        &self.notes
    }

    /// The δ of every finished trial by its index, `[metric, cell]` as stored, those of earlier starts included.
    pub fn effects(&mut self) -> Result<BTreeMap<usize, Vec<f32>>> {
        let numbers = |entry: Entry| Some((entry.index, entry.outcome.ok()?.cells));
        Ok(self.journal.entries()?.into_iter().filter_map(numbers).collect())
    }

    /// What `run.json` says besides the plan, and the noise floor per metric. To be called before [`Sink::finish`], with
    /// nothing that differs between two equal runs. The plan's own keys cannot be replaced.
    pub fn describe(&mut self, run: Map<String, Value>, noise: Vec<Option<NoiseFloor>>) {
        self.described = run;
        self.noise = noise;
    }

    fn record(&mut self, index: usize, outcome: std::result::Result<Numbers, String>) -> Result<()> {
        let note = self.next_note.take();
        self.journal.append(&Entry { index, outcome, note: note.clone() })?;
        self.done[index] = true;
        if let Some(note) = note {
            self.notes.insert(index, note);
        }
        Ok(())
    }

    /// The finished run, from the journal alone.
    fn study(&mut self) -> Result<Study> {
        let entries: BTreeMap<usize, Entry> =
            self.journal.entries()?.into_iter().map(|entry| (entry.index, entry)).collect();
        let RunPlan { layout, trials, bootstrap, .. } = &self.plan;
        let n_metrics = layout.metrics.len();
        let n_cells = scores::n_cells(&layout.axes);
        let (mut rows, mut skipped, mut clean, mut source) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut cells = vec![Vec::new(); n_metrics];
        let mut any_source = false;
        for (index, entry) in entries {
            match entry.outcome {
                Err(reason) => skipped.push(Skipped { index, id: trials[index].id.clone(), reason }),
                Ok(numbers) => {
                    rows.push(index);
                    clean.push(numbers.clean);
                    any_source |= numbers.source.is_some();
                    source.push(numbers.source.unwrap_or_else(|| vec![f64::NAN; n_metrics]));
                    for (metric, cells) in cells.iter_mut().enumerate() {
                        cells.push(numbers.cells[metric * n_cells..][..n_cells].to_vec());
                    }
                }
            }
        }
        let mut run = identity(&self.plan);
        let keys = run.as_object_mut().expect("an identity is an object");
        let noise = layout.metrics.iter().zip(&self.noise).map(|(name, noise)| (name.clone(), json!(noise)));
        keys.insert("noise_floor".into(), Value::Object(noise.collect()));
        self.described.iter().for_each(|(key, value)| {
            keys.entry(key.as_str()).or_insert_with(|| value.clone());
        });
        Ok(Study {
            layout: layout.clone(),
            trials: trials.clone(),
            rows,
            skipped,
            cells,
            clean,
            source: any_source.then_some(source),
            bootstrap: *bootstrap,
            noise: self.noise.clone(),
            run,
        })
    }
}

impl Sink for RunFolder {
    fn begin(&mut self, n_trials: usize) -> Result<()> {
        check(n_trials == self.done.len(), || format!("{n_trials} trials begun, {} planned", self.done.len()))
    }

    fn has(&self, index: usize) -> bool {
        self.done[index]
    }

    fn trial(&mut self, index: usize, grid: &ScoreGrid, _: &TrialReport) -> Result<ControlFlow<()>> {
        grid.check()?;
        let layout = &self.plan.layout;
        check(grid.axes == layout.axes && grid.metrics == layout.metrics, || format!("trial {index} has other axes"))?;
        let cells = grid.values.iter().flatten().map(|&x| x as f32).collect();
        self.record(index, Ok(Numbers { clean: grid.clean.clone(), source: grid.source.clone(), cells }))?;
        Ok(ControlFlow::Continue(()))
    }

    fn skip(&mut self, index: usize, reason: &str) -> Result<ControlFlow<()>> {
        self.record(index, Err(reason.into()))?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(&mut self) -> Result<()> {
        let (done, all) = (self.n_done(), self.done.len());
        check(done == all, || format!("finished with {done} of {all} trials"))?;
        self.study()?.write(&self.dir)?;
        // The names must be on disk before the journal goes.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(Error::io("write", &self.dir))?;
        remove_partial(&self.dir)
    }
}

/// What makes two runs the same, as `partial/spec.json` and the head of `run.json` hold it.
fn identity(plan: &RunPlan) -> Value {
    json!({
        "schema": "interp.run/1",
        "spec": plan.spec,
        "layout": LayoutRecord::from(&plan.layout),
        "n_trials": plan.trials.len(),
        "bootstrap": BootstrapRecord::from(&plan.bootstrap),
    })
}

fn state(dir: &Path, identity: &Value) -> Result<State> {
    let (run, spec) = (dir.join("run.json"), dir.join("partial/spec.json"));
    for path in [&spec, &run] {
        if path.exists() {
            let found: Value = read_json(path)?;
            if found["schema"] != identity["schema"] {
                return Err(foreign(dir, path));
            }
            let keys = identity.as_object().expect("an identity is an object").keys();
            if let Some((field, found, wanted)) = keys.filter_map(|k| difference(k, &found[k], &identity[k])).next() {
                let field = field.strip_prefix("spec.").unwrap_or(&field).to_owned();
                return Err(Error::OtherRun { path: dir.into(), field, found, wanted });
            }
            if path == &spec {
                return Ok(State::Mine);
            }
            // A run that was killed while it removed its journal.
            remove_partial(dir)?;
            return Ok(State::Finished);
        }
    }
    // Neither: a folder to begin in holds nothing, or what a run leaves that was killed before it wrote its spec.
    let ours = |name: &str| ["partial", "lock", "trials.bin", ".spec.json.tmp"].contains(&name);
    for folder in [dir.to_path_buf(), dir.join("partial")] {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(Error::io("read", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            if !path.file_name().is_some_and(|name| ours(&name.to_string_lossy())) {
                return Err(foreign(dir, &path));
            }
        }
    }
    Ok(State::Fresh)
}

fn foreign(dir: &Path, entry: &Path) -> Error {
    let name = entry.strip_prefix(dir).unwrap_or(entry).display();
    let problem = format!("not empty and not an output folder of interp (holds `{name}`)");
    Error::File { path: dir.into(), problem, hint: Some("give a new or an empty folder".into()) }
}

/// The first place where two JSON values differ, with both values; fields of `wanted` first, in its order.
pub(super) fn difference(at: &str, found: &Value, wanted: &Value) -> Option<(String, String, String)> {
    if found == wanted {
        return None;
    }
    match (found, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = b.keys().chain(a.keys().filter(|key| !b.contains_key(*key)));
            keys.filter_map(|key| {
                let (a, b) = (a.get(key), b.get(key));
                let at = format!("{at}.{key}");
                match (a, b) {
                    (Some(a), Some(b)) => difference(&at, a, b),
                    _ => Some((at, short(a), short(b))),
                }
            })
            .next()
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|i| match (a.get(i), b.get(i)) {
            (Some(a), Some(b)) => difference(&format!("{at}[{i}]"), a, b),
            (a, b) => Some((format!("{at}[{i}]"), short(a), short(b))),
        }),
        (a, b) => Some((at.into(), short(Some(a)), short(Some(b)))),
    }
}

/// A value as one short piece of an error message.
fn short(value: Option<&Value>) -> String {
    let text = value.map_or("absent".into(), Value::to_string);
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// Takes the lock, or `None` if the folder's `partial/` was replaced meanwhile and the caller must look again.
fn lock(dir: &Path, path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().write(true).create(true).truncate(false).open(path) {
        // `partial/` went away between its creation and now: another process has just finished.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("write", path))?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: dir.into() }),
        // A file system without locks: better an unguarded folder than none.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", path)(e)),
    }
    // A lock on a file that no longer has its name guards nothing.
    let held = file.metadata().map_err(Error::io("lock", path))?;
    let named = fs::metadata(path);
    Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())).then_some(file))
}

fn remove_partial(dir: &Path) -> Result<()> {
    let partial = dir.join("partial");
    let gone = |result: std::io::Result<()>| match result {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &partial)(e)),
        _ => Ok(()),
    };
    gone(fs::remove_file(partial.join("spec.json")))?;
    gone(fs::remove_dir_all(&partial))
}

/// A condition that only a defect of the engine can break.
fn check(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Torch { context: "output folder".into(), message: message() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        let a = json!({"spec": {"seed": 1, "edit": "zero", "metrics": ["a", "b"]}, "n": 1});
        let differs = |b: Value| difference("run", &a, &b);
        assert_eq!(differs(json!({"n": 1, "spec": {"metrics": ["a", "b"], "edit": "zero", "seed": 1}})), None);
        let b = json!({"spec": {"seed": 2, "edit": "mean", "metrics": ["a", "b"]}, "n": 1});
        assert_eq!(differs(b), Some(("run.spec.seed".into(), "1".into(), "2".into())));
        let b = json!({"spec": {"seed": 1, "edit": "zero", "metrics": ["a"]}, "n": 1});
        assert_eq!(differs(b), Some(("run.spec.metrics[1]".into(), "\"b\"".into(), "absent".into())));
        assert!(short(Some(&Value::from("x".repeat(90)))).len() == 60);
    }
}
