//! Names and shapes of the tensors that a config implies, for looking at a checkpoint without loading it. A test holds it to
//! what loading asks for.

use crate::config::ModelConfig;

/// Every tensor that [`Decoder::load`](super::Decoder::load) reads, with its shape.
pub fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<i64>)> {
    let [d_model, d_head] = [config.d_model, config.d_head].map(|n| n as i64);
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
        for map in config.linear_maps() {
            let [d_out, d_in] = [map.d_out, map.d_in].map(|n| n as i64);
            push(&format!("{}.weight", map.name), &[d_out, d_in]);
            if map.bias {
                push(&format!("{}.bias", map.name), &[d_out]);
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
