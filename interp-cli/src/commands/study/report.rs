//! What `interp study` says: per stage how many heads were found, and the lines of those that are listed.

use std::path::Path;

use interp_core::export::Stage;
use serde_json::{Map, Value, json};

use crate::output::{Printer, columns, interval, number, probability};

/// What is reported.
pub struct Report<'a> {
    pub stages: &'a [Stage],
    /// How many heads of each stage are listed at least.
    pub top: usize,
}

impl Report<'_> {
    /// A line and a table per stage.
    pub fn talk(&self, printer: &Printer) {
        for stage in self.stages {
            printer.talk(&said(stage));
            let lines = stage.listed(self.top);
            let Some(first) = lines.first() else { continue };
            // The columns of the stage's table that are there, in a fixed order.
            let is_shown = |name: &&str| first.contains_key(*name);
            let shown: Vec<&str> =
                ["rank", "label", "mean", "ci", "mean_ABA", "mean_ABB", "p_fwer", "q_fdr", "significant"]
                    .into_iter()
                    .filter(is_shown)
                    .collect();
            let name = |name: &&str| match *name {
                "label" => "head".to_owned(),
                "ci" => "interval".to_owned(),
                other => other.replace('_', " "),
            };
            let head: Vec<String> = shown.iter().map(name).collect();
            let rows: Vec<Vec<String>> =
                lines.iter().map(|line| shown.iter().map(|name| cell(line, name)).collect()).collect();
            columns(&head, &rows).lines().for_each(|line| printer.talk(line));
        }
    }

    /// The same as JSON, with the columns of `study.json`.
    pub fn json(&self, out: &Path) -> Value {
        let stages: Map<String, Value> = self
            .stages
            .iter()
            .map(|stage| {
                let heads = stage.listed(self.top);
                (stage.name.clone(), json!({ "n_significant": stage.n_significant(), "heads": heads }))
            })
            .collect();
        json!({ "folder": out, "stages": stages })
    }
}

/// What was found in a stage; one without a head is named as such.
fn said(stage: &Stage) -> String {
    let n_heads = stage.n_heads();
    match stage.n_significant() {
        None => {
            let why = stage.note().map(|note| format!(" ({note})")).unwrap_or_default();
            format!("{}: {n_heads} heads, not tested for significance{why}", stage.name)
        }
        Some(0) => format!("{}: none of {n_heads} heads is significant", stage.name),
        Some(1) => format!("{}: 1 of {n_heads} heads is significant", stage.name),
        Some(n) => format!("{}: {n} of {n_heads} heads are significant", stage.name),
    }
}

fn cell(line: &Map<String, Value>, name: &str) -> String {
    let value = &line[name];
    match name {
        "label" => value.as_str().unwrap_or("-").to_owned(),
        "rank" => value.to_string(),
        "ci" => {
            interval(value.get(0).and_then(Value::as_f64).zip(value.get(1).and_then(Value::as_f64)).map(Into::into))
        }
        "p_fwer" | "q_fdr" => value.as_f64().map_or("-".into(), probability),
        "significant" => value.as_bool().map_or("-", |found| if found { "yes" } else { "no" }).into(),
        _ => number(value.as_f64().unwrap_or(f64::NAN)),
    }
}
