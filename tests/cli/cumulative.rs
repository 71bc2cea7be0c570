//! `interp cumulative`: its curves are those of sets put together by hand, its folder is an ordinary one, and what it refuses.

use std::fs;

use interp_core::export::npy;
use serde_json::{Value, json};

use super::{Ended, Place, done, model};
use crate::common::fixture;

/// A ranking from four token pairs, and the first eight held-out prompts to ablate on.
fn place() -> Place {
    let place = Place::new();
    let held_out = fs::read_to_string(fixture("identity-rules/held-out.jsonl")).unwrap();
    place.write("held.jsonl", held_out.split_inclusive('\n').take(8).collect::<String>());
    assert_eq!(place.sweep(&["--out", "ranking", "--no-floor"]), done("ranking\n"));
    place
}

fn cumulative(place: &Place, flags: &[&str]) -> Ended {
    let model = model();
    let mut words = vec!["cumulative", "--threads", "1", "--no-floor", "--model", &model];
    for (flag, value) in [("--trials", "held.jsonl"), ("--ranked-by", "ranking"), ("--out", "out")] {
        if !flags.contains(&flag) {
            words.extend([flag, value]);
        }
    }
    words.extend(flags);
    place.run(&words)
}

fn json_of(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap()
}

#[test]
fn curves_are_those_of_sets_made_by_hand() {
    let place = place();
    let flags = ["--metric", "prob,acc", "--step", "4", "--random-step", "16", "--random-draws", "3"];
    let ended = cumulative(&place, &flags);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "out\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("prob after the ablation, mean ± standard error over 8 trials:"), "{}", ended.stderr);
    for name in ["curves.json", "curves.csv", "curves.svg", "curves.png", "curves.acc.svg", "delta.acc.npy"] {
        assert!(place.path("out").join(name).is_file(), "{name}");
    }
    let curves = json_of(&place, "out/curves.json");
    let point = |curve: &str, k: u64| {
        let cells = curves["cells"].as_array().unwrap();
        let found = cells.iter().find(|c| c["metric"] == "prob" && c["curve"] == curve && c["k"] == k).unwrap();
        (found["mean"].as_f64().unwrap(), found["se"].as_f64().unwrap(), found["draws"].as_u64().unwrap())
    };
    let (_, clean) = npy::read(&place.path("out/metric_clean.npy")).unwrap();
    let clean: f64 = clean.iter().step_by(2).sum::<f64>() / 8.0;
    for curve in ["ranked", "lowest", "random"] {
        assert!((point(curve, 0).0 - clean).abs() < 1e-12 && clean > 0.9);
        // With all heads gone nothing is left to tell the curves apart.
        assert!((point(curve, 32).0 - point("ranked", 32).0).abs() < 1e-6);
    }
    assert_eq!((point("random", 16).2, point("lowest", 4).2), (3, 1));
    assert!(point("ranked", 8).0 < point("lowest", 8).0 && point("ranked", 8).1 > 0.0);

    // The same heads by the ranking's own table, put into a file of sets.
    let ranking = json_of(&place, "ranking/delta.json");
    let first: Vec<&Value> = ranking["cells"].as_array().unwrap()[..8].iter().map(|cell| &cell["label"]).collect();
    let lowest: Vec<Value> = {
        let cells: Vec<&Value> = ranking["cells"].as_array().unwrap().iter().rev().collect();
        let layer = |cell: &Value| cell["layer"].as_u64().unwrap();
        let of = |l: u64| ranking["cells"].as_array().unwrap()[..8].iter().filter(|cell| layer(cell) == l).count();
        let lowest = |l: u64| cells.iter().filter(move |cell| layer(cell) == l).take(of(l)).map(|c| c["label"].clone());
        (0..4).flat_map(lowest).collect()
    };
    let random: Vec<Value> = (0..3)
        .map(|draw| {
            let name = format!("random-16-{draw}");
            json!({ "name": name, "heads": random_set(&place, &name) })
        })
        .collect();
    let sets = [vec![json!({"name": "a", "heads": first}), json!({"name": "b", "heads": lowest})], random].concat();
    place.write("sets.json", Value::from(sets).to_string());
    let flags = ["--trials", "held.jsonl", "--edit", "zero", "--grid", "sets:sets.json", "--metric", "prob"];
    assert_eq!(place.sweep(&[&flags[..], &["--out", "by-hand", "--no-floor"]].concat()), done("by-hand\n"));
    let (_, delta) = npy::read(&place.path("by-hand/delta.npy")).unwrap();
    let random = clean - delta[2..].iter().sum::<f64>() / 3.0;
    for (left, right) in
        [(clean - delta[0], point("ranked", 8)), (clean - delta[1], point("lowest", 8)), (random, point("random", 16))]
    {
        assert!((left - right.0).abs() < 1e-6, "{left} {right:?}");
    }

    // An ordinary folder: it verifies, and is not run again.
    assert_eq!(place.run(&["verify", "out", "--cells", "4"]).code, Some(0));
    let before = place.out("out");
    let again =
        cumulative(&place, &["--metric", "prob,acc", "--step", "4", "--random-step", "16", "--random-draws", "3"]);
    assert!(again.code == Some(0) && again.stderr.starts_with("this run is already finished\n"), "{}", again.stderr);
    assert!(place.out("out") == before);
    let other = cumulative(&place, &["--metric", "prob,acc", "--step", "8"]);
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.starts_with("error: out: holds another run"), "{}", other.stderr);
}

