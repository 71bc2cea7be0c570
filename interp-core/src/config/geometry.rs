//! Geometries known by name, to measure with random weights where no checkpoint is at hand. Data only.

use std::path::Path;

use serde_json::json;

use super::ModelConfig;
use crate::error::{Error, Result};

/// One named geometry; heads are `d_model / n_heads` wide.
struct Geometry {
    name: &'static str,
    n_layers: usize,
    n_heads: usize,
    n_kv_heads: usize,
    d_model: usize,
    d_mlp: usize,
    d_vocab: usize,
    tied: bool,
}

const GEOMETRIES: [Geometry; 4] = [
    // Small enough that a few hundred sweeps take a minute.
    Geometry {
        name: "small",
        n_layers: 12,
        n_heads: 12,
        n_kv_heads: 4,
        d_model: 384,
        d_mlp: 1056,
        d_vocab: 4096,
        tied: true,
    },
    Geometry {
        name: "qwen2.5-0.5b",
        n_layers: 24,
        n_heads: 14,
        n_kv_heads: 2,
        d_model: 896,
        d_mlp: 4864,
        d_vocab: 151_936,
        tied: true,
    },
    Geometry {
        name: "qwen2.5-7b",
        n_layers: 28,
        n_heads: 28,
        n_kv_heads: 4,
        d_model: 3584,
        d_mlp: 18_944,
        d_vocab: 152_064,
        tied: false,
    },
    Geometry {
        name: "qwen2.5-14b",
        n_layers: 48,
        n_heads: 40,
        n_kv_heads: 8,
        d_model: 5120,
        d_mlp: 13_824,
        d_vocab: 152_064,
        tied: false,
    },
];

impl ModelConfig {
    /// A Qwen2 model of a named geometry (`small`, `qwen2.5-0.5b`, `qwen2.5-7b`, `qwen2.5-14b`), stored in bf16.
    pub fn named(name: &str) -> Result<Self> {
        let Some(geometry) = GEOMETRIES.iter().find(|geometry| geometry.name == name) else {
            let names = GEOMETRIES.each_ref().map(|geometry| geometry.name).join(", ");
            return Err(Error::Selector {
                what: "geometry",
                value: name.into(),
                problem: "no such geometry".into(),
                hint: Some(format!("geometries are {names}, or the path of a config.json")),
            });
        };
        let json = json!({
            "model_type": "qwen2",
            "num_hidden_layers": geometry.n_layers,
            "num_attention_heads": geometry.n_heads,
            "num_key_value_heads": geometry.n_kv_heads,
            "hidden_size": geometry.d_model,
            "intermediate_size": geometry.d_mlp,
            "vocab_size": geometry.d_vocab,
            "tie_word_embeddings": geometry.tied,
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "torch_dtype": "bfloat16",
        });
        Self::from_json(Path::new(name), &json)
    }
}
