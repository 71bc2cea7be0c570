//! Cases and pairs from JSONL, one object per line. A file that contradicts itself is refused as a whole: what a model scores on
//! it would mean nothing.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::clean::key;
use super::record::{Gold, Meta, Pair, PairKind, Perturbation, Record};
use crate::error::Result;
use crate::eval::read::{Row, distinct, lines, refuse};

/// A file of cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cases {
    /// The cases, in the file's order.
    pub records: Vec<Record>,
    /// What a reader should know about them.
    pub warnings: Vec<String>,
}

/// Contradictions that an error lists.
const LISTED: usize = 5;

/// Reads cases. `id`, `process_id`, `perturbation`, the three sections and `gold` must be there; `cohort`, `source` and `domain` are
/// otherwise `unknown`, `admit` is otherwise true. Errs on the first field that cannot be used, on ids that stand twice, and on
/// cases that are the same (by [`key`]) with both labels.
pub fn records(path: &Path) -> Result<Cases> {
    let lines = lines(path)?;
    let records: Vec<Record> =
        lines.iter().map(|(line, map)| record(&Row::of_line(path, *line, map))).collect::<Result<_>>()?;
    distinct(path, lines.iter().zip(&records).map(|((line, _), one)| (format!("line {line}"), one.id.clone())))?;
    contradictions(path, &records)?;
    let warnings = opposite_surfaces(&records).into_iter().collect();
    Ok(Cases { records, warnings })
}

/// Reads pairs about `records`. Errs on a pair of one case with itself, of cases that are not there, of two processes or two
/// procedures, on a flip pair with one label and an anchor pair with two, and on pairs that stand twice.
pub fn pairs(path: &Path, records: &[Record]) -> Result<Vec<Pair>> {
    let by_id: HashMap<&str, &Record> = records.iter().map(|one| (&*one.id, one)).collect();
    let lines = lines(path)?;
    let read = |(line, map): &(usize, Map<String, Value>)| pair(&Row::of_line(path, *line, map), &by_id);
    let pairs: Vec<Pair> = lines.iter().map(read).collect::<Result<_>>()?;
    let mut seen = HashSet::new();
    for ((line, map), pair) in lines.iter().zip(&pairs) {
        if !seen.insert((pair.kind, &pair.a, &pair.b)) {
            let problem = format!("the pair of {:?} and {:?} stands twice", pair.a, pair.b);
            return Err(Row::of_line(path, *line, map).wrong("a", problem, "take one of the two lines out"));
        }
    }
    Ok(pairs)
}

fn record(row: &Row<'_>) -> Result<Record> {
    let filled = |field: &str| -> Result<String> {
        let text = row.text(field)?;
        match text.trim().is_empty() {
            true => Err(row.wrong(field, "is empty".into(), "every case needs it: fill it in, or take the row out")),
            false => Ok(text.into()),
        }
    };
    let perturbation = row
        .text("perturbation")?
        .parse::<Perturbation>()
        .map_err(|error| row.wrong("perturbation", error.to_string(), error.hint().expect("it lists them")))?;
    let admit = match row.optional("admit") {
        None => true,
        Some(Value::Bool(admit)) => *admit,
        Some(other) => {
            return Err(row.wrong(
                "admit",
                format!("must be true or false, found {other}"),
                "mend it, or leave it out",
            ));
        }
    };
    let meta = match row.optional("meta") {
        None => Meta::default(),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| {
            let hint = "it holds `edited_steps`, `edge`, `flips_gold` and `seed`; mend it, or leave it out";
            row.wrong("meta", error.to_string(), hint)
        })?,
    };
    let unknown = |field: &str| row.text_or(field, "unknown").map(str::to_owned);
    Ok(Record {
        id: filled("id")?,
        process_id: filled("process_id")?,
        cohort: unknown("cohort")?,
        source: unknown("source")?,
        domain: unknown("domain")?,
        perturbation,
        parent_id: row.label("parent_id")?,
        procedure: section(row, "procedure", filled("procedure")?)?,
        scenario: section(row, "scenario", filled("scenario")?)?,
        question: section(row, "question", filled("question")?)?,
        gold: gold(row)?,
        admit,
        meta,
    })
}

