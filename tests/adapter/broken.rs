//! Folders and tensor files that cannot be used: each refusal, word by word.

use std::path::Path;

use interp_core::checkpoint::Location;
use interp_core::hub::{HubId, HubOptions};
use safetensors::tensor::Dtype;
use serde_json::json;

use super::{Edited, message, model, open};
use crate::common::tiny;
use interp_core::adapter::Adapter;

const FILE: &str = "DIR/adapter_model.safetensors";

/// The refusal of an edited adapter by a tiny model.
fn refusal(edited: &Edited, family: &str) -> String {
    message(&edited.open(family).expect_err("refused"), edited.dir.path())
}

fn refused(folder: &str, edit: impl FnOnce(&mut Edited)) -> String {
    let mut edited = Edited::of(folder);
    edit(&mut edited);
    refusal(&edited, folder.split('-').next().expect("a family"))
}

#[test]
fn folders_without_an_adapter_say_what_is_there() {
    let qwen2 = model("qwen2");
    let said = |dir: &Path| message(&open(dir, &qwen2).expect_err("refused"), dir);
    let dir = tempfile::tempdir().expect("a folder");
    let give = "give a folder that holds adapter_config.json, or a hub id such as owner/name";
    assert_eq!(said(&dir.path().join("none")), format!("DIR: no such folder\nhint: {give}"));
    assert_eq!(
        said(dir.path()),
        "DIR: has no adapter_config.json\nhint: an adapter is a folder as peft's save_pretrained writes it"
    );
    assert_eq!(said(&tiny("qwen2")), "DIR: has no adapter_config.json\nhint: this is a checkpoint, not an adapter");
    let edited = Edited::of("qwen2-plain");
    let file = edited.write().join("adapter_model.safetensors");
    assert_eq!(said(&file), format!("DIR: is a file, not an adapter's folder\nhint: {give}"));
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(
        said(edited.dir.path()),
        "DIR: has no adapter_model.safetensors\nhint: an adapter's folder holds its tensors as safetensors"
    );
    std::fs::write(edited.dir.path().join("adapter_model.bin"), "pickle").expect("written");
    assert_eq!(
        said(edited.dir.path()),
        "DIR: has its tensors only as a pickle, adapter_model.bin, which can run code when it is opened\n\
         hint: convert once, in Python: AutoPeftModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
    );
    std::fs::write(edited.dir.path().join("adapter_config.json"), "{").expect("written");
    assert!(said(edited.dir.path()).starts_with("DIR/adapter_config.json: EOF"));
    std::fs::write(edited.dir.path().join("adapter_config.json"), "[]").expect("written");
    assert_eq!(said(edited.dir.path()), "DIR/adapter_config.json: is not a JSON object\nhint: none");
    edited.write();
    std::fs::write(&file, b"0123").expect("written");
    assert_eq!(
        said(edited.dir.path()),
        format!(
            "{FILE}: is truncated: 4 bytes are too few for a safetensors file\nhint: copy or download the file again"
        )
    );
}

#[test]
fn a_repository_that_is_not_cached_is_refused_offline() {
    let cache = tempfile::tempdir().expect("a folder");
    let options = HubOptions { cache_dir: cache.path().into(), offline: true, ..HubOptions::from_env() };
    let location = Location::Hub(HubId::parse("owner/lora").expect("an id"));
    let error = Adapter::open(&location, &options, &model("qwen2")).expect_err("refused");
    assert!(error.to_string().starts_with("hub repository owner/lora: "), "{error}");
}

