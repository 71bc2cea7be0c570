//! `interp stats` on finished folders: named heads, controls, unedited runs, and what it refuses.

use serde_json::{Value, json};

use super::Place;

#[test]
fn heads_are_compared_with_a_control_from_the_folder_alone() {
    let place = Place::new();
    assert_eq!(place.sweep(&["--layers", "2..4", "--metric", "logit-diff,prob"]).code, Some(0));
    let flags = ["--layers", "2..4", "--edit", "zero", "--out", "zero", "--heads", "L2.H6,L2.H1,L3.H0"];
    assert_eq!(place.sweep(&flags).code, Some(0));
    // No model and no trials are needed any more.
    std::fs::remove_file(place.path("trials.jsonl")).unwrap();

    let rows = |arguments: &[&str]| {
        let ended = place.run(&[&["stats"], arguments, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str::<Value>(&ended.stdout).unwrap()
    };
    let cells = rows(&["out", "--top", "16"])["cells"].clone();
    let mean = |label: &str| {
        cells.as_array().unwrap().iter().find(|cell| cell["label"] == label).unwrap()["mean"].as_f64().unwrap()
    };
    let all = rows(&["out", "--heads", "L2.H6,L2.H1", "--control", "14"]);
    let names: Vec<&str> = all["control"].as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
    assert_eq!((names.len(), &all["heads"]), (14, &json!(["L2.H6", "L2.H1"])));
    assert!(!names.contains(&"L2.H6") && !names.contains(&"L2.H1"));
    let found = |i: usize| all["rows"][i]["mean"].as_f64().unwrap();
    assert!((found(0) - (mean("L2.H6") + mean("L2.H1")) / 2.0).abs() < 1e-9);
    assert!((found(1) - names.iter().map(|label| mean(label)).sum::<f64>() / 14.0).abs() < 1e-9);
    assert!((found(2) - (found(0) - found(1))).abs() < 1e-9);

    // The draw is a function of the seed.
    let draw = |seed: &str| rows(&["out", "--heads", "L2.H6", "--control", "5", "--seed", seed])["control"].clone();
    assert!(draw("0") == draw("0") && draw("0") != draw("1"));
    let top = rows(&["zero", "--heads", "top:1", "--ranked-by", "out", "--control", "2"]);
    assert_eq!((top["heads"].as_array().unwrap().len(), top["control"].as_array().unwrap().len()), (1, 2));
    let same = rows(&["out", "--top", "1", "--control", "3", "--metric", "prob"]);
    assert_eq!((&same["metric"], same["rows"].as_array().unwrap().len()), (&json!("prob"), 3));

    let refuses = |arguments: &[&str], stderr: &str| {
        let ended = place.run(&[&["stats"], arguments].concat());
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr), (Some(2), "", format!("{stderr}\n")));
    };
    refuses(
        &["out", "--heads", "L1.H0", "--control", "3"],
        "error: head `L1.H0`: not on this folder's grid\nhint: the grid has L2 to L3 and H0 to H7",
    );
    refuses(
        &["zero", "--heads", "L2.H0", "--control", "1"],
        "error: head `L2.H0`: was not measured in this run\nhint: 3 of the grid's 16 heads were measured",
    );
    refuses(&["zero", "--heads", "L2.H6", "--control", "3"], "error: control 3: only 2 other cells were measured");
    refuses(
        &["out", "--control", "3"],
        "error: --control `3`: there are no heads to compare with it\n\
         hint: add --heads L19.H17, or --heads top:1 --ranked-by DIR",
    );
    refuses(
        &["out", "--heads", "top:17"],
        "the heads were chosen by the numbers they are reported with, which flatters them\n\
         error: heads `top:17`: 16 heads were measured\nhint: take 1 to 16",
    );
    refuses(
        &["out", "--heads", "L2.H6", "--ranked-by", "zero"],
        "error: heads `L2.H6`: named heads need no ranking\nhint: write --heads top:K, or leave --ranked-by out",
    );
    refuses(
        &["out", "--metric", "acc"],
        "error: metric `acc`: not in this folder\nhint: the folder holds logit-diff, prob",
    );
}

#[test]
fn grids_without_heads_have_no_control_but_unedited_runs() {
    let place = Place::new();
    place.write("sets.json", r#"[{"name": "none", "heads": []}]"#);
    let flags = ["--edit", "zero", "--grid", "sets:sets.json", "--metric", "acc"];
    assert_eq!(place.sweep(&flags).code, Some(0));
    let refused = place.run(&["stats", "out", "--heads", "L2.H6", "--control", "1"]);
    let stderr = "error: grid `set`: has no heads\nhint: give the folder of a sweep with --grid layer-head\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(2), stderr));
    // What the file of sets says is part of what was run.
    place.write("sets.json", r#"[{"name": "none", "heads": ["L0.H0"]}]"#);
    let other = place.sweep(&flags);
    assert_eq!(other.code, Some(2));
    assert!(
        other.stderr.starts_with("error: out: holds another run") && other.stderr.contains("sets_sha256"),
        "{other:?}"
    );
    let clean = place.run(&["stats", "out", "--clean"]);
    assert_eq!(
        clean.stdout,
        "run     direction  metric    mean      sd      se      95% interval  trials  clusters\n\
         clean   ABA        acc     1.0000  0.0000  0.0000  [1.0000, 1.0000]       2         2\n\
         clean   ABB        acc     1.0000  0.0000  0.0000  [1.0000, 1.0000]       2         2\n\
         clean   all        acc     1.0000  0.0000  0.0000  [1.0000, 1.0000]       4         2\n\
         source  ABA        acc     0.0000  0.0000  0.0000  [0.0000, 0.0000]       2         2\n\
         source  ABB        acc     0.0000  0.0000  0.0000  [0.0000, 0.0000]       2         2\n\
         source  all        acc     0.0000  0.0000  0.0000  [0.0000, 0.0000]       4         2\n"
    );
}
