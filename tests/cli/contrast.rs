//! `interp contrast` on the small trained checkpoint and a copy of it whose head L2.H6 writes nothing.

use std::fs;

use interp_core::export::npy;
use serde_json::{Value, json};

use super::{Place, alter, model};

/// Twelve clusters of two trials: the least p is 2/4096, and a q under 0.05 can be had among 32 heads.
const TRIALS: usize = 24;

/// A place with `cut`, the checkpoint without what L2.H6 writes.
fn place() -> Place {
    let place = Place::with_trials(TRIALS);
    place.copy_model("cut");
    alter(&place.path("cut/model.safetensors"), |bytes| {
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
        let tensor = &header["model.layers.2.self_attn.o_proj.weight"];
        let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let [rows, columns] = [0, 1].map(|i| tensor["shape"][i].as_u64().unwrap() as usize);
        let (start, width) = (8 + size + at(0), (at(1) - at(0)) / rows / columns);
        let d_head = columns / 8;
        for row in 0..rows {
            bytes[start + (row * columns + 6 * d_head) * width..][..d_head * width].fill(0);
        }
    });
    place
}

/// `contrast` of the two, with flags.
fn contrast<'a>(base: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["contrast", base, "cut", "--trials", "trials.jsonl", "--threads", "1"];
    arguments.extend(flags);
    arguments
}

