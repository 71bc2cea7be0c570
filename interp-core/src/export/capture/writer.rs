//! Writes a capture folder: headers first, rows appended as prompts finish, everything in a folder beside the final one
//! that takes its name at the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::npy;
use super::super::run_folder::difference;
use super::{CapturePlan, CapturePrompt};
use crate::error::{Error, Result};

/// What was found at the place of an output folder.
#[derive(Debug)]
pub enum OpenedCapture {
    /// Nothing; the capture can begin.
    Ready(Box<CaptureFolder>),
    /// This very capture, finished. The value is its `index.json`. Nothing was touched.
    Finished(Value),
}

/// A capture folder being written. Dropping it before [`finish`](Self::finish) removes what was written.
#[derive(Debug)]
pub struct CaptureFolder {
    dir: PathBuf,
    stage: PathBuf,
    plan: CapturePlan,
    next: usize,
    _lock: File,
}

impl CaptureFolder {
    /// Begins a capture. Refuses a folder that holds anything but this same capture, before touching it; removes what an
    /// interrupted capture left beside it.
    pub fn open(dir: &Path, plan: CapturePlan) -> Result<OpenedCapture> {
        if let Some(found) = finished(dir, &plan)? {
            return Ok(OpenedCapture::Finished(found));
        }
        let absolute = std::path::absolute(dir).map_err(Error::io("create", dir))?;
        let (parent, name) = match (absolute.parent(), absolute.file_name()) {
            (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
            _ => return Err(foreign(dir, dir)),
        };
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let stage = parent.join(format!(".{name}.partial"));
        let lock = claim(dir, &stage)?;
        let folder = Self { dir: dir.into(), stage, plan, next: 0, _lock: lock };
        for point in folder.plan.points.iter().filter(|point| !folder.plan.is_per_prompt(point)) {
            let shape = folder.plan.shape(point, &folder.plan.prompts);
            folder.append(&folder.stage.join(point.file()), &npy::header(&shape, folder.plan.width))?;
        }
        Ok(OpenedCapture::Ready(Box::new(folder)))
    }

    /// The plan.
    pub fn plan(&self) -> &CapturePlan {
        &self.plan
    }

    /// Writes the next prompt: one array per hook point, in the plan's order, row-major on the layout's axes (of one prompt).
    ///
    /// # Panics
    /// If an array has not the number of values that the plan says.
    pub fn prompt(&mut self, mut array: impl FnMut(usize) -> Vec<f64>) -> Result<()> {
        let own = std::slice::from_ref(&self.plan.prompts[self.next]);
        let folder = self.stage.join(prompt_folder(self.next));
        for (index, point) in self.plan.points.iter().enumerate() {
            let (values, shape) = (array(index), self.plan.shape(point, own));
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values of {} over {shape:?}", point.at);
            let mut bytes = self.plan.width.bytes(&values);
            let path = match self.plan.is_per_prompt(point) {
                false => self.stage.join(point.file()),
                true => {
                    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                    bytes.splice(0..0, npy::header(&shape, self.plan.width));
                    folder.join(point.file())
                }
            };
            self.append(&path, &bytes)?;
        }
        self.next += 1;
        Ok(())
    }

    /// Writes the index, with `described` beside the plan's own keys, and gives the folder its name.
    pub fn finish(self, described: &Map<String, Value>) -> Result<()> {
        assert_eq!(self.next, self.plan.prompts.len(), "every prompt was written");
        let lines = |items: Vec<Value>| {
            let lines: Vec<String> = items.iter().map(|item| format!("    {item}")).collect();
            format!("[\n{}\n  ]", lines.join(",\n"))
        };
        let mut row = 0;
        let prompts = self.plan.prompts.iter().enumerate().map(|(index, prompt)| {
            let CapturePrompt { id, n_tokens, positions, tokens } = prompt;
            let mut record =
                json!({ "id": id, "row": row, "n_tokens": n_tokens, "positions": positions, "tokens": tokens });
            if self.plan.points.iter().any(|point| self.plan.is_per_prompt(point)) {
                record["folder"] = json!(prompt_folder(index));
            }
            row += positions.len();
            record
        });
        let prompts = lines(prompts.collect());
        let files = lines(self.plan.points.iter().map(|point| self.plan.file_record(point)).collect());
        let mut head = Map::new();
        head.insert("schema".into(), json!(SCHEMA));
        head.insert("spec".into(), self.plan.spec.clone());
        head.insert("layout".into(), json!(self.plan.layout.name()));
        head.insert("dtype".into(), json!(self.plan.width.descr()));
        described.iter().for_each(|(key, value)| {
            head.entry(key.as_str()).or_insert_with(|| value.clone());
        });
        let head = serde_json::to_string_pretty(&head).expect("plain data is JSON");
        let head = head.strip_suffix("\n}").expect("an object that is not empty");
        let index = format!("{head},\n  \"files\": {files},\n  \"prompts\": {prompts}\n}}\n");
        self.append(&self.stage.join(INDEX), index.as_bytes())?;

        let rename = || {
            sync(&self.stage)?;
            fs::remove_file(self.stage.join(LOCK))?;
            // Takes the place of an empty folder; of anything else it does not.
            fs::rename(&self.stage, &self.dir)
        };
        rename().map_err(Error::io("write", &self.dir))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        // Opened anew each time, since hook points may outnumber the files that a process may hold open.
        let write = || OpenOptions::new().create(true).append(true).open(path)?.write_all(bytes);
        // The name users know it by; the folder it lies in for now is no business of theirs.
        let shown = self.dir.join(path.strip_prefix(&self.stage).unwrap_or(path));
        write().map_err(Error::io("write", shown))
    }
}

impl Drop for CaptureFolder {
    fn drop(&mut self) {
        // After a finish there is nothing of that name.
        let _ = fs::remove_dir_all(&self.stage);
    }
}

const SCHEMA: &str = "interp.capture/1";
const INDEX: &str = "index.json";
const LOCK: &str = "lock";

fn prompt_folder(index: usize) -> String {
    format!("prompt-{index}")
}

fn foreign(dir: &Path, entry: &Path) -> Error {
    let name = entry.strip_prefix(dir).unwrap_or(entry).display();
    let problem = format!("not empty and not a capture folder of interp (holds `{name}`)");
    Error::File { path: dir.into(), problem, hint: Some("give a new or an empty folder".into()) }
}

/// The index of this very capture, if it lies in `dir`; an error if anything else does.
fn finished(dir: &Path, plan: &CapturePlan) -> Result<Option<Value>> {
    let mut entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(Error::io("read", dir))?,
    };
    let Some(first) = entries.next() else { return Ok(None) };
    let first = first.map_err(Error::io("read", dir))?.path();
    let index = dir.join(INDEX);
    let Ok(text) = fs::read(&index) else { return Err(foreign(dir, &first)) };
    let found: Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path: index.clone(), line: None, source })?;
    if found["schema"] != SCHEMA {
        return Err(foreign(dir, &index));
    }
    match difference("spec", &found["spec"], &plan.spec) {
        None => Ok(Some(found)),
        Some((field, found, wanted)) => {
            let field = field.strip_prefix("spec.").unwrap_or(&field).to_owned();
            Err(Error::OtherRun { path: dir.into(), field, found, wanted })
        }
    }
}

/// Makes the folder to write in anew, and holds it.
fn claim(dir: &Path, stage: &Path) -> Result<File> {
    fs::create_dir_all(stage).map_err(Error::io("create", stage))?;
    let path = stage.join(LOCK);
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let lock = open.map_err(Error::io("write", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: dir.into() }),
        // A file system without locks: better an unguarded folder than none.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
    }
    for entry in fs::read_dir(stage).map_err(Error::io("read", stage))? {
        let path = entry.map_err(Error::io("read", stage))?.path();
        let removed = match path.file_name().is_some_and(|name| name == LOCK) {
            true => Ok(()),
            false if path.is_dir() => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(lock)
}

/// Brings all files to disk before the folder takes its name.
fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { sync(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(folder)?.sync_all()
}
