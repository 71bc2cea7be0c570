//! `interp roles` and `interp attention`: against patterns captured whole, on models of every family and on the trained one.

use std::path::Path;

use interp_core::device::Dtype;
use interp_core::export::npy;
use interp_core::patterns::{Role, RoleScores};
use interp_core::site::{HookPoint, Site};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::common::{fixture, full_pass, interp, load, tiny};

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `[head][dest][src]` of a layer.
fn patterns(act: &Tensor) -> Vec<Vec<Vec<f64>>> {
    Vec::try_from(act.get(0).to_kind(Kind::Double)).unwrap()
}

/// A role's score over one prompt, from the definitions: share of all attention, and mean where possible.
fn by_definition(pattern: &[Vec<f64>], tokens: &[i64], role: Role) -> (f64, f64) {
    let is_there = |dest: usize, src: usize| match role {
        Role::PreviousToken => dest == src + 1,
        Role::DuplicateToken => src < dest && tokens[src] == tokens[dest],
        Role::Induction => (0..dest).any(|before| tokens[before] == tokens[dest] && src == before + 1),
    };
    let (mut on, mut all, mut possible) = (0.0, 0.0, 0);
    for (dest, row) in pattern.iter().enumerate() {
        on += row.iter().enumerate().filter(|(src, _)| is_there(dest, *src)).map(|(_, x)| x).sum::<f64>();
        all += row.iter().sum::<f64>();
        possible += usize::from((0..=dest).any(|src| is_there(dest, src)));
    }
    (on / all, on / possible as f64)
}

