//! SOCRATES predictions: errors, correlation, both distances beside uniform guessing, by study, and the cleaned subset.

use std::path::{Path, PathBuf};

use anyhow::Result;
use interp_core::eval::read::{json, refuse};
use interp_core::eval::socrates::{
    CLEAN, Metrics, Prediction, Study, check, cleaned, from_json, is_metrics, metrics, metrics_json,
};
use serde_json::Value;

use super::super::figures;
use super::Scored;
use crate::cli::ScoreArgs;
use crate::folder::Folder;
use crate::output::columns;

/// Reads, computes and compares.
pub fn score(args: &ScoreArgs, value: &Value) -> Result<Scored> {
    let rows = from_json(&args.file, value)?;
    let claims = args.metrics.clone().or_else(|| beside(&args.file));
    let claimed = claims.as_deref().map(claims_of).transpose()?;
    let found = metrics(&rows);
    if let Some(out) = &args.out {
        let folder = Folder::check(out)?.begin()?;
        figures::socrates(folder.dir(), &args.file.file_stem().unwrap_or_default().to_string_lossy(), &found)?;
        folder.finish()?;
    }
    let mut notes = notes(&found);
    notes.push(match &claims {
        Some(path) => format!("compared with the metrics in {}", path.display()),
        None => "no file of metrics was given or found, so only the numbers read from texts are compared".into(),
    });
    let mut values = metrics_json(&found);
    values["cleaned"] = metrics_json(&metrics(&cleaned(&rows)));
    Ok(Scored { kind: "socrates", tables: tables(&rows, &found), notes, values, check: check(&rows, claimed.as_ref()) })
}

/// The file of metrics that stands beside predictions under the name that the released script gives it.
fn beside(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    let other = file.with_file_name(name.replacen("predictions", "metrics", 1));
    (other != file && other.is_file()).then_some(other)
}

fn claims_of(path: &Path) -> Result<Value> {
    let value = json(path)?;
    match is_metrics(&value) {
        true => Ok(value),
        false => {
            let hint = "give the metrics that were written with the predictions";
            Err(refuse(path, "holds no metrics of SOCRATES predictions".into(), hint).into())
        }
    }
}

/// What a reader of these numbers should know.
pub fn notes(found: &Metrics) -> Vec<String> {
    let mut notes = vec![
        "w1_self_minmax, the released script's distance, is 0 between any two constants; compare w1_ref_range with uniform \
         guessing"
            .to_owned(),
    ];
    if found.n < found.rows {
        notes.push(format!(
            "{} of {} rows have no number in answer or prediction, and are left out",
            found.rows - found.n,
            found.rows
        ));
    }
    if found.single > 0 {
        notes.push(format!("{} conditions have one row, so no distribution, and have no distance", found.single));
    }
    notes
}

/// All numbers to read.
pub fn tables(rows: &[Prediction], found: &Metrics) -> String {
    let clean = metrics(&cleaned(rows));
    let line = |name: &str, of: fn(&Metrics) -> Option<f64>| vec![name.to_owned(), short(of(found)), short(of(&clean))];
    let count =
        |name: &str, of: fn(&Metrics) -> usize| vec![name.to_owned(), of(found).to_string(), of(&clean).to_string()];
    let lines = [
        count("rows with both numbers", |m| m.n),
        line("mean absolute error", |m| m.mae),
        line("root mean squared error", |m| m.rmse),
        line("correlation", |m| m.correlation),
        line("exact match", |m| m.exact),
        line("w1_self_minmax", |m| m.self_minmax),
        count("  over conditions", |m| m.conditions),
        line("w1_ref_range", |m| m.ref_range),
        line("  uniform guessing", |m| m.uniform),
        count("  over conditions", |m| m.ref_conditions),
    ];
    let head = ["measure".to_owned(), "all".into(), format!("numbers up to {CLEAN}")];
    let mut text = columns(&head, &lines);
    let study = |study: &Study| {
        vec![
            study.study.clone(),
            study.rows.to_string(),
            study.conditions.to_string(),
            short(Some(study.self_minmax)),
            short(study.ref_range),
            short(study.uniform),
        ]
    };
    let head = ["study", "rows", "conditions", "w1_self_minmax", "w1_ref_range", "uniform"].map(String::from);
    text += &format!("\n{}", columns(&head, &found.studies.iter().map(study).collect::<Vec<_>>()));
    text
}

/// Six digits; runaway numbers keep their size.
fn short(x: Option<f64>) -> String {
    match x {
        None => "-".into(),
        Some(x) if x.abs() >= 1e6 => format!("{x:.3e}"),
        Some(x) => format!("{x:.6}"),
    }
}
