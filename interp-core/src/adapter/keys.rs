//! Names of tensors in an adapter's file, in all the spellings that peft has written, to module and part. No tensors.

use std::fmt;

/// One tensor of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// As in the model: `model.layers.3.self_attn.q_proj`.
    pub(super) module: String,
    pub(super) part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    A,
    B,
    /// Bias of B.
    LoraBias,
    /// DoRA's.
    Magnitude,
    /// A or B of an embedding.
    Embedding,
    /// The base's bias, trained.
    BaseBias,
    /// A weight saved whole.
    Saved,
}

impl Key {
    /// Reads a tensor's name; `None` for what is none of an adapter's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix("base_model.model.").unwrap_or(name);
        let parts: Vec<&str> = name.split('.').collect();
        let is_mark = |part: &&str| part.starts_with("lora_") || *part == "modules_to_save";
        let (module, part) = match parts.iter().position(is_mark) {
            Some(at) => {
                // After the mark, and perhaps the adapter's own name.
                let part = match (parts[at], &parts[at + 1..]) {
                    ("lora_A", ["weight"] | [_, "weight"]) => Part::A,
                    ("lora_B", ["weight"] | [_, "weight"]) => Part::B,
                    ("lora_B", ["bias"] | [_, "bias"]) => Part::LoraBias,
                    ("lora_magnitude_vector", [] | [_] | [_, "weight"]) => Part::Magnitude,
                    ("lora_embedding_A" | "lora_embedding_B", [] | [_]) => Part::Embedding,
                    ("modules_to_save", ["weight"] | [_, "weight"]) => Part::Saved,
                    _ => return None,
                };
                (parts[..at].join("."), part)
            }
            None => match name.rsplit_once('.')? {
                (module, "bias") => (module.strip_suffix(".base_layer").unwrap_or(module).to_owned(), Part::BaseBias),
                (module, "weight") => (module.to_owned(), Part::Saved),
                _ => return None,
            },
        };
        Some(Self { module, part })
    }

    /// The layer, for a module of a block.
    pub(super) fn layer(&self) -> Option<usize> {
        self.module.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::A => "lora_A.weight",
            Part::B => "lora_B.weight",
            Part::LoraBias => "lora_B.bias",
            Part::Magnitude => "lora_magnitude_vector",
            Part::Embedding => "lora_embedding",
            Part::BaseBias => "bias",
            Part::Saved => "weight",
        };
        write!(f, "{}.{part}", self.module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let module = "model.layers.0.mlp.up_proj";
        for (end, part) in [
            ("lora_A.weight", Part::A),
            ("lora_A.default.weight", Part::A),
            ("lora_B.weight", Part::B),
            ("lora_B.sft.weight", Part::B),
            ("lora_B.bias", Part::LoraBias),
            ("lora_B.default.bias", Part::LoraBias),
            ("lora_magnitude_vector", Part::Magnitude),
            ("lora_magnitude_vector.default", Part::Magnitude),
            ("lora_magnitude_vector.weight", Part::Magnitude),
            ("lora_magnitude_vector.default.weight", Part::Magnitude),
            ("lora_embedding_A", Part::Embedding),
            ("lora_embedding_B.default", Part::Embedding),
            ("bias", Part::BaseBias),
            ("base_layer.bias", Part::BaseBias),
            ("weight", Part::Saved),
            ("modules_to_save.weight", Part::Saved),
            ("modules_to_save.default.weight", Part::Saved),
        ] {
            for prefix in ["base_model.model.", ""] {
                let key = Key { module: module.into(), part };
                assert_eq!(Key::parse(&format!("{prefix}{module}.{end}")), Some(key), "{prefix}…{end}");
            }
        }
        for name in ["lora_A.bias", "lora_A.a.b.weight", "lora_C.weight", "lora_A", "running_mean", ""] {
            assert_eq!(Key::parse(&format!("{module}.{name}")), None, "{name}");
        }
    }

    #[test]
    fn layers_are_found() {
        let layer = |name: &str| Key::parse(name).unwrap().layer();
        assert_eq!(layer("model.layers.12.mlp.up_proj.lora_A.weight"), Some(12));
        assert_eq!(layer("lm_head.weight"), None);
    }
}