#[test]
fn an_adapter_of_another_model_is_refused_at_its_first_module() {
    let hint = "hint: the adapter was trained on another model than this: `fixtures/tiny/qwen2`, by its config";
    let mut narrow = model("qwen2");
    let edited = Edited::of("qwen2-plain");
    let dir = edited.write();
    narrow.d_model = 32;
    narrow.n_layers = 4;
    let at = "tensor `base_model.model.model.layers.0.mlp.down_proj.lora_B.weight`";
    assert_eq!(
        message(&open(dir, &narrow).expect_err("refused"), dir),
        format!("{FILE}: {at}: expected shape [32, r], found shape [48, 2]\n{hint}")
    );
    let mut heads = model("qwen2");
    heads.n_kv_heads = 3;
    let at = "tensor `base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight`";
    assert_eq!(
        message(&open(dir, &heads).expect_err("refused"), dir),
        format!("{FILE}: {at}: expected shape [24, r], found shape [16, 2]\n{hint}")
    );
    let mut shallow = model("qwen2");
    shallow.n_layers = 2;
    let at = "tensor `base_model.model.model.layers.2.mlp.down_proj.lora_A.weight`";
    assert_eq!(
        message(&open(dir, &shallow).expect_err("refused"), dir),
        format!("{FILE}: {at}: expected a layer below 2, found layer 2\n{hint}")
    );
    let mut deep = model("qwen2");
    deep.n_layers = 4;
    assert!(message(&open(dir, &deep).expect_err("refused"), dir).contains("implies tensors that the file lacks"));
}

#[test]
fn tensors_are_exactly_those_that_the_fields_imply() {
    let said = |field: &str, problem: &str, hint: &str| {
        format!("DIR/adapter_config.json: field `{field}`: {problem}\nhint: {hint}")
    };
    let targets = "this field, exclude_modules and layers_to_transform must say what was trained: take the \
                   adapter_config.json that was saved with the tensors";
    let take = "take the adapter_config.json that was saved with the tensors";
    let newer = "some versions of peft did not save them: save the adapter again with a newer one";
    let whole = "list exactly the modules that are in the file whole, or save the adapter again \
                 (save_embedding_layers=False)";

    let found = refused("mistral-grpo", |edited| {
        edited.set("target_modules", json!(["q_proj", "k_proj", "v_proj"]));
    });
    let names = [0, 1, 2].map(|layer| format!("model.layers.{layer}.self_attn.o_proj.lora_A.weight")).join(", ");
    let problem = "[\"q_proj\",\"k_proj\",\"v_proj\"] does not imply tensors that the file holds";
    assert_eq!(found, said("target_modules", &format!("{problem}: {names}"), targets));

    let found = refused("mistral-grpo", |edited| {
        edited.set("target_modules", json!("all-linear"));
    });
    let names = ["down", "gate", "up"].map(|map| format!("model.layers.0.mlp.{map}_proj.lora_A.weight")).join(", ");
    let problem = format!("\"all-linear\" implies tensors that the file lacks: {names} and 6 more");
    assert_eq!(found, said("target_modules", &problem, targets));

    let found = refused("qwen2-layers", |edited| {
        edited
            .set("layers_to_transform", json!(0))
            .set("target_modules", json!(["q_proj", "k_proj", "v_proj", "o_proj"]));
    });
    assert!(found.contains("does not imply tensors that the file holds: model.layers.2.self_attn"), "{found}");

    let found = refused("qwen2-dora", |edited| {
        edited.set("use_dora", json!(false)).set("target_modules", json!("all-linear"));
    });
    let names = ["down", "gate", "up"].map(|map| format!("model.layers.0.mlp.{map}_proj.lora_magnitude_vector"));
    let problem = format!("false does not imply tensors that the file holds: {} and 18 more", names.join(", "));
    assert_eq!(found, said("use_dora", &problem, take));

    let found = refused("qwen2-plain", |edited| {
        edited.set("lora_bias", json!(true));
    });
    let names = ["down", "gate", "up"].map(|map| format!("model.layers.0.mlp.{map}_proj.lora_B.bias")).join(", ");
    assert_eq!(
        found,
        said("lora_bias", &format!("true implies tensors that the file lacks: {names} and 18 more"), take)
    );

    let found = refused("qwen2-bias-lora-only", |edited| {
        edited.set("bias", json!("none"));
    });
    let names = ["0.self_attn.q_proj.bias", "0.self_attn.v_proj.bias", "1.self_attn.q_proj.bias"];
    let names = names.map(|name| format!("model.layers.{name}")).join(", ");
    let problem = format!("\"none\" does not imply tensors that the file holds: {names} and 3 more");
    assert_eq!(found, said("bias", &problem, newer));

    let found = refused("qwen2-plain", |edited| {
        edited.set("bias", json!("lora_only"));
    });
    let names = ["k", "q", "v"].map(|map| format!("model.layers.0.self_attn.{map}_proj.bias")).join(", ");
    let problem = format!("\"lora_only\" implies tensors that the file lacks: {names} and 6 more");
    assert_eq!(found, said("bias", &problem, newer));

    let found = refused("qwen2-saved-head", |edited| {
        edited.set("modules_to_save", json!(null));
    });
    let problem = "null does not imply a tensor that the file holds: lm_head.weight";
    assert_eq!(found, said("modules_to_save", problem, whole));

    let found = refused("qwen2-saved-head", |edited| {
        edited.set("modules_to_save", json!(["lm_head", "model.norm"]));
    });
    let problem = "[\"lm_head\",\"model.norm\"] implies a tensor that the file lacks: model.norm.weight";
    assert_eq!(found, said("modules_to_save", problem, whole));
}

