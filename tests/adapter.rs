//! PEFT adapters: what a folder means for a model, every field of the configuration, and every refusal with its message.

mod broken;
mod fields;

use std::path::Path;

use interp_core::adapter::{Adapter, LoraConfig};
use interp_core::checkpoint::Location;
use interp_core::config::ModelConfig;
use interp_core::error::{Error, Result};
use interp_core::hub::HubOptions;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::common::{fixture, root, tiny};

/// A tensor of a file: name, dtype, shape, bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// Geometry of a tiny model.
fn model(family: &str) -> ModelConfig {
    ModelConfig::from_file(&tiny(family).join("config.json")).expect("the fixture's config")
}

fn open(dir: &Path, model: &ModelConfig) -> Result<Adapter> {
    Adapter::open(&Location::Folder(dir.into()), &HubOptions::from_env(), model)
}

/// An adapter below `fixtures/adapters`, on the model that its name begins with.
fn made(name: &str) -> Adapter {
    let family = name.split('-').next().expect("a family");
    open(&fixture("adapters").join(name), &model(family)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A copy of an adapter that a test changes.
struct Edited {
    dir: tempfile::TempDir,
    config: Value,
    tensors: Vec<Stored>,
}

impl Edited {
    fn of(name: &str) -> Self {
        let from = fixture("adapters").join(name);
        let config = std::fs::read_to_string(from.join("adapter_config.json")).expect("a config");
        let bytes = std::fs::read(from.join("adapter_model.safetensors")).expect("tensors");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let stored = file.iter().map(|(name, x)| (name.to_owned(), x.dtype(), x.shape().to_vec(), x.data().to_vec()));
        let mut tensors: Vec<Stored> = stored.collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let dir = tempfile::tempdir().expect("a folder");
        Self { dir, config: serde_json::from_str(&config).expect("JSON"), tensors }
    }

    fn set(&mut self, field: &str, value: Value) -> &mut Self {
        self.config[field] = value;
        self
    }

    /// The tensor whose name ends so.
    fn tensor(&mut self, end: &str) -> &mut Stored {
        self.tensors.iter_mut().find(|(name, ..)| name.ends_with(end)).unwrap_or_else(|| panic!("no {end}"))
    }

    fn write(&self) -> &Path {
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
        });
        let bytes = safetensors::serialize(views, None).expect("safetensors");
        std::fs::write(self.dir.path().join("adapter_model.safetensors"), bytes).expect("written");
        std::fs::write(self.dir.path().join("adapter_config.json"), self.config.to_string()).expect("written");
        self.dir.path()
    }

    fn open(&self, family: &str) -> Result<Adapter> {
        open(self.write(), &model(family))
    }

    /// Numbers in A and B by the configuration alone.
    fn n_params(&self, family: &str) -> Result<u64> {
        LoraConfig::from_file(&self.write().join("adapter_config.json"))?.n_params(&model(family))
    }
}

