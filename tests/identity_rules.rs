//! The trained checkpoint does its task in our forward pass, and the demo finds in it what transformers finds.

use std::process::Command;

use serde_json::Value;

use crate::common::root;

fn interp(arguments: &[&str]) -> Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_interp")).arg("stats").args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_demo_finds_the_heads_that_carry_the_answer() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().to_str().unwrap();
    let demo = || {
        let mut command = Command::new(root().join("fixtures/identity-rules/demo.sh"));
        command.arg(out).env("INTERP", env!("CARGO_BIN_EXE_interp"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = demo();
    let folder = |name: &str| format!("{out}/{name}");

    // Every held-out prompt of both rules is answered; 95 % is what the fixture promises.
    let clean = interp(&[&folder("held-out"), "--clean", "--metric", "acc"]);
    let rules: Vec<_> = clean["rows"].as_array().unwrap().iter().filter(|row| row["direction"] != "all").collect();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        assert_eq!((rule["n_trials"].as_u64(), rule["mean"].as_f64()), (Some(200), Some(1.0)), "{rule}");
    }

    // Computed independently with transformers: patch z of one head at the last position, mean over 200 trials.
    let ranking = interp(&[&folder("patch"), "--top", "3"]);
    for (cell, (label, mean)) in
        ranking["cells"].as_array().unwrap().iter().zip([("L2.H6", 7.38), ("L2.H1", 7.25), ("L2.H0", 6.15)])
    {
        assert_eq!(cell["label"], label);
        assert!((cell["mean"].as_f64().unwrap() - mean).abs() < 0.01, "{cell}");
    }

    // Ablating the first of them costs more than ablating any 20 others.
    let control =
        interp(&[&folder("ablation"), "--heads", "top:1", "--ranked-by", &folder("patch"), "--control", "20"]);
    assert_eq!((&control["heads"][0], control["control"].as_array().unwrap().len()), (&"L2.H6".into(), 20));
    assert!(control["rows"][2]["ci"][0].as_f64().unwrap() > 1.0, "{control}");

    assert_eq!(demo(), said, "a second start prints the same");
}
