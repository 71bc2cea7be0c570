//! The output folder of an evaluation: whose it is, when it is complete, and what is printed of it.

use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::write_atomic;
use serde_json::{Value, json};

use crate::output::Printer;

/// What its `run.json` begins with.
const SCHEMA: &str = "interp.eval/1";

/// Errs unless the folder is new or empty, or one of this command's.
pub fn check(out: &Path) -> Result<()> {
    let taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    let ours = fs::read(out.join("run.json")).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let ours = ours.is_some_and(|run| run["schema"] == SCHEMA);
    if out.is_file() || taken && !ours {
        let problem = "not empty and not a folder of interp eval".into();
        let hint = Some("give a new or an empty folder".into());
        return Err(Error::File { path: out.into(), problem, hint }.into());
    }
    Ok(())
}

/// Takes away what an earlier run left and must not pass for a part of this one. Called when there is something to write.
pub fn begin(out: &Path) -> Result<()> {
    for name in ["run.json", "paired.json", "paired.csv", "paired.svg", "paired.png"] {
        let _ = fs::remove_file(out.join(name));
    }
    let edited = out.join("edited");
    if edited.is_dir() {
        fs::remove_dir_all(&edited).map_err(Error::io("write", &edited))?;
    }
    Ok(())
}

/// `run.json`, written last: a folder that has it is complete.
pub fn done(out: &Path, evaluation: &str, settings: &Value) -> Result<()> {
    let run = json!({
        "schema": SCHEMA,
        "evaluation": evaluation,
        "settings": settings,
        "tool_version": env!("CARGO_PKG_VERSION"),
    });
    Ok(write_atomic(&out.join("run.json"), format!("{run:#}\n").as_bytes())?)
}

/// JSON to standard output, or the tables to the reader and the folder's path to standard output.
pub fn say(as_json: bool, out: &Path, tables: &str, value: &Value, printer: &Printer) -> Result<()> {
    if as_json {
        return Ok(printer.data(&format!("{value:#}\n"))?);
    }
    tables.lines().for_each(|line| printer.talk(line));
    Ok(printer.data(&format!("{}\n", out.display()))?)
}