#[test]
fn role_scores_are_those_of_whole_patterns() {
    // Of 1,000 positions, patterns are made in chunks; a window hides early keys.
    for (family, lengths) in [("qwen2", vec![7, 40]), ("qwen2-window", vec![60, 1000]), ("llama", vec![25])] {
        let decoder = load(&tiny(family), Dtype::F32);
        let (n_layers, n_heads) = (decoder.config().n_layers, decoder.config().n_heads);
        let mut scores = RoleScores::new(n_layers, n_heads);
        let mut expected = vec![vec![(0.0, 0.0); n_layers * n_heads]; 3];
        for &n in &lengths {
            // Few different tokens, so that duplicates are many; some follow themselves.
            let tokens: Vec<i64> = (0..n as i64).map(|i| 3 + (i * i + i / 3) % 23).collect();
            scores.add(&decoder, &tokens);
            let points: Vec<HookPoint> = (0..n_layers).map(|layer| HookPoint::new(Site::Pattern, layer)).collect();
            let (cache, _) = full_pass(&decoder, &tokens, &points);
            for (layer, &at) in points.iter().enumerate() {
                for (head, pattern) in patterns(cache.get(at).unwrap()).iter().enumerate() {
                    for role in Role::ALL {
                        let (score, possible) = by_definition(pattern, &tokens, role);
                        let slot = &mut expected[role as usize][layer * n_heads + head];
                        slot.0 += score / lengths.len() as f64;
                        slot.1 += possible / lengths.len() as f64;
                    }
                }
            }
        }
        for role in Role::ALL {
            let found = scores.scores(role).into_iter().zip(scores.where_possible(role));
            for (cell, (found, expected)) in found.zip(&expected[role as usize]).enumerate() {
                let far = (found.0 - expected.0).abs().max((found.1 - expected.1).abs());
                assert!(far < 1e-5, "{family} {role} {cell}: {found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn roles_stand_beside_effects() {
    let temp = tempfile::tempdir().unwrap();
    let (model, trials) = (fixture("identity-rules/model"), temp.path().join("t.jsonl"));
    let all = std::fs::read_to_string(fixture("identity-rules/token-pairs.jsonl")).unwrap();
    std::fs::write(&trials, all.split_inclusive('\n').take(4).collect::<String>()).unwrap();
    let (sweep, out) = (temp.path().join("patch"), temp.path().join("roles"));
    let said = interp("sweep --threads 1 --no-floor --model {} --trials {} --out {}", &[&model, &trials, &sweep]);
    assert_eq!(said.code, 0, "{}", said.err);
    let scores = temp.path().join("wu.json");
    let lists: Vec<String> =
        (0..32).map(|cell| format!("\"{}-{}\": [{}]", cell / 8, cell % 8, f64::from(cell) / 32.0)).collect();
    std::fs::write(&scores, format!("{{{}}}", lists.join(", "))).unwrap();
    let words = "roles --model {} --random 3 --length 20 --seed 5 --beside {} {} --out {}";
    let said = interp(words, &[&model, &sweep, &scores, &out]);
    assert_eq!((said.code, said.out.trim()), (0, out.to_str().unwrap()), "{}", said.err);
    assert!(said.err.contains("beside_patch") && said.err.contains("previous_token"), "{}", said.err);
    let found = json(&out.join("roles.json"));
    let (_, delta) = npy::read(&sweep.join("delta.npy")).unwrap();
    let (shape, values) = npy::read(&out.join("roles.npy")).unwrap();
    assert_eq!(shape, [3, 4, 8]);
    let cells = found["cells"].as_array().unwrap();
    for (cell, row) in cells.iter().enumerate() {
        assert_eq!(row["beside_patch"].as_f64(), Some(delta[cell]), "{row}");
        assert_eq!(row["beside_wu"].as_f64(), Some(cell as f64 / 32.0), "{row}");
        assert_eq!(row["induction"].as_f64(), Some(values[64 + cell]), "{row}");
        // Of twice twenty different tokens half are repeated.
        let possible = row["induction_where_possible"].as_f64().unwrap();
        assert!((possible / 2.0 - values[64 + cell]).abs() < 1e-9 && (0.0..=1.0).contains(&possible), "{row}");
    }
    assert_eq!(cells[13]["label"], "L1.H5");
    assert_eq!((found["material"]["n_prompts"].as_u64(), found["beside"].as_array().map(Vec::len)), (Some(3), Some(2)));
    assert!(found["beside"][0]["r"]["induction"].is_f64());
    for name in ["roles.csv", "roles.svg", "roles.png"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    // The same seed makes the same prompts; and any prompts will do.
    let again = temp.path().join("again");
    interp("roles --model {} --random 3 --length 20 --seed 5 --out {}", &[&model, &again]);
    assert_eq!(json(&again.join("roles.json"))["material"]["sha256"], found["material"]["sha256"]);
    assert_eq!(std::fs::read(again.join("roles.npy")).unwrap(), std::fs::read(out.join("roles.npy")).unwrap());
    let said = interp("roles --model {} --trials {} --json --out {}", &[&model, &trials, &temp.path().join("own")]);
    let own: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(own["material"]["n_prompts"].as_u64(), Some(4));
}

#[test]
fn roles_refuse_what_they_cannot_score() {
    let temp = tempfile::tempdir().unwrap();
    let (model, out) = (fixture("identity-rules/model"), temp.path().join("out"));
    let refused = |words: &str| {
        let said = interp(&format!("roles --model {{}} --out {{}} {words}"), &[&model, &out]);
        assert_eq!(said.code, 2, "{words}");
        assert!(!out.exists(), "{words} left something");
        said.err
    };
    assert!(refused("").starts_with("error: there is no prompt: give --random N --length T,"));
    assert_eq!(
        refused("--tokens 5"),
        "error: tokens: it is a single token, which can only attend to itself\nhint: give prompts of two tokens or more\n"
    );
    assert_eq!(
        refused("--random 1 --length 405"),
        "error: --length `405`: the vocabulary has only 404 different tokens\nhint: lower --length\n"
    );
    assert_eq!(
        refused("--random 1 --length 129"),
        "error: --length `129`: repeated it is longer than the model's context of 256\nhint: lower --length\n"
    );
    let beside = refused("--tokens 5,6 --beside no/such");
    assert!(beside.starts_with("error: --beside: no/such: no such folder"), "{beside}");
}

#[test]
fn attention_falls_on_spans_and_adds_up() {
    let temp = tempfile::tempdir().unwrap();
    let (model, trials, out) = (fixture("identity-rules/model"), temp.path().join("t.jsonl"), temp.path().join("out"));
    let all = std::fs::read_to_string(fixture("identity-rules/token-pairs.jsonl")).unwrap();
    std::fs::write(&trials, all.split_inclusive('\n').take(6).collect::<String>()).unwrap();
    let words = "attention --model {} --trials {} --heads L2.H6,L0.H1,L2.H1 --spans query,third --patterns 2 --out {}";
    let said = interp(words, &[&model, &trials, &out]);
    assert_eq!((said.code, said.out.trim()), (0, out.to_str().unwrap()), "{}", said.err);
    assert!(said.err.starts_with("6 prompts in 3 clusters\n"), "{}", said.err);
    let (shape, per_trial) = npy::read(&out.join("attention_per_trial.npy")).unwrap();
    assert_eq!(shape, [6, 3, 4], "query, third, first, rest");
    for masses in per_trial.chunks(4) {
        assert!((masses.iter().sum::<f64>() - 1.0).abs() < 1e-5 && masses.iter().all(|&x| x >= 0.0), "{masses:?}");
    }
    let (_, means) = npy::read(&out.join("attention.npy")).unwrap();
    let mean = |cell: usize| (0..6).map(|trial| per_trial[trial * 12 + cell]).sum::<f64>() / 6.0;
    assert!((0..12).all(|cell| (means[cell] - mean(cell)).abs() < 1e-12));

    // Against whole patterns: the first viewer file is the first trial's, and its last row is what was summed.
    let viewer = json(&out.join("patterns/0.json"));
    assert_eq!(viewer["heads"], serde_json::json!(["L2.H6", "L0.H1", "L2.H1"]));
    let tokens: Vec<i64> = serde_json::from_value(viewer["token_ids"].clone()).unwrap();
    assert_eq!((viewer["id"].as_str(), tokens.len()), (Some("d000-ABA"), 28));
    assert_eq!(viewer["tokens"].as_array().unwrap()[..2], ["bum", "^"]);
    let decoder = load(&model, Dtype::F32);
    for (index, (layer, head)) in [(2, 6), (0, 1), (2, 1)].into_iter().enumerate() {
        let at = HookPoint::new(Site::Pattern, layer);
        let (cache, _) = full_pass(&decoder, &tokens, &[at]);
        let expected = &patterns(cache.get(at).unwrap())[head];
        let found: Vec<Vec<f64>> = serde_json::from_value(viewer["attention"][index].clone()).unwrap();
        let far = found.concat().iter().zip(expected.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-5, "{far}");
        let last = &expected[27];
        let sums = [
            last[24..].iter().sum::<f64>(),
            [4, 10, 16, 22].iter().map(|&i| last[i]).sum(),
            last[0],
            (1..24).filter(|i| ![4, 10, 16, 22].contains(i)).map(|i| last[i]).sum(),
        ];
        for (span, sum) in sums.into_iter().enumerate() {
            assert!((per_trial[index * 4 + span] - sum).abs() < 1e-5, "head {index}, span {span}");
        }
    }
    assert!(out.join("patterns/1.json").is_file() && !out.join("patterns/2.json").exists());
    let head = json(&out.join("attention.json"));
    assert_eq!(head["columns"], serde_json::json!(["query", "third", "first", "rest"]));
    assert_eq!((&head["n_clusters"], &head["spans_overlap"]), (&3.into(), &false.into()));
    assert!(
        head["cells"][0]["ci"].is_array() && out.join("attention.svg").is_file() && out.join("attention.png").is_file()
    );

    // All named spans, of the source prompts, from several positions: the separators of the query are in two spans.
    let words = "attention --model {} --trials {} --source --heads L2.H6 --at span:third --json --out {}";
    let said = interp(words, &[&model, &trials, &temp.path().join("all")]);
    assert!(said.err.starts_with("note: spans overlap"), "{}", said.err);
    let head: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(head["columns"], serde_json::json!(["query", "separator", "third", "first", "rest"]));
    assert_eq!(
        (&head["spans_overlap"], &head["cells"][0]["mean"]),
        (&true.into(), &0.0.into()),
        "the query comes later"
    );
}

#[test]
fn attention_refuses_what_is_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let (model, out) = (fixture("identity-rules/model"), temp.path().join("out"));
    let trials = fixture("identity-rules/token-pairs.jsonl");
    let refused = |words: &str| {
        let said = interp(&format!("attention --model {{}} --out {{}} {words}"), &[&model, &out]);
        assert_eq!(said.code, 2, "{words}");
        assert!(!out.exists(), "{words} left something");
        said.err
    };
    assert_eq!(
        refused("--tokens 5,6 --heads L0.H0"),
        "error: --spans ``: there is no span that all prompts name\nhint: name spans in the prompts: \"spans\": {\"NAME\": \
         [[start, end]]}\n"
    );
    assert_eq!(
        refused("--tokens 5,6 --heads L0.H0 --spans a"),
        "error: span `a`: no prompt has such a span\nhint: name spans in the prompts: \"spans\": {\"NAME\": [[start, end]]}\n"
    );
    assert_eq!(
        refused(&format!("--trials {} --heads L0.H0 --spans thrd", trials.display())),
        "error: span `thrd`: no prompt has such a span\nhint: their spans are query, third\n"
    );
    assert_eq!(
        refused("--tokens 5,6 --heads L0.H8 --spans a"),
        "error: head `L0.H8`: the model has layers 0..4 with query heads 0..8\nhint: layers and heads count from 0\n"
    );
    let words = format!("--trials {} --heads L0.H0 --at 28", trials.display());
    assert!(
        refused(&words).contains("200 prompts, none of them usable, the first: positions `28`: 28 is out of range")
    );
    let words = format!("--trials {} --heads L0.H0 --spans rest", trials.display());
    assert!(refused(&words).contains("span `rest`: the name of what is in no span"));
}