/// Message and hint, with the folder written as `DIR`.
fn message(error: &Error, dir: &Path) -> String {
    let text = format!("{error}\nhint: {}", error.hint().unwrap_or("none"));
    text.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn every_fixture_opens_and_holds_what_it_is_there_for() {
    // Folder, changed modules, numbers in A and B, biases, saved weights.
    for (name, deltas, n_params, biases, saved) in [
        ("qwen2-plain", 21, 4224, 0, 0),
        ("qwen2-bf16", 21, 4224, 0, 0),
        ("qwen2-patterns", 21, 4512, 0, 0),
        ("qwen2-rslora", 12, 2976, 0, 0),
        ("qwen2-lora-bias", 9, 1344, 0, 0),
        ("qwen2-dora", 21, 2112, 0, 0),
        ("qwen2-layers", 8, 1280, 0, 0),
        ("qwen2-all-linear", 21, 2112, 0, 0),
        ("qwen2-regex", 5, 1088, 0, 0),
        ("qwen2-bias-lora-only", 9, 1536, 6, 0),
        ("qwen2-bias-all", 6, 1344, 9, 0),
        ("qwen2-saved-head", 3, 576, 0, 1),
        ("qwen2-saved-tied", 3, 576, 0, 2),
        ("mistral-saved", 6, 960, 0, 9),
        ("mistral-sft", 21, 4224, 0, 0),
        ("mistral-grpo", 12, 960, 0, 0),
        ("mistral-dora", 15, 2688, 0, 0),
        ("mistral-lora-bias", 6, 1344, 0, 0),
    ] {
        let adapter = made(name);
        let counts = (adapter.deltas().len(), adapter.n_params(), adapter.biases().len(), adapter.saved().len());
        assert_eq!(counts, (deltas, n_params, biases, saved), "{name}");
        assert_eq!(adapter.name(), name);
        assert_eq!(adapter.dir(), fixture("adapters").join(name));
        assert_eq!(adapter.file(), adapter.dir().join("adapter_model.safetensors"));
        let family = name.split('-').next().expect("a family");
        assert_eq!(adapter.config().base_model(), Some(format!("fixtures/tiny/{family}").as_str()));
        assert_eq!(adapter.config().n_params(&model(family)).expect("counts"), n_params, "{name}");
        // Nothing to say of plain adapters; whole weights are said aloud.
        assert_eq!(adapter.warnings().len(), usize::from(saved > 0), "{name}: {:?}", adapter.warnings());
        for (module, delta) in adapter.deltas() {
            assert_eq!(delta.bias.is_some(), name.ends_with("lora-bias"), "{name} {module}");
            assert_eq!(delta.magnitude.is_some(), name.ends_with("dora"), "{name} {module}");
            let (rank, d_out) = (delta.a.size()[0], delta.b.size()[0]);
            assert_eq!(delta.b.size(), [d_out, rank]);
            for vector in [&delta.bias, &delta.magnitude].into_iter().flatten() {
                assert_eq!(vector.size(), [d_out]);
            }
        }
    }
}

#[test]
fn numbers_are_those_of_the_file_as_f32() {
    for (name, kind) in [("qwen2-plain", Kind::Float), ("qwen2-bf16", Kind::BFloat16)] {
        let adapter = made(name);
        let stored = Tensor::read_safetensors(adapter.file()).expect("reads");
        assert_eq!(stored.len(), 2 * adapter.deltas().len());
        for (key, value) in stored {
            assert_eq!(value.kind(), kind);
            let module = key.strip_prefix("base_model.model.").expect("peft's prefix");
            let (module, part) = module.split_once(".lora_").expect("A or B");
            let delta = &adapter.deltas()[module];
            let read = if part.starts_with('A') { &delta.a } else { &delta.b };
            assert_eq!((read.kind(), read), (Kind::Float, &value.to_kind(Kind::Float)), "{key}");
        }
    }
}

#[test]
fn biases_and_whole_weights_go_by_the_models_names() {
    let keys = |name: &str| {
        let adapter = made(name);
        let size = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.size());
        (adapter.biases().iter().map(size).collect::<Vec<_>>(), adapter.saved().iter().map(size).collect::<Vec<_>>())
    };
    let (biases, _) = keys("qwen2-bias-lora-only");
    assert_eq!(biases[0], ("model.layers.0.self_attn.q_proj".to_owned(), vec![48]));
    assert_eq!(biases[1], ("model.layers.0.self_attn.v_proj".to_owned(), vec![16]));
    let (_, saved) = keys("mistral-saved");
    assert_eq!(saved[0], ("lm_head.weight".to_owned(), vec![131, 48]));
    assert_eq!(saved[1], ("model.embed_tokens.weight".to_owned(), vec![131, 48]));
    assert_eq!(saved[2], ("model.layers.0.input_layernorm.weight".to_owned(), vec![48]));
    assert_eq!(saved[8], ("model.norm.weight".to_owned(), vec![48]));
    assert_eq!(made("qwen2-saved-head").saved().keys().collect::<Vec<_>>(), ["lm_head.weight"]);
    let tied = made("qwen2-saved-tied");
    assert_eq!(tied.saved()["lm_head.weight"], tied.saved()["model.embed_tokens.weight"]);
    assert_eq!(
        tied.warnings(),
        ["the adapter replaces whole weights of the base: lm_head.weight, model.embed_tokens.weight"]
    );
}

