//! Results files that cannot be used: one error that names file, field and remedy, exit code 2.

use std::fs;

use serde_json::{Value, json};

use super::evaluation;
use crate::common::interp;

fn refused(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.json");
    fs::write(&path, bytes).unwrap();
    let said = interp("eval score {}", &[&path]);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(matches!(lines[..], [_, hint] if hint.starts_with("hint: ")), "{}", said.err);
    lines[0].replace(&path.display().to_string(), "FILE")
}

fn altered(alter: impl Fn(&mut Value)) -> String {
    let mut value = evaluation().json();
    alter(&mut value);
    refused(value.to_string().as_bytes())
}

#[test]
fn fields_that_are_missing_or_no_numbers_are_named() {
    let taken = |field: &'static str| {
        move |value: &mut Value| drop(value["per_sample"][1].as_object_mut().unwrap().remove(field))
    };
    assert_eq!(altered(taken("confidence")), "error: FILE: field `per_sample[1].confidence`: missing");
    assert_eq!(altered(taken("total_reward")), "error: FILE: field `per_sample[1].total_reward`: missing");
    assert_eq!(altered(taken("verifier_scores")), "error: FILE: field `per_sample[1].verifier_scores`: missing");
    assert_eq!(
        altered(|value| value["per_sample"][1]["confidence"] = json!(85)),
        "error: FILE: field `per_sample[1].confidence`: 85 is outside 0 to 1"
    );
    assert_eq!(
        altered(|value| value["per_sample"][1]["confidence"] = json!("high")),
        "error: FILE: field `per_sample[1].confidence`: must be a finite number, found \"high\""
    );
    assert_eq!(
        altered(|value| value["per_sample"][1]["total_reward"] = Value::Null),
        "error: FILE: field `per_sample[1].total_reward`: must be a finite number, found null"
    );
    let nan = evaluation().json().to_string().replacen("\"total_reward\":", "\"total_reward\":NaN,\"was\":", 1);
    assert_eq!(refused(nan.as_bytes()), "error: FILE: line 1: field `total_reward` is NaN, which is no number");
    assert_eq!(
        altered(|value| drop(value["calibration"].as_object_mut().unwrap().remove("ece"))),
        "error: FILE: field `calibration.ece`: missing"
    );
    assert_eq!(
        altered(|value| drop(value.as_object_mut().unwrap().remove("grpo"))),
        "error: FILE: field `grpo`: missing"
    );
    assert_eq!(altered(|value| value["per_sample"] = json!([])), "error: FILE: field `per_sample`: is empty");
}

#[test]
fn verifiers_ids_and_kinds_are_checked() {
    assert_eq!(
        altered(|value| value["per_sample"][0]["verifier_scores"]["V5"] = json!(1.0)),
        "error: FILE: field `per_sample[0].verifier_scores.V5`: no such verifier"
    );
    assert_eq!(
        altered(|value| value["per_sample"][0]["verifier_scores"]["V1"] = json!(1.5)),
        "error: FILE: field `per_sample[0].verifier_scores.V1`: must be a number from 0 to 1, found 1.5"
    );
    assert_eq!(
        altered(|value| value["per_sample"][2]["id"] = json!("q0")),
        "error: FILE: id \"q0\" stands twice, at per_sample[0] and at per_sample[2]"
    );
    assert_eq!(refused(b""), "error: FILE: the file is empty");
    assert_eq!(refused(b"{\"a\": \"\xff\"}"), "error: FILE: line 1: not UTF-8 at byte 8");
    assert_eq!(refused(b"[]"), "error: FILE: holds no row");
    assert_eq!(refused(b"{\"mae\": 1.0}"), "error: FILE: is no results file that is known here");
    assert_eq!(
        refused(b"{\"num_predictions\": 1, \"mae\": 1.0}"),
        "error: FILE: holds metrics without the predictions they are of"
    );
    assert_eq!(
        refused(b"[{\"study_id\": \"a\", \"condition_num\": 1}]"),
        "error: FILE: field `[0].true_response`: missing"
    );
}

#[test]
fn a_megabyte_of_text_is_a_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.json");
    let mut value = evaluation().json();
    value["per_sample"][0]["response"] = json!("x".repeat(1_000_000));
    fs::write(&path, value.to_string()).unwrap();
    assert_eq!(interp("eval score {}", &[&path]).code, 0);
}
