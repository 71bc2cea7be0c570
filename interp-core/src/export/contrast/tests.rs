//! A contrast of made-up folders, against numbers found by hand.

use serde_json::json;

use super::*;
use crate::export::{NoiseFloor, Skipped, TrialRow};
use crate::site::HeadAxis;

/// Two layers of two heads; a value per trial and cell, the trials of `skipped` left out.
fn arm(name: &str, trials: usize, skipped: &[usize], value: impl Fn(usize, usize) -> f32) -> Arm {
    let row =
        |trial: usize| TrialRow { id: format!("t{trial}"), cluster: Some(format!("c{}", trial / 2)), direction: None };
    let rows: Vec<usize> = (0..trials).filter(|trial| !skipped.contains(trial)).collect();
    let study = Study {
        layout: Layout {
            axes: vec![GridAxis::layers(3..5), GridAxis::heads(0..2)],
            metrics: vec!["logit-diff".into()],
            head_axis: Some(HeadAxis::Query),
            heads_per_kv: Some(2),
        },
        trials: (0..trials).map(row).collect(),
        skipped: skipped.iter().map(|&index| Skipped { index, id: format!("t{index}"), reason: "no".into() }).collect(),
        cells: vec![rows.iter().map(|&trial| (0..4).map(|cell| value(trial, cell)).collect()).collect()],
        clean: vec![vec![0.0]; rows.len()],
        rows,
        source: None,
        bootstrap: Bootstrap { resamples: 200, ..Bootstrap::default() },
        noise: vec![Some(NoiseFloor { batch: Some(0.25), ..NoiseFloor::default() })],
        run: json!({
            "spec": {"trials_sha256": "abc", "sweep": {"edit": "zero", "model": name}},
            "model": {"checkpoint": name},
        }),
    };
    Arm { name: name.into(), dir: format!("out/{name}").into(), study }
}

const JUDGE: Judge = Judge {
    bootstrap: Bootstrap { level: 0.95, resamples: 200, seed: 0 },
    flips: Flips { n: 100, seed: 0 },
    level: 0.05,
};

/// Twelve trials in six clusters. Cell 0 gains 2 everywhere, cell 1 an eighth (under the floor), cell 2 gains or loses 1 by
/// cluster, cell 3 was not measured under the second checkpoint.
fn two() -> Vec<Arm> {
    let other = |trial: usize, cell: usize| match cell {
        0 => 3.0,
        1 => 1.125,
        2 if (trial / 2).is_multiple_of(2) => 2.0,
        2 => 0.0,
        _ => f32::NAN,
    };
    vec![arm("base", 12, &[], |_, _| 1.0), arm("tuned", 12, &[], other)]
}

#[test]
fn changes_by_hand() {
    let contrast = Contrast::new(two()).unwrap();
    let found = contrast.compare(0, &JUDGE).unwrap();
    let changes = &found.changes[0];
    let means: Vec<f64> = changes[..3].iter().map(|change| change.stats.mean).collect();
    assert_eq!(means, [2.0, 0.125, 0.0]);
    // Six clusters: 2 of 64 sign vectors reach a difference that is the same everywhere. Of three tests, q of the two equal
    // ones is 3/2 p.
    let p = 2.0 / 64.0;
    assert_eq!((changes[0].p, changes[1].p, changes[2].p), (p, p, 1.0));
    assert!((changes[0].q - 1.5 * p).abs() < 1e-15 && changes[0].q == changes[1].q && changes[2].q == 1.0);
    assert_eq!([0, 1, 2, 3].map(|cell| changes[cell].changed), [true, false, false, false], "{changes:?}");
    assert_eq!((changes[0].stats.se, changes[0].stats.ci), (0.0, Some([2.0, 2.0])));
    // Cluster sums of cell 2 are 2 and -2: sqrt(6/5 * 6 * 4) / 12.
    assert!((changes[2].stats.se - 28.8f64.sqrt() / 12.0).abs() < 1e-15);
    assert!(changes[3].stats.mean.is_nan() && changes[3].p.is_nan() && changes[3].q.is_nan());
    assert_eq!(found.ranking(1), [0, 1, 2]);
    assert_eq!((found.effects[1][0].p, found.effects[1][2].below_floor), (p, Some(false)));
}

#[test]
fn only_trials_that_ran_in_all_count() {
    let other = |trial: usize, _: usize| if trial == 0 { 100.0 } else { 2.0 };
    let arms = vec![arm("base", 4, &[0], |_, _| 1.0), arm("tuned", 4, &[3], other), arm("third", 4, &[], |_, _| 0.5)];
    let contrast = Contrast::new(arms).unwrap();
    assert_eq!((contrast.n_trials(), contrast.clusters().len()), (2, 2));
    let found = contrast.compare(0, &JUDGE).unwrap();
    assert_eq!((found.changes[0][0].stats.mean, found.changes[1][0].stats.mean), (1.0, -0.5));
    assert_eq!(found.changes[0][0].p, 0.5, "two clusters");

    let none = Contrast::new(vec![arm("a", 2, &[0], |_, _| 1.0), arm("b", 2, &[1], |_, _| 1.0)]).unwrap_err();
    assert_eq!(none.to_string(), "trials 0: no trial ran in all folders: their skipped.json say why");
}

