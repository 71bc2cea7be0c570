//! The output folder of an evaluation: when it is complete, and what is printed of it.

use std::path::Path;

use anyhow::Result;
use interp_core::eval::read::Rows;
use interp_core::export::write_atomic;
use serde_json::{Value, json};

use crate::output::Printer;

/// What its `run.json` begins with.
const SCHEMA: &str = "interp.eval/1";

/// `run.json`, written last: what was asked of whom, and which questions of the file could not be.
pub fn done<T>(out: &Path, evaluation: &str, (file, questions): (&Path, &Rows<T>), settings: &Value) -> Result<()> {
    let run = json!({
        "schema": SCHEMA,
        "evaluation": evaluation,
        "questions": {
            "file": file.display().to_string(),
            "n": questions.good.len(),
            "skipped": questions.bad.iter().map(ToString::to_string).collect::<Vec<String>>(),
        },
        "settings": settings,
        "tool_version": env!("CARGO_PKG_VERSION"),
    });
    Ok(write_atomic(&out.join("run.json"), format!("{run:#}\n").as_bytes())?)
}

/// Names the questions that are left out.
pub fn skipped<T>(questions: &Rows<T>, printer: &Printer) {
    questions.bad.iter().for_each(|error| printer.talk(&format!("skipped: {error}")));
    if !questions.bad.is_empty() {
        let (bad, n) = (questions.bad.len(), questions.bad.len() + questions.good.len());
        printer.talk(&format!("note: {bad} of {n} questions cannot be used, and are left out; run.json lists them"));
    }
}

/// JSON to standard output, or the tables to the reader and the folder's path to standard output.
pub fn say(as_json: bool, out: &Path, tables: &str, value: &Value, printer: &Printer) -> Result<()> {
    if as_json {
        return Ok(printer.data(&format!("{value:#}\n"))?);
    }
    tables.lines().for_each(|line| printer.talk(line));
    Ok(printer.data(&format!("{}\n", out.display()))?)
}