/// The heads of a random set, which the engine was given and the folder's labels name: found again from the plan.
fn random_set(place: &Place, name: &str) -> Vec<String> {
    let run = json_of(place, "out/run.json");
    let plan = &run["spec"]["sweep"]["cumulative"];
    let mut heads: Vec<String> =
        plan["ranked"].as_array().unwrap().iter().map(|head| head.as_str().unwrap().to_owned()).collect();
    heads.sort_unstable();
    let cumulative =
        interp_core::stats::Cumulative { step: Some(4), max: usize::MAX, draws: 3, random_step: Some(16), seed: 0 };
    let order: Vec<usize> = (0..heads.len()).collect();
    let sets = cumulative.sets(&order, |cell| cell / 8).unwrap();
    let set = sets.iter().find(|set| set.name() == name).unwrap();
    set.cells.iter().map(|&cell| heads[cell].clone()).collect()
}

#[test]
fn means_replace_heads_as_zeros_do() {
    let place = place();
    let flags = ["--step", "16", "--random-draws", "0", "--max", "16", "--json"];
    let answer = |edit: &str, out: &str| {
        let ended = cumulative(&place, &[&["--edit", edit, "--out", out], &flags[..]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str::<Value>(&ended.stdout).unwrap()
    };
    let (zero, mean) = (answer("zero", "zero"), answer("mean", "mean"));
    assert_eq!((&zero["edit"], &mean["edit"]), (&json!("zero"), &json!("mean")));
    let shape = |answer: &Value| {
        let points = answer["points"].as_array().unwrap().iter();
        points.map(|p| format!("{}{}", p["curve"].as_str().unwrap(), p["k"])).collect::<Vec<_>>()
    };
    assert_eq!(shape(&zero), ["ranked0", "ranked16", "lowest0", "lowest16"]);
    assert_eq!(shape(&mean), shape(&zero));
    assert_ne!(mean["points"][1]["mean"], zero["points"][1]["mean"]);
    assert!(!fs::read_to_string(place.path("zero/curves.svg")).unwrap().contains("at random"));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let place = place();
    let before = place.names();
    let says = |flags: &[&str], line: &str| {
        let ended = cumulative(&place, flags);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{flags:?}");
        assert_eq!(ended.stderr, format!("{line}\n"), "{flags:?}");
        assert_eq!(place.names(), before, "{flags:?} left something");
    };
    says(&["--edit", "patch"], "error: edit `patch`: takes no head away\nhint: write zero or mean[:CAPTURE_DIR]");
    says(&["--step", "0"], "error: step 0: must be at least 1");
    says(
        &["--ranked-by", "nowhere"],
        "error: nowhere: no such folder\nhint: give the folder that `interp sweep --out` wrote",
    );
    let sweep = ["--site", "v", "--out", "kv", "--no-floor"];
    assert_eq!(place.sweep(&sweep), done("kv\n"));
    let ended = cumulative(&place, &["--ranked-by", "kv"]);
    assert_eq!(
        ended.stderr,
        "error: kv: counts kv heads, and what is taken away is the output of query heads\n\
         hint: rank by a sweep of z, the default site\n"
    );
    // Of another model: the heads do not exist here.
    let tiny = fixture("tiny/qwen2").display().to_string();
    let one = r#"{"base":{"tokens":[5,9,40]},"target":{"correct":7}}"#;
    place.write("one.jsonl", format!("{one}\n"));
    let ended = cumulative(&place, &["--model", &tiny, "--trials", "one.jsonl"]);
    assert!(ended.code == Some(2) && !place.path("out").exists(), "{}", ended.stderr);

    // The very trials of the ranking flatter it.
    let ended = cumulative(&place, &["--trials", "trials.jsonl", "--max", "2", "--random-draws", "0"]);
    assert!(ended.stderr.starts_with("note: the heads are ranked by these very trials"), "{}", ended.stderr);
}
