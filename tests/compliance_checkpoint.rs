//! The compliance checkpoints that we trained with `trl` and `peft`: adapters as they were saved, tokens as transformers has them.

use std::collections::BTreeMap;
use std::fs;

use interp_core::compliance::builtin::{builtin_phrases, builtin_processes};
use interp_core::compliance::corpus::{CorpusSpec, corpus};
use interp_core::prompt::Tokenizer;
use serde_json::{Value, json};

use crate::common::{fixture, interp};

/// Tokens of `interp generate` for prompts of one adapter.
fn generated(adapter: &str, cases: &[&Value], penalty: &str, max_new_tokens: u64) -> Vec<Value> {
    let temp = tempfile::tempdir().unwrap();
    let prompts = temp.path().join("prompts.jsonl");
    let line = |case: &&Value| format!("{}\n", json!({ "messages": [{ "role": "user", "content": case["content"] }] }));
    fs::write(&prompts, cases.iter().map(line).collect::<String>()).unwrap();
    let (base, adapter) = (fixture("compliance/base"), fixture("compliance").join(adapter));
    let words = format!(
        "generate --model {{}}+apply:{} --prompts {{}} --dtype f64 --max-new-tokens {max_new_tokens} --repetition-penalty \
         {penalty} --json",
        adapter.display(),
    );
    let said = interp(&words, &[&base, &prompts]);
    assert_eq!(said.code, 0, "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn adapters_of_trl_generate_what_transformers_and_peft_do() {
    let text = fs::read_to_string(fixture("compliance/greedy.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let most = expected["max_new_tokens"].as_u64().unwrap();
    let mut by_adapter: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for case in expected["cases"].as_array().unwrap() {
        by_adapter.entry(case["adapter"].as_str().unwrap()).or_default().push(case);
    }
    let mut n = 0;
    for (adapter, cases) in &by_adapter {
        for penalty in ["1.0", "1.05"] {
            for (case, found) in cases.iter().zip(generated(adapter, cases, penalty, most)) {
                assert_eq!(found["prompt_tokens"], case["prompt"], "{}: the template's prompt", case["id"]);
                assert_eq!(
                    found["samples"][0]["tokens"], case["answers"][penalty],
                    "{adapter} {} {penalty}",
                    case["id"]
                );
                n += 1;
            }
        }
    }
    assert_eq!((by_adapter.len(), n), (2, 400));
}

#[test]
fn most_cases_have_at_most_160_tokens_and_others_can_be_left_out() {
    let tokenizer = Tokenizer::from_files(&fixture("compliance/base/tokenizer.json"), None, None).unwrap();
    let spec = CorpusSpec {
        processes: builtin_processes().unwrap(),
        phrases: builtin_phrases().unwrap(),
        n_train: 4000,
        n_test: 0,
        seed: 0,
    };
    let length = |record: &interp_core::compliance::Record| tokenizer.encode(&record.content(), false).unwrap().len();
    let all = corpus(&spec, &|_| Ok(None)).unwrap();
    let short = all.train.iter().filter(|record| length(record) <= 160).count();
    println!("{short} of {} cases have at most 160 tokens", all.train.len());
    assert!(short * 100 > all.train.len() * 90);
    let cut = |record: &interp_core::compliance::Record| Ok((length(record) > 160).then(|| "too long".to_owned()));
    let made = corpus(&spec, &cut).unwrap();
    assert_eq!(made.train.len(), 4000);
    assert!(made.train.iter().all(|record| length(record) <= 160));
    assert!(made.attempts.values().any(|one| one.rejected.contains_key("too long")));
}