/// A section's text. The headers are what tells sections apart in a prompt, so none may stand inside of one.
fn section(row: &Row<'_>, field: &str, text: String) -> Result<String> {
    for header in ["Procedure:", "Scenario:", "Question:"] {
        if text.lines().any(|line| line.trim_start().starts_with(header)) {
            let problem = format!("has a line that begins with `{header}`");
            return Err(row.wrong(field, problem, "headers are added when the prompt is made: take them out"));
        }
    }
    Ok(text)
}

fn gold(row: &Row<'_>) -> Result<Gold> {
    let word = row.text("gold")?;
    Gold::ALL.into_iter().find(|gold| gold.word() == word).ok_or_else(|| {
        let problem = format!("must be `compliant` or `non-compliant`, found {word:?}");
        row.wrong("gold", problem, "write one of the two, in lower case and with the hyphen")
    })
}

fn pair(row: &Row<'_>, by_id: &HashMap<&str, &Record>) -> Result<Pair> {
    let kind = match row.text("kind")? {
        "flip" => PairKind::Flip,
        "anchor" => PairKind::Anchor,
        "swap" => PairKind::Swap,
        other => {
            let hint = "kinds are flip (opposite labels), anchor (one label) and swap (two events exchanged)";
            return Err(row.wrong("kind", format!("no such kind of pair: {other:?}"), hint));
        }
    };
    let half = |field: &str| -> Result<&Record> {
        let id = row.text(field)?;
        let missing = || row.wrong(field, format!("no case has the id {id:?}"), "mend the id, or take the pair out");
        by_id.get(id).copied().ok_or_else(missing)
    };
    let (a, b) = (half("a")?, half("b")?);
    let wrong = |field: &str, problem: String| Err(row.wrong(field, problem, "mend the pair, or take it out"));
    if a.id == b.id {
        return wrong("b", format!("{:?} is paired with itself", a.id));
    }
    if a.process_id != b.process_id {
        let problem =
            format!("{:?} and {:?} are about two processes, {} and {}", a.id, b.id, a.process_id, b.process_id);
        return wrong("b", problem);
    }
    if a.procedure != b.procedure {
        return wrong("b", format!("{:?} and {:?} have two procedures; a pair has one", a.id, b.id));
    }
    match (kind, a.gold == b.gold) {
        (PairKind::Flip, true) => {
            wrong("kind", format!("a flip pair has opposite labels, but {:?} and {:?} are both {}", a.id, b.id, a.gold))
        }
        (PairKind::Anchor, false) => wrong(
            "kind",
            format!("an anchor pair has one label, but {:?} is {} and {:?} is {}", a.id, a.gold, b.id, b.gold),
        ),
        _ => Ok(Pair { kind, a: a.id.clone(), b: b.id.clone() }),
    }
}

/// Errs where the same case has both labels, with the ids.
fn contradictions(path: &Path, records: &[Record]) -> Result<()> {
    let mut same: HashMap<[u8; 32], Vec<&Record>> = HashMap::new();
    records.iter().for_each(|record| same.entry(key(record)).or_default().push(record));
    let mut wrong: Vec<Vec<&str>> = same
        .values()
        .filter(|group| group.iter().any(|one| one.gold != group[0].gold))
        .map(|group| group.iter().map(|one| &*one.id).collect())
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort_unstable();
    let listed: Vec<String> = wrong.iter().take(LISTED).map(|ids| ids.join(" = ")).collect();
    let more = wrong.len().checked_sub(LISTED).filter(|n| *n > 0).map(|n| format!(" and {n} more"));
    let problem = format!("the same case with both labels: {}{}", listed.join("; "), more.unwrap_or_default());
    Err(refuse(path, problem, "decide which label is right, and take the other line out"))
}

/// The names of the adversarial perturbations can be read as what the surface looks like. Here they end with the label.
fn opposite_surfaces(records: &[Record]) -> Option<String> {
    let expected = |record: &Record| match record.perturbation {
        Perturbation::AdversarialSurfaceCompliant => Some(Gold::Compliant),
        Perturbation::AdversarialSurfaceNoncompliant => Some(Gold::NonCompliant),
        _ => None,
    };
    let golds: Vec<bool> = records.iter().filter_map(|one| Some(expected(one)? != one.gold)).collect();
    let opposite = golds.iter().filter(|is| **is).count();
    (2 * opposite > golds.len()).then(|| {
        format!(
            "{opposite} of {} adversarial_surface_* cases have the opposite label: the suffix is taken for the label, \
             and may have been meant for what the surface looks like; labels are read from `gold`",
            golds.len()
        )
    })
}
