//! Both spellings agree, defaults are transformers', and what is not understood is refused with its exact message.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

fn read(json: Value) -> Result<ModelConfig> {
    ModelConfig::from_json(Path::new("config.json"), &json)
}

fn message(json: Value) -> String {
    let error = read(json).unwrap_err();
    match error.hint() {
        Some(hint) => format!("{error}; hint: {hint}"),
        None => error.to_string(),
    }
}

/// `base` with the fields of `extra` put over it.
fn with(mut base: Value, extra: Value) -> Value {
    base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    base
}

fn qwen2(extra: Value) -> Value {
    with(json!({"model_type": "qwen2", "num_hidden_layers": 4}), extra)
}

fn bitsandbytes(extra: Value) -> Value {
    qwen2(json!({"quantization_config": with(json!({"quant_method": "bitsandbytes"}), extra)}))
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny")
}

#[test]
fn both_spellings_of_every_fixture_agree() {
    for family in ["qwen2", "qwen2-untied", "qwen2-window", "qwen3", "mistral", "llama"] {
        let folder = tiny().join(family);
        let old = ModelConfig::from_file(&folder.join("config.json")).unwrap();
        let new = ModelConfig::from_file(&folder.join("config.respelled.json")).unwrap();
        assert_eq!(old, new, "{family}");
        assert_eq!((old.d_model, old.n_layers, old.n_heads, old.d_vocab), (48, 3, 6, 131), "{family}");
        assert_eq!(old.dtype.as_deref(), Some("float32"), "{family}");
    }
}

#[test]
fn fixtures_differ_where_their_families_do() {
    let load = |family: &str| ModelConfig::from_file(&tiny().join(family).join("config.json")).unwrap();
    let qwen2 = load("qwen2");
    assert!(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.mlp_bias && !qwen2.qk_norm && qwen2.tie_word_embeddings);
    assert_eq!(qwen2.windows, [None; 3]);
    assert_eq!(load("qwen2-window").windows, [None, Some(16), Some(16)]);
    assert_eq!(load("qwen2-window").rope, Rope { theta: 1e6, scaling: RopeScaling::None });
    assert!(!load("qwen2-untied").tie_word_embeddings);
    let qwen3 = load("qwen3");
    assert!(qwen3.qk_norm && !qwen3.qkv_bias);
    assert_eq!(qwen3.d_head, 16);
    let mistral = load("mistral");
    assert!(!mistral.qkv_bias);
    assert_eq!(mistral.windows, [Some(16); 3]);
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 128,
    };
    assert_eq!(load("llama").rope, Rope { theta: 10_000.0, scaling });
}

#[test]
fn absent_fields_take_the_defaults_of_transformers() {
    let qwen2 = read(json!({"model_type": "qwen2"})).unwrap();
    assert_eq!((qwen2.d_model, qwen2.n_layers, qwen2.n_heads, qwen2.n_kv_heads), (4096, 32, 32, 32));
    assert_eq!((qwen2.d_head, qwen2.d_mlp, qwen2.d_vocab, qwen2.n_ctx), (128, 22_016, 151_936, 32_768));
    assert_eq!((qwen2.rms_norm_eps, qwen2.rope.theta), (1e-6, 10_000.0));
    assert!(!qwen2.tie_word_embeddings && qwen2.eos_token_ids.is_empty() && qwen2.windows == [None; 32]);

    assert_eq!(read(json!({"model_type": "qwen3", "hidden_size": 1024})).unwrap().d_head, 128);

    let mistral = read(json!({"model_type": "mistral"})).unwrap();
    assert_eq!((mistral.n_kv_heads, mistral.d_mlp, mistral.n_ctx), (8, 14_336, 131_072));
    assert_eq!(mistral.windows, [Some(4096); 32]);
    assert_eq!(mistral.eos_token_ids, [2]);

    let llama = read(json!({"model_type": "llama", "num_attention_heads": 16})).unwrap();
    assert_eq!((llama.n_kv_heads, llama.d_head, llama.d_mlp, llama.n_ctx), (16, 256, 11_008, 2048));
}

