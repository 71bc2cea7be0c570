//! The identity rules: words and rejections on the real Qwen2.5 tokenizer, trials as the fixtures' own script makes them, and
//! filters that agree with what transformers answers.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::fs;
use std::path::Path;

use interp_core::device::Dtype;
use interp_core::prompt::{PromptReader, PromptSpec, Tokenizer};
use interp_core::task::{Filter, Line, Material, Pairing, Rejection, Rule, Wanted, sound};
use interp_core::trial::{TrialFile, TrialOptions};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::common::{fixture, interp, load, root};

fn qwen() -> Option<(Tokenizer, String)> {
    let shared = std::env::var_os("INTERP_SHARED").map_or_else(|| root().join("../shared"), Into::into);
    let folder = shared.join("data/qwen2.5-tokenizer");
    let Ok(words) = fs::read_to_string(folder.join("english_vocab.txt")) else {
        eprintln!("SKIPPED: no Qwen2.5 tokenizer in shared/data (set INTERP_SHARED to the folder that holds data/)");
        return None;
    };
    Some((Tokenizer::from_files(&folder.join("tokenizer.json"), None, None).unwrap(), words))
}

#[test]
fn the_words_of_qwen_are_those_that_were_published() {
    let Some((tokenizer, published)) = qwen() else { return };
    let words = tokenizer.words();
    assert_eq!(words.len(), 27_376);
    assert_eq!(words, published.lines().collect::<Vec<_>>(), "the order, too");
    let newlines = tokenizer.newline_tokens().unwrap();
    assert_eq!((newlines.len(), &newlines[..4]), (34, &[198, 271, 1022, 1406][..]));

    let ids = tokenizer.encode("la^li^la\nte^to^te\nhi^ha^", true).unwrap();
    assert_eq!(ids, [4260, 61, 742, 61, 4260, 198, 665, 61, 983, 61, 665, 198, 6023, 61, 4223, 61]);
    assert_eq!(sound(&tokenizer, &ids, 2), Ok(()));
    let pairs = [["la", "li"], ["te", "to"], ["hi", "ha"]].map(|pair| pair.map(str::to_owned)).to_vec();
    assert_eq!(tokenizer.encode(&Material { pairs }.prompt(Rule::Aba, 0).text, true).unwrap(), ids);

    // Between separators a word keeps its token, unless it merges with the one before it.
    let survives = |word: &&String| {
        let id = tokenizer.encode(word, false).unwrap()[0];
        tokenizer.encode(&format!("^{word}^"), false).unwrap() == [61, id, 61]
    };
    let (whole, torn): (Vec<_>, Vec<_>) = words.iter().partition(survives);
    assert_eq!((whole.len(), torn.len()), (27_305, 71));
    assert!(torn.iter().all(|word| word.starts_with(['K', 'n'])));
}

#[test]
fn prompts_of_qwen_words_are_rejected_as_often_as_published() {
    let Some((tokenizer, _)) = qwen() else { return };
    let words = tokenizer.words();
    let n = 1500;
    for (shots, published, rounding) in [(2, 0.985, 0.0025), (10, 0.95, 0.005)] {
        for rule in Rule::BOTH {
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let good = (0..n).filter(|_| {
                let text = Material::draw(&words, shots, &mut rng).prompt(rule, 0).text;
                sound(&tokenizer, &tokenizer.encode(&text, true).unwrap(), shots).is_ok()
            });
            let share = good.count() as f64 / f64::from(n);
            // A prompt is sound if none of its words that stand behind a `^` is one of the 71 of the 27,376.
            let behind = if rule == Rule::Aba { 2 * shots + 1 } else { shots + 1 };
            let expected = (1.0 - 71.0 / 27_376.0_f64).powi(behind as i32);
            let error = (expected * (1.0 - expected) / f64::from(n)).sqrt();
            eprintln!("{shots} shots, {}: {share:.4} sound, {expected:.4} ± {error:.4} expected", rule.name());
            assert!((share - expected).abs() < 3.0 * error, "{shots} shots, {rule:?}");
            // The published rates are of ABA prompts, in which more words stand so.
            assert!(rule != Rule::Aba || (share - published).abs() < 3.0 * error + rounding, "{shots} shots");
        }
    }
}

