//! The trials of a study: made once, written into its folder, and found there by every later start.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::write_atomic;
use interp_core::task::{Wanted, jsonl};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::stages::{PAIRINGS, STAGES, file};
use crate::bases::Bases;
use crate::cli::SymbolicArgs;
use crate::commands::task;
use crate::model::Model;
use crate::output::Printer;

/// What a study's `task.json` begins with.
const SCHEMA: &str = "interp.task/1";

/// What is known of the trials.
pub struct Material {
    /// The checkpoint.
    pub model: Value,
    /// The task, and how many draws were rejected.
    pub task: Value,
}

impl Material {
    /// Makes the trials and writes them, `task.json` last; or finds that the folder has those very trials.
    pub fn make(args: &SymbolicArgs, bases: &mut Bases, printer: &Printer) -> Result<Self> {
        let wanted: Wanted = args.flags.filter.parse()?;
        check(&args.out)?;
        let model = Model::open(&args.model)?;
        let described = json!({
            "checkpoint": model.name(),
            "revision": model.checkpoint.revision(),
            "chain": model.chain.describe(),
            "base_precision": model.base_precision(),
            "dtype": model.precision.dtype.to_string(),
        });
        let task = task::of_flags(&args.flags, PAIRINGS.to_vec());
        let identity = json!({
            "schema": SCHEMA,
            "name": "identity-rules",
            "shots": task.shots,
            "draws": task.draws,
            "seed": task.seed,
            "filter": wanted.to_string(),
            "max_attempts": task.max_attempts,
            // Which prompts a model answers is a question to that model; the words are only its tokenizer's.
            "model": (wanted != Wanted::None).then_some(&described),
            "tokenizer_sha256": model.file_sha256("tokenizer.json")?,
        });
        if let Some(task) = found(&args.out, &identity)? {
            return Ok(Self { model: described, task });
        }
        let made = task::make(&task, wanted, &model, &mut || bases.load(&model, printer))?;
        task::report(&task, &made, printer);
        fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
        let mut record = identity;
        let mut hashes = BTreeMap::new();
        for (pairing, lines) in PAIRINGS.into_iter().zip(&made.lines) {
            let text = jsonl(lines);
            write_atomic(&args.out.join(file(pairing)), text.as_bytes())?;
            hashes.insert(file(pairing), format!("{:x}", Sha256::digest(text.as_bytes())));
        }
        record["attempts"] = json!(made.attempts);
        let rejected = made.rejected.iter().map(|(reason, n)| (reason.to_string(), json!(n)));
        record["rejected"] = rejected.collect::<serde_json::Map<_, _>>().into();
        record["sha256"] = json!(hashes);
        write_atomic(&args.out.join("task.json"), format!("{record:#}\n").as_bytes())?;
        Ok(Self { model: described, task: record })
    }
}

/// The folder's own `task.json`, if it has one. Errs if that is of other trials, or if the trials were changed since.
fn found(out: &Path, identity: &Value) -> Result<Option<Value>> {
    let path = out.join("task.json");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Error::io("read", &path))?,
    };
    let found: Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), line: None, source })?;
    for (field, wanted) in identity.as_object().expect("it was built as one") {
        if &found[field] != wanted {
            let (field, found, wanted) = (field.clone(), found[field].to_string(), wanted.to_string());
            return Err(Error::OtherRun { path: out.into(), field, found, wanted }.into());
        }
    }
    for pairing in PAIRINGS {
        let trials = out.join(file(pairing));
        let bytes = fs::read(&trials).map_err(Error::io("read", &trials))?;
        if found["sha256"][file(pairing)] != format!("{:x}", Sha256::digest(bytes)) {
            let problem = "was changed since the study began".into();
            let hint = Some("give another --out; to sweep trials of your own, use interp sweep".into());
            return Err(Error::File { path: trials, problem, hint }.into());
        }
    }
    Ok(Some(found))
}

/// Errs unless the folder is new or empty, or holds a study, or what one leaves that was stopped.
fn check(out: &Path) -> Result<()> {
    let refuse = |problem: String| {
        Err(Error::File { path: out.into(), problem, hint: Some("give a new or an empty folder".into()) }.into())
    };
    if out.is_file() {
        return refuse("is a file, not a folder".into());
    }
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", out))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(Error::io("read", out))?.file_name().to_string_lossy().into_owned());
    }
    let ours = |name: &str| {
        let files = ["task.json", "study.json", "study.csv", "study.svg", "study.png"];
        files.contains(&name) || PAIRINGS.into_iter().any(|pairing| file(pairing) == name)
    };
    let is_ours = |name: &str| {
        let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
        ours(temporary.unwrap_or(name)) || STAGES.iter().any(|stage| stage.name == name)
    };
    match names.iter().filter(|name| !is_ours(name)).min() {
        Some(name) => refuse(format!("not empty and not an output folder of interp study (holds `{name}`)")),
        None => Ok(()),
    }
}