#[test]
fn halves_duplicates_and_strangers_are_refused() {
    let prefix = "base_model.model.model.layers.1.mlp.up_proj";
    let found =
        refused("qwen2-plain", |edited| edited.tensors.retain(|(name, ..)| *name != format!("{prefix}.lora_B.weight")));
    assert_eq!(
        found,
        format!(
            "{FILE}: tensor `{prefix}.lora_A.weight`: expected `model.layers.1.mlp.up_proj.lora_B.weight` beside it, \
             found none\nhint: copy or download the adapter again; if it stays, it was saved incompletely"
        )
    );
    let found =
        refused("qwen2-plain", |edited| edited.tensors.retain(|(name, ..)| *name != format!("{prefix}.lora_A.weight")));
    assert!(
        found.starts_with(&format!("{FILE}: tensor `{prefix}.lora_B.weight`: expected `model.layers.1")),
        "{found}"
    );

    let found = refused("qwen2-plain", |edited| {
        let mut copy = edited.tensor("0.mlp.up_proj.lora_A.weight").clone();
        copy.0 = copy.0.replace("lora_A.weight", "lora_A.second.weight");
        edited.tensors.push(copy);
    });
    assert!(found.contains("expected one adapter per file, found `base_model.model.model.layers.0.mlp.up"), "{found}");
    assert!(found.ends_with("hint: save each adapter to a folder of its own"), "{found}");

    let found =
        refused("qwen2-plain", |edited| edited.tensor("0.mlp.up_proj.lora_A.weight").0 = "lora_C.weight".into());
    assert_eq!(
        found,
        format!(
            "{FILE}: tensor `lora_C.weight`: expected a tensor of a LoRA adapter, found an unknown name\n\
             hint: an adapter file holds lora_A, lora_B, biases, magnitudes and whole weights"
        )
    );
    let found = refused("qwen2-plain", |edited| {
        edited.tensor("0.mlp.up_proj.lora_A.weight").0 = "base_model.model.model.embed_tokens.lora_embedding_A".into();
    });
    assert_eq!(
        found,
        format!(
            "{FILE}: tensor `base_model.model.model.embed_tokens.lora_embedding_A`: expected LoRA on linear maps of the \
             blocks, found LoRA on an embedding\n\
             hint: train embed_tokens or lm_head whole (`modules_to_save`), or merge with peft's merge_and_unload"
        )
    );
}

