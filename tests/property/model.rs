//! Random small models of every family that the project reads: geometry, `config.json` and weights, in a folder of their own.

use std::path::Path;

use interp_core::config::ModelConfig;
use interp_core::decoder::{Decoder, expected_tensors};
use interp_core::device::Dtype;
use proptest::prelude::*;
use proptest::sample::select;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::Tensor;
use tempfile::TempDir;

use crate::common::{load, load_for_waves};

/// Rows of every model's embedding.
pub const VOCAB: i64 = 41;

/// Layers of the deepest model.
const MAX_LAYERS: usize = 5;

/// What `config.json` says of a model, and the seed of its weights.
#[derive(Debug, Clone)]
pub struct Geometry {
    pub family: &'static str,
    pub n_layers: usize,
    pub n_kv_heads: usize,
    pub group: usize,
    pub d_head: usize,
    pub d_model: usize,
    pub d_mlp: usize,
    pub tied: bool,
    pub biases: [bool; 2],
    pub window: Option<usize>,
    pub slides: Vec<bool>,
    pub theta: f64,
    pub scaling: Scaling,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy)]
pub enum Scaling {
    None,
    Linear,
    Llama3,
}

/// Any geometry. `d_model` and `d_mlp` are no multiples of anything; windows are shorter than most prompts.
pub fn geometries() -> impl Strategy<Value = Geometry> {
    let family = select(vec!["qwen2", "qwen3", "mistral", "llama"]);
    let heads = (1..=3_usize, 1..=4_usize, select(vec![4_usize, 6, 8, 16]));
    let widths = (5..=28_usize, 3..=40_usize);
    let windows = (proptest::option::weighted(0.7, 1..=12_usize), proptest::collection::vec(any::<bool>(), MAX_LAYERS));
    let scaling = select(vec![Scaling::None, Scaling::Linear, Scaling::Llama3]);
    let rope = (select(vec![50.0, 1e4, 1e6]), scaling);
    (family, 1..=MAX_LAYERS, heads, widths, any::<(bool, [bool; 2])>(), windows, rope, any::<u64>()).prop_map(
        |(family, n_layers, heads, widths, (tied, biases), (window, slides), (theta, scaling), seed)| {
            let ((n_kv_heads, group, d_head), (d_model, d_mlp)) = (heads, widths);
            Geometry {
                family,
                n_layers,
                n_kv_heads,
                group,
                d_head,
                d_model,
                d_mlp,
                tied,
                biases,
                window,
                slides,
                theta,
                scaling,
                seed,
            }
        },
    )
}

impl Geometry {
    fn json(&self) -> Value {
        let scaling = match self.scaling {
            Scaling::None => Value::Null,
            Scaling::Linear => json!({"rope_type": "linear", "factor": 3.0}),
            Scaling::Llama3 => json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }),
        };
        let mut config = json!({
            "model_type": self.family, "vocab_size": VOCAB, "max_position_embeddings": 512,
            "num_hidden_layers": self.n_layers, "num_attention_heads": self.n_kv_heads * self.group,
            "num_key_value_heads": self.n_kv_heads, "head_dim": self.d_head, "hidden_size": self.d_model,
            "intermediate_size": self.d_mlp, "tie_word_embeddings": self.tied, "rms_norm_eps": 1e-6,
            "rope_theta": self.theta, "rope_scaling": scaling,
        });
        let mut set = |key: &str, value: Value| config[key] = value;
        match self.family {
            "mistral" => set("sliding_window", json!(self.window)),
            "llama" => {
                set("attention_bias", json!(self.biases[0]));
                set("mlp_bias", json!(self.biases[1]));
            }
            _ => {
                let kind = |&slides: &bool| if slides { "sliding_attention" } else { "full_attention" };
                if let Some(window) = self.window {
                    set("use_sliding_window", json!(true));
                    set("sliding_window", json!(window));
                    set("layer_types", self.slides[..self.n_layers].iter().map(kind).collect());
                }
                if self.family == "qwen3" {
                    set("attention_bias", json!(self.biases[0]));
                }
            }
        }
        config
    }

    /// Writes the model into a folder.
    pub fn write(&self) -> Folder {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.json");
        let json = self.json();
        std::fs::write(&path, json.to_string()).expect("writes");
        let config = ModelConfig::from_json(&path, &json).expect("a config of the family");
        write_weights(dir.path(), &config, self.seed);
        Folder { dir, config }
    }
}

/// A model on disk; gone when dropped.
pub struct Folder {
    dir: TempDir,
    pub config: ModelConfig,
}

impl Folder {
    pub fn load(&self, dtype: Dtype) -> Decoder {
        load(self.dir.path(), dtype)
    }

    pub fn load_for_waves(&self, dtype: Dtype) -> Decoder {
        load_for_waves(self.dir.path(), dtype)
    }
}

/// Uniform weights of variance 1/fan-in and somewhat more, so that single heads matter as they do in trained models.
fn write_weights(dir: &Path, config: &ModelConfig, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tensors: Vec<(String, Tensor)> = expected_tensors(config)
        .into_iter()
        .map(|(name, shape)| {
            let fan_in = *shape.last().expect("an axis") as f32;
            let (mean, spread) = match name.as_str() {
                name if name.contains("norm") => (1.0, 0.3),
                name if name.ends_with("bias") => (0.0, 0.3),
                name if name.contains("embed_tokens") => (0.0, 1.0),
                name if name.contains("o_proj") => (0.0, 3.0 / fan_in.sqrt()),
                _ => (0.0, 1.6 / fan_in.sqrt()),
            };
            let bound = 3.0_f32.sqrt();
            let n = shape.iter().product::<i64>();
            let numbers: Vec<f32> = (0..n).map(|_| mean + spread * rng.random_range(-bound..bound)).collect();
            (name, Tensor::from_slice(&numbers).view(&shape[..]))
        })
        .collect();
    Tensor::write_safetensors(&tensors, dir.join("model.safetensors")).expect("writes");
}
