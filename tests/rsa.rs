//! `interp rsa` against a computation of its own, on the trained checkpoint; labels, weights, nulls and refusals.

use std::collections::HashMap;
use std::path::Path;

use interp_core::device::Dtype;
use interp_core::export::npy;
use interp_core::site::{HookPoint, Site};
use serde_json::Value;
use tch::Kind;

use crate::common::{Said, fixture, full_pass, interp, load};

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs on the identity-rules checkpoint; `{}` in `words` is the output folder.
fn run(words: &str, out: &Path) -> Said {
    let model = fixture("identity-rules/model");
    let words = words.replace("PAIRS", fixture("identity-rules").to_str().unwrap());
    interp(&format!("rsa --model {{}} --out {{}} {words}"), &[&model, &out])
}

fn done(words: &str, out: &Path) -> Said {
    let said = run(words, out);
    assert_eq!(said.code, 0, "{words}: {}", said.err);
    said
}

/// Cosines of all pairs of rows, the first index the larger.
fn pairs<T>(rows: &[T], compare: impl Fn(&T, &T) -> f64) -> Vec<f64> {
    (0..rows.len()).flat_map(|i| (0..i).map(|j| compare(&rows[i], &rows[j])).collect::<Vec<_>>()).collect()
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let cov: f64 = a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum();
    let var = |x: &[f64], m: f64| x.iter().map(|x| (x - m).powi(2)).sum::<f64>();
    cov / (var(a, ma) * var(b, mb)).sqrt()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A prompt's words by position, its rule and its answer, straight from the file: the source's rule is the trial's direction,
/// the base's the other one.
fn material(n_lines: usize) -> Vec<(String, &'static str, String)> {
    let text = std::fs::read_to_string(fixture("identity-rules/abstract-pairs.jsonl")).unwrap();
    let mut prompts = Vec::new();
    for line in text.lines().take(n_lines) {
        let trial: Value = serde_json::from_str(line).unwrap();
        let (source, base) = if trial["direction"] == "ABA" { ("ABA", "ABB") } else { ("ABB", "ABA") };
        for (side, rule) in [("base", base), ("source", source)] {
            let word = |key: &str| trial[side][key].as_str().unwrap().to_owned();
            prompts.push((word("text"), rule, word("answer")));
        }
    }
    prompts.sort_by_key(|(_, rule, _)| *rule);
    prompts
}

#[test]
fn r_is_that_of_a_plain_computation() {
    let temp = tempfile::tempdir().unwrap();
    let decoder = load(&fixture("identity-rules/model"), Dtype::F32);
    let config: Value = json(&fixture("identity-rules/model/tokenizer.json"));
    let ids: HashMap<String, i64> = serde_json::from_value(config["model"]["vocab"].clone()).unwrap();
    let tokens = |text: &str| -> Vec<i64> {
        let mut words = Vec::new();
        for line in text.split_inclusive('\n') {
            for word in line.trim_end().split_inclusive('^') {
                words.push(word.trim_end_matches('^').to_owned());
                words.extend(word.ends_with('^').then(|| "^".to_owned()));
            }
            words.extend(line.ends_with('\n').then(|| "\n".to_owned()));
        }
        words.iter().filter(|word| !word.is_empty()).map(|word| ids[word]).collect()
    };
    let prompts = material(5);
    assert_eq!(prompts.iter().filter(|(_, rule, _)| *rule == "ABA").count(), 5);
    for (site, name, head, n_heads) in [(Site::Z, "z", 6, 8), (Site::V, "v", 1, 2), (Site::Result, "result", 3, 8)] {
        for positions in ["last", "span:third"] {
            let out = temp.path().join(format!("{name}-{}", positions.replace(':', "-")));
            let words = format!("--trials PAIRS/abstract-pairs.jsonl --limit 5 --site {name} --positions {positions}");
            done(&words, &out);
            let (shape, found) = npy::read(&out.join("rsa.npy")).unwrap();
            assert_eq!(shape, [2, 4, n_heads]);
            let (mut features, mut variables, mut words) = (Vec::new(), Vec::new(), Vec::new());
            let at = HookPoint::new(site, 2);
            for (text, rule, answer) in &prompts {
                let tokens = tokens(text);
                let (cache, _) = full_pass(&decoder, &tokens, &[at]);
                let act = cache.get(at).unwrap().get(0).select(1, head).to_kind(Kind::Double);
                let act: Vec<Vec<f64>> = Vec::try_from(act).unwrap();
                let places = if positions == "last" { vec![tokens.len() - 1] } else { vec![4, 10, 16, 22] };
                for place in places {
                    features.push(act[place].clone());
                    variables.push(*rule);
                    words.push(if positions == "last" { ids[answer] } else { tokens[place] });
                }
            }
            let similar = pairs(&features, |a, b| cosine(a, b));
            let by = [
                pearson(&similar, &pairs(&variables, |a, b| f64::from(u8::from(a == b)))),
                pearson(&similar, &pairs(&words, |a, b| f64::from(u8::from(a == b)))),
            ];
            for (hypothesis, expected) in by.into_iter().enumerate() {
                let cell = hypothesis * 4 * n_heads + 2 * n_heads + head as usize;
                let found = found[cell];
                assert!((found - expected).abs() < 1e-5, "{name} {positions} {hypothesis}: {found} {expected}");
            }
        }
    }
}

#[test]
fn each_distinct_prompt_is_material_once() {
    let temp = tempfile::tempdir().unwrap();
    let count = |name: &str, words: &str| {
        let out = temp.path().join(name);
        done(words, &out);
        let head = json(&out.join("rsa.json"));
        (head["n_prompts"].as_u64().unwrap(), head["n_rows"].as_u64().unwrap())
    };
    // A draw's two abstract trials have four different prompts; with queries swapped, eight.
    assert_eq!(count("a", "--trials PAIRS/abstract-pairs.jsonl --limit 4 --positions 4,10"), (8, 16));
    assert_eq!(count("b", "--trials PAIRS/abstract-pairs.jsonl --limit 4 --add-swap"), (16, 16));
    // The sources of token pairs are their bases with the query swapped: nothing is added.
    assert_eq!(count("c", "--trials PAIRS/token-pairs.jsonl --limit 4"), (8, 8));
    assert_eq!(count("d", "--trials PAIRS/token-pairs.jsonl --limit 4 --add-swap"), (8, 8));
    let rows = json(&temp.path().join("b/rows.json"));
    let rules: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, [vec!["ABA"; 8], vec!["ABB"; 8]].concat(), "ABA first");
    assert_eq!((&rows[0]["labels"]["abstract"], &rows[15]["labels"]["abstract"]), (&"A".into(), &"B".into()));
}

