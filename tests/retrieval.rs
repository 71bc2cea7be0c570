//! `interp retrieval`: scores that can be counted by hand, on a model whose heads were set by hand; resuming; real files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::common::{Said, interp, root};

/// What the model knows. The last words are the answer, in order.
const WORDS: [&str; 24] = [
    "<unk>", "<eos>", "Based", "on", "the", "content", "of", "book", ",", "Question", ":", "Answer", "where", "sleeps",
    "fish", "?", "rain", "falls", ".", "golden", "owls", "hide", "under", "stones",
];
const COLON: usize = 10;
const ANSWER: usize = 11;
const GOLDEN: usize = 19;
const N: i64 = WORDS.len() as i64;
/// Room for a direction per word in the half of the rotary pairs that turn slowest, so that position hardly matters.
const D_HEAD: i64 = 96;

fn set(tensor: &Tensor, row: usize, column: usize, value: f64) {
    let _ = tensor.get(row as i64).get(column as i64).fill_(value);
}

/// A model of two layers of four heads that writes, after a colon, `golden owls hide under stones` and ends. Its words are one-hot and
/// reach the unembedding as they are; heads add nothing. Of layer 0, H0 looks at the word that comes next, H2 only where that has
/// an even id, H3 always at `golden`. Otherwise, and always in H1 and layer 1, heads look at `Answer`.
fn make_model(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let next = |word: usize| match word {
        COLON => Some(GOLDEN),
        GOLDEN..23 => Some(word + 1),
        23 => Some(1),
        _ => None,
    };
    let zeros = |rows: i64, columns: i64| Tensor::zeros([rows, columns], (Kind::Float, tch::Device::Cpu));
    let place = |head: usize, word: usize| head * D_HEAD as usize + 20 + word;
    let (q, k, head) = (zeros(4 * D_HEAD, N), zeros(4 * D_HEAD, N), zeros(N, N));
    for head in 0..4 {
        set(&k, place(head, ANSWER), ANSWER, 1.0);
        (0..WORDS.len()).for_each(|word| set(&q, place(head, ANSWER), word, 1.0));
    }
    let (plain_q, plain_k) = (q.copy(), k.copy());
    for word in 0..WORDS.len() {
        [0, 2, 3].into_iter().for_each(|head| set(&k, place(head, word), word, 1.0));
        set(&q, place(3, GOLDEN), word, 10.0);
        if let Some(next) = next(word) {
            set(&head, next, word, 1.0);
            set(&q, place(0, next), word, 10.0);
            if next % 2 == 0 {
                set(&q, place(2, next), word, 10.0);
            }
        }
    }
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), Tensor::eye(N, (Kind::Float, tch::Device::Cpu))),
        ("lm_head.weight".to_owned(), head),
        ("model.norm.weight".to_owned(), Tensor::ones([N], (Kind::Float, tch::Device::Cpu))),
    ];
    for layer in 0..2 {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let (q, k) = if layer == 0 { (&q, &k) } else { (&plain_q, &plain_k) };
        tensors.extend([
            (name("self_attn.q_proj"), q.copy()),
            (name("self_attn.k_proj"), k.copy()),
            (name("self_attn.v_proj"), zeros(4 * D_HEAD, N)),
            (name("self_attn.o_proj"), zeros(N, 4 * D_HEAD)),
            (name("mlp.gate_proj"), zeros(8, N)),
            (name("mlp.up_proj"), zeros(8, N)),
            (name("mlp.down_proj"), zeros(N, 8)),
            (name("input_layernorm"), Tensor::ones([N], (Kind::Float, tch::Device::Cpu))),
            (name("post_attention_layernorm"), Tensor::ones([N], (Kind::Float, tch::Device::Cpu))),
        ]);
    }
    Tensor::write_safetensors(&tensors, dir.join("model.safetensors")).unwrap();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
        "hidden_size": N, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "head_dim": D_HEAD, "vocab_size": N, "max_position_embeddings": 128, "rope_theta": 1e15, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false, "bos_token_id": null, "eos_token_id": 1,
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let vocab: serde_json::Map<String, Value> =
        WORDS.iter().zip(0..).map(|(word, id)| ((*word).into(), json!(id))).collect();
    let special = |id: usize| {
        json!({ "id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0), special(1)], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// Model, needles and text in a folder.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        make_model(&place.path("model"));
        let needle = |needle: &str, real: &str| {
            json!({ "needle": needle, "question": "where sleeps fish ?", "real_needle": real }).to_string()
        };
        let needles = [
            needle("golden owls hide under stones .", "golden owls hide under stones"),
            // What the model never answers.
            needle("fish sleeps .", "fish sleeps"),
        ];
        fs::write(place.path("needles.jsonl"), needles.join("\n")).unwrap();
        fs::create_dir(place.path("text")).unwrap();
        fs::write(place.path("text/a.txt"), "rain falls . ".repeat(5)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, out: &str, words: &str) -> Said {
        let words = format!(
            "retrieval --model {{}} --needles {{}} --haystack {{}} --lengths 40..60 --n-lengths 2 --n-depths 3 --buffer 20 \
             --max-new-tokens 8 --out {{}} {words}"
        );
        let paths = ["model", "needles.jsonl", "text", out].map(|name| self.path(name));
        interp(&words, &[&paths[0], &paths[1], &paths[2], &paths[3]])
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn scores_are_those_counted_by_hand() {
    let place = Place::new();
    let said = place.run("out", "");
    assert_eq!((said.code, said.out.trim()), (0, place.path("out").to_str().unwrap()), "{}", said.err);
    assert!(said.err.starts_with("6 of 12 trials count: "), "{}", said.err);
    let scores = read(&place.path("out/retrieval_heads.json"));
    // Of the needle's five words (ids 19 to 23) two are even; `golden` is one of five.
    for (head, score) in [("0-0", 1.0), ("0-1", 0.0), ("0-2", 0.4), ("0-3", 0.2), ("1-0", 0.0), ("1-3", 0.0)] {
        assert_eq!(scores[head], json!(vec![score; 6]), "{head}");
    }
    assert_eq!(scores, read(&place.path("out/retrieval_heads.set.json")), "no word is copied twice");
    assert_eq!(scores.as_object().unwrap().len(), 8);
    let table = read(&place.path("out/retrieval.json"));
    assert_eq!(
        (&table["n_trials"], &table["n_counted"], &table["n_needle_not_found"]),
        (&json!(12), &json!(6), &json!(0))
    );
    assert_eq!((&table["cells"][0]["label"], &table["cells"][1]["label"]), (&json!("L0.H0"), &json!("L0.H2")));
    let trials = fs::read_to_string(place.path("out/trials.jsonl")).unwrap();
    let first: Value = serde_json::from_str(trials.lines().next().unwrap()).unwrap();
    assert_eq!((&first["answer"], &first["recall"]), (&json!("golden owls hide under stones"), &json!(1.0)));
    // Depth 0 is the very beginning; a length of 40 leaves 20 for the text and the needle's six tokens.
    assert_eq!(first["needle"], json!({"start": 0, "end": 5}));
    let last: Value = serde_json::from_str(trials.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["length"], &last["depth"], &last["recall"], &last["counts"]),
        (&json!(60), &json!(100), &json!(0.0), &json!(false))
    );
    // 37 tokens of text, the needle's 3, and 16 of `Based on the content of the book, Question: where sleeps fish ? Answer:`.
    assert_eq!((&last["n_tokens"], &last["needle"]["start"]), (&json!(56), &json!(37)));
    for name in ["retrieval.csv", "retrieval.svg", "retrieval.png", "spec.json"] {
        assert!(place.path("out").join(name).is_file(), "{name}");
    }
    let file = place.path("out/retrieval_heads.json");
    let said = interp("retrieval --read {} {} --json", &[&file, &file]);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&found["n_trials"], &found["n_retrieval_heads"], &found["n_zero"]), (&json!(12), &json!(3), &json!(5)));
}

#[test]
fn a_stopped_run_goes_on_where_it_stopped() {
    let place = Place::new();
    assert_eq!(place.run("whole", "").code, 0);
    let files = ["retrieval_heads.json", "retrieval_heads.set.json", "trials.jsonl", "retrieval.csv", "retrieval.json"];
    assert_eq!(place.run("out", "").code, 0);
    // As a killed process leaves it: half a line at the end, and none of the last files.
    let path = place.path("out/trials.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(&path, format!("{}{}", kept[..5].concat(), &kept[5][..20])).unwrap();
    fs::remove_file(place.path("out/retrieval.json")).unwrap();
    assert_eq!(place.run("out", "").code, 0);
    for name in files {
        assert_eq!(
            fs::read(place.path("out").join(name)).unwrap(),
            fs::read(place.path("whole").join(name)).unwrap(),
            "{name}"
        );
    }
    let weights = fs::File::options().write(true).open(place.path("model/model.safetensors")).unwrap();
    let old = weights.metadata().unwrap().modified().unwrap();
    weights.set_modified(old + std::time::Duration::from_secs(1)).unwrap();
    let said = place.run("out", "");
    assert!(said.code == 2 && said.err.contains("holds another run: `weights_fingerprint` is"), "{}", said.err);
    weights.set_modified(old).unwrap();
    let said = place.run("out", "--chat");
    assert!(
        said.code == 2 && said.err.contains("holds another run: `chat` is false there and true here"),
        "{}",
        said.err
    );
}

#[test]
fn a_model_that_finds_nothing_says_no() {
    let place = Place::new();
    let needles = fs::read_to_string(place.path("needles.jsonl")).unwrap();
    fs::write(place.path("needles.jsonl"), needles.lines().nth(1).unwrap()).unwrap();
    let said = place.run("out", "");
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("0 of 6 trials count") && said.err.contains("no head has a score"), "{}", said.err);
    assert_eq!(read(&place.path("out/retrieval_heads.json"))["0-0"], json!([]));
    assert_eq!(read(&place.path("out/retrieval.json"))["cells"][0]["score"], Value::Null);
}

#[test]
fn each_mistake_has_its_message() {
    let place = Place::new();
    let refused = |words: &str| {
        let said = place.run("out", words);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words}");
        assert!(!place.path("out").exists(), "{words} left something");
        said.err
    };
    fs::write(place.path("text/a.txt"), " \n").unwrap();
    assert!(refused("").contains("there is no text in its .txt files\nhint: give a folder with .txt files"));
    fs::write(place.path("needles.jsonl"), "{\"needle\":\"x\"}").unwrap();
    assert!(refused("").contains("needles.jsonl:1: missing field `question`"));
    let lengths = |text: &str| {
        let words = "retrieval --model {} --needles {} --haystack {} --out {} --lengths ";
        let paths = ["model", "needles.jsonl", "text", "out"].map(|name| place.path(name));
        fs::write(&paths[1], "{\"needle\":\"x\",\"question\":\"x\",\"real_needle\":\"x\"}").unwrap();
        interp(&format!("{words}{text}"), &[&paths[0], &paths[1], &paths[2], &paths[3]]).err
    };
    assert_eq!(
        lengths("60..40"),
        "error: --lengths `60..40`: not two lengths in order\nhint: write A..B, such as 1000..50000\n"
    );
    assert_eq!(
        lengths("40..100"),
        "error: --lengths `40..100`: 100 tokens and 50 new ones exceed the model's context of 128\nhint: give shorter lengths\n"
    );
}

/// The published scores of Mistral-7B-v0.2: 32 x 32 heads, 362 trials.
#[test]
fn the_published_ranking_of_mistral_comes_out() {
    let file = root().join("../shared/data/wu-retrieval-heads/Mistral-7B-v0.2-hf.json");
    if !file.is_file() {
        println!("SKIPPED: {} is not there", file.display());
        return;
    }
    let said = interp("retrieval --read {} --json --top 5", &[&file]);
    assert_eq!(said.code, 0, "{}", said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    for (cell, (label, score)) in found["cells"].as_array().unwrap().iter().zip([
        ("L18.H0", 0.9427),
        ("L12.H7", 0.9277),
        ("L12.H6", 0.7744),
        ("L18.H2", 0.7427),
        ("L18.H3", 0.6034),
    ]) {
        assert_eq!(cell["label"], label);
        assert!((cell["score"].as_f64().unwrap() - score).abs() < 5e-5, "{cell}");
    }
    let numbers = ["n_layers", "n_heads", "n_trials", "n_at_least_half", "n_retrieval_heads", "n_zero"];
    assert_eq!(numbers.map(|name| found[name].as_u64().unwrap()), [32, 32, 362, 5, 43, 666]);
}
