//! `interp eval score`: a results file's metrics once more from its samples, beside what it claims.

pub mod bio;
pub mod socrates;

use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::eval::bio::Evaluation;
use interp_core::eval::read::{json, refuse};
use interp_core::eval::{Check, Difference, socrates as core_socrates};
use serde_json::{Value, json};

use crate::cli::ScoreArgs;
use crate::output::{Exit, Printer, columns};

/// Most differences that a table lists.
const LISTED: usize = 20;

/// What one kind of file came to.
pub struct Scored {
    /// `biorlhf` or `socrates`.
    kind: &'static str,
    /// Tables to read.
    tables: String,
    /// Talk besides.
    notes: Vec<String>,
    /// Everything as JSON, without the comparison.
    values: Value,
    /// The comparison.
    check: Check,
}

/// Recognises the file, computes, compares; ends with no where anything differs by more than rounding.
pub fn score(args: &ScoreArgs, printer: &Printer) -> Result<Exit> {
    let value = json(&args.file)?;
    let scored = match () {
        () if Evaluation::is_one(&value) => bio::score(args, &value)?,
        () if core_socrates::is_one(&value) => socrates::score(args, &value)?,
        () => return Err(unknown(&args.file, &value).into()),
    };
    scored.notes.iter().for_each(|note| printer.talk(&format!("note: {note}")));
    let text = match args.json {
        true => format!("{:#}\n", scored.json(&args.file)),
        false => format!("{}\n{}", scored.tables, comparison(&scored.check)),
    };
    printer.data(&text)?;
    Ok(if scored.check.holds() { Exit::Done } else { Exit::No })
}

fn unknown(file: &Path, value: &Value) -> Error {
    let (problem, hint) = match value {
        value if core_socrates::is_metrics(value) => (
            "holds metrics without the predictions they are of",
            "give the file of predictions, and this one as --metrics",
        ),
        Value::Array(list) if list.is_empty() => ("holds no row", "give a file with at least one prediction"),
        _ => (
            "is no results file that is known here",
            "give a BioRLHF evaluation (an object with per_sample) or SOCRATES predictions (a list of rows with study_id)",
        ),
    };
    refuse(file, problem.into(), hint)
}

impl Scored {
    fn json(&self, file: &Path) -> Value {
        let Check { compared, equal, rounding, differences } = &self.check;
        let difference = |one: &Difference| json!({ "field": one.field, "claimed": one.claimed, "found": one.found });
        json!({
            "schema": "interp.eval-score/1",
            "kind": self.kind,
            "file": file.display().to_string(),
            "values": self.values,
            "notes": self.notes,
            "comparison": {
                "compared": compared,
                "equal": equal,
                "largest_rounding": rounding,
                "differences": differences.iter().map(difference).collect::<Vec<_>>(),
            },
        })
    }
}

/// What was compared, and what differs.
fn comparison(check: &Check) -> String {
    let Check { compared, equal, rounding, differences } = check;
    let rounded = compared - equal - differences.len();
    let mut text = match compared {
        0 => "nothing to compare with\n".to_owned(),
        _ => format!("{compared} fields compared: {equal} equal to the last digit, "),
    };
    if *compared > 0 {
        if rounded > 0 {
            text += &format!("{rounded} to rounding (at most {rounding:.1e}), ");
        }
        text += &match differences.len() {
            0 => "no difference\n".to_owned(),
            1 => "1 difference\n".to_owned(),
            n => format!("{n} differences\n"),
        };
    }
    if !differences.is_empty() {
        let word = |value: &Value| value.as_f64().map_or_else(|| value.to_string(), |x| x.to_string());
        let row = |one: &Difference| vec![one.field.clone(), word(&one.claimed), word(&one.found)];
        let rows: Vec<Vec<String>> = differences.iter().take(LISTED).map(row).collect();
        text += &format!("\n{}", columns(&["field", "claimed", "found"].map(String::from), &rows));
        if differences.len() > LISTED {
            text += &format!("and {} more (--json lists all)\n", differences.len() - LISTED);
        }
    }
    text
}