#[test]
fn ranks_and_scales_are_those_of_each_module() {
    let close = |adapter: &Adapter, module: &str, rank: i64, scale: f64| {
        let delta = &adapter.deltas()[&format!("model.layers.{module}")];
        assert_eq!(delta.a.size()[0], rank, "{module}");
        assert!((delta.scale - scale).abs() < 1e-15, "{module}: {}", delta.scale);
    };
    let patterns = made("qwen2-patterns");
    // r 2, α 4; the first key that fits wins, and the last of each map is shadowed.
    close(&patterns, "0.self_attn.q_proj", 2, 2.0);
    close(&patterns, "1.self_attn.q_proj", 1, 4.0);
    close(&patterns, "0.self_attn.k_proj", 2, 0.5);
    close(&patterns, "1.self_attn.v_proj", 2, 0.5);
    close(&patterns, "2.self_attn.v_proj", 2, 2.0);
    close(&patterns, "0.mlp.down_proj", 3, 2.0);
    close(&patterns, "2.mlp.down_proj", 3, 2.0);
    close(&patterns, "2.mlp.up_proj", 2, 2.0);
    let rslora = made("qwen2-rslora");
    close(&rslora, "0.self_attn.q_proj", 4, 1.5);
    close(&rslora, "0.self_attn.o_proj", 1, 3.0);
}

#[test]
fn every_spelling_of_a_tensors_name_is_read() {
    let with_segment = |name: &str| {
        let name = name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.");
        name.replace("lora_magnitude_vector", "lora_magnitude_vector.default.weight")
    };
    let without_prefix = |name: &str| name.trim_start_matches("base_model.model.").to_owned();
    let unstripped = |name: &str| name.replace("lm_head.weight", "lm_head.modules_to_save.default.weight");
    let old_bias = |name: &str| name.replace(".base_layer.bias", ".bias");
    for (folder, rename) in [
        ("qwen2-dora", &with_segment as &dyn Fn(&str) -> String),
        ("qwen2-lora-bias", &with_segment),
        ("qwen2-plain", &without_prefix),
        ("qwen2-saved-head", &unstripped),
        ("qwen2-bias-all", &old_bias),
    ] {
        let (plain, mut edited) = (made(folder), Edited::of(folder));
        for tensor in &mut edited.tensors {
            tensor.0 = rename(&tensor.0);
        }
        let respelled = edited.open("qwen2").unwrap_or_else(|error| panic!("{folder}: {error}"));
        assert_eq!(respelled.saved(), plain.saved());
        assert_eq!(respelled.biases(), plain.biases());
        assert_eq!(respelled.deltas().len(), plain.deltas().len());
        for (module, delta) in plain.deltas() {
            let other = &respelled.deltas()[module];
            assert_eq!((&delta.a, &delta.b, delta.scale), (&other.a, &other.b, other.scale), "{folder} {module}");
            assert_eq!((&delta.bias, &delta.magnitude), (&other.bias, &other.magnitude), "{folder} {module}");
        }
    }
}

#[test]
fn published_configs_count_the_published_parameters() {
    let mut plain = Edited::of("qwen2-plain");
    plain.set("r", 1.into());
    let config = LoraConfig::from_file(&plain.write().join("adapter_config.json")).expect("reads");
    let per_rank = |model: &ModelConfig| config.n_params(model).expect("counts");
    let [small, large] = ["qwen2.5-7b", "qwen2.5-14b"].map(|name| ModelConfig::named(name).expect("a geometry"));
    let mistral = serde_json::json!({"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32_768});
    let mistral = ModelConfig::from_json(Path::new("mistral"), &mistral).expect("a geometry");
    assert_eq!(per_rank(&small) * 16, 40_370_176);
    assert_eq!(per_rank(&large), 4_300_800);
    assert_eq!(per_rank(&mistral) * 32, 83_886_080);
    assert_eq!(per_rank(&mistral) * 64, 167_772_160);

    let folder = root().parent().expect("a parent").join("shared/data/socrates");
    if !folder.is_dir() {
        println!("SKIPPED: {} is not there, so the two published configs were not read", folder.display());
        return;
    }
    for (name, n_params) in [("paper-replication", 68_812_800), ("test-checkpoint", 137_625_600)] {
        let path = folder.join(format!("adapter_config.{name}.json"));
        let config = LoraConfig::from_file(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.base_model(), Some("Qwen/Qwen2.5-14B-Instruct"));
        assert_eq!(config.n_params(&large).expect("counts"), n_params, "{name}");
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    }
}
