//! `interp eval score` on files made here: what is true is confirmed, what is not is named.

use std::fs;

use interp_core::eval::bio::Evaluation;
use serde_json::{Value, json};

use super::evaluation;
use crate::common::interp;

#[test]
fn a_file_that_is_written_is_read_back_and_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.json");
    let value = evaluation().json();
    fs::write(&path, value.to_string()).unwrap();
    let read = Evaluation::from_json(&path, &value).unwrap();
    assert_eq!(read, evaluation());
    let out = dir.path().join("out");
    let said = interp("eval score {} --json --out {}", &[&path, &out]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(found["kind"], "biorlhf");
    assert_eq!(found["comparison"]["compared"], found["comparison"]["equal"]);
    assert_eq!(found["values"]["grpo"], value["grpo"]);
    for name in ["reliability.svg", "reliability.png", "types.svg", "types.png", "bins.csv"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 200, "{name}");
    }
    let drawn = fs::read_to_string(out.join("reliability.svg")).unwrap();
    assert!(drawn.contains("Stated confidence") && !drawn.contains("NaN"), "{drawn}");
}

#[test]
fn every_claim_that_does_not_hold_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.json");
    for (pointer, wrong, field) in [
        ("/grpo/mean_reward", json!(0.5), "grpo.mean_reward"),
        ("/grpo/verifier_means/V1", json!(0.5), "grpo.verifier_means.V1"),
        ("/grpo/by_question_type", json!({"direction": 0.1}), "grpo.by_question_type.direction"),
        ("/calibration/ece", json!(0.0), "calibration.ece"),
        ("/calibration/reliability_bins/9/count", json!(3), "calibration.reliability_bins[9].count"),
        ("/baseline_comparison/delta_reward", json!(0.9), "baseline_comparison.delta_reward"),
        ("/success_criteria/overall_pass", json!(null), "success_criteria.overall_pass"),
        (
            "/eval_dataset_stats/by_question_type",
            json!({"direction": 2, "other": 1}),
            "eval_dataset_stats.by_question_type.other",
        ),
        ("/per_sample/1/total_reward", json!(0.9), "per_sample[1].total_reward"),
        ("/per_sample/1/verifier_scores/V4", json!(0.9), "per_sample[1].verifier_scores.V4"),
    ] {
        let mut value = evaluation().json();
        *value.pointer_mut(pointer).unwrap() = wrong;
        fs::write(&path, value.to_string()).unwrap();
        let said = interp("eval score {}", &[&path]);
        assert_eq!(said.code, 1, "{field}: {}{}", said.out, said.err);
        assert!(said.out.contains(&format!("{field} ")), "{field}: {}", said.out);
    }
}

#[test]
fn predictions_are_compared_with_their_texts_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("predictions.json");
    let row = |study: &str, truth: i64, text: &str, number: f64| {
        json!({"study_id": study, "condition_num": 1, "input": "", "true_response": truth.to_string(),
            "predicted_response": text, "true_numeric": truth, "pred_numeric": number})
    };
    let mut rows = json!([
        row("a", 1, "1", 1.0),
        row("a", 5, "Response: 4 or 5", 4.0),
        row("b", 3, "-2.", -2.0),
        row("c", 8, "1", 1.0),
        row("c", 8, "1", 1.0)
    ]);
    fs::write(&path, rows.to_string()).unwrap();
    let said = interp("eval score {} --json", &[&path]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.err.contains("no file of metrics was given or found"), "{}", said.err);
    assert!(said.err.contains("1 conditions have one row"), "{}", said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    // Stretched by themselves, {1, 5} and {1, 4} are the same, and so are the constants 8 and 1; on the human range they are not.
    assert_eq!(found["values"]["w1_self_minmax"], json!(0.0));
    assert_eq!((&found["values"]["w1_ref_range"], &found["values"]["mae"]), (&json!(0.125), &json!(4.0)));

    let metrics = dir.path().join("metrics.json");
    fs::write(&metrics, json!({"num_predictions": 5, "mae": 4.0, "wasserstein_distance": 0.5}).to_string()).unwrap();
    rows[0]["pred_numeric"] = json!(2.0);
    fs::write(&path, rows.to_string()).unwrap();
    let out = dir.path().join("out");
    let said = interp("eval score {} --out {}", &[&path, &out]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    for field in ["[0].pred_numeric ", "mae ", "wasserstein_distance "] {
        assert!(said.out.contains(field), "{field}{}", said.out);
    }
    for name in ["studies.svg", "studies.png", "distributions.svg", "distributions.png"] {
        assert!(fs::metadata(out.join(name)).unwrap().len() > 200, "{name}");
    }
}

#[test]
fn a_study_in_two_parts_of_a_split_is_a_leak() {
    let dir = tempfile::tempdir().unwrap();
    let [train, test, other] = ["train.jsonl", "test.jsonl", "other.jsonl"].map(|name| dir.path().join(name));
    fs::write(&train, "{\"study_id\": \"a\"}\n{\"study_id\": \"b\"}\n").unwrap();
    fs::write(&test, "{\"study_id\": \"c\"}\n{\"study_id\": 4}\n").unwrap();
    fs::write(&other, "{\"study_id\": \"b\"}\n{\"study_id\": \"b\"}\n").unwrap();
    let said = interp("eval splits {} {}", &[&train, &test]);
    assert_eq!((said.code, said.out.lines().last()), (0, Some("no study stands in two parts")), "{}", said.err);
    let said = interp("eval splits tr={} {} te={} --json", &[&train, &test, &other]);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &found["leaks"]), (1, &json!([{"parts": ["tr", "te"], "shared": ["b"], "rows": 2}])));
    let said = interp("eval splits {} {}", &[&train, &train]);
    assert!(said.code == 2 && said.err.contains("the name train is taken"), "{}", said.err);
}