/// The lines of a fixture's trial file.
fn fixture_lines(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixture("identity-rules").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The words of a prompt of the fixtures: an example's first two items, and the query.
fn material(text: &str) -> Material {
    let pair = |line: &str| {
        let mut words = line.split('^').map(str::to_owned);
        [words.next().unwrap(), words.next().unwrap()]
    };
    Material { pairs: text.lines().map(pair).collect() }
}

#[test]
fn trials_are_those_that_the_fixtures_script_makes_of_the_same_words() {
    for (name, pairing) in [
        ("token-pairs.jsonl", Pairing::Token),
        ("abstract-pairs.jsonl", Pairing::Abstract),
        ("held-out.jsonl", Pairing::Single),
    ] {
        let lines = fixture_lines(name);
        for line in &lines {
            let source = if pairing == Pairing::Single { &line["base"] } else { &line["source"] };
            let rule = if line["direction"] == "ABA" { Rule::Aba } else { Rule::Abb };
            let cluster = line["cluster"].as_str().unwrap();
            let made = material(source["text"].as_str().unwrap()).line(pairing, rule, cluster, 0);
            // The script knows no span of all examples.
            let without = |made: &Line| {
                let mut json = made.json();
                for side in ["base", "source"] {
                    json.get_mut(side).map(|side| side["spans"].as_object_mut().unwrap().shift_remove("examples"));
                }
                json
            };
            assert_eq!(without(&made), *line, "{name}");
        }
        assert!(lines.len() >= 200, "{name}");
    }
}

#[test]
fn filters_keep_what_transformers_answered() {
    let model = fixture("identity-rules/model");
    let tokenizer = Tokenizer::from_files(&model.join("tokenizer.json"), None, None).unwrap();
    let decoder = load(&model, Dtype::F32);
    let reader = PromptReader { tokenizer: Some(&tokenizer), d_vocab: 404, n_ctx: 256 };
    let filter = |wanted| Filter::new(&decoder, &tokenizer, &[0], wanted).unwrap();
    let (generation, half) = (filter(Wanted::Generation), filter(Wanted::Prob(0.5)));
    let said: Value = serde_json::from_slice(&fs::read(fixture("identity-rules/answered.json")).unwrap()).unwrap();
    let prompts = said["prompts"].as_array().unwrap();
    let mut refused = 0;
    for prompt in prompts {
        let (text, answer) = (prompt["text"].as_str().unwrap(), prompt["answer"].as_str().unwrap());
        let read = reader.prompt(&PromptSpec::text(text), "t").unwrap();
        let id = tokenizer.encode(answer, false).unwrap()[0];
        let right = prompt["said"] == prompt["answer"];
        refused += usize::from(!right);
        let expected = (!right).then_some(Rejection::Generation);
        assert_eq!(generation.judge(&read, (answer, id)).unwrap(), expected, "{prompt}");
        let p = prompt["p"].as_f64().unwrap();
        let expected = (p < 0.5).then_some(Rejection::Probability);
        assert!((p - 0.5).abs() > 1e-3, "too near to the threshold: {prompt}");
        assert_eq!(half.judge(&read, (answer, id)).unwrap(), expected, "{prompt}");
    }
    assert!(refused >= 5 && prompts.len() - refused >= 20, "{refused} of {}", prompts.len());
}

/// `interp task identity-rules` on a model folder, with flags.
fn task(model: &Path, flags: &str) -> crate::common::Said {
    interp(&format!("task identity-rules --threads 1 --model {{}} {flags}"), &[&model])
}

#[test]
fn the_command_prints_trials_that_every_sweep_can_read() {
    let model = fixture("identity-rules/model");
    let folder = tempfile::tempdir().unwrap();
    for (pairs, n_sources) in [("abstract", 12), ("token", 12), ("single", 0)] {
        let said = task(&model, &format!("--pairs {pairs} --shots 3 --draws 6 --seed 4"));
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.starts_with("6 draws of "), "{}", said.err);
        let path = folder.path().join("trials.jsonl");
        fs::write(&path, &said.out).unwrap();
        let tokenizer = Tokenizer::from_files(&model.join("tokenizer.json"), None, None).unwrap();
        let reader = PromptReader { tokenizer: Some(&tokenizer), d_vocab: 404, n_ctx: 256 };
        let file = TrialFile::read(&path, &reader, TrialOptions::default()).unwrap();
        assert_eq!((file.trials.len(), file.bad_lines.len(), file.notes.len()), (12, 0, 0), "{pairs}");
        assert_eq!(file.trials.iter().filter(|trial| trial.source.is_some()).count(), n_sources);
        for (i, two) in file.trials.chunks(2).enumerate() {
            let clusters: Vec<&str> = two.iter().filter_map(|trial| trial.cluster.as_deref()).collect();
            assert_eq!(clusters, [format!("d{i:03}"), format!("d{i:03}")]);
            assert_eq!((two[0].direction.as_deref(), two[1].direction.as_deref()), (Some("ABA"), Some("ABB")));
            assert_eq!(two[0].base.tokens.len(), 22);
        }
        // The same seed gives the same words, whatever the pairs.
        let other = task(&model, &format!("--pairs {pairs} --shots 3 --draws 6 --seed 5"));
        assert_ne!(other.out, said.out);
        assert_eq!(task(&model, &format!("--pairs {pairs} --shots 3 --draws 6 --seed 4")).out, said.out);
    }
}

