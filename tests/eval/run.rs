//! Evaluations that run a model: likelihoods against full passes, folders that `score` confirms, edits beside no edits.

use std::fs;
use std::path::{Path, PathBuf};

use interp_core::device::Dtype;
use interp_core::generate::log_likelihoods;
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention};
use interp_core::site::{HookPoint, Positions, Site};
use serde_json::{Value, json};
use tch::Kind;
use tempfile::TempDir;

use crate::common::{fixture, full_pass, interp, load, prompt, tiny};

/// The small trained checkpoint.
pub fn model() -> PathBuf {
    fixture("identity-rules/model")
}

/// A JSON file.
pub fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

#[test]
fn likelihoods_are_those_of_a_full_pass_with_and_without_an_edit() {
    for family in ["qwen2", "mistral"] {
        let decoder = load(&tiny(family), Dtype::F64);
        let (head, tail): (Vec<i64>, Vec<i64>) = ((5..17).collect(), vec![40, 7, 99]);
        let whole: Vec<i64> = head.iter().chain(&tail).copied().collect();
        let donors = Donors { source: None, same_weights: true, moments: None };
        let context = Context::of_run(&decoder, 0, "p");
        let at = |positions: Positions| Intervention {
            at: HookPoint::new(Site::Z, 1),
            heads: Some(vec![0, 2]),
            positions,
            edit: Edit::Zero,
        };
        for edited in [false, true] {
            let set = |positions| if edited { vec![at(positions)] } else { Vec::new() };
            let found = log_likelihoods(
                &decoder,
                &prompt(&head),
                &[tail.clone(), tail[..1].to_vec(), vec![]],
                &set(Positions::Index(vec![-1])),
                &donors,
                &context,
            );
            let found = found.unwrap();
            let place = Positions::Index(vec![head.len() as i64 - 1]);
            let mut edits =
                Edits::bind_in_place((0, &set(place)), 1, &prompt(&whole), &donors, &context).expect("it binds");
            let resid = decoder.forward(decoder.embed(&whole), 0..whole.len(), &mut edits);
            let logits = decoder.unembed(&resid, 0, None, &mut ()).squeeze_dim(0);
            let logs = logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
            let each: Vec<f64> =
                tail.iter().enumerate().map(|(i, &t)| logs.double_value(&[(head.len() + i - 1) as i64, t])).collect();
            assert!((found[0] - each.iter().sum::<f64>()).abs() < 1e-9, "{family}: {found:?} {each:?}");
            assert!((found[1] - each[0]).abs() < 1e-9 && found[2] == 0.0, "{family}");
        }
        assert!(full_pass(&decoder, &whole, &[]).1.size()[0] == 15);
    }
}

/// Multiple-choice questions of the first `n` token pairs, right answer and other.
fn choices(dir: &TempDir, n: usize) -> PathBuf {
    let all = fs::read_to_string(fixture("identity-rules/token-pairs.jsonl")).unwrap();
    let line = |line: &str| {
        let trial: Value = serde_json::from_str(line).unwrap();
        let (base, target) = (&trial["base"], &trial["target"]);
        let question = json!({
            "id": trial["id"],
            "cluster": trial["cluster"],
            "text": base["text"],
            "spans": base["spans"],
            "choices": [target["incorrect"], target["correct"]],
            "answer": target["correct"],
        });
        format!("{question}\n")
    };
    let path = dir.path().join("choice.jsonl");
    fs::write(&path, all.lines().take(n).map(line).collect::<String>()).unwrap();
    path
}