#[test]
fn files_say_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let contrast = Contrast::new(two()).unwrap();
    let mut run = Map::new();
    run.insert("schema".into(), json!("x"));
    contrast.write(dir.path(), &JUDGE, &run).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let table = read("contrast.csv");
    let mut lines = table.lines();
    assert_eq!(
        lines.next(),
        Some(
            "metric,layer,head,kv_head,label,checkpoint,mean,sd,se,ci_lo,ci_hi,p,below_floor,change,change_se,\
             change_ci_lo,change_ci_hi,change_p,change_q,changed"
        )
    );
    assert_eq!(lines.next(), Some("logit-diff,3,0,0,L3.H0,base,1.0,0.0,0.0,1.0,1.0,0.03125,false,,,,,,,"));
    let tuned = "logit-diff,3,0,0,L3.H0,tuned,3.0,0.0,0.0,3.0,3.0,0.03125,false,2.0,0.0,2.0,2.0,0.03125,0.046875,true";
    assert_eq!(lines.next(), Some(tuned));
    assert_eq!(table.lines().last(), Some("logit-diff,4,1,0,L4.H1,tuned,,,,,,,,,,,,,,"));
    let json: Value = serde_json::from_str(&read("contrast.json")).unwrap();
    assert_eq!((&json["schema"], &json["reference"]), (&json!("interp.contrast/1"), &json!("base")));
    assert_eq!((&json["n_clusters"], &json["test"]["exact"]), (&json!(6), &json!(true)));
    assert_eq!((&json["cells"][1]["change"], &json["cells"][0]["change"]), (&json!(2.0), &Value::Null));
    let figure = read("contrast.svg");
    assert!(figure.contains(">tuned − base</text>") && figure.contains("Δδ logit-diff (logits)"), "{figure}");
    assert!(dir.path().join("contrast.png").exists() && read("run.json").contains('x'));
}

#[test]
fn grids_of_one_axis_have_a_figure_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut arms = two();
    arms.push(arm("third", 12, &[], |_, _| 0.5));
    let two_rows = Contrast::new(arms.clone()).unwrap();
    two_rows.write(dir.path(), &JUDGE, &Map::new()).unwrap();
    for arm in &mut arms {
        arm.study.layout.axes = vec![GridAxis::named("set", ["a", "b", "c", "d"].map(String::from).to_vec())];
    }
    Contrast::new(arms).unwrap().write(dir.path(), &JUDGE, &Map::new()).unwrap();
    let figure = std::fs::read_to_string(dir.path().join("contrast.svg")).unwrap();
    assert!(figure.contains(">less base</text>") && figure.contains(">third</text>"), "{figure}");
}

#[test]
fn sweeps_that_ask_something_else_are_refused() {
    let refused = |change: fn(&mut Study)| {
        let mut arms = two();
        change(&mut arms[1].study);
        Contrast::new(arms).unwrap_err().to_string()
    };
    assert_eq!(
        refused(|study| study.layout.axes[1] = GridAxis::heads(0..3)),
        "out/tuned: its grid is not that of base: axis `head` has 3 labels, not 2"
    );
    assert_eq!(
        refused(|study| study.layout.axes[0] = GridAxis::layers(2..4)),
        "out/tuned: its grid is not that of base: axis `layer` has L2 where that one has L3"
    );
    assert_eq!(
        refused(|study| study.layout.axes[1] = GridAxis::positions(0..2)),
        "out/tuned: its grid is not that of base: it is layer x pos, not layer x head"
    );
    assert_eq!(
        refused(|study| study.layout.metrics = vec!["acc".into()]),
        "out/tuned: its grid is not that of base: it holds acc, not logit-diff"
    );
    assert_eq!(
        refused(|study| study.run["spec"]["sweep"]["edit"] = json!("mean")),
        "out/tuned: asks another question than base: `edit` is \"mean\" here, \"zero\" there"
    );
    assert_eq!(
        refused(|study| study.run["spec"]["trials_sha256"] = json!("def")),
        "out/tuned: its trials are not those of base"
    );
    let one = Contrast::new(two().split_off(1)).unwrap_err().to_string();
    assert_eq!(one, "checkpoints 1: a contrast needs at least two");
    let judge = Judge { level: 1.0, ..JUDGE };
    let level = Contrast::new(two()).unwrap().compare(0, &judge).unwrap_err().to_string();
    assert_eq!(level, "false discovery rate 1: must lie between 0 and 1, such as 0.05");
}

#[test]
fn sweeps_of_different_files_meet_in_the_trials_they_share() {
    let mut arms = two();
    // The second ran t1 to t11 in the opposite order, and a trial of its own.
    let other = &mut arms[1].study;
    other.trials.reverse();
    other.cells[0].reverse();
    other.trials[11].id = "its own".into();
    other.run["spec"]["trials_sha256"] = json!("def");
    assert!(Contrast::new(arms.clone()).is_err(), "the files differ");
    let contrast = Contrast::matched(arms).unwrap();
    assert_eq!((contrast.n_trials(), contrast.clusters().len()), (11, 6));
    let found = contrast.compare(0, &JUDGE).unwrap();
    assert_eq!(found.changes[0][0].stats.mean, 2.0);
    // Cell 2 gains 1 in trials 1, 4, 5, 8 and 9 and loses 1 in the six others.
    assert!((found.changes[0][2].stats.mean + 1.0 / 11.0).abs() < 1e-12);

    let strange = |id: &str| {
        let mut arms = two();
        arms[1].study.trials.iter_mut().for_each(|trial| trial.id += id);
        Contrast::matched(arms).unwrap_err().to_string()
    };
    assert_eq!(strange("x"), "trials 0: no trial ran in all folders: their skipped.json say why");
}
