//! Files of cases and pairs: what they hold, and every way in which they are refused.

use std::path::{Path, PathBuf};

use interp_core::compliance::{Gold, PairKind, Perturbation, read};
use interp_core::error::Result;
use serde_json::{Value, json};

use super::{corpus, pairs};

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, rows: &[Value]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        path
    }

    /// What is said about a file, without its folder, and the remedy.
    fn refusal<T: std::fmt::Debug>(&self, found: Result<T>) -> (String, String) {
        let error = found.unwrap_err();
        let text = error.to_string().replace(&format!("{}/", self.dir.path().display()), "");
        (text, error.hint().expect("a remedy").to_owned())
    }
}

fn case() -> Value {
    json!({
        "id": "a", "process_id": "p", "cohort": "fresh", "source": "here", "domain": "doors",
        "perturbation": "baseline_compliant", "procedure": "1. Knock.", "scenario": "He knocked.",
        "question": "Was it kept?", "gold": "compliant",
    })
}

fn with(fields: Value) -> Value {
    let mut row = case();
    for (name, value) in fields.as_object().expect("an object") {
        row[name] = value.clone();
    }
    row
}

fn without(field: &str) -> Value {
    let mut row = case();
    row.as_object_mut().expect("an object").remove(field);
    row
}

#[test]
fn what_is_written_reads_back() {
    let files = Files::new();
    let (records, made) = (corpus(3), pairs(3));
    let rows: Vec<Value> = records.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    let read = read::records(&files.write("test.jsonl", &rows)).unwrap();
    assert_eq!((&read.records, read.warnings), (&records, vec![]));
    let rows: Vec<Value> = made.iter().map(|one| serde_json::to_value(one).unwrap()).collect();
    assert_eq!(read::pairs(&files.write("pairs.jsonl", &rows), &records).unwrap(), made);
}

#[test]
fn what_may_be_left_out() {
    let files = Files::new();
    let mut row = case();
    for field in ["cohort", "source", "domain"] {
        row.as_object_mut().expect("an object").remove(field);
    }
    let one = &read::records(&files.write("f", &[row])).unwrap().records[0];
    assert_eq!((&*one.cohort, &*one.source, &*one.domain, one.admit), ("unknown", "unknown", "unknown", true));
    assert_eq!((one.gold, one.perturbation), (Gold::Compliant, Perturbation::BaselineCompliant));
    let row = with(json!({"admit": false, "parent_id": "z", "meta": {"seed": 7, "edge": ["x", "y"]}}));
    let one = &read::records(&files.write("f", &[row])).unwrap().records[0];
    assert_eq!((one.admit, one.parent_id.as_deref(), one.meta.seed), (false, Some("z"), 7));
    assert_eq!(one.meta.edge, Some(("x".into(), "y".into())));
}

#[test]
fn cases_that_cannot_be_used() {
    let files = Files::new();
    let says = |rows: &[Value]| files.refusal(read::records(&files.write("f", rows)));
    for field in ["procedure", "scenario", "question"] {
        let (text, _) = says(&[with(json!({"id": "b", "scenario": "Other."})), without(field)]);
        assert_eq!(text, format!("f:2: field `{field}`: missing"));
        assert_eq!(says(&[with(json!({field: " \n"}))]).0, format!("f:1: field `{field}`: is empty"));
    }
    let (text, hint) = says(&[with(json!({"gold": "Compliant"}))]);
    assert_eq!(text, "f:1: field `gold`: must be `compliant` or `non-compliant`, found \"Compliant\"");
    assert_eq!(hint, "write one of the two, in lower case and with the hyphen");
    for label in ["NON-COMPLIANT", "noncompliant", "non_compliant", "yes", ""] {
        assert!(says(&[with(json!({"gold": label}))]).0.ends_with(&format!("found {label:?}")), "{label}");
    }
    assert_eq!(says(&[with(json!({"gold": true}))]).0, "f:1: field `gold`: must be a string, found true");
    let (text, hint) = says(&[with(json!({"perturbation": "step_reorder"}))]);
    assert_eq!(text, "f:1: field `perturbation`: perturbation `step_reorder`: no such perturbation");
    assert!(
        hint.contains("baseline_compliant, baseline_noncompliant") && hint.contains("step_reorder_invalid"),
        "{hint}"
    );
    assert_eq!(says(&[without("process_id")]).0, "f:1: field `process_id`: missing");
    assert_eq!(says(&[with(json!({"id": ""}))]).0, "f:1: field `id`: is empty");
    assert_eq!(says(&[with(json!({"admit": "yes"}))]).0, "f:1: field `admit`: must be true or false, found \"yes\"");
    assert!(says(&[with(json!({"meta": {"seed": "x"}}))]).0.starts_with("f:1: field `meta`: invalid type"));
    let (text, hint) = says(&[with(json!({"scenario": "Scenario: He knocked."}))]);
    assert_eq!(text, "f:1: field `scenario`: has a line that begins with `Scenario:`");
    assert!(hint.contains("take them out"), "{hint}");
    assert!(says(&[with(json!({"procedure": "1. Knock.\n\n Question: who?"}))]).0.contains("`Question:`"));
    let twice = [case(), with(json!({"scenario": "He waited."}))];
    assert_eq!(says(&twice).0, "f: id \"a\" stands twice, at line 1 and at line 2");
}

