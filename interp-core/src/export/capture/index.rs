//! Reads a capture folder back, row by row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::super::npy;
use crate::error::{Error, Result};
use crate::site::HookPoint;

/// Sizes of the model that a capture was made from, by the names of `config`.
pub type Geometry = BTreeMap<String, usize>;

/// A finished capture folder.
#[derive(Debug)]
pub struct Capture {
    dir: PathBuf,
    sha256: String,
    index: Index,
}

#[derive(Debug, Deserialize)]
struct Index {
    layout: String,
    geometry: Geometry,
    files: Vec<FileRecord>,
    prompts: Vec<PromptRecord>,
}

#[derive(Debug, Deserialize)]
struct FileRecord {
    file: String,
    per_prompt: bool,
    hook_point: String,
    shape: Option<Vec<usize>>,
    heads: Option<Vec<usize>>,
}

#[derive(Debug, Deserialize)]
struct PromptRecord {
    n_tokens: usize,
    positions: Vec<usize>,
    folder: Option<String>,
}

impl Capture {
    /// Reads the index. Errs when the folder is no capture.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("index.json");
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let json_error = |source| Error::Json { path: path.clone(), line: None, source };
        let schema: serde_json::Value = serde_json::from_slice(&text).map_err(json_error)?;
        if schema["schema"] != "interp.capture/1" {
            let hint = Some("make one with `interp capture`".into());
            return Err(Error::File { path: dir.into(), problem: "not a capture folder of interp".into(), hint });
        }
        let index = serde_json::from_slice(&text).map_err(json_error)?;
        Ok(Self { dir: dir.into(), sha256: format!("{:x}", Sha256::digest(&text)), index })
    }

    /// SHA-256 of the index, which holds the hashes of what the numbers were made from.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Errs unless the model it was made from has these sizes.
    pub fn check_geometry(&self, expected: &Geometry) -> Result<()> {
        for (name, expected) in expected {
            let found = self.index.geometry.get(name);
            if found != Some(expected) {
                let found = found.map_or("absent".to_owned(), usize::to_string);
                let problem = format!("was captured from another model: {name} is {found} there and {expected} here");
                let hint = Some("capture with the model that is edited".into());
                return Err(Error::File { path: self.dir.clone(), problem, hint });
            }
        }
        Ok(())
    }

    /// Errs unless every head of `at` was captured.
    pub fn check_point(&self, at: HookPoint) -> Result<()> {
        self.file(at).map(drop)
    }

    fn file(&self, at: HookPoint) -> Result<&FileRecord> {
        let name = at.to_string();
        let refuse = |problem: String| {
            let hint = Some(format!("capture it with --sites {} and all layers and heads", at.site));
            Error::File { path: self.dir.clone(), problem, hint }
        };
        let file = self.index.files.iter().find(|file| file.hook_point == name);
        match file {
            None => Err(refuse(format!("holds no {name}"))),
            Some(FileRecord { heads: Some(heads), .. }) => Err(refuse(format!("holds only heads {heads:?} of {name}"))),
            Some(file) => Ok(file),
        }
    }

    /// Calls `visit` for every captured position of `at` with its distance from the prompt's end (0 is the last) and its
    /// numbers `[(head,) width]`. Not for attention sites.
    pub fn for_each_row(&self, at: HookPoint, mut visit: impl FnMut(usize, &[f64])) -> Result<()> {
        let file = self.file(at)?;
        let lead = if self.index.layout == "rows" { 1 } else { 2 };
        let distances = |prompt: &PromptRecord| {
            let end = prompt.n_tokens - 1;
            prompt.positions.iter().map(move |pos| end - pos).collect::<Vec<_>>()
        };
        match (&file.shape, file.per_prompt) {
            (Some(shape), false) => {
                let distances: Vec<usize> = self.index.prompts.iter().flat_map(distances).collect();
                let row = shape[lead..].iter().product();
                npy::for_each_row(&self.dir.join(&file.file), shape, row, |i, values| visit(distances[i], values))
            }
            _ => {
                for prompt in &self.index.prompts {
                    let folder = self.dir.join(prompt.folder.as_deref().unwrap_or("."));
                    let path = folder.join(&file.file);
                    let (shape, values) = npy::read(&path)?;
                    let row: usize = shape[lead.min(shape.len())..].iter().product();
                    distances(prompt).into_iter().zip(values.chunks(row.max(1))).for_each(|(d, row)| visit(d, row));
                }
                Ok(())
            }
        }
    }
}
