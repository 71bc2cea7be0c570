//! `ModelConfig` from a Hugging Face `config.json`. The only module that names a model family; it knows no tensors and
//! refuses every field it does not understand.

mod family;
pub(crate) mod fields;
mod generation;
mod geometry;
mod linear;
mod quantization;
mod rope;

use std::path::Path;

use serde_json::Value;

pub use self::generation::GenerationDefaults;
pub use self::linear::LinearMap;
use crate::error::{Error, Result};

/// What the forward pass needs to know of a model. Families differ by these values, never by code.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `qwen2`, `qwen3`, `mistral` or `llama`, for messages and files only.
    pub family: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads per layer.
    pub n_heads: usize,
    /// Key-value heads per layer; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Width of the MLP.
    pub d_mlp: usize,
    /// Rows of the embedding (may exceed the tokenizer's ids).
    pub d_vocab: usize,
    /// Longest prompt the model was made for, in tokens.
    pub n_ctx: usize,
    /// ε of every RMS norm.
    pub rms_norm_eps: f64,
    /// Position encoding.
    pub rope: Rope,
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the q, k and v projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub o_bias: bool,
    /// Whether the MLP projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys pass an RMS norm per head before rope.
    pub qk_norm: bool,
    /// Sliding window per layer: a position sees itself and the `window − 1` before it; `None` sees everything.
    pub windows: Vec<Option<usize>>,
    /// dtype the checkpoint says it is stored in (`torch_dtype` / `dtype`), informative.
    pub dtype: Option<String>,
    /// Whether files hold linear maps of the layers in 4 bits (bitsandbytes' NF4). Says nothing of random weights.
    pub nf4: bool,
    /// End-of-sequence ids named by the config.
    pub eos_token_ids: Vec<i64>,
}

impl ModelConfig {
    /// Reads a `config.json`. Errs on unreadable files, on broken JSON, and as [`ModelConfig::from_json`] does.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let json =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.into(), line: None, source })?;
        Self::from_json(path, &json)
    }

    /// Reads parsed JSON; `path` is for messages. Absent fields take the defaults of transformers' class of that family.
    /// Errs, naming the field, on an unknown family, a value that cannot be used, sizes that do not fit together, and any
    /// field that is not understood unless it is null, false, zero or empty.
    pub fn from_json(path: &Path, json: &Value) -> Result<Self> {
        family::read(path, json)
    }

    /// Query heads that share one key-value head.
    pub fn heads_per_kv_head(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }
}

/// Rotary position encoding: half-split, base θ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// θ.
    pub theta: f64,
    /// Frequency scaling.
    pub scaling: RopeScaling,
}

/// How inverse frequencies are changed for long contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Unscaled.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of every frequency.
        factor: f64,
    },
    /// Llama 3's smooth interpolation between scaled low and unscaled high frequencies.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Below this many rotations in the original context, a frequency is scaled.
        low_freq_factor: f64,
        /// Above this many rotations, it is not.
        high_freq_factor: f64,
        /// Original context length in tokens.
        original_max_position_embeddings: usize,
    },
}

#[cfg(test)]
mod tests;
