//! The noise floor and the cost of a sweep, as its folder and its last lines show them.

use std::fs;

use interp_core::export::npy;
use serde_json::{Value, json};

use super::{Place, done, model, with_defaults};

/// A JSON file of the place.
fn read(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap()
}

/// What a sweep says on stderr, every line of it.
fn says(place: &Place, flags: &[&str]) -> String {
    let model = model();
    let output = place.interp(&with_defaults(&model, flags)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_result_has_a_noise_floor_for_every_metric() {
    let place = Place::new();
    let said = says(&place, &["--metric", "logit-diff,kl,rank,acc"]);
    let run = read(&place, "out/run.json");
    for metric in ["logit-diff", "kl", "rank", "acc"] {
        let floor = &run["noise_floor"][metric];
        for part in ["repeat", "batch", "precision"] {
            assert!((0.0..1e-3).contains(&number(&floor[part])), "{metric} {part}: {floor}");
        }
        assert!(said.contains(&format!("noise floor ({metric}): repeat ")), "{said}");
    }
    let floor = &run["noise_floor"]["logit-diff"];
    assert!(number(&floor["repeat"]) > 0.0 && number(&floor["precision"]) > 0.0, "{floor}");
    assert!(number(&floor["correlation"]) > 0.9999, "{floor}");
    assert_eq!(floor, &read(&place, "out/delta.json")["noise_floor"]["logit-diff"]);
    let reference = &run["noise_reference"];
    assert_eq!((&reference["dtype"], &reference["n_cells"]), (&json!("f64"), &json!(16)));
    assert_eq!(reference["trials"].as_array().unwrap().len(), 1, "one of four trials: {reference}");
    assert!(!said.contains("warning"), "{said}");

    // Nothing is above f64.
    says(&place, &["--dtype", "f64", "--out", "f64"]);
    let run = read(&place, "f64/run.json");
    let floor = &run["noise_floor"]["logit-diff"];
    assert_eq!((&floor["precision"], &floor["correlation"]), (&Value::Null, &Value::Null));
    assert!((0.0..1e-11).contains(&number(&floor["repeat"])), "{floor}");
    assert_eq!(run["noise_reference"], json!({"unmeasured": "nothing is above f64"}));
}

#[test]
fn cells_below_the_floor_are_marked_everywhere() {
    let place = Place::new();
    says(&place, &["--dtype", "bf16", "--metric", "logit-diff,prob"]);
    let table = read(&place, "out/delta.json");
    let floor = &table["noise_floor"]["logit-diff"];
    let largest = ["repeat", "batch", "precision"].map(|part| number(&floor[part])).into_iter().fold(0.0, f64::max);
    assert!(largest > 1e-3 && number(&floor["correlation"]) < 1.0, "{floor}");
    let (_, means) = npy::read(&place.path("out/delta.npy")).unwrap();
    let cells = table["cells"].as_array().unwrap();
    let cells: Vec<&Value> = cells.iter().filter(|cell| cell["metric"] == "logit-diff").collect();
    let below: Vec<&str> =
        cells.iter().filter(|cell| cell["below_floor"] == true).map(|cell| cell["label"].as_str().unwrap()).collect();
    assert_eq!(below.len(), means.iter().filter(|mean| mean.abs() < largest).count());
    assert!(!below.is_empty() && below.len() < means.len(), "{below:?} of {}", means.len());
    for cell in &cells {
        assert_eq!(cell["below_floor"], json!(number(&cell["mean"]).abs() < largest), "{cell}");
    }
    let csv = fs::read_to_string(place.path("out/delta.csv")).unwrap();
    let column = csv.lines().next().unwrap().split(',').position(|name| name == "below_floor").unwrap();
    let marked = csv.lines().filter(|line| line.starts_with("logit-diff,"));
    let marked = marked.filter(|line| line.split(',').nth(column) == Some("true")).count();
    assert_eq!(marked, below.len());
    assert!(fs::read_to_string(place.path("out/heatmap.svg")).unwrap().contains(">below the noise floor</text>"));

    let stats = place.interp(&["stats", "out", "--top", "32"]).output().unwrap();
    let line = format!("; {} of 32 cells are below it\n", below.len());
    assert!(String::from_utf8(stats.stderr).unwrap().ends_with(&line));
    let table = String::from_utf8(stats.stdout).unwrap();
    assert_eq!(table.lines().filter(|line| line.ends_with("  below")).count(), below.len());

    // In bf16 the floor is what verify measures with.
    let verified = place.run(&["verify", "out", "--cells", "8"]);
    let bound = format!("{largest:.3e}");
    assert!(verified.stdout.lines().filter(|line| line.contains("logit-diff")).all(|line| line.contains(&bound)));
    assert_eq!((verified.code, verified.stderr.contains("note:")), (Some(0), false), "{}", verified.stdout);
}

#[test]
fn without_a_reference_the_results_say_so() {
    let place = Place::new();
    let said = says(&place, &["--dtype", "bf16", "--no-floor"]);
    assert!(said.contains("precision not measured") && !said.contains("; noise floor"), "{said}");
    let run = read(&place, "out/run.json");
    let floor = &run["noise_floor"]["logit-diff"];
    assert_eq!((&floor["precision"], &floor["correlation"]), (&Value::Null, &Value::Null));
    assert!(number(&floor["repeat"]) > 0.0 && floor["batch"].is_number(), "{floor}");
    assert_eq!(run["noise_reference"], json!({"unmeasured": "--no-floor"}));
    assert_eq!(read(&place, "out/timing.json")["floor_s"], Value::Null);
    let verified = place.run(&["verify", "out", "--cells", "2"]);
    let note = "note: this folder has no measured precision, so bf16 numbers may differ by 4/256 of the metric: ";
    assert_eq!((verified.code, verified.stderr.starts_with(note)), (Some(0), true), "{}", verified.stderr);

    // The effects do not depend on it.
    says(&place, &["--dtype", "bf16", "--out", "floor"]);
    assert_eq!(place.out("out")["delta_per_trial.npy"], place.out("floor")["delta_per_trial.npy"]);
}

#[test]
fn effects_that_drown_in_noise_are_warned_about() {
    let place = Place::new();
    let said = says(&place, &["--dtype", "bf16", "--edit", "scale:1.001"]);
    let line = said.lines().find(|line| line.starts_with("warning: ")).expect(&said);
    assert!(line.starts_with("warning: logit-diff in bf16 correlates "), "{line}");
    assert!(line.ends_with(" with f32: effects drown in noise, use --dtype f32"), "{line}");
    let said = says(&place, &["--edit", "scale:1.001", "--out", "f32"]);
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn edits_that_draw_on_statistics_have_a_floor_too() {
    let place = Place::new();
    for edit in ["mean", "noise:0.5"] {
        says(&place, &["--edit", edit, "--out", edit]);
        let floor = &read(&place, &format!("{edit}/run.json"))["noise_floor"]["logit-diff"];
        assert!((1e-12..1e-3).contains(&number(&floor["precision"])), "{edit}: {floor}");
        assert!(number(&floor["correlation"]) > 0.9999, "{edit}: {floor}");
    }
}

#[test]
fn timing_json_says_what_this_start_cost() {
    let place = Place::with_trials(3);
    let said = says(&place, &["--swap"]);
    let timing = read(&place, "out/timing.json");
    let keys: Vec<&str> = timing.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "schema",
        "device",
        "dtype",
        "weights",
        "threads",
        "load_s",
        "floor_s",
        "peak_memory_bytes",
        "device_memory_bytes",
        "memory_after_load_bytes",
        "max_rows",
        "trials",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&timing["schema"], &timing["device"]), (&json!("interp.timing/1"), &json!("cpu")));
    assert_eq!((&timing["dtype"], &timing["threads"]), (&json!("f32"), &json!(1)));
    assert!(number(&timing["load_s"]) > 0.0 && number(&timing["floor_s"]) > 0.0);
    assert!(number(&timing["peak_memory_bytes"]) >= number(&timing["memory_after_load_bytes"]));
    // One after the other in both directions: the second finds both runs made.
    let trials = timing["trials"].as_array().unwrap();
    for (index, trial) in trials.iter().enumerate() {
        let made = if index % 2 == 0 { 2 } else { 0 };
        assert_eq!((&trial["index"], &trial["prompts_run"]), (&json!(index), &json!(made)), "{timing:#}");
        assert_eq!((&trial["waves"], &trial["halvings"]), (&json!(1), &json!(0)));
        // 32 heads, the clean row, two controls.
        assert_eq!(trial["rows"], json!(35));
        assert!(number(&trial["runs_s"]) > 0.0 && number(&trial["waves_s"]) > 0.0);
    }
    assert_eq!(trials.len(), 6);
    assert!(said.contains("time: 6 trials, ") && said.contains("(1 wave of 35 rows); noise floor "), "{said}");
    assert!(said.lines().last().unwrap().starts_with("memory: peak "), "{said}");

    // Files of the run itself hold no time.
    assert_eq!(place.sweep(&["--swap", "--out", "again"]), done("again\n"));
    assert!(place.out("out") == place.out("again"));
}