#[test]
fn a_head_that_was_cut_is_the_one_that_changed() {
    let place = place();
    let base = format!("base={}", model());
    let arguments = contrast(&base, &["--metric", "logit-diff,prob", "--out", "out", "--heads", "L2.H6,L2.H1"]);
    let output = place.interp(&arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"out\n".as_slice()), "{said}");
    assert!(said.contains("base (1 of 2)\n") && said.contains("cut (2 of 2)\n"), "{said}");
    assert!(said.contains("24 trials ran in all, in 12 clusters\n"), "{said}");
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let line =
        |start: [&str; 2]| lines.iter().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(line(["L2.H6", "cut"])[2], "0.0000");
    assert_eq!((line(["L2.H6", "cut"]).last(), line(["L2.H6", "base"]).last()), (Some(&"yes"), Some(&"-")));
    line(["L2.H1", "base"]);

    // Per checkpoint, exactly what a sweep writes.
    assert_eq!(place.sweep(&["--model", &base, "--metric", "logit-diff,prob", "--out", "alone"]).code, Some(0));
    assert!(place.out("out/base") == place.out("alone"));

    // The table follows from the arrays.
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap() };
    let table = read("out/contrast.json");
    assert_eq!((&table["schema"], &table["n_trials"]), (&json!("interp.contrast/1"), &json!(TRIALS)));
    let cells = table["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2 * 32 * 2, "metrics, heads, checkpoints");
    let effects = |name: &str| npy::read(&place.path(&format!("out/{name}/delta_per_trial.npy"))).unwrap().1;
    let (ours, theirs) = (effects("base"), effects("cut"));
    let changes: Vec<&Value> =
        cells.iter().filter(|row| row["metric"] == "logit-diff" && row["checkpoint"] == "cut").collect();
    for (cell, row) in changes.iter().enumerate() {
        let differences = (0..TRIALS).map(|trial| theirs[trial * 32 + cell] - ours[trial * 32 + cell]);
        let mean = differences.sum::<f64>() / TRIALS as f64;
        assert!((row["change"].as_f64().unwrap() - mean).abs() < 1e-12, "{row}");
        let clearly = row["change_q"].as_f64().unwrap() < 0.05 && mean.abs() > 1e-2;
        assert!(!clearly || row["changed"] == true, "{row}");
    }
    let cut = changes[2 * 8 + 6];
    assert_eq!((&cut["label"], &cut["mean"], &cut["changed"]), (&json!("L2.H6"), &json!(0.0), &json!(true)));
    assert!(cut["change"].as_f64().unwrap().abs() > 0.1, "{cut}");
    // Heads of the last layer saw nothing else change before them but what L2.H6 wrote.
    assert!(changes.iter().any(|row| row["changed"] == false), "not everything changed");
    let run = read("out/run.json");
    assert_eq!((&run["schema"], &run["checkpoints"][1]["folder"]), (&json!("interp.contrast_run/1"), &json!("cut")));
    for name in ["contrast.csv", "contrast.svg", "contrast.png", "contrast.prob.svg", "contrast.prob.png"] {
        assert!(place.path(&format!("out/{name}")).is_file(), "{name}");
    }

    // Once more, nothing is run and nothing changes.
    let all = || [place.out("out"), place.out("out/base"), place.out("out/cut")];
    let before = all();
    let again = place.interp(&arguments).output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!((again.status.code(), said.matches("this run is already finished\n").count()), (Some(0), 2), "{said}");
    assert!(all() == before);

    // The folders alone say the same.
    fs::remove_dir_all(place.path("cut")).unwrap();
    let folders = ["contrast", "--folders", "out/base", "out/cut", "--out", "again", "--json", "--heads", "L2.H6"];
    let ended = place.run(&folders);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for name in ["contrast.json", "contrast.csv", "contrast.svg"] {
        assert!(fs::read(place.path(&format!("again/{name}"))).unwrap() == before[0][name], "{name}");
    }
    for out in ["out", "again"] {
        let refused = place.run(&["stats", out]);
        let stderr = format!(
            "error: {out}: no folder of a sweep: its run.json is of `interp contrast`\n\
             hint: give one of the sweeps that it compares: out/base, out/cut\n"
        );
        assert_eq!((refused.code, refused.stderr), (Some(2), stderr));
    }
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&said["folder"], &said["reference"], &said["n_clusters"]),
        (&json!("again"), &json!("base"), &json!(12))
    );
    assert_eq!(said["heads"].as_array().unwrap().len(), 2);
    assert_eq!(said["changes"]["cut"]["most_changed"][0]["changed"], json!(true));
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_runs() {
    let place = place();
    let base = model();
    let refuses = |arguments: &[&str], stderr: &str| {
        let before = place.names();
        let ended = place.run(arguments);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr),
            (Some(2), "", format!("{stderr}\n")),
            "{arguments:?}"
        );
        assert_eq!(place.names(), before, "{arguments:?} left something");
    };
    let one = ["contrast", &base, "--trials", "trials.jsonl", "--out", "out"];
    refuses(
        &one,
        "error: checkpoint `model`: there is nothing to compare it with\n\
         hint: name two checkpoints or more, the reference first",
    );
    let twice = ["contrast", &base, "model=cut", "--trials", "trials.jsonl", "--out", "out"];
    refuses(
        &twice,
        "error: checkpoint `model`: two checkpoints have this name\nhint: write NAME=CHECKPOINT to tell them apart",
    );
    refuses(
        &contrast("contrast.json=cut", &["--out", "out"]),
        "error: checkpoint `contrast.json`: its name cannot be a folder's\nhint: write NAME=CHECKPOINT",
    );
    refuses(
        &contrast(&base, &["--out", "out", "--heads", "L9.H0"]),
        "error: head `L9.H0`: not on the sweep's grid\nhint: the grid has L0 to L3 and H0 to H7",
    );
    refuses(
        &contrast(&base, &["--out", "out", "--level", "5"]),
        "error: false discovery rate 5: must lie between 0 and 1, such as 0.05",
    );
    refuses(
        &contrast(&base, &["--out", "cut"]),
        "error: cut: not empty and not an output folder of interp contrast (holds `config.json`)\n\
         hint: give a new or an empty folder",
    );

    // Folders of sweeps that differ by more than the checkpoint.
    for (out, flags) in [("all", vec![]), ("some", vec!["--layers", "1..3"]), ("zero", vec!["--edit", "zero"])] {
        assert_eq!(place.sweep(&[&flags[..], &["--no-floor", "--out", out]].concat()).code, Some(0));
    }
    let folders = |other: &'static str| ["contrast", "--folders", "all", other, "--out", "out"];
    refuses(
        &folders("some"),
        "error: some: its grid is not that of all: axis `layer` has 2 labels, not 4\n\
         hint: compare checkpoints of one geometry, swept with the same flags",
    );
    refuses(
        &folders("zero"),
        "error: zero: asks another question than all: `edit` is \"zero\" here, \"patch\" there\n\
         hint: compare sweeps that were made with the same flags",
    );
    refuses(
        &["contrast", "--folders", "all", "zero", "--out", "some"],
        "error: zero: asks another question than all: `edit` is \"zero\" here, \"patch\" there\n\
         hint: compare sweeps that were made with the same flags",
    );
    refuses(&["contrast", "--folders", "all", "--out", "out"], "error: checkpoints 1: a contrast needs at least two");
    refuses(
        &["contrast", "--folders", "all", "nowhere", "--out", "out"],
        "error: nowhere: no such folder\nhint: give the folder that `interp sweep --out` wrote",
    );
}
