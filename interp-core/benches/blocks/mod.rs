//! A few blocks of Qwen2.5-0.5B's geometry with random weights, written once to a folder and loaded as any checkpoint is.

use std::path::Path;

use interp_core::checkpoint::{Checkpoint, CheckpointRef};
use interp_core::config::ModelConfig;
use interp_core::decoder::Decoder;
use interp_core::device::{Dtype, Precision, Weights};
use interp_core::hub::HubOptions;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Width of the residual stream.
pub const D_MODEL: i64 = 896;
const D_MLP: i64 = 4864;
const D_HEAD: i64 = 64;
const N_HEADS: i64 = 14;
const N_KV_HEADS: i64 = 2;
/// Small: the embedding is no kernel of a wave, and would only take time to write.
const D_VOCAB: i64 = 1000;

/// Geometry of `n_layers` blocks.
pub fn config(n_layers: usize) -> ModelConfig {
    ModelConfig::from_json(Path::new("config.json"), &config_json(n_layers)).expect("a config")
}

/// A decoder of `n_layers` blocks, its matrices laid out for waves. The folder is gone when this returns; the weights stay
/// mapped.
pub fn load(n_layers: usize, dtype: Dtype) -> Decoder {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("config.json"), config_json(n_layers).to_string()).expect("writes");
    Tensor::write_safetensors(&weights(n_layers), dir.path().join("model.safetensors")).expect("writes");

    let reference: CheckpointRef = dir.path().to_str().expect("UTF-8").parse().expect("a folder");
    let checkpoint = Checkpoint::open(&reference, &HubOptions::from_env()).expect("opens");
    let precision = Precision { dtype, weights: Weights::Auto };
    Decoder::load_for_waves(&checkpoint, Device::Cpu, precision).expect("loads")
}

fn config_json(n_layers: usize) -> Value {
    json!({
        "model_type": "qwen2",
        "hidden_size": D_MODEL,
        "intermediate_size": D_MLP,
        "num_hidden_layers": n_layers,
        "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_KV_HEADS,
        "vocab_size": D_VOCAB,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": true,
    })
}

/// Every tensor that the config implies, by name.
fn weights(n_layers: usize) -> Vec<(String, Tensor)> {
    tch::manual_seed(0);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.04;
    let ones = || Tensor::ones([D_MODEL], (Kind::Float, Device::Cpu));
    let (q_width, kv_width) = (N_HEADS * D_HEAD, N_KV_HEADS * D_HEAD);
    let mut all = vec![
        ("model.embed_tokens.weight".to_owned(), random(&[D_VOCAB, D_MODEL])),
        ("model.norm.weight".to_owned(), ones()),
    ];
    for layer in 0..n_layers {
        let mut add = |name: &str, tensor| all.push((format!("model.layers.{layer}.{name}"), tensor));
        for (name, width) in [("q_proj", q_width), ("k_proj", kv_width), ("v_proj", kv_width)] {
            add(&format!("self_attn.{name}.weight"), random(&[width, D_MODEL]));
            add(&format!("self_attn.{name}.bias"), random(&[width]));
        }
        add("self_attn.o_proj.weight", random(&[D_MODEL, q_width]));
        add("mlp.gate_proj.weight", random(&[D_MLP, D_MODEL]));
        add("mlp.up_proj.weight", random(&[D_MLP, D_MODEL]));
        add("mlp.down_proj.weight", random(&[D_MODEL, D_MLP]));
        add("input_layernorm.weight", ones());
        add("post_attention_layernorm.weight", ones());
    }
    all
}
