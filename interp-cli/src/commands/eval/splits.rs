//! `interp eval splits`: studies that stand in more than one part of a split.

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::eval::read::{self, Row};
use interp_core::eval::socrates::{Leak, Split, leaks};
use serde_json::json;

use crate::cli::SplitsArgs;
use crate::output::{Exit, Printer, columns};

/// Names shared studies; ends with no where there is one.
pub fn splits(args: &SplitsArgs, printer: &Printer) -> Result<Exit> {
    let splits: Vec<Split> = args.parts.iter().map(|part| split(part)).collect::<Result<_>>()?;
    if let Some((i, one)) = splits.iter().enumerate().find(|(i, one)| splits[..*i].iter().any(|o| o.name == one.name)) {
        return Err(anyhow!("{}: the name {} is taken: write NAME=FILE", args.parts[i], one.name));
    }
    let found = leaks(&splits);
    let text = if args.json { json(&splits, &found) } else { table(&splits, &found) };
    printer.data(&text)?;
    Ok(if found.is_empty() { Exit::Done } else { Exit::No })
}

fn split(part: &str) -> Result<Split> {
    let (name, file) = match part.split_once('=') {
        Some((name, file)) => (name.to_owned(), Path::new(file)),
        None => (Path::new(part).file_stem().unwrap_or_default().to_string_lossy().into_owned(), Path::new(part)),
    };
    let mut studies = Vec::new();
    for (line, map) in read::lines(file)? {
        let row = Row::of_line(file, line, &map);
        row.value("study_id")?;
        studies.push(row.label("study_id")?.unwrap_or_default());
    }
    Ok(Split { name, studies })
}

fn table(splits: &[Split], leaks: &[Leak]) -> String {
    let head = ["part", "rows", "studies"].map(String::from);
    let row =
        |split: &Split| vec![split.name.clone(), split.studies.len().to_string(), split.distinct().len().to_string()];
    let mut text = columns(&head, &splits.iter().map(row).collect::<Vec<_>>());
    for Leak { one, other, shared, rows } in leaks {
        let some = shared.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if shared.len() > 5 { ", …" } else { "" };
        let of = shared.len();
        text += &format!("{one} and {other} share {of} studies ({rows} rows of {other}): {some}{more}\n");
    }
    if leaks.is_empty() {
        text += "no study stands in two parts\n";
    }
    text
}

fn json(splits: &[Split], leaks: &[Leak]) -> String {
    let part =
        |split: &Split| json!({ "name": split.name, "rows": split.studies.len(), "studies": split.distinct().len() });
    let leak = |leak: &Leak| json!({ "parts": [leak.one, leak.other], "shared": leak.shared, "rows": leak.rows });
    let all = json!({
        "parts": splits.iter().map(part).collect::<Vec<_>>(),
        "leaks": leaks.iter().map(leak).collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}
