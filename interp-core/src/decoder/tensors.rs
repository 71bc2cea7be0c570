//! Names and shapes of the tensors that a config implies, for looking at a checkpoint without loading it. A test holds it to
//! what loading asks for.

use crate::config::ModelConfig;

/// Every tensor that [`Decoder::load`](super::Decoder::load) reads, with its shape.
pub fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<i64>)> {
    let [d_model, d_mlp, d_head] = [config.d_model, config.d_mlp, config.d_head].map(|n| n as i64);
    let (q_width, kv_width) = (config.n_heads as i64 * d_head, config.n_kv_heads as i64 * d_head);
    let embedding = vec![config.d_vocab as i64, d_model];
    let mut all = vec![("model.embed_tokens.weight".to_owned(), embedding.clone())];
    if !config.tie_word_embeddings {
        all.push(("lm_head.weight".to_owned(), embedding));
    }
    all.push(("model.norm.weight".to_owned(), vec![d_model]));
    for layer in 0..config.n_layers {
        let mut push = |name: &str, shape: &[i64]| all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        push("input_layernorm.weight", &[d_model]);
        push("post_attention_layernorm.weight", &[d_model]);
        let linear = [
            ("self_attn.q_proj", q_width, d_model, config.qkv_bias),
            ("self_attn.k_proj", kv_width, d_model, config.qkv_bias),
            ("self_attn.v_proj", kv_width, d_model, config.qkv_bias),
            ("self_attn.o_proj", d_model, q_width, config.o_bias),
            ("mlp.gate_proj", d_mlp, d_model, config.mlp_bias),
            ("mlp.up_proj", d_mlp, d_model, config.mlp_bias),
            ("mlp.down_proj", d_model, d_mlp, config.mlp_bias),
        ];
        for (name, d_out, d_in, bias) in linear {
            push(&format!("{name}.weight"), &[d_out, d_in]);
            if bias {
                push(&format!("{name}.bias"), &[d_out]);
            }
        }
        if config.qk_norm {
            push("self_attn.q_norm.weight", &[d_head]);
            push("self_attn.k_norm.weight", &[d_head]);
        }
    }
    all.sort();
    all
}
