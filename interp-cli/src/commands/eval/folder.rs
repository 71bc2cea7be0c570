//! The output folder of an evaluation: when it is complete, and what is printed of it.

use std::path::Path;

use anyhow::Result;
use interp_core::export::write_atomic;
use serde_json::{Value, json};

use crate::output::Printer;

/// What its `run.json` begins with.
const SCHEMA: &str = "interp.eval/1";

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
