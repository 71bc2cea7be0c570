//! The facts of each model family, as data: defaults of transformers' config classes, biases, norms and windows. No tensors.

use std::path::Path;

use serde_json::Value;

use super::fields::{Fields, short};
use super::{ModelConfig, quantization, rope};
use crate::error::{Error, Result};

/// Where a bias comes from.
#[derive(Clone, Copy)]
enum Bias {
    Always,
    Never,
    /// A flag of the config, false when absent.
    Flag(&'static str),
}

/// Which layers slide.
#[derive(Clone, Copy, PartialEq)]
enum Sliding {
    /// None; the fields are not the family's.
    Never,
    /// All, where `sliding_window` is a number.
    All,
    /// With `use_sliding_window`, those from `max_window_layers` on, or as `layer_types` says.
    Late,
}

/// One family. The numbers are what transformers' class assumes when a field is absent.
struct Family {
    name: &'static str,
    d_vocab: usize,
    d_mlp: usize,
    n_ctx: usize,
    /// `None`: as many as query heads.
    n_kv_heads: Option<usize>,
    /// `None`: `d_model / n_heads`.
    d_head: Option<usize>,
    eos_token_ids: &'static [i64],
    qkv_bias: Bias,
    o_bias: Bias,
    mlp_bias: Bias,
    qk_norm: bool,
    sliding: Sliding,
}

// The same in every class.
const D_MODEL: usize = 4096;
const N_LAYERS: usize = 32;
const N_HEADS: usize = 32;
const WINDOW: usize = 4096;
const MAX_WINDOW_LAYERS: usize = 28;
const RMS_NORM_EPS: f64 = 1e-6;

const FAMILIES: [Family; 4] = [
    Family {
        name: "qwen2",
        d_vocab: 151_936,
        d_mlp: 22_016,
        n_ctx: 32_768,
        n_kv_heads: Some(32),
        d_head: None,
        eos_token_ids: &[],
        qkv_bias: Bias::Always,
        o_bias: Bias::Never,
        mlp_bias: Bias::Never,
        qk_norm: false,
        sliding: Sliding::Late,
    },
    Family {
        name: "qwen3",
        d_vocab: 151_936,
        d_mlp: 22_016,
        n_ctx: 32_768,
        n_kv_heads: Some(32),
        d_head: Some(128),
        eos_token_ids: &[],
        qkv_bias: Bias::Flag("attention_bias"),
        o_bias: Bias::Flag("attention_bias"),
        mlp_bias: Bias::Never,
        qk_norm: true,
        sliding: Sliding::Late,
    },
    Family {
        name: "mistral",
        d_vocab: 32_000,
        d_mlp: 14_336,
        n_ctx: 131_072,
        n_kv_heads: Some(8),
        d_head: None,
        eos_token_ids: &[2],
        qkv_bias: Bias::Never,
        o_bias: Bias::Never,
        mlp_bias: Bias::Never,
        qk_norm: false,
        sliding: Sliding::All,
    },
    Family {
        name: "llama",
        d_vocab: 32_000,
        d_mlp: 11_008,
        n_ctx: 2048,
        n_kv_heads: None,
        d_head: None,
        eos_token_ids: &[2],
        qkv_bias: Bias::Flag("attention_bias"),
        o_bias: Bias::Flag("attention_bias"),
        mlp_bias: Bias::Flag("mlp_bias"),
        qk_norm: false,
        sliding: Sliding::Never,
    },
];

/// Fields that do not reach the forward pass at inference: bookkeeping, initialisation, dropout, training and output
/// options, special tokens, and defaults of generation.
#[rustfmt::skip]
const BENIGN: &[&str] = &[
    "architectures", "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "use_cache",
    "initializer_range", "attention_dropout", "attn_implementation", "_attn_implementation",
    "_attn_implementation_autoset", "chunk_size_feed_forward", "return_dict", "output_hidden_states",
    "output_attentions", "torchscript", "gradient_checkpointing", "neftune_noise_alpha", "use_bfloat16",
    "bos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
    "decoder_start_token_id", "tokenizer_class", "prefix",
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "is_llama_config", "transformers.js_config", "unsloth_fixed", "unsloth_version", "max_window_layers",
    "max_length", "max_new_tokens", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
];

/// Reads a parsed `config.json`.
pub(super) fn read(path: &Path, json: &Value) -> Result<ModelConfig> {
    let fields = Fields::top(path, json)?;
    let family = family(&fields)?;
    let nf4 = quantization::is_nf4(&fields)?;

    let d_model = fields.positive("hidden_size", D_MODEL)?;
    let n_layers = fields.positive("num_hidden_layers", N_LAYERS)?;
    let n_heads = fields.positive("num_attention_heads", N_HEADS)?;
    let n_kv_heads = fields.positive_or_null("num_key_value_heads", family.n_kv_heads)?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(fields.refuse(
            "num_key_value_heads",
            format!("{n_kv_heads} does not divide `num_attention_heads` {n_heads}"),
            None,
        ));
    }
    let d_head = d_head(&fields, family, d_model, n_heads)?;
    if let Some(act) = fields.text("hidden_act")?.filter(|&act| !matches!(act, "silu" | "swish")) {
        return Err(fields.refuse("hidden_act", format!("{act:?} is not supported"), Some("supported is silu".into())));
    }
    let n_ctx = fields.positive("max_position_embeddings", family.n_ctx)?;
    rope::whole_rotation(&fields)?;
    // Llama's tensor-parallel slices of a projection round differently; HF dropped them.
    if let Some(slices) = fields.positive_or_null("pretraining_tp", None)?.filter(|&slices| slices != 1) {
        return Err(fields.refuse("pretraining_tp", format!("is {slices}; only 1 is supported"), None));
    }
    let dtype = fields.text("torch_dtype")?;
    let dtype = fields.text("dtype")?.or(dtype).map(|dtype| dtype.trim_start_matches("torch.").to_owned());

