//! The tensors of an adapter's file: exactly those that the configuration implies, of their shapes, finite, as f32 copies.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Dtype;
use tch::{Kind, TchError, Tensor};

use super::Delta;
use super::config::LoraConfig;
use super::keys::{Key, Part};
use super::targets::{EMBEDDING, Expected, LM_HEAD};
use crate::checkpoint::finite::first_bad;
use crate::checkpoint::shard::{Shard, Stored};
use crate::config::ModelConfig;
use crate::error::{Error, Result};

/// Names that a message lists before it only counts.
const NAMED: usize = 3;

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) deltas: BTreeMap<String, Delta>,
    pub(super) biases: BTreeMap<String, Tensor>,
    pub(super) saved: BTreeMap<String, Tensor>,
}

/// Reads and checks `path`.
pub(super) fn read(path: &Path, config: &LoraConfig, model: &ModelConfig) -> Result<Loaded> {
    let expected = config.expected(model)?;
    let (shard, stored) = Shard::open(path)?;
    let mut file = File { path, config, model, shard, tensors: BTreeMap::new() };
    for (name, stored) in stored {
        file.add(name, stored)?;
    }
    file.check_layers()?;
    file.check_pairs()?;
    file.check_sizes()?;
    file.check_set(&expected)?;
    file.load(&expected)
}

/// The file, its header read.
struct File<'a> {
    path: &'a Path,
    config: &'a LoraConfig,
    model: &'a ModelConfig,
    shard: Shard,
    /// Every tensor, with the name that it has in the file.
    tensors: BTreeMap<Key, (String, Stored)>,
}

