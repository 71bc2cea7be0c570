//! Where a study goes: a folder that holds nothing of anybody else, and `settings.json`, which says what study it is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Result;
use interp_core::Error;
use interp_core::export::write_atomic;
use interp_core::hash::Hashes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::cases::Cases;
use super::checkpoints::Checkpoint;
use crate::cli::StudyComplianceArgs;

/// What `settings.json` begins with.
const SCHEMA: &str = "interp.compliance-settings/1";

/// The study's folder.
pub struct Place {
    path: PathBuf,
    /// `settings.json`.
    pub settings: Value,
}

impl Place {
    /// Begins a study in a new or an empty folder, or goes on with the same study. Errs for a folder of another.
    pub fn open(args: &StudyComplianceArgs, checkpoints: &[Checkpoint], cases: &Cases) -> Result<Self> {
        let settings = settings(args, checkpoints, cases)?;
        let (path, file) = (args.out.clone(), args.out.join("settings.json"));
        match fs::read(&file) {
            Ok(text) => {
                let found: Value = serde_json::from_slice(&text).map_err(|source| Error::Json {
                    path: file.clone(),
                    line: None,
                    source,
                })?;
                for (field, wanted) in settings.as_object().expect("it was built as one") {
                    if &found[field] != wanted {
                        let (found, wanted) = (found[field].to_string(), wanted.to_string());
                        return Err(Error::OtherRun { path, field: field.clone(), found, wanted }.into());
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if path.is_file() || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
                    let problem = "not empty and not an output folder of interp study compliance".into();
                    let hint = Some("give a new or an empty folder".into());
                    return Err(Error::File { path, problem, hint }.into());
                }
                fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
                write_atomic(&file, format!("{settings:#}\n").as_bytes())?;
            }
            Err(error) => return Err(Error::io("read", &file)(error).into()),
        }
        Ok(Self { path, settings })
    }

    /// The study's folder, or a place in it.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The folder of a checkpoint.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.path.join("checkpoints").join(name)
    }

    /// Writes a file of the folder; see [`write()`].
    pub fn put(&self, name: &str, bytes: &[u8]) -> interp_core::Result<()> {
        write(&self.at(name), bytes)
    }
}

/// Writes a file, whole or not at all, with the folders that it is in.
pub fn write(path: &Path, bytes: &[u8]) -> interp_core::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    write_atomic(path, bytes)
}

/// Everything that decides the numbers.
fn settings(args: &StudyComplianceArgs, checkpoints: &[Checkpoint], cases: &Cases) -> Result<Value> {
    let checkpoint = |one: &Checkpoint| -> Result<Value> {
        let weights = Hashes::start(one.model.weight_files()).wait()?;
        Ok(json!({
            "name": one.name,
            "model": one.model.describe(&weights),
            "tokenizer_sha256": one.model.file_sha256("tokenizer.json")?,
            "repetition_penalty": one.options.repetition_penalty,
            "stop_tokens": one.options.stop_tokens,
        }))
    };
    let file = |path: &PathBuf| -> Result<Value> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Ok(
            json!({ "name": path.file_name().map(|name| name.to_string_lossy()), "sha256": format!("{:x}", Sha256::digest(bytes)) }),
        )
    };
    Ok(json!({
        "schema": SCHEMA,
        "checkpoints": checkpoints.iter().map(checkpoint).collect::<Result<Vec<_>>>()?,
        "cases": cases.files.iter().map(file).collect::<Result<Vec<_>>>()?,
        "mode": args.mode,
        "max_new_tokens": args.max_new_tokens,
        "batch": args.batch,
        "heads": args.heads,
        "max_pairs": args.max_pairs,
        "seed": args.seed,
    }))
}