    let config = ModelConfig {
        family: family.name.into(),
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp: fields.positive("intermediate_size", family.d_mlp)?,
        d_vocab: fields.positive("vocab_size", family.d_vocab)?,
        n_ctx,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(RMS_NORM_EPS),
        rope: rope::read(&fields, n_ctx)?,
        tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
        qkv_bias: bias(&fields, family.qkv_bias)?,
        o_bias: bias(&fields, family.o_bias)?,
        mlp_bias: bias(&fields, family.mlp_bias)?,
        qk_norm: family.qk_norm,
        windows: windows(&fields, family.sliding, n_layers)?,
        dtype,
        nf4,
        eos_token_ids: fields.token_ids("eos_token_id", family.eos_token_ids)?,
    };
    fields.finish(BENIGN)?;
    Ok(config)
}

fn family(fields: &Fields<'_>) -> Result<&'static Family> {
    let supported = || Some(format!("supported are {}", FAMILIES.each_ref().map(|family| family.name).join(", ")));
    let Some(name) = fields.text("model_type")? else {
        return Err(fields.refuse("model_type", "is missing, so the model's family is unknown", supported()));
    };
    FAMILIES
        .iter()
        .find(|family| family.name == name)
        .ok_or_else(|| fields.refuse("model_type", format!("unknown model family {name:?}"), supported()))
}

fn d_head(fields: &Fields<'_>, family: &Family, d_model: usize, n_heads: usize) -> Result<usize> {
    let (field, d_head) = match fields.positive_or_null("head_dim", family.d_head)? {
        Some(d_head) => ("head_dim", d_head),
        None if d_model.is_multiple_of(n_heads) => ("hidden_size", d_model / n_heads),
        None => {
            let problem = format!("{d_model} is not a multiple of `num_attention_heads` {n_heads}");
            return Err(fields.refuse("hidden_size", problem, None));
        }
    };
    if !d_head.is_multiple_of(2) {
        let problem = format!("makes heads {d_head} wide; rope needs an even width");
        return Err(fields.refuse(field, problem, None));
    }
    Ok(d_head)
}

fn bias(fields: &Fields<'_>, bias: Bias) -> Result<bool> {
    match bias {
        Bias::Always => Ok(true),
        Bias::Never => Ok(false),
        Bias::Flag(key) => fields.flag(key, false),
    }
}

/// Window per layer.
fn windows(fields: &Fields<'_>, sliding: Sliding, n_layers: usize) -> Result<Vec<Option<usize>>> {
    if sliding == Sliding::Never {
        // `sliding_window` and `layer_types` stay unread, so that a value in them is refused.
        return Ok(vec![None; n_layers]);
    }
    let window = fields.positive_or_null("sliding_window", Some(WINDOW))?;
    let kinds = layer_types(fields, n_layers)?;
    if sliding == Sliding::All {
        // transformers' Mistral ignores `layer_types`: a list that says otherwise belongs to another architecture.
        if kinds.is_some_and(|kinds| kinds.contains(&window.is_none())) {
            return Err(fields.refuse(
                "layer_types",
                "mixes windows within a family that has one for all layers",
                None,
            ));
        }
        return Ok(vec![window; n_layers]);
    }
    let window = window.filter(|_| matches!(fields.get("use_sliding_window"), Some(Value::Bool(true))));
    fields.flag("use_sliding_window", false)?;
    let first = fields.count("max_window_layers", MAX_WINDOW_LAYERS)?;
    let slides = match kinds {
        Some(kinds) => kinds,
        None => (0..n_layers).map(|layer| window.is_some() && layer >= first).collect(),
    };
    if window.is_none() && slides.contains(&true) {
        return Err(fields.refuse(
            "layer_types",
            "has sliding layers, but `use_sliding_window` and `sliding_window` give no window",
            None,
        ));
    }
    Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
}

/// Which layers slide, when the config lists them.
fn layer_types(fields: &Fields<'_>, n_layers: usize) -> Result<Option<Vec<bool>>> {
    let value = match fields.get("layer_types") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let list = value.as_array().ok_or_else(|| fields.wrong("layer_types", "a list", value))?;
    if list.len() != n_layers {
        let problem = format!("names {} layers, `num_hidden_layers` is {n_layers}", list.len());
        return Err(fields.refuse("layer_types", problem, None));
    }
    let slides = |kind: &Value| match kind.as_str() {
        Some("full_attention" | "attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(unknown_kind(fields, kind)),
    };
    list.iter().map(slides).collect::<Result<_>>().map(Some)
}

fn unknown_kind(fields: &Fields<'_>, kind: &Value) -> Error {
    fields.refuse(
        "layer_types",
        format!("{} is not supported", short(kind)),
        Some("supported are full_attention and sliding_attention".into()),
    )
}