impl File<'_> {
    fn add(&mut self, name: String, stored: Stored) -> Result<()> {
        let Some(key) = Key::parse(&name) else {
            let hint = "an adapter file holds lora_A, lora_B, biases, magnitudes and whole weights";
            return Err(self.refuse(&name, "a tensor of a LoRA adapter", "an unknown name", Some(hint)));
        };
        if key.part == Part::Embedding {
            let hint = "train embed_tokens or lm_head whole (`modules_to_save`), or merge with peft's merge_and_unload";
            return Err(self.refuse(&name, "LoRA on linear maps of the blocks", "LoRA on an embedding", Some(hint)));
        }
        if let Some((other, _)) = self.tensors.get(&key) {
            let found = format!("`{other}` too, which is the same part of the same module");
            return Err(self.refuse(
                &name,
                "one adapter per file",
                &found,
                Some("save each adapter to a folder of its own"),
            ));
        }
        self.tensors.insert(key, (name, stored));
        Ok(())
    }

    fn check_layers(&self) -> Result<()> {
        let n_layers = self.model.n_layers;
        match self.tensors.iter().find(|(key, _)| key.layer().is_some_and(|layer| layer >= n_layers)) {
            None => Ok(()),
            Some((key, (name, _))) => {
                let found = format!("layer {}", key.layer().unwrap_or_default());
                let expected = format!("a layer below {n_layers}");
                Err(self.refuse(name, &expected, &found, Some(&self.other_model())))
            }
        }
    }

    /// Errs on an A without its B and the reverse.
    fn check_pairs(&self) -> Result<()> {
        for (key, (name, _)) in &self.tensors {
            let other = match key.part {
                Part::A => Part::B,
                Part::B => Part::A,
                _ => continue,
            };
            let other = Key { module: key.module.clone(), part: other };
            if !self.tensors.contains_key(&other) {
                let hint = "copy or download the adapter again; if it stays, it was saved incompletely";
                return Err(self.refuse(name, &format!("`{other}` beside it"), "none", Some(hint)));
            }
        }
        Ok(())
    }

    /// Errs where A or B does not fit the model's linear map, whatever the rank.
    fn check_sizes(&self) -> Result<()> {
        let maps = self.model.linear_maps();
        for (key, (name, stored)) in &self.tensors {
            let Some(map) = maps.iter().find(|map| key.module.ends_with(map.name)) else { continue };
            let (axis, size, expected) = match key.part {
                Part::A => (1, map.d_in, format!("shape [r, {}]", map.d_in)),
                Part::B => (0, map.d_out, format!("shape [{}, r]", map.d_out)),
                _ => continue,
            };
            let found = format!("shape {:?}", stored.shape);
            if stored.shape.len() != 2 || stored.shape.contains(&0) {
                let hint =
                    "it was saved from a sharded model (DeepSpeed ZeRO-3, FSDP) without gathering: save it again";
                return Err(self.refuse(name, &expected, &found, Some(hint)));
            }
            if stored.shape[axis] != size as i64 {
                return Err(self.refuse(name, &expected, &found, Some(&self.other_model())));
            }
        }
        Ok(())
    }

    /// Errs unless the file holds what the configuration implies and nothing else, naming the field that says so.
    fn check_set(&self, expected: &Expected) -> Result<()> {
        let implied = self.implied(expected);
        let missing: Vec<&Key> = implied.keys().filter(|key| !self.tensors.contains_key(*key)).collect();
        let extra: Vec<&Key> = self.tensors.keys().filter(|key| !implied.contains_key(*key)).collect();
        for part in [Part::A, Part::B, Part::LoraBias, Part::Magnitude, Part::BaseBias, Part::Saved] {
            let of =
                |keys: &[&Key]| keys.iter().filter(|key| key.part == part).map(ToString::to_string).collect::<Vec<_>>();
            let (missing, extra) = (of(&missing), of(&extra));
            let (names, verb) = match (missing.is_empty(), extra.is_empty()) {
                (true, true) => continue,
                (false, _) => (missing, "implies"),
                (true, false) => (extra, "does not imply"),
            };
            let place = if verb == "implies" { "that the file lacks" } else { "that the file holds" };
            let (field, hint) = match part {
                Part::A | Part::B | Part::Embedding => (
                    "target_modules",
                    "this field, exclude_modules and layers_to_transform must say what was trained: take the \
                     adapter_config.json that was saved with the tensors",
                ),
                Part::LoraBias => ("lora_bias", "take the adapter_config.json that was saved with the tensors"),
                Part::Magnitude => ("use_dora", "take the adapter_config.json that was saved with the tensors"),
                Part::BaseBias => {
                    ("bias", "some versions of peft did not save them: save the adapter again with a newer one")
                }
                Part::Saved => (
                    "modules_to_save",
                    "list exactly the modules that are in the file whole, or save the adapter again \
                     (save_embedding_layers=False)",
                ),
            };
            let count = names.len();
            let mut list = names[..count.min(NAMED)].join(", ");
            if count > NAMED {
                list += &format!(" and {} more", count - NAMED);
            }
            let tensors = if count == 1 { "a tensor" } else { "tensors" };
            let problem = format!("{verb} {tensors} {place}: {list}");
            return Err(self.config.refuse(field, &problem, hint));
        }
        Ok(())
    }

    /// Every tensor that there must be, with its shape.
    fn implied(&self, expected: &Expected) -> BTreeMap<Key, Vec<i64>> {
        let mut all = BTreeMap::new();
        let mut add = |module: &String, part, shape| {
            all.insert(Key { module: module.clone(), part }, shape);
        };
        for (module, lora) in &expected.loras {
            let [rank, d_out, d_in] = [lora.rank, lora.d_out, lora.d_in].map(|n| n as i64);
            add(module, Part::A, vec![rank, d_in]);
            add(module, Part::B, vec![d_out, rank]);
            if self.config.lora_bias {
                add(module, Part::LoraBias, vec![d_out]);
            }
            if self.config.dora {
                add(module, Part::Magnitude, vec![d_out]);
            }
        }
        for (module, &length) in &expected.biases {
            add(module, Part::BaseBias, vec![length]);
        }
        for (module, shape) in &expected.saved {
            add(module, Part::Saved, shape.clone());
        }
        all
    }

    fn load(&self, expected: &Expected) -> Result<Loaded> {
        let mut tensors = BTreeMap::new();
        for (key, shape) in self.implied(expected) {
            let tensor = self.tensor(&key, &shape)?;
            tensors.insert(key, tensor);
        }
        let mut take = |module: &str, part| tensors.remove(&Key { module: module.to_owned(), part });
        let mut deltas = BTreeMap::new();
        for (module, lora) in &expected.loras {
            // Both are there: `tensor` erred otherwise.
            let (Some(a), Some(b)) = (take(module, Part::A), take(module, Part::B)) else { continue };
            let (bias, magnitude) = (take(module, Part::LoraBias), take(module, Part::Magnitude));
            deltas.insert(module.clone(), Delta { a, b, scale: lora.scale, bias, magnitude });
        }
        let biases = expected.biases.keys().filter_map(|module| Some((module.clone(), take(module, Part::BaseBias)?)));
        let biases = biases.collect();
        let saved = expected.saved.keys();
        let saved = saved.filter_map(|module| Some((format!("{module}.weight"), take(module, Part::Saved)?))).collect();
        let loaded = Loaded { deltas, biases, saved };
        self.check_tied(&loaded.saved)?;
        Ok(loaded)
    }

    /// Where peft was told to keep the two embeddings tied, errs unless they are equal.
    fn check_tied(&self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let [head, embedding] = [LM_HEAD, EMBEDDING].map(|name| saved.get(&format!("{name}.weight")));
        match (head, embedding) {
            (Some(head), Some(embedding)) if self.config.is_tied(self.model) && head != embedding => {
                Err(self.config.refuse(
                    "ensure_weight_tying",
                    "says that lm_head and embed_tokens are one, but the file holds two that differ",
                    "set it to false to use both, or save the adapter again",
                ))
            }
            _ => Ok(()),
        }
    }

    /// The tensor `key` as f32, of exactly this shape.
    fn tensor(&self, key: &Key, shape: &[i64]) -> Result<Tensor> {
        let Some((name, stored)) = self.tensors.get(key) else {
            return Err(self.refuse(&key.to_string(), &format!("shape {shape:?}"), "no tensor of that name", None));
        };
        if stored.shape != shape {
            let (expected, hint) = match key.part {
                Part::A | Part::B => {
                    let rank = shape[if key.part == Part::A { 0 } else { 1 }];
                    let hint = "`r` and `rank_pattern` must say the ranks that the tensors have: take the \
                                adapter_config.json that was saved with them";
                    (format!("shape {shape:?}, rank {rank} by adapter_config.json"), hint.to_owned())
                }
                Part::Saved => (
                    format!("shape {shape:?}"),
                    format!(
                        "{}; or its vocabulary was extended: merge it in peft and save the model",
                        self.other_model()
                    ),
                ),
                _ => (format!("shape {shape:?}"), self.other_model()),
            };
            return Err(self.refuse(name, &expected, &format!("shape {:?}", stored.shape), Some(&hint)));
        }
        let kind = match stored.dtype {
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F32 => Kind::Float,
            other => {
                let hint = "save the adapter in f32 or bf16";
                return Err(self.refuse(name, "dtype F32, BF16 or F16", &format!("dtype {other}"), Some(hint)));
            }
        };
        let bytes = self.shard.bytes(stored.range.clone());
        if let Some((index, what)) = first_bad(bytes, stored.dtype) {
            let width = shape.last().copied().unwrap_or(1);
            let at =
                if shape.len() == 2 { vec![index as i64 / width, index as i64 % width] } else { vec![index as i64] };
            let hint = "copy or download the file again; if it stays, training diverged";
            return Err(self.refuse(name, "finite numbers", &format!("{what} at {at:?}"), Some(hint)));
        }
        let fail = |error: TchError| Error::Torch {
            context: format!("loading tensor `{name}`"),
            message: error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        Tensor::f_from_data_size(bytes, shape, kind).and_then(|tensor| tensor.f_to_kind(Kind::Float)).map_err(fail)
    }

    /// The probable cause of sizes that do not fit.
    fn other_model(&self) -> String {
        match self.config.base_model() {
            Some(name) => format!("the adapter was trained on another model than this: `{name}`, by its config"),
            None => "the adapter was trained on another model than this".into(),
        }
    }

    fn refuse(&self, tensor: &str, expected: &str, found: &str, hint: Option<&str>) -> Error {
        Error::Tensor {
            path: self.path.into(),
            tensor: tensor.into(),
            expected: expected.into(),
            found: found.into(),
            hint: hint.map(str::to_owned),
        }
    }
}
