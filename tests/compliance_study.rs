//! `interp study compliance` on a tiny random model with adapters that peft made: the whole way from cases to report, stopped and
//! resumed, and what it refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use interp_core::compliance::{Gold, Meta, Perturbation, Record};
use serde_json::{Value, json};

use crate::common::{Said, copy_model, fixture, interp, tiny};

/// Ids of the two words: two of the tiny model's tokens between which it is undecided.
const WORDS: [i64; 2] = [100, 121];

/// The tiny model with a tokenizer of single characters and the two words, and a chat template.
fn model(dir: &Path) -> PathBuf {
    let out = dir.join("model");
    copy_model(&tiny("qwen2"), &out);
    let characters = std::iter::once('\n').chain(' '..='~').map(String::from);
    let mut vocab: Vec<String> = ["<pad>", "<bos>", "<eos>"].map(String::from).into_iter().chain(characters).collect();
    vocab.extend((vocab.len()..131).map(|id| match id as i64 {
        id if id == WORDS[0] => " compliant".into(),
        id if id == WORDS[1] => " non-compliant".into(),
        id => format!("<unused-{id}>"),
    }));
    let vocab: BTreeMap<String, usize> = vocab.into_iter().zip(0..).collect();
    let special = |id: usize, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true })
    };
    let split = r"(?s: compliant| non-compliant|.)";
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<pad>"), special(1, "<bos>"), special(2, "<eos>")],
        "normalizer": null,
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": split }, "behavior": "Isolated", "invert": false },
        "post_processor": null,
        "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<pad>" },
    });
    fs::write(out.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}<assistant>";
    fs::write(out.join("chat_template.jinja"), template).unwrap();
    fs::write(out.join("generation_config.json"), r#"{"eos_token_id":[2],"repetition_penalty":1.05}"#).unwrap();
    out
}

/// Six cases of each of four processes.
fn records() -> Vec<Record> {
    let steps = ["log the sample", "wear gloves", "label the tube", "call the lead"];
    let mut records = Vec::new();
    for process in 0..4 {
        let (first, second) = (steps[process], steps[(process + 1) % 4]);
        for variant in 0..6 {
            let order = if variant % 2 == 0 { [first, second] } else { [second, first] };
            let who = ["Ana", "Bo", "Cy"][variant / 2];
            let end = ["", "!", " ok"][variant / 2];
            records.push(Record {
                id: format!("p{process}-{variant}"),
                process_id: format!("p{process}"),
                cohort: if variant < 4 { "fresh".into() } else { "processes".into() },
                source: "test".into(),
                domain: ["laboratory", "billing"][process % 2].into(),
                perturbation: Perturbation::ALL[variant],
                parent_id: None,
                procedure: format!("1. {first}. 2. {second}."),
                scenario: format!("{who} did this: {}, then {}{end}.", order[0], order[1]),
                question: "Is this compliant?".into(),
                gold: Gold::Compliant,
                admit: true,
                meta: Meta::default(),
            });
        }
    }
    records
}

fn jsonl<T: serde::Serialize>(lines: &[T]) -> String {
    lines.iter().map(|line| format!("{}\n", serde_json::to_string(line).unwrap())).collect()
}

/// A folder of cases of which both adapters get right all that they agree on, in forced mode, and the base the others; with all flip
/// and anchor pairs.
fn data(temp: &Path, model: &Path) -> PathBuf {
    let data = temp.join("data");
    fs::create_dir_all(&data).unwrap();
    let mut records = records();
    let (out, cases) = (temp.join("asked"), data.join("test.jsonl"));
    fs::write(&cases, jsonl(&records)).unwrap();
    let said = study(model, &format!("--records {} --max-new-tokens 1 --no-floor", cases.display()), &out);
    assert_eq!(said.code, 0, "{}", said.err);
    let compliant = |name: &str| -> Vec<bool> {
        let text = fs::read_to_string(out.join(format!("checkpoints/{name}/answers.jsonl"))).unwrap();
        let answer = |line: &str| serde_json::from_str::<Value>(line).unwrap()["logit_diff"].as_f64().unwrap() > 0.0;
        text.lines().map(answer).collect()
    };
    let [base, sft, grpo] = ["base", "sft", "grpo"].map(compliant);
    for (i, record) in records.iter_mut().enumerate() {
        let is = if sft[i] == grpo[i] { sft[i] } else { base[i] };
        record.gold = if is { Gold::Compliant } else { Gold::NonCompliant };
    }
    let mut pairs = Vec::new();
    for (i, a) in records.iter().enumerate() {
        for b in records[i + 1..].iter().filter(|b| b.process_id == a.process_id) {
            let kind = if a.gold == b.gold { "anchor" } else { "flip" };
            pairs.push(json!({ "kind": kind, "a": a.id, "b": b.id }));
        }
    }
    fs::write(data.join("test.jsonl"), jsonl(&records)).unwrap();
    fs::write(data.join("pairs.jsonl"), jsonl(&pairs)).unwrap();
    data
}

