//! Every answer of the table beside this file reads as the definition says. The table was written before the parser was run on
//! it; `words` counts words before the verdict.

use interp_core::compliance::answer::{Source, Verdict};
use interp_core::compliance::{Answer, Gold, Reader};
use serde_json::{Value, json};

fn table() -> Vec<Value> {
    include_str!("answers.jsonl").lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// Words of a text, marks of emphasis and headings not counted.
fn words(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
}

#[test]
fn answers_read_as_defined() {
    let rows = table();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let text = row["text"].as_str().expect("a text");
        let yes = row["yes"].as_str().map(|yes| if yes == "compliant" { Gold::Compliant } else { Gold::NonCompliant });
        let truncated = row["truncated"].as_bool().unwrap_or(false);
        let answer = Reader { yes }.read(text, truncated);
        let found = json!({
            "verdict": answer.verdict,
            "source": answer.source,
            "words": answer.reasoning(text).map(words),
            "doubtful": answer.doubtful,
        });
        assert_eq!(answer.truncated, truncated);
        if found.as_object().expect("an object").iter().any(|(name, value)| row[name] != *value) {
            wrong.push(format!("{row}\n    read as {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn the_table_covers_what_it_should() {
    let rows = table();
    let having = |of: &dyn Fn(&Value) -> bool| rows.iter().filter(|row| of(row)).count();
    for verdict in ["compliant", "non-compliant", "both", "neither"] {
        assert!(having(&|row| row["verdict"] == verdict) >= 7, "{verdict}");
    }
    for source in ["final-answer", "sentence", "whole"] {
        assert!(having(&|row| row["source"] == source) >= 10, "{source}");
    }
    assert!(having(&|row| row["truncated"] == true) >= 6 && having(&|row| row["doubtful"] == true) >= 6);
    assert!(having(&|row| row["yes"].is_string()) >= 6);
}

#[test]
fn forced_answers_take_the_likelier_word() {
    let of = |likelihoods| {
        let Answer { verdict, source, at, .. } = Answer::forced(likelihoods);
        assert_eq!((source, at), (Source::Forced, None));
        verdict
    };
    assert_eq!(of([-0.5, -3.0]), Verdict::Compliant);
    assert_eq!(of([-0.5, -0.25]), Verdict::NonCompliant);
    assert_eq!((of([-1.0, -1.0]), of([f64::NAN, -1.0])), (Verdict::Both, Verdict::Neither));
    assert_eq!(of([f64::NEG_INFINITY, -700.0]), Verdict::NonCompliant);
}

#[test]
fn the_reasoning_is_the_text_before_the_verdict() {
    let text = "É – first. **Final answer:** non‑compliant";
    assert_eq!(Reader::default().read(text, false).reasoning(text), Some("É – first. **"));
    let text = "The act – it is hasty – is non‑compliant.";
    assert_eq!(Reader::default().read(text, false).reasoning(text), Some("The act – it is hasty – is "));
    let text = "nothing";
    assert_eq!(Reader::default().read(text, false).reasoning(text), None);
}