#[test]
fn heads_are_weighed_by_their_effect() {
    let temp = tempfile::tempdir().unwrap();
    let (sweep, out) = (temp.path().join("sweep"), temp.path().join("rsa"));
    let trials = temp.path().join("t.jsonl");
    let all = std::fs::read_to_string(fixture("identity-rules/token-pairs.jsonl")).unwrap();
    std::fs::write(&trials, all.split_inclusive('\n').take(4).collect::<String>()).unwrap();
    let model = fixture("identity-rules/model");
    let said = interp("sweep --threads 1 --no-floor --model {} --trials {} --out {}", &[&model, &trials, &sweep]);
    assert_eq!(said.code, 0, "{}", said.err);
    let words = format!("--trials PAIRS/token-pairs.jsonl --limit 6 --heads top:2 --ranked-by {}", sweep.display());
    let said = done(&words, &out);
    assert!(said.err.contains("weighted mean of 2 heads"), "{}", said.err);
    let (_, r) = npy::read(&out.join("rsa.npy")).unwrap();
    let (_, delta) = npy::read(&sweep.join("delta.npy")).unwrap();
    let mut order: Vec<usize> = (0..32).collect();
    order.sort_by(|&a, &b| delta[b].total_cmp(&delta[a]));
    let top = &order[..2];
    let head = json(&out.join("rsa.json"));
    let names: Vec<String> = top.iter().map(|cell| format!("L{}.H{}", cell / 8, cell % 8)).collect();
    assert_eq!(head["chosen"]["heads"], serde_json::json!(names));
    let weighed = |hypothesis: usize| {
        top.iter().map(|&c| delta[c] * r[hypothesis * 32 + c]).sum::<f64>() / top.iter().map(|&c| delta[c]).sum::<f64>()
    };
    for (hypothesis, name) in ["abstract", "token"].into_iter().enumerate() {
        let found = head["chosen"]["weighted_mean_r"][name].as_f64().unwrap();
        assert!((found - weighed(hypothesis)).abs() < 1e-12, "{name}");
    }
    // The matrices kept are those whose r was computed, and their mean is weighed too.
    let (shape, matrices) = npy::read(&out.join("similarity.npy")).unwrap();
    let (_, mean) = npy::read(&out.join("similarity_mean.npy")).unwrap();
    let (_, expected) = npy::read(&out.join("expected.token.npy")).unwrap();
    assert_eq!(shape, [2, 12, 12]);
    let lower = |matrix: &[f64]| -> Vec<f64> { (0..12).flat_map(|i| matrix[12 * i..13 * i].to_vec()).collect() };
    let again = pearson(&lower(&matrices[..144]), &lower(&expected));
    assert!((again - r[32 + top[0]]).abs() < 1e-5);
    let w: Vec<f64> = top.iter().map(|&c| delta[c]).collect();
    assert!((mean[13] - (w[0] * matrices[13] + w[1] * matrices[157]) / (w[0] + w[1])).abs() < 1e-6);
    for name in ["rsa.svg", "rsa.png", "similarity.svg", "similarity.png", "rsa.csv", "expected.abstract.npy"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let csv = std::fs::read_to_string(out.join("rsa.csv")).unwrap();
    assert!(csv.starts_with("layer,head,label,hypothesis,r\n0,0,L0.H0,abstract,"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 64);
    // This sweep was not tested, or no head of it need be significant: either is said.
    let table = json(&sweep.join("delta.json"));
    if table["cells"][0].get("significant").is_none() {
        let words = words.replace("top:2", "significant");
        let said = run(&words, &temp.path().join("no"));
        assert!(said.err.contains("were not tested for significance"), "{}", said.err);
    }
}

#[test]
fn other_prompts_bring_their_labels() {
    let temp = tempfile::tempdir().unwrap();
    let (prompts, labels) = (temp.path().join("p.jsonl"), temp.path().join("l.jsonl"));
    let texts = ["wan^rul^rul", "mar^tam^tam", "ran^gin^ran", "pan^rar^pan"];
    let lines: String = texts.iter().map(|text| format!("{{\"text\":\"{text}\"}}\n")).collect();
    std::fs::write(&prompts, lines).unwrap();
    let write = |lines: [&str; 4]| std::fs::write(&labels, lines.join("\n")).unwrap();
    write([
        r#"{"rule":"ABB","same":1,"place":["x","y"]}"#,
        r#"{"rule":"ABB","same":1,"place":["x","y"]}"#,
        r#"{"rule":"ABA","same":1,"place":["x","y"]}"#,
        r#"{"rule":"ABA","same":1,"place":["x","y"]}"#,
    ]);
    let words =
        |more: &str| format!("--prompts {} --labels {} --positions 0,4 {more}", prompts.display(), labels.display());
    let out = temp.path().join("out");
    let said = done(&words("--json"), &out);
    let head: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&head["hypotheses"], &head["n_rows"]), (&serde_json::json!(["rule", "same", "place"]), &8.into()));
    // A hypothesis under which all rows are alike has no r: null in JSON, an empty field in the table, a NaN in the array.
    let cells = head["cells"].as_array().unwrap();
    assert!(cells.iter().all(|cell| cell["r"]["same"].is_null() && cell["r"]["place"].is_f64()));
    assert!(!said.out.contains("NaN"));
    let csv = std::fs::read_to_string(out.join("rsa.csv")).unwrap();
    assert!(csv.contains("\n0,0,L0.H0,same,\n") && !csv.contains("NaN"), "{csv}");
    let (_, r) = npy::read(&out.join("rsa.npy")).unwrap();
    assert!(r[32..64].iter().all(|r| r.is_nan()) && r[..32].iter().all(|r| r.is_finite()));
    // Values of layer 0 know the token alone, and the words at position 0 differ: all of one head's are as unlike as they are.
    done(&words("--hypothesis place"), &temp.path().join("one"));

    let refused = |more: &str| run(&words(more), &temp.path().join("no")).err;
    assert_eq!(
        refused("--hypothesis abstract"),
        "error: hypothesis `abstract`: no such hypothesis\nhint: hypotheses are rule, same, place, or both for all\n"
    );
    write([r#"{"rule":["ABB"]}"#, "{}", "{}", "{}"]);
    let said = refused("");
    assert!(
        said.contains("l.jsonl:1: `rule` has 1 labels for 2 positions\nhint: write one label per selected"),
        "{said}"
    );
    write([r#"{"rule":1}"#, "{}", "", ""]);
    let said = refused("");
    assert!(said.contains("has labels of 2 prompts, ") && said.contains("p.jsonl has 4\n"), "{said}");
    write(["{}", "{}", "{}", "{}"]);
    assert!(refused("").contains("names no hypothesis"));
}

#[test]
fn each_mistake_has_its_message() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let refused = |words: &str| {
        let said = run(words, &out);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words}");
        assert!(!out.exists(), "{words} left something");
        said.err
    };
    let pairs = "--trials PAIRS/abstract-pairs.jsonl";
    assert_eq!(
        refused(&format!("{pairs} --positions 4,28")),
        "error: positions `4,28`: 28 is out of range: trial d000-ABA (base) has 28 tokens\nhint: positions are 0 to 27, or \
         -28 to -1 from the end\n",
        "a third item that four shots do not have"
    );
    assert_eq!(
        refused(&format!("{pairs} --positions span:separator")),
        "error: positions `span:separator`: position 1 of trial d000-ABA (source) is no item of an example or the query, and has \
         no label\nhint: choose items (0, 2 and 4 of every 6 tokens), such as 4,10 or span:third, or last\n"
    );
    assert_eq!(
        refused(&format!("{pairs} --limit 1")),
        "error: rows 2: similarities are correlated over 3 rows or more\n"
    );
    assert_eq!(
        refused(&format!("{pairs} --site pattern")),
        "error: site `pattern`: has no vector per head and position\nhint: sites with one are z, q, k, v, result, rot_q, rot_k, \
         k_copy and v_copy\n"
    );
    assert_eq!(
        refused(&format!("{pairs} --heads top:2")),
        "error: heads `top:2`: there is nothing to choose them by\nhint: add --ranked-by DIR, the folder of a sweep over layers \
         and heads\n"
    );
    assert_eq!(
        refused(&format!("{pairs} --site k --heads L2.H2")),
        "error: head `L2.H2`: the model has layers 0..4 with kv heads 0..2\nhint: layers and heads count from 0\n"
    );
    let file = temp.path().join("t.jsonl");
    std::fs::write(
        &file,
        "{\"id\":\"t\",\"base\":{\"text\":\"wan^rul^mar\\nher^kul^\"},\"target\":{\"correct\":\"kul\"}}\n",
    )
    .unwrap();
    assert_eq!(
        refused(&format!("--trials {}", file.display())),
        "error: trial t (base): its examples do not follow one identity rule, ABA or ABB\nhint: give other prompts as --prompts, \
         with --labels that say what is alike\n"
    );
    std::fs::write(
        &file,
        "{\"id\":\"t\",\"base\":{\"text\":\"wan^rul^rul\\nher^kul^\"},\"target\":{\"correct\":\"her\"}}\n",
    )
    .unwrap();
    assert!(refused(&format!("--trials {}", file.display())).contains("(ABB)"));
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine.txt"), "x").unwrap();
    let said = run(pairs, &out);
    assert!(said.err.contains("not empty\nhint: give a new or an empty folder"), "{}", said.err);
}
