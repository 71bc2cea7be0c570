//! The trained checkpoint does its task in our forward pass, and the demo finds in it what transformers finds.

use std::process::Command;

use interp_core::device::Dtype;
use interp_core::export::npy;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::site::{Positions, Site};
use interp_core::sweep::{Grid, Models, Sweep};
use serde_json::Value;

use crate::common::{fixture, load_for_waves, root, trials};

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

/// `compare_transformer_lens.py --save` made the reference: one pass per head, by TransformerLens.
#[test]
fn causal_mediation_scores_are_those_of_transformer_lens() {
    let dir = fixture("identity-rules");
    let (shape, theirs) = npy::read(&dir.join("transformer-lens.npy")).unwrap();
    let made: Value = serde_json::from_slice(&std::fs::read(dir.join("transformer-lens.json")).unwrap()).unwrap();
    let ids: Vec<&str> = made["trials"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((shape, ids.len()), (vec![20, 4, 8], 20));
    let decoder = load_for_waves(&dir.join("model"), Dtype::F32);
    let all = trials(&dir.join("model"), &dir.join("token-pairs.jsonl"));
    let sweep = Sweep {
        site: Site::Z,
        edit: Edit::Patch,
        grid: Grid::LayerHead,
        positions: vec![Positions::Index(vec![-1])],
        layers: 0..4,
        heads: None,
        metrics: vec![Metric::LogitDiff],
        max_rows: None,
        seed: 0,
    };
    let mut off = 0.0f64;
    for (id, theirs) in ids.iter().zip(theirs.chunks(32)) {
        let trial = all.iter().find(|trial| trial.id == *id).unwrap();
        let axes = sweep.axes(decoder.config(), trial).unwrap();
        let (grid, _) = sweep.trial(Models::of(&decoder), &axes, trial).unwrap();
        off = grid.values[0].iter().zip(theirs).fold(off, |off, (ours, theirs)| off.max((ours - theirs).abs()));
    }
    let largest = theirs.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    println!("TransformerLens: largest difference {off:.2e}, {:.2e} of the largest |δ| {largest:.4}", off / largest);
    assert!(largest > 10.0 && off <= 1e-4 * largest, "{off} of {largest}");
}