/// The study of the base and two adapters.
fn study(model: &Path, flags: &str, out: &Path) -> Said {
    let [sft, grpo] =
        ["qwen2-patterns", "qwen2-rslora"].map(|name| fixture("adapters").join(name).display().to_string());
    let words = format!(
        "study compliance base={{}} sft={{}}+apply:{sft} grpo={{}}+apply:{grpo} --out {{}} --threads 1 {flags}"
    );
    interp(&words, &[&model, &model, &model, &out])
}

/// Every file below a folder by its path in it, but for those that say what a start cost.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(contents(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if name != "timing.json" {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_study_goes_from_cases_to_a_report_and_is_resumed() {
    let temp = tempfile::tempdir().unwrap();
    let model = model(temp.path());
    let data = data(temp.path(), &model);
    let out = temp.path().join("study");
    let flags = &format!("--data {} --max-new-tokens 5 --batch 3", data.display());
    let said = study(&model, flags, &out);
    assert_eq!((said.code, said.out.as_str()), (0, format!("{}\n", out.display()).as_str()), "{}", said.err);

    let report = fs::read_to_string(out.join("report.md")).unwrap();
    let first = report.lines().next().unwrap();
    assert!(first.starts_with("Not reached on the training distribution (cohort fresh): 10 points above "), "{first}");
    assert!(said.err.contains(first), "{}", said.err);
    let found = read(out.join("study.json"));
    let alone = |checkpoint: &str, regime: &str| -> Value {
        let all = found["checkpoints"].as_array().unwrap();
        all.iter().find(|one| one["checkpoint"] == checkpoint && one["regime"] == regime).unwrap().clone()
    };
    // An adapter's valid pairs are those whose halves its own forced answers get right.
    let arms = found["mediation"]["checkpoints"].as_array().unwrap();
    for (arm, name) in arms.iter().zip(["base", "sft", "grpo"]) {
        let lines = fs::read_to_string(out.join("checkpoints").join(name).join("answers.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 24);
        let flip = alone(name, "forced")["pairs"].as_array().unwrap()[0].clone();
        assert_eq!((&flip["metric"], &arm["valid_pairs"]), (&json!("flip_rate"), &flip["hits"]), "{name}");
        assert_eq!(found["mediation"]["flip_pairs"], flip["n"]);
        let trials = fs::read_to_string(out.join(format!("checkpoints/{name}/pairs.jsonl"))).unwrap();
        assert_eq!(trials.lines().count() as u64, 2 * flip["hits"].as_u64().unwrap());
    }
    assert!(arms[1]["valid_pairs"].as_u64().unwrap() >= 8, "{arms:?}");
    // Every measure of every named head; this model has no L19.H17.
    let heads = found["mediation"]["heads"].as_array().unwrap();
    assert!(found["mediation"]["named_how"].as_str().unwrap().starts_with("the strongest of each checkpoint"));
    let measures: std::collections::BTreeSet<&str> = heads.iter().filter_map(|row| row["measure"].as_str()).collect();
    for measure in
        ["attention", "change of mediation", "accuracy lost by ablation", "gain by graft", "mediation", "patch across"]
    {
        assert!(measures.contains(measure), "{measure} is not among {measures:?}");
    }
    let strongest = &heads.iter().find(|row| row["measure"] == "mediation" && row["checkpoint"] == "base").unwrap();
    let delta = read(out.join("checkpoints/base/mediation/delta.json"));
    assert_eq!((&strongest["label"], &strongest["mean"]), (&delta["cells"][0]["label"], &delta["cells"][0]["mean"]));
    let masses: f64 = heads
        .iter()
        .filter(|row| {
            row["measure"] == "attention" && row["checkpoint"] == "base" && row["label"] == strongest["label"]
        })
        .map(|row| row["mean"].as_f64().unwrap())
        .sum();
    assert!((masses - 1.0).abs() < 1e-4, "sections, first token and rest: {masses}");
    for file in ["accuracy-forced.svg", "heads.svg", "endpoints.csv", "contrasts.csv", "heads.csv"] {
        assert!(out.join(file).is_file(), "{file}");
    }

    // Again, nothing is asked and nothing changes; what is lost is made again with the same bytes.
    let before = contents(&out);
    let lost = |name: &str| {
        let path = out.join(name);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
    };
    for names in [
        &[][..],
        &["report.md", "study.json", "checkpoints/sft/answers.jsonl"],
        &["checkpoints/grpo/mediation", "across"],
        &["contrast", "checkpoints/base/attention", "checkpoints/sft/graft"],
    ] {
        names.iter().for_each(|name| lost(name));
        let again = study(&model, flags, &out);
        assert_eq!(again.code, 0, "{}", again.err);
        let after = contents(&out);
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        let changed: Vec<&String> =
            after.iter().filter(|(name, bytes)| before[*name] != **bytes).map(|(n, _)| n).collect();
        assert!(changed.is_empty(), "{names:?} changed {changed:?}");
    }
    // A journal of which the last line was not finished.
    let file = out.join("checkpoints/sft/answers.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    lost("checkpoints/sft/answers.jsonl");
    let part: String = text.lines().rev().take(10).map(|line| format!("{line}\n")).collect();
    fs::write(file.with_extension("partial"), format!("{part}{{\"id\":\"p0")).unwrap();
    assert_eq!(study(&model, flags, &out).code, 0);
    assert!(contents(&out) == before);

    let other = study(&model, &flags.replace("tokens 5", "tokens 6"), &out);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("holds another run: `max_new_tokens` is 5 there and 6 here"), "{}", other.err);
}

#[test]
fn each_mistake_has_its_message() {
    let temp = tempfile::tempdir().unwrap();
    let model = model(temp.path());
    let file = temp.path().join("cases.jsonl");
    let pairs = temp.path().join("pairs.jsonl");
    let write = |change: &dyn Fn(&mut Value)| {
        let mut lines: Vec<Value> = records().iter().map(|record| json!(record)).collect();
        change(&mut lines[1]);
        fs::write(&file, jsonl(&lines)).unwrap();
    };
    let asked = |words: &str, others: &[&dyn AsRef<Path>]| {
        let out = temp.path().join("out");
        let mut paths: Vec<&dyn AsRef<Path>> = vec![&model];
        paths.extend(others);
        paths.push(&out);
        let said = interp(&format!("study compliance base={{}} {words} --out {{}}"), &paths);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words}: {}", said.err);
        assert!(!out.exists(), "{words} left something");
        let said = said.err.replace(&temp.path().display().to_string(), "DIR");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        said
    };
    write(&|_| ());
    let alone = asked("--records {}", &[&file]);
    assert!(alone.starts_with("error: checkpoint `base`: there is nothing to compare it with\n"), "{alone}");
    let two = "b={} --records {} --max-new-tokens 4";
    let other = asked(two, &[&tiny("qwen3"), &file]);
    assert!(other.starts_with("error: checkpoint `b`: has no tokenizer with a chat template"), "{other}");
    let shape = temp.path().join("shape");
    copy_model(&model, &shape);
    let config = fs::read_to_string(shape.join("config.json")).unwrap();
    fs::write(shape.join("config.json"), config.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"))
        .unwrap();
    let other = asked(two, &[&shape, &file]);
    assert!(
        other.starts_with("error: checkpoint `b`: is of another base than base: its n_layers is 2, not 3"),
        "{other}"
    );
    let adapter = fixture("adapters/qwen2-plain");
    let other = asked(&format!("b={{}}+apply:{} --records {{}}", adapter.display()), &[&shape, &file]);
    assert!(other.contains("qwen2-plain"), "{other}");

    let both = |flags: &str| asked(&format!("b={{}} --records {{}} {flags}"), &[&model, &file]);
    let long = both("--max-new-tokens 900");
    assert!(long.contains("new ones exceed the model's context of 1024\n") && long.contains("case p"), "{long}");
    assert!(both("--mode best").starts_with("error: --mode best: it is `raw` or `card`"));
    assert!(
        both("--heads L3.H0").starts_with("error: head `L3.H0`: the model has layers 0..3"),
        "{}",
        both("--heads L3.H0")
    );
    for (field, value, said) in [
        ("gold", json!("Compliant"), "`gold`"),
        ("perturbation", json!("typo"), "`perturbation`"),
        ("scenario", json!(""), "`scenario`"),
        ("id", json!("p0-0"), "p0-0"),
    ] {
        write(&|line| line[field] = value.clone());
        let refused = both("--max-new-tokens 4");
        assert!(refused.starts_with("error: DIR/cases.jsonl") && refused.contains(said), "{field}: {refused}");
    }
    write(&|_| ());
    fs::write(&pairs, "{\"kind\":\"flip\",\"a\":\"p0-0\",\"b\":\"nobody\"}\n").unwrap();
    let refused = asked("b={} --records {} --pairs {} --max-new-tokens 4", &[&model, &file, &pairs]);
    assert!(refused.starts_with("error: DIR/pairs.jsonl") && refused.contains("nobody"), "{refused}");
    let taken = temp.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("thesis.tex"), "").unwrap();
    let words = "study compliance a={} b={} --records {} --out {} --max-new-tokens 4";
    let said = interp(words, &[&model, &model, &file, &taken]);
    assert!(
        said.code == 2 && said.err.contains("not empty and not an output folder of interp study compliance"),
        "{}",
        said.err
    );
}