#[test]
fn biases_follow_the_flags_of_the_family() {
    let llama = read(json!({"model_type": "llama", "attention_bias": true, "mlp_bias": true})).unwrap();
    assert!(llama.qkv_bias && llama.o_bias && llama.mlp_bias);
    let qwen3 = read(json!({"model_type": "qwen3", "attention_bias": true})).unwrap();
    assert!(qwen3.qkv_bias && qwen3.o_bias && !qwen3.mlp_bias);
    assert!(message(json!({"model_type": "mistral", "attention_bias": true})).contains("is not understood"));
}

#[test]
fn windows_follow_flags_layers_and_lists() {
    let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3});
    assert_eq!(read(qwen2(on.clone())).unwrap().windows, [None, None, None, Some(8)]);
    let listed = json!({"layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"]});
    assert_eq!(read(qwen2(with(on, listed.clone()))).unwrap().windows, [Some(8), None, None, None]);
    assert_eq!(read(qwen2(json!({"sliding_window": 8, "max_window_layers": 0}))).unwrap().windows, [None; 4]);
    assert_eq!(read(json!({"model_type": "mistral", "sliding_window": null})).unwrap().windows, [None; 32]);
    assert_eq!(
        message(qwen2(listed)),
        "config.json: field `layer_types`: has sliding layers, but `use_sliding_window` and `sliding_window` give no window"
    );
    assert_eq!(
        message(qwen2(json!({"layer_types": ["full_attention"]}))),
        "config.json: field `layer_types`: names 1 layers, `num_hidden_layers` is 4"
    );
    assert_eq!(
        message(qwen2(
            json!({"layer_types": ["full_attention", "chunked_attention", "full_attention", "full_attention"]})
        )),
        "config.json: field `layer_types`: \"chunked_attention\" is not supported; \
         hint: supported are full_attention and sliding_attention"
    );
    assert!(
        message(json!({"model_type": "llama", "sliding_window": 8})).contains("`sliding_window`: is not understood")
    );
}

#[test]
fn rope_reads_every_spelling() {
    let linear = Rope { theta: 5e5, scaling: RopeScaling::Linear { factor: 4.0 } };
    let spellings = [
        json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}),
        json!({"rope_theta": 500_000, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}}),
        json!({"rope_theta": 5e5, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
        json!({"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}}}),
    ];
    for spelling in spellings {
        assert_eq!(read(qwen2(spelling.clone())).unwrap().rope, linear, "{spelling}");
    }
    let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4});
    match read(qwen2(json!({"max_position_embeddings": 99, "rope_scaling": llama3}))).unwrap().rope.scaling {
        RopeScaling::Llama3 { original_max_position_embeddings: 99, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn rope_refuses_what_it_does_not_implement() {
    for (rope, expected) in [
        (
            json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
            "field `rope_scaling.type`: \"yarn\" is not supported; hint: supported are default, linear and llama3",
        ),
        (
            json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}),
            "field `rope_parameters.rope_type`: \"longrope\" is not supported; \
             hint: supported are default, linear and llama3",
        ),
        (
            json!({"rope_scaling": {"type": "linear"}}),
            "field `rope_scaling.factor`: must be a number above zero, found null",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "mrope_section": [16, 24]}}),
            "field `rope_parameters.mrope_section`: is not understood, and its value [16,24] may change the computation; \
             hint: use a checkpoint without it, or delete the field if it is mere bookkeeping",
        ),
        (
            json!({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 1e4}}),
            "field `rope_theta`: is given both as 1000000 and as 10000; hint: keep the one the model was trained with",
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}}),
            "field `rope_parameters.sliding_attention`: differs from the other kind of layer: \
             one rope for all layers is supported",
        ),
        (
            json!({"partial_rotary_factor": 0.5}),
            "field `partial_rotary_factor`: is 0.5; only whole heads (1) are supported",
        ),
    ] {
        assert_eq!(message(qwen2(rope)), format!("config.json: {expected}"));
    }
}

