//! `interp inspect`: the description against the files, and a self-check that passes on every fixture and fails where it must.

use interp_core::decoder::expected_tensors;
use serde_json::Value;
use tch::Tensor;

use crate::common::{FAMILIES, copy_model, fixture, interp, open, tiny};

fn json(words: &str, dir: &std::path::Path) -> (i32, Value, String) {
    let said = interp(&format!("inspect --model {{}} --json {words}"), &[&dir]);
    (said.code, serde_json::from_str(&said.out).expect("JSON"), said.err)
}

#[test]
fn the_tensors_named_without_loading_are_those_that_loading_reads() {
    for dir in FAMILIES.map(tiny).into_iter().chain([fixture("identity-rules/model")]) {
        let checkpoint = open(&dir);
        let stored: Vec<(String, Vec<i64>)> =
            checkpoint.tensors().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
        assert_eq!(expected_tensors(checkpoint.config()), stored, "{}", dir.display());
    }
}

#[test]
fn sizes_are_those_of_the_files() {
    for family in FAMILIES {
        let (code, found, _) = json("", &tiny(family));
        let checkpoint = open(&tiny(family));
        assert_eq!(code, 0);
        assert_eq!(found["parameters"].as_u64().unwrap() * 4, checkpoint.total_bytes(), "{family}");
        assert_eq!(found["bytes"]["bf16"]["weights"].as_u64().unwrap() * 2, checkpoint.total_bytes());
        let config = checkpoint.config();
        let per_token = 2 * 3 * config.n_kv_heads * config.d_head * 4;
        assert_eq!(found["bytes"]["f32"]["kv_cache_per_token"].as_u64().unwrap(), per_token as u64);
        assert_eq!((&found["family"], &found["tokenizer"]), (&Value::from(config.family.as_str()), &Value::Null));
    }
    let (_, found, _) = json("", &tiny("qwen2-window"));
    assert_eq!(found["windows"].to_string(), r#"[{"layers":"0..1","window":null},{"layers":"1..3","window":16}]"#);
    let (_, found, _) = json("", &tiny("llama"));
    assert_eq!(found["rope"]["scaling"]["type"], "llama3");
    let said = interp("inspect --model {}", &[&fixture("identity-rules/model")]);
    let has = |line: &str| assert!(said.out.lines().any(|found| found == line), "{line} in {}", said.out);
    has("parameters          610688");
    has("stored              BF16 1.2 MB");
    has("tokenizer           404 ids, chat template no, adds nothing before a text and nothing after it");
}

#[test]
fn every_fixture_passes_its_self_check() {
    for dir in FAMILIES.map(tiny).into_iter().chain([fixture("identity-rules/model")]) {
        let said = interp("inspect --model {} --self-check", &[&dir]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}\n{}", dir.display(), said.out);
        assert_eq!(said.out.lines().filter(|line| line.ends_with("  yes")).count(), 22, "{}", said.out);
    }
    for dtype in ["f64", "bf16"] {
        let said = interp(&format!("inspect --model {{}} --self-check --dtype {dtype}"), &[&tiny("qwen2")]);
        assert_eq!(said.code, 0, "{dtype}\n{}{}", said.out, said.err);
    }
}

#[test]
fn a_dead_site_and_a_strange_tensor_are_a_no() {
    let temp = tempfile::tempdir().unwrap();
    let (dead, short) = (temp.path().join("dead"), temp.path().join("short"));
    copy_model(&tiny("qwen2"), &dead);
    let weights = dead.join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(&weights).unwrap();
    for (name, tensor) in &mut tensors {
        if name == "model.layers.1.mlp.down_proj.weight" {
            *tensor = tensor.zeros_like();
        }
    }
    Tensor::write_safetensors(&tensors, &weights).unwrap();
    let (code, found, err) = json("--self-check", &dead);
    assert_eq!(code, 1);
    let no = "no: zeroing blocks.1.mlp.hook_pre changes the logits by 0\nno: zeroing blocks.1.mlp.hook_post changes the \
              logits by 0\nno: zeroing blocks.1.hook_mlp_out changes the logits by 0\n";
    assert_eq!(err, no);
    assert_eq!(
        found["self_check"].as_array().unwrap().iter().filter(|c| c["wrong"] != serde_json::json!([])).count(),
        3
    );

    copy_model(&tiny("qwen2"), &short);
    std::fs::create_dir(short.join("lora")).unwrap();
    std::fs::write(short.join("lora/adapter_config.json"), "{}").unwrap();
    let config = short.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2")).unwrap();
    let (code, found, err) = json("--self-check", &short);
    let first = "no: 12 tensors belong to no part of the model, the first: model.layers.2.input_layernorm.weight\n";
    assert_eq!((code, err.as_str(), found["adapters"][0].as_str()), (1, first, Some("lora")));
    assert!(found.get("self_check").is_none(), "a model that does not load is not checked further");
}