#[test]
fn one_case_with_two_labels_is_refused_with_the_ids() {
    let files = Files::new();
    let says = |rows: &[Value]| files.refusal(read::records(&files.write("f", rows)));
    // The same but for case, spaces and a ligature.
    let first = with(json!({"procedure": "1. Find the file."}));
    let other = with(json!({"id": "b", "procedure": " 1.  FIND THE \u{fb01}le.", "gold": "non-compliant"}));
    let (text, hint) = says(&[first.clone(), with(json!({"id": "c"})), other.clone()]);
    assert_eq!(text, "f: the same case with both labels: a = b");
    assert!(hint.contains("decide which label is right"), "{hint}");
    let same = with(json!({"id": "b", "procedure": "1. Find the file."}));
    assert!(read::records(&files.write("f", &[first, same])).is_ok(), "one label: a duplicate that cleaning takes out");
    let many: Vec<Value> = (0..14)
        .map(|i| {
            let gold = if i % 2 == 0 { "compliant" } else { "non-compliant" };
            with(json!({"id": format!("c{i:02}"), "scenario": format!("Case {}.", i / 2), "gold": gold}))
        })
        .collect();
    let listed = "c00 = c01; c02 = c03; c04 = c05; c06 = c07; c08 = c09 and 2 more";
    assert_eq!(says(&many).0, format!("f: the same case with both labels: {listed}"));
}

#[test]
fn surfaces_named_the_other_way_are_warned_about() {
    let files = Files::new();
    let rows = |opposite: usize| {
        let row = |i: usize| {
            let gold = if i < opposite { "non-compliant" } else { "compliant" };
            with(json!({
                "id": i.to_string(), "scenario": format!("Case {i}."), "gold": gold,
                "perturbation": "adversarial_surface_compliant",
            }))
        };
        let mut rows: Vec<Value> = (0..4).map(row).collect();
        // Any other kind does not count.
        rows.push(with(json!({"id": "x", "gold": "non-compliant"})));
        read::records(&files.write("f", &rows)).unwrap().warnings
    };
    assert_eq!((rows(0), rows(2)), (vec![], vec![]), "half is not more than half");
    let warnings = rows(3);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("3 of 4 adversarial_surface_* cases have the opposite label"), "{warnings:?}");
}

#[test]
fn pairs_that_cannot_be_used() {
    let files = Files::new();
    let mut records = corpus(2);
    records.push(interp_core::compliance::Record {
        id: "p0-rebound".into(),
        procedure: "Another one.".into(),
        ..records[1].clone()
    });
    let says = |rows: &[Value]| files.refusal(read::pairs(&files.write("f", rows), &records));
    let pair = |kind: &str, a: &str, b: &str| json!({"kind": kind, "a": a, "b": b});
    let (text, hint) = says(&[pair("flip", "p0-base", "p0-plain"), pair("turn", "p0-base", "p0-para")]);
    assert_eq!(text, "f:2: field `kind`: no such kind of pair: \"turn\"");
    assert!(hint.starts_with("kinds are flip"), "{hint}");
    let of = |kind, a, b| says(&[pair(kind, a, b)]).0;
    assert_eq!(of("flip", "p0-base", "p9-base"), "f:1: field `b`: no case has the id \"p9-base\"");
    assert_eq!(of("flip", "nobody", "p0-base"), "f:1: field `a`: no case has the id \"nobody\"");
    assert_eq!(
        of("flip", "p0-base", "p0-para"),
        "f:1: field `kind`: a flip pair has opposite labels, but \"p0-base\" and \"p0-para\" are both compliant"
    );
    assert_eq!(
        of("anchor", "p0-base", "p0-plain"),
        "f:1: field `kind`: an anchor pair has one label, but \"p0-base\" is compliant and \"p0-plain\" is non-compliant"
    );
    assert_eq!(
        of("flip", "p0-base", "p1-plain"),
        "f:1: field `b`: \"p0-base\" and \"p1-plain\" are about two processes, p0 and p1"
    );
    assert!(of("flip", "p0-base", "p0-rebound").ends_with("have two procedures; a pair has one"));
    assert_eq!(of("anchor", "p0-base", "p0-base"), "f:1: field `b`: \"p0-base\" is paired with itself");
    let twice = [pair("swap", "p0-base", "p0-order"), pair("swap", "p0-base", "p0-order")];
    assert_eq!(says(&twice).0, "f:2: field `a`: the pair of \"p0-base\" and \"p0-order\" stands twice");
    // A swap may flip or not, and two cases may be paired in two ways.
    let fine = [
        pair("swap", "p0-base", "p0-order"),
        pair("flip", "p0-base", "p0-order"),
        pair("swap", "p0-base", "p0-filler"),
    ];
    let read = read::pairs(&files.write("f", &fine), &records).unwrap();
    assert_eq!(read.iter().map(|pair| pair.kind).collect::<Vec<_>>(), [PairKind::Swap, PairKind::Flip, PairKind::Swap]);
}

#[test]
fn files_that_are_none() {
    let files = Files::new();
    assert!(
        read::records(Path::new("nowhere.jsonl")).unwrap_err().to_string().starts_with("cannot read nowhere.jsonl")
    );
    let empty = files.write("f", &[]);
    assert_eq!(files.refusal(read::records(&empty)).0, "f: the file is empty");
    std::fs::write(&empty, "{\"id\": \"a\"\n").unwrap();
    assert!(files.refusal(read::records(&empty)).0.starts_with("f:1: malformed JSON"));
}