#[test]
fn choices_are_answered_and_an_edit_takes_the_answers_away() {
    let dir = tempfile::tempdir().unwrap();
    let (questions, out) = (choices(&dir, 40), dir.path().join("out"));
    let words = "eval choice --model {} --questions {} --out {} --json --edit zero --layers 2..3";
    let said = interp(words, &[&model(), &questions, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&found["n"], &found["accuracy"], &found["chance"]), (&json!(40), &json!(1.0), &json!(0.5)));
    assert!(found["ece"].as_f64().unwrap() < 0.1, "{found}");
    assert_eq!(read(&out.join("summary.json")), found);

    let paired = read(&out.join("paired.json"));
    let cell = |name: &str| {
        paired["cells"]
            .as_array()
            .unwrap()
            .iter()
            .find(|cell| cell["measure"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    let accuracy = cell("accuracy");
    assert!(accuracy["delta"].as_f64().unwrap() > 0.1, "{accuracy}");
    assert!(accuracy["ci"][0].as_f64().unwrap() > 0.0, "{accuracy}");
    assert_eq!((&paired["n_clusters"], &accuracy["rows"]), (&json!(20), &json!(40)));
    let edited = read(&out.join("edited/summary.json"));
    for (name, field) in [("ECE", "ece"), ("MCE", "mce")] {
        let (cell, of) = (cell(name), |found: &Value| found[field].as_f64().unwrap());
        let [delta, lo, hi] = [&cell["delta"], &cell["ci"][0], &cell["ci"][1]].map(|x| x.as_f64().unwrap());
        assert!((of(&found) - of(&edited) - delta).abs() < 1e-12, "{cell}");
        assert!(lo < hi && lo <= delta && delta <= hi && cell["se"].as_f64().unwrap() > 0.0, "{cell}");
    }
    let delta = found["accuracy"].as_f64().unwrap() - edited["accuracy"].as_f64().unwrap();
    assert!((delta - accuracy["delta"].as_f64().unwrap()).abs() < 1e-12);
    for name in ["paired.csv", "paired.svg", "paired.png", "reliability.svg", "samples.jsonl", "run.json"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    // What is there is left alone, whoever made it.
    let again = "eval choice --model {} --questions {} --out {}";
    let said = interp(again, &[&model(), &questions, &out]);
    assert_eq!((said.code, read(&out.join("paired.json"))), (2, paired), "{}", said.err);
    assert!(said.err.contains("not empty\nhint: "), "{}", said.err);
    let plain = dir.path().join("plain");
    let said = interp(again, &[&model(), &questions, &plain]);
    assert_eq!((said.code, plain.join("edited").exists(), plain.join("paired.json").exists()), (0, false, false));
    assert!(said.err.contains("accuracy") && said.out.trim_end().ends_with("plain"), "{}{}", said.err, said.out);
}

#[test]
fn choices_that_are_none_are_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.jsonl");
    let good = json!({"prompt": "la^li^la\nhi^ha^", "choices": ["hi", "ha"], "answer": 0});
    for (field, value, message) in [
        ("answer", json!(2), ":1: field `answer`: 2 is no choice"),
        ("answer", json!("ho"), ":1: field `answer`: \"ho\" is no choice"),
        ("choices", json!(["hi", "hi"]), ":1: field `choices`: \"hi\" stands twice"),
        ("choices", json!([]), ":1: field `choices`: has fewer than two answers, or an empty one"),
        ("choices", json!(["hi"]), ":1: field `choices`: has fewer than two answers, or an empty one"),
        ("clustr", json!("c1"), ":1: field `clustr`: is no field of a question"),
        ("choices", json!([1, 2]), ":1: field `choices`: must be a list of strings"),
        ("prompt", Value::Null, ":1: field `prompt`: "),
    ] {
        let mut line = good.clone();
        line[field] = value;
        fs::write(&path, format!("{line}\n")).unwrap();
        let said =
            interp("eval choice --model {} --questions {} --out {}", &[&model(), &path, &dir.path().join("out")]);
        assert!(said.code == 2 && said.err.contains(message) && said.err.contains("hint: "), "{message}: {}", said.err);
        assert!(!dir.path().join("out").exists());
    }
}

/// Three biology questions.
fn questions(dir: &TempDir) -> PathBuf {
    let line = |i: usize| {
        let line = json!({
            "id": format!("q{i}"),
            "cluster": format!("c{}", i / 2),
            "prompt": format!("Is hypoxia number {i} up?"),
            "ground_truth": {"pathway": "HALLMARK_HYPOXIA", "direction": "UP", "expected_confidence": "high"},
            "question_type": "direction",
            "applicable_verifiers": ["V1", "V4"],
            "tissue": "eye",
            "difficulty": "easy",
        });
        format!("{line}\n")
    };
    let path = dir.path().join("questions.jsonl");
    fs::write(&path, (0..3).map(line).collect::<String>()).unwrap();
    path
}

#[test]
fn completions_made_elsewhere_are_scored_and_score_confirms_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (questions, completions, out) = (questions(&dir), dir.path().join("c.jsonl"), dir.path().join("out"));
    let texts = ["Hypoxia is increased. Confidence: 90%", "Hypoxia is reduced. Confidence: 20%", "No idea."];
    let line = |i: usize| format!("{}\n", json!({"id": format!("q{i}"), "completion": texts[i]}));
    fs::write(&completions, [2, 0, 1].map(line).concat()).unwrap();
    let said = interp("eval bio --questions {} --completions {} --out {}", &[&questions, &completions, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("note: the card exchanges V1 and V2"), "{}", said.err);
    let file = read(&out.join("evaluation.json"));
    assert_eq!(file["per_sample"][0]["response"], texts[0], "in the order of the questions");
    assert_eq!(file["eval_dataset_stats"]["by_difficulty"], json!({"easy": 3}));
    let said = interp("eval score {}", &[&out.join("evaluation.json")]);
    assert!(said.code == 0 && said.out.contains("no difference"), "{}{}", said.out, said.err);
    // The one that was evaluated before is the baseline of the next.
    let base = out.join("evaluation.json");
    let next = dir.path().join("next");
    let words = "eval bio --questions {} --completions {} --baseline {} --extractor bioeval-like --out {} --json";
    let said = interp(words, &[&questions, &completions, &base, &next]);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(found["baseline_comparison"]["sft_mean_reward"], file["grpo"]["mean_reward"]);

    let new = dir.path().join("new");
    for (lines, message) in [
        ([line(0), line(1), line(1)].concat(), "id \"q1\" stands twice, at line 2 and at line 3"),
        (line(0), "2 of 3 questions have no completion, the first is \"q1\""),
        ("{\"id\": \"q9\", \"completion\": \"\"}\n".into(), ":1: field `id`: no question has the id \"q9\""),
        ("{\"id\": \"q0\"}\n".into(), ":1: field `completion`: missing"),
        ("".into(), "the file is empty"),
    ] {
        fs::write(&completions, lines).unwrap();
        let said = interp("eval bio --questions {} --completions {} --out {}", &[&questions, &completions, &new]);
        assert!(said.code == 2 && said.err.contains(message) && said.err.contains("hint: "), "{message}: {}", said.err);
    }
    let said = interp("eval bio --questions {} --out {}", &[&questions, &new]);
    assert!(said.err.contains("there is nobody to answer: give --model or --completions"), "{}", said.err);
}

#[test]
fn a_model_answers_biology_questions_with_and_without_an_edit() {
    let dir = tempfile::tempdir().unwrap();
    let (questions, out) = (questions(&dir), dir.path().join("out"));
    let words =
        "eval bio --model {} --questions {} --out {} --max-new-tokens 6 --edit zero --heads L2.H6 --positions all";
    let said = interp(words, &[&model(), &questions, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let run = read(&out.join("run.json"));
    assert_eq!((&run["schema"], &run["evaluation"]), (&json!("interp.eval/1"), &json!("bio")));
    let weights = &run["settings"]["model"]["weights"];
    assert_eq!((weights[0]["sha256"].as_str().map(str::len), &run["questions"]["n"]), (Some(64), &json!(3)), "{run}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the questions and the folder");
    let generation = &run["settings"]["generation"];
    assert_eq!((&generation["temperature"], &generation["top_p"]), (&json!(0.1), &json!(0.9)), "as published");
    assert_eq!((&generation["max_new_tokens"], &generation["edit"]["heads"]), (&json!(6), &json!("L2.H6")));
    let paired = read(&out.join("paired.json"));
    assert_eq!((&paired["cells"][0]["measure"], &paired["n_clusters"]), (&json!("reward"), &json!(2)));
    for file in [out.join("evaluation.json"), out.join("edited/evaluation.json")] {
        let said = interp("eval score {}", &[&file]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    }
}

#[test]
fn a_model_predicts_answers_and_score_confirms_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (questions, out) = (dir.path().join("q.jsonl"), dir.path().join("out"));
    let line = |i: usize| {
        let line = json!({"instruction": "Predict.", "input": format!("Age: {i}"), "output": format!("Response: {}", i % 5),
            "study_id": format!("s{}", i / 4), "condition_num": 1});
        format!("{line}\n")
    };
    fs::write(&questions, (0..12).map(line).collect::<String>()).unwrap();
    let words =
        "eval socrates --model {} --questions {} --out {} --max-new-tokens 3 --edit zero --heads L2.H6 --positions all";
    let said = interp(words, &[&model(), &questions, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("12 of 12 rows have no number"), "the model knows no digits: {}", said.err);

    let completions = dir.path().join("c.jsonl");
    let line =
        |i: usize| format!("{}\n", json!({"id": format!("line-{}", i + 1), "completion": format!(" {} or so", i % 3)}));
    fs::write(&completions, (0..12).map(line).collect::<String>()).unwrap();
    let (out, new) = (dir.path().join("elsewhere"), dir.path().join("new"));
    let said =
        interp("eval socrates --questions {} --completions {} --out {} --json", &[&questions, &completions, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&found["num_predictions"], &found["wasserstein_num_studies"]), (&json!(12), &json!(3)));
    assert_eq!(read(&out.join("metrics.json")), found);
    let said = interp("eval score {}", &[&out.join("predictions.json")]);
    assert!(said.code == 0 && said.err.contains("compared with the metrics in"), "{}{}", said.out, said.err);
    let said =
        interp("eval socrates --questions {} --completions {} --out {} --edit zero", &[&questions, &completions, &new]);
    assert!(said.code == 2 && said.err.contains("--edit needs --model"), "{}", said.err);
    let said = interp("eval score {}", &[&out.join("metrics.json")]);
    assert!(said.err.contains("holds metrics without the predictions they are of"), "{}", said.err);
}