#[test]
fn positions_that_do_not_exist_at_this_number_of_shots_are_refused() {
    let (model, folder) = (fixture("identity-rules/model"), tempfile::tempdir().unwrap());
    let (trials, out) = (folder.path().join("trials.jsonl"), folder.path().join("out"));
    fs::write(&trials, task(&model, "--pairs token --shots 2 --draws 1 --filter none").out).unwrap();
    let sweep = |positions: &str| {
        let words = format!("sweep --threads 1 --model {{}} --trials {{}} --out {{}} --positions {positions}");
        let said = interp(&words, &[&model, &trials, &out]);
        assert_eq!((said.code, out.exists()), (2, false), "{}", said.err);
        said.err
    };
    assert_eq!(
        sweep("4,10,16"),
        "error: positions `4,10,16`: 16 is out of range: d000-ABA has 16 tokens\n\
         hint: positions are 0 to 15, or -16 to -1 from the end\n"
    );
    assert_eq!(
        sweep("span:fourth"),
        "error: positions `span:fourth`: d000-ABA has no such span\n\
         hint: its spans are examples, query, separator, third\n"
    );
}

#[test]
fn prompts_that_leave_the_filter_no_room_are_refused_with_flags_that_there_are() {
    let said = task(&fixture("identity-rules/model"), "--shots 42 --draws 1");
    let stderr = "error: filter `generation`: 256 prompt tokens and 10 new ones exceed the model's context of 256\n\
                  hint: give fewer --shots, or --filter prob:P, which needs no new ones\n";
    assert!(said.code == 2 && said.err.ends_with(stderr), "{}", said.err);
}

#[test]
fn without_a_filter_no_weights_are_needed_and_a_bos_shifts_spans() {
    let folder = tempfile::tempdir().unwrap();
    let from = fixture("identity-rules/model");
    for name in ["config.json", "tokenizer_config.json"] {
        fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(from.join("tokenizer.json")).unwrap()).unwrap();
    let make = |tokenizer: &Value| {
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        task(folder.path(), "--pairs token --shots 2 --draws 3 --filter none")
    };
    let plain = make(&tokenizer);
    assert_eq!((plain.code, plain.err.as_str()), (0, "3 draws of 3 tried, 0 rejected\n"));
    let template = |single: Value| {
        json!({
            "type": "TemplateProcessing", "single": single, "pair": [],
            "special_tokens": { "<eos>": { "id": "<eos>", "ids": [0], "tokens": ["<eos>"] } },
        })
    };
    let (bos, text) =
        (json!({"SpecialToken": {"id": "<eos>", "type_id": 0}}), json!({"Sequence": {"id": "A", "type_id": 0}}));
    tokenizer["post_processor"] = template(json!([bos, text]));
    let shifted = make(&tokenizer);
    assert_eq!(shifted.code, 0, "{}", shifted.err);
    let lines = |said: &str| said.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    for (plain, shifted) in lines(&plain.out).iter().zip(&lines(&shifted.out)) {
        assert_eq!(plain["base"]["text"], shifted["base"]["text"]);
        assert_eq!(plain["base"]["spans"]["third"], json!([[4, 5], [10, 11]]));
        assert_eq!(shifted["base"]["spans"]["third"], json!([[5, 6], [11, 12]]));
        assert_eq!(shifted["source"]["spans"]["query"], json!([[13, 17]]));
    }
    tokenizer["post_processor"] = template(json!([text, bos]));
    let refused = make(&tokenizer);
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (
            2,
            "error: tokenizer: it puts tokens behind a text, where the answer should come\n\
             hint: take them out of the post-processor in tokenizer.json\n"
        )
    );
}

#[test]
fn what_can_give_no_trials_is_refused_with_the_reason() {
    let model = fixture("identity-rules/model");
    let refused = |model: &Path, flags: &str| {
        let said = task(model, flags);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{flags}");
        said.err
    };
    // Long past what it was trained for, the model no longer knows.
    let said = refused(&model, "--shots 40 --draws 5 --max-attempts 5 --seed 1");
    assert!(
        said.starts_with("error: only ") && said.contains(" of 5 draws can be used, after 5 were tried; "),
        "{said}"
    );
    assert!(said.contains("(not answered by greedy generation)"), "{said}");
    assert!(
        said.ends_with("hint: ask for fewer --draws, loosen --filter, or try longer with --max-attempts\n"),
        "{said}"
    );
    let said = refused(&model, "--shots 2 --draws 5 --max-attempts 5 --filter prob:1");
    assert!(said.contains("(P(answer) under the threshold)"), "{said}");
    assert_eq!(
        refused(&model, "--shots 0"),
        "error: shots `0`: without an example nothing tells the two rules apart\nhint: give 1 or more\n"
    );
    assert_eq!(
        refused(&model, "--shots 43"),
        "error: shots `43`: prompts would have 262 tokens, but the model's context holds 256\nhint: give fewer\n"
    );
    assert_eq!(
        refused(&model, "--filter acc"),
        "error: filter `acc`: no such filter\nhint: filters are generation, prob:P such as prob:0.5, and none\n"
    );
    assert_eq!(
        refused(&model, "--pairs both"),
        "error: pairs `both`: no such pairs\nhint: pairs are abstract, token and single\n"
    );
    assert_eq!(
        refused(&fixture("tiny/qwen2"), "--shots 2"),
        "error: identity-rules: the checkpoint has no tokenizer\n\
         hint: identity rules are made of a tokenizer's own words: use a checkpoint whose tokenizer has them\n"
    );
}