#[test]
fn ranks_and_shapes_are_those_of_the_config() {
    let ranks = "hint: `r` and `rank_pattern` must say the ranks that the tensors have: take the adapter_config.json that \
                 was saved with them";
    let at = "tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight`";
    let found = refused("qwen2-plain", |edited| {
        edited.set("r", json!(4));
    });
    assert_eq!(
        found,
        format!("{FILE}: {at}: expected shape [4, 80], rank 4 by adapter_config.json, found shape [2, 80]\n{ranks}")
    );
    let found = refused("qwen2-plain", |edited| {
        edited.set("rank_pattern", json!({"1.self_attn.q_proj": 3}));
    });
    assert!(found.contains("layers.1.self_attn.q_proj.lora_A.weight`: expected shape [3, 48], rank 3 by"), "{found}");

    let found = refused("qwen2-plain", |edited| edited.tensor("0.mlp.down_proj.lora_A.weight").2 = vec![160]);
    assert_eq!(
        found,
        format!(
            "{FILE}: {at}: expected shape [r, 80], found shape [160]\nhint: it was saved from a sharded model \
             (DeepSpeed ZeRO-3, FSDP) without gathering: save it again"
        )
    );
    let found = refused("qwen2-saved-head", |edited| {
        let head = edited.tensor("lm_head.weight");
        head.2 = vec![132, 48];
        head.3.resize(132 * 48 * 4, 0);
    });
    assert_eq!(
        found,
        format!(
            "{FILE}: tensor `base_model.model.lm_head.weight`: expected shape [131, 48], found shape [132, 48]\n\
             hint: the adapter was trained on another model than this: `fixtures/tiny/qwen2`, by its config; or its \
             vocabulary was extended: merge it in peft and save the model"
        )
    );
    let found = refused("qwen2-dora", |edited| {
        let magnitude = edited.tensor("0.mlp.down_proj.lora_magnitude_vector");
        magnitude.2 = vec![47];
        magnitude.3.truncate(47 * 4);
    });
    assert!(found.contains("lora_magnitude_vector`: expected shape [48], found shape [47]\n"), "{found}");
}

#[test]
fn numbers_are_finite_floats() {
    let at = "tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight`";
    let hint = "hint: copy or download the file again; if it stays, training diverged";
    for (number, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "infinite")] {
        let found = refused("qwen2-plain", |edited| {
            edited.tensor("0.mlp.down_proj.lora_A.weight").3[4 * 83..4 * 84].copy_from_slice(&number.to_le_bytes());
        });
        assert_eq!(found, format!("{FILE}: {at}: expected finite numbers, found {word} at [1, 3]\n{hint}"));
    }
    let found = refused("qwen2-dora", |edited| {
        edited.tensor("2.mlp.up_proj.lora_magnitude_vector").3[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(found.contains("lora_magnitude_vector`: expected finite numbers, found NaN at [2]\n"), "{found}");
    let found = refused("qwen2-plain", |edited| edited.tensor("0.mlp.down_proj.lora_A.weight").1 = Dtype::I32);
    assert_eq!(
        found,
        format!(
            "{FILE}: {at}: expected dtype F32, BF16 or F16, found dtype I32\nhint: save the adapter in f32 or bf16"
        )
    );
}

#[test]
fn embeddings_that_should_be_tied_are_equal() {
    let found = refused("qwen2-saved-tied", |edited| edited.tensor("lm_head.weight").3[..4].copy_from_slice(&[0; 4]));
    assert_eq!(
        found,
        "DIR/adapter_config.json: field `ensure_weight_tying`: true says that lm_head and embed_tokens are one, but the \
         file holds two that differ\nhint: set it to false to use both, or save the adapter again"
    );
    // Told apart by the config, they may differ.
    let mut edited = Edited::of("qwen2-saved-tied");
    edited.tensor("lm_head.weight").3[..4].copy_from_slice(&[0; 4]);
    edited.set("ensure_weight_tying", json!(false)).set("modules_to_save", json!(["lm_head", "embed_tokens"]));
    let adapter = edited.open("qwen2").expect("opens");
    assert_ne!(adapter.saved()["lm_head.weight"], adapter.saved()["model.embed_tokens.weight"]);
}
