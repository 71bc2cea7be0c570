//! What a question may look like: a chat, and a file with rows that cannot be used.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::run::{model, read};
use crate::common::{Said, copy_model, interp};

/// One question that the small model continues, as SOCRATES writes it.
fn question(dir: &TempDir) -> impl AsRef<Path> {
    let path = dir.path().join("q.jsonl");
    let line = json!({"instruction": "la^li^la", "input": "te^to^te\nhi^ha^", "output": "Response: 1", "study_id": "s",
        "condition_num": 1});
    fs::write(&path, format!("{line}\n")).unwrap();
    path
}

#[test]
fn the_chat_form_is_one_user_message_in_the_checkpoints_own_template() {
    let dir = tempfile::tempdir().unwrap();
    let questions = question(&dir);
    let words = "eval socrates --model {} --questions {} --form chat --max-new-tokens 3 --out {}";
    let bare = interp(words, &[&model(), &questions, &dir.path().join("none")]);
    assert!(bare.code == 2 && bare.err.contains("chat template"), "{}", bare.err);
    assert!(bare.err.contains("hint: ") && !dir.path().join("none").exists(), "{}", bare.err);

    let own = dir.path().join("m");
    copy_model(&model(), &own);
    let template = "{% for m in messages %}{{ m.role }}^{{ m.content }}{% endfor %}";
    fs::write(own.join("chat_template.jinja"), template).unwrap();
    let answer = |form: &str| {
        let out = dir.path().join(form);
        let words = format!("eval socrates --model {{}} --questions {{}} --form {form} --max-new-tokens 3 --out {{}}");
        let said = interp(&words, &[&own, &questions, &out]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(read(&out.join("run.json"))["settings"]["form"], json!(form));
        read(&out.join("predictions.json"))[0]["predicted_response"].clone()
    };
    let continued = |prompt: &str| {
        let said = interp("generate --model {} --prompt {} --max-new-tokens 3 --json", &[&own, &prompt]);
        let found: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}{}", said.out, said.err));
        json!(found["samples"][0]["text"].as_str().unwrap_or_else(|| panic!("{found}")).trim())
    };
    let alpaca = "### Instruction:\nla^li^la\n\n### Input:\nte^to^te\nhi^ha^\n\n### Response:\n";
    let (chat, trained) = (answer("chat"), answer("alpaca"));
    assert_eq!(chat, continued("user^la^li^la\n\nte^to^te\nhi^ha^"));
    assert_eq!(trained, continued(alpaca));
    assert_ne!(chat, trained, "or the test would tell nothing");
}

/// Runs an evaluation on `lines`, without and then with `--skip-broken`.
fn both(dir: &TempDir, words: &str, lines: &[&str]) -> [Said; 2] {
    let questions = dir.path().join("q.jsonl");
    fs::write(&questions, lines.join("\n")).unwrap();
    let out = dir.path().join("out");
    [words.to_owned(), format!("{words} --skip-broken")].map(|words| {
        let words = format!("eval {words} --questions {{}} --out {{}}");
        let said = interp(&words, &[&questions, &out]);
        assert_eq!(said.code == 2, !out.exists(), "{}", said.err);
        said
    })
}

#[test]
fn broken_questions_refuse_the_file_unless_they_may_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let good = json!({"text": "la^li^la\nhi^ha^", "choices": ["hi", "ha"], "answer": 0}).to_string();
    let long = json!({"text": "la^".repeat(200), "choices": ["hi", "ha"], "answer": 0}).to_string();
    let unknown = json!({"text": "la^", "choices": ["hi", "ha"], "answer": 7}).to_string();
    let words = format!("choice --model {}", model().display());
    let [refused, said] = both(&dir, &words, &[&good, "{\"text\": NaN}", &unknown, &good, &long]);
    assert!(refused.err.contains("q.jsonl:2: field `text` is NaN, which is no number\nhint: "), "{}", refused.err);
    assert_eq!(said.code, 0, "{}", said.err);
    for line in [
        "q.jsonl:2: field `text` is NaN, which is no number\n",
        "q.jsonl:3: field `answer`: 7 is no choice\n",
        "note: 3 of 5 questions cannot be used, and are left out; run.json lists them\n",
    ] {
        assert!(said.err.contains(line), "{line}{}", said.err);
    }
    let run = read(&dir.path().join("out/run.json"));
    let skipped = run["questions"]["skipped"].as_array().unwrap();
    assert_eq!((&run["questions"]["n"], skipped.len()), (&json!(2), 3));
    assert!(skipped[2].as_str().unwrap().starts_with("line-5: "), "what does not fit the model: {skipped:?}");
    assert_eq!(read(&dir.path().join("out/summary.json"))["n"], json!(2));

    let nothing = tempfile::tempdir().unwrap();
    let [_, none] = both(&nothing, &words, &[&unknown, &unknown]);
    assert!(none.code == 2 && none.err.contains("q.jsonl:1: field `answer`: 7 is no choice\nhint: "), "{}", none.err);
}

#[test]
fn completions_of_questions_that_are_left_out_are_left_out() {
    let completion =
        |i: usize| format!("{}\n", json!({"id": format!("line-{i}"), "completion": "up. Confidence: 90%"}));
    for (evaluation, good, file, of) in [
        ("bio", json!({"prompt": "Up?"}), "evaluation.json", "/eval_dataset_stats/total"),
        (
            "socrates",
            json!({"instruction": "", "input": "", "output": "1", "study_id": "s", "condition_num": 1}),
            "metrics.json",
            "/num_predictions",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let completions = dir.path().join("c.jsonl");
        fs::write(&completions, (1..4).map(completion).collect::<String>()).unwrap();
        let words = format!("{evaluation} --completions {}", completions.display());
        let [refused, said] = both(&dir, &words, &[&good.to_string(), "{\"id\": [1]}", &good.to_string()]);
        assert!(refused.err.contains(":2: field `id`: must be a string or a number"), "{}", refused.err);
        assert_eq!(said.code, 0, "{}", said.err);
        let run = read(&dir.path().join("out/run.json"));
        assert_eq!((&run["evaluation"], &run["questions"]["n"]), (&json!(evaluation), &json!(2)));
        assert_eq!(run["questions"]["skipped"].as_array().map(Vec::len), Some(1));
        assert_eq!(read(&dir.path().join("out").join(file)).pointer(of), Some(&json!(2)), "{evaluation}");
    }
}