#[test]
fn bad_fields_are_named_with_their_values() {
    for (json, expected) in [
        (
            json!({"model_type": "gpt2"}),
            "field `model_type`: unknown model family \"gpt2\"; hint: supported are qwen2, qwen3, mistral, llama",
        ),
        (
            json!({"hidden_size": 8}),
            "field `model_type`: is missing, so the model's family is unknown; \
             hint: supported are qwen2, qwen3, mistral, llama",
        ),
        (
            qwen2(json!({"hidden_size": "large"})),
            "field `hidden_size`: must be a whole number of at least 1, found \"large\"",
        ),
        (
            qwen2(json!({"num_hidden_layers": 0})),
            "field `num_hidden_layers`: must be a whole number of at least 1, found 0",
        ),
        (
            qwen2(json!({"num_key_value_heads": 5})),
            "field `num_key_value_heads`: 5 does not divide `num_attention_heads` 32",
        ),
        (qwen2(json!({"hidden_size": 100})), "field `hidden_size`: 100 is not a multiple of `num_attention_heads` 32"),
        (qwen2(json!({"head_dim": 7})), "field `head_dim`: makes heads 7 wide; rope needs an even width"),
        (
            qwen2(json!({"hidden_act": "gelu"})),
            "field `hidden_act`: \"gelu\" is not supported; hint: supported is silu",
        ),
        (qwen2(json!({"pretraining_tp": 2})), "field `pretraining_tp`: is 2; only 1 is supported"),
        (qwen2(json!({"rms_norm_eps": -1})), "field `rms_norm_eps`: must be a number above zero, found -1"),
        (
            qwen2(json!({"quantization_config": {"quant_method": "gptq", "bits": 4}})),
            "field `quantization_config`: the weights are stored quantized (\"gptq\"), which is not supported; \
             hint: use the unquantized checkpoint; interp can hold it in 4 bits itself (--weights nf4)",
        ),
        (
            bitsandbytes(json!({"load_in_8bit": true})),
            "field `quantization_config`: the weights are stored in 8 bits by bitsandbytes; only its 4-bit NF4 is \
             supported; hint: use the unquantized checkpoint; interp can hold it in 4 bits itself (--weights nf4)",
        ),
        (
            bitsandbytes(json!({"load_in_4bit": true})),
            "field `quantization_config`: the weights are stored in \"fp4\"; of bitsandbytes' types only \"nf4\" is \
             supported; hint: use the unquantized checkpoint; interp can hold it in 4 bits itself (--weights nf4)",
        ),
        (
            bitsandbytes(
                json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": "bfloat16"}),
            ),
            "field `quantization_config`: packs 4-bit weights as \"bfloat16\"; only \"uint8\" is supported; \
             hint: use the unquantized checkpoint; interp can hold it in 4 bits itself (--weights nf4)",
        ),
        (
            bitsandbytes(json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_rotation": 3})),
            "field `quantization_config.bnb_4bit_rotation`: is not understood, and its value 3 may change the \
             computation; hint: use a checkpoint without it, or delete the field if it is mere bookkeeping",
        ),
        (
            qwen2(json!({"dual_chunk_attention_config": {"chunk_size": 8}})),
            "field `dual_chunk_attention_config`: is not understood, and its value {\"chunk_size\":8} may change the \
             computation; hint: use a checkpoint without it, or delete the field if it is mere bookkeeping",
        ),
    ] {
        assert_eq!(message(json), format!("config.json: {expected}"));
    }
    let nothing =
        json!({"use_mrope": false, "pruned_heads": {}, "rope_scaling": null, "auto_map": null, "logit_cap": 0.0});
    assert!(read(qwen2(nothing)).is_ok());
}
