//! A LoRA configuration on a model's geometry: the modules that it changes and the tensors that there must then be. Does as
//! peft does, name by name; reads no tensors.

use std::collections::BTreeMap;

use super::config::{BaseBias, LoraConfig, Modules};
use super::pattern::Pattern;
use crate::config::ModelConfig;
use crate::error::Result;

pub(super) const LM_HEAD: &str = "lm_head";
pub(super) const EMBEDDING: &str = "model.embed_tokens";

/// What an adapter's file must hold, no more and no less.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Modules with A and B.
    pub(super) loras: BTreeMap<String, Lora>,
    /// Modules whose base bias was trained, with its length.
    pub(super) biases: BTreeMap<String, i64>,
    /// Modules saved as a whole, with the shape of the weight.
    pub(super) saved: BTreeMap<String, Vec<i64>>,
}

/// One changed linear map.
#[derive(Debug)]
pub(super) struct Lora {
    pub(super) rank: usize,
    pub(super) scale: f64,
    pub(super) d_out: usize,
    pub(super) d_in: usize,
}

impl LoraConfig {
    /// Numbers in A and B of all modules of a model.
    pub fn n_params(&self, model: &ModelConfig) -> Result<u64> {
        let expected = self.expected(model)?;
        Ok(expected.loras.values().map(|lora| (lora.rank * (lora.d_in + lora.d_out)) as u64).sum())
    }

    /// What the configuration means for a model. Errs where it reaches modules that LoRA cannot change here, or none.
    pub(super) fn expected(&self, model: &ModelConfig) -> Result<Expected> {
        for name in [LM_HEAD, EMBEDDING] {
            if self.is_target(name)? {
                let short = name.rsplit('.').next().unwrap_or(name);
                return Err(self.refuse(
                    "target_modules",
                    &format!("reaches `{name}`: LoRA on the embedding or the unembedding is not supported"),
                    format!("train it whole (`modules_to_save`: [\"{short}\"]), or merge with peft's merge_and_unload"),
                ));
            }
        }
        let mut expected = Expected { saved: self.saved(model)?, ..Expected::default() };
        for layer in 0..model.n_layers {
            for map in model.linear_maps() {
                let name = format!("model.layers.{layer}.{}", map.name);
                let target = self.is_target(&name)?;
                let trained = match self.bias {
                    BaseBias::None => false,
                    BaseBias::LoraOnly => target,
                    BaseBias::All => true,
                };
                if trained && map.bias {
                    expected.biases.insert(name.clone(), map.d_out as i64);
                }
                if target {
                    let rank = first(&self.rank_pattern, &name)?.unwrap_or(self.rank);
                    let alpha = first(&self.alpha_pattern, &name)?.unwrap_or(self.alpha);
                    let divisor = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
                    let lora = Lora { rank, scale: alpha / divisor, d_out: map.d_out, d_in: map.d_in };
                    expected.loras.insert(name, lora);
                }
            }
        }
        if expected.loras.is_empty() {
            let names = model.linear_maps().map(|map| map.name).join(", ");
            let hint = format!("the model's linear maps are {names}, in {} layers", model.n_layers);
            return Err(self.refuse("target_modules", "reaches no module of this model", hint));
        }
        Ok(expected)
    }

    /// Whether a module is changed by LoRA: peft's `check_target_module_exists`.
    fn is_target(&self, name: &str) -> Result<bool> {
        if let Some(exclude) = &self.exclude
            && exclude.hold(name)?
        {
            return Ok(false);
        }
        for (_, pattern) in &self.modules_to_save {
            if pattern.fits(name)? {
                return Ok(false);
            }
        }
        if !self.targets.hold(name)? {
            return Ok(false);
        }
        let Some(layers) = &self.layers else { return Ok(true) };
        for pattern in &layers.patterns {
            if let Some(layer) = pattern.layer(name)? {
                return Ok(layers.indices.contains(&layer));
            }
        }
        Ok(false)
    }

    /// Modules that are in the file whole, with their weights' shapes. peft takes every module whose name ends so, with or
    /// without a dot before.
    fn saved(&self, model: &ModelConfig) -> Result<BTreeMap<String, Vec<i64>>> {
        let embedding = vec![model.d_vocab as i64, model.d_model as i64];
        let mut known = BTreeMap::from([
            (LM_HEAD.to_owned(), embedding.clone()),
            (EMBEDDING.to_owned(), embedding),
            ("model.norm".to_owned(), vec![model.d_model as i64]),
        ]);
        let mut other = vec!["model".to_owned(), "model.layers".into(), "model.rotary_emb".into()];
        for layer in 0..model.n_layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}");
            for name in ["input_layernorm", "post_attention_layernorm"] {
                known.insert(at(name), vec![model.d_model as i64]);
            }
            if model.qk_norm {
                for name in ["self_attn.q_norm", "self_attn.k_norm"] {
                    known.insert(at(name), vec![model.d_head as i64]);
                }
            }
            other.push(format!("model.layers.{layer}"));
            other.extend(["self_attn", "mlp", "mlp.act_fn"].map(at));
            other.extend(model.linear_maps().map(|map| at(map.name)));
        }
        let mut saved = BTreeMap::new();
        for (entry, _) in &self.modules_to_save {
            if let Some(name) = other.iter().find(|name| name.ends_with(entry)) {
                let problem = format!("reaches `{name}`: only norms, embed_tokens and lm_head can be replaced whole");
                let hint = "merge with peft's merge_and_unload, save that model, and give its folder instead";
                return Err(self.refuse("modules_to_save", &problem, hint));
            }
            let before = saved.len();
            let found = known.iter().filter(|(name, _)| name.ends_with(entry));
            saved.extend(found.map(|(name, shape)| (name.clone(), shape.clone())));
            if saved.len() == before && !saved.keys().any(|name| name.ends_with(entry)) {
                let hint = "the adapter belongs to another kind of model";
                return Err(self.refuse(
                    "modules_to_save",
                    &format!("names `{entry}`, which this model has not"),
                    hint,
                ));
            }
        }
        // Where the base ties the two and peft was told to keep them tied, it saves both.
        if self.is_tied(model) && [LM_HEAD, EMBEDDING].iter().any(|&name| saved.contains_key(name)) {
            for name in [LM_HEAD, EMBEDDING] {
                saved.insert(name.into(), known[name].clone());
            }
        }
        Ok(saved)
    }

    /// Whether a saved embedding is the unembedding too.
    pub(super) fn is_tied(&self, model: &ModelConfig) -> bool {
        self.ensure_weight_tying && model.tie_word_embeddings
    }
}

impl Modules {
    fn hold(&self, name: &str) -> Result<bool> {
        match self {
            Self::Regex(pattern) => pattern.fits(name),
            Self::Names(names) => Ok(names.iter().any(|end| ends_with_part(name, end))),
            Self::AllLinear => Ok(name != LM_HEAD && name != EMBEDDING),
        }
    }
}

/// Whether `name` is `end`, or ends with it from a dot on.
fn ends_with_part(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn first<T: Copy>(patterns: &[(Pattern, T)], name: &str) -> Result<Option<T>> {
    for (pattern, number) in patterns {
        if pattern.fits(name)? {
            return Ok(Some(*number));
        }
    }
    Ok(None)
}
