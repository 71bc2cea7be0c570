//! Where an adapter changes a model: norms of its low-rank changes by layer, module and head, and how alike those of two
//! adapters are. From A and B alone, in f64; no change is ever multiplied out, and no base weight is read.
//!
//! With ΔW = s·BA, ‖ΔW‖_F² = s² tr((BᵀB)(AAᵀ)), and ⟨ΔW₁, ΔW₂⟩ = s₁s₂ tr((B₁ᵀB₂)(A₂A₁ᵀ)): traces of products of r x r
//! matrices. A block of rows of ΔW uses those rows of B, a block of columns those columns of A. Query head h is the rows
//! [h·d_head, (h+1)·d_head) of `q_proj`'s change and the same columns of `o_proj`'s; a KV head is rows of `k_proj`'s and
//! `v_proj`'s, which act on all query heads of its group. A magnitude (DoRA) rescales whole rows of W + ΔW and is left out.

mod low_rank;

use std::collections::BTreeMap;

pub use self::low_rank::{LowRank, Overlap, Side};
use crate::config::ModelConfig;
use crate::site::HeadAxis;

/// A linear map of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Module {
    /// `self_attn.q_proj`
    Q,
    /// `self_attn.k_proj`
    K,
    /// `self_attn.v_proj`
    V,
    /// `self_attn.o_proj`
    O,
    /// `mlp.gate_proj`
    Gate,
    /// `mlp.up_proj`
    Up,
    /// `mlp.down_proj`
    Down,
}

impl Module {
    /// Every module, in the order in which a pass reaches them.
    pub const ALL: [Module; 7] = [Module::Q, Module::K, Module::V, Module::O, Module::Gate, Module::Up, Module::Down];

    /// Hugging Face's name: `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Module::Q => "q_proj",
            Module::K => "k_proj",
            Module::V => "v_proj",
            Module::O => "o_proj",
            Module::Gate => "gate_proj",
            Module::Up => "up_proj",
            Module::Down => "down_proj",
        }
    }

    /// Layer and module of a full name such as `model.layers.3.self_attn.q_proj`; `None` for anything else.
    pub fn parse(name: &str) -> Option<(usize, Module)> {
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let module = Module::ALL.into_iter().find(|module| {
            let part = if *module < Module::Gate { "self_attn" } else { "mlp" };
            rest.strip_prefix(part).and_then(|rest| rest.strip_prefix('.')) == Some(module.name())
        });
        Some((layer.parse().ok()?, module?))
    }

    /// Which heads its change is made of, and which side of it they are; `None` in the MLP.
    pub fn heads(self) -> Option<(HeadAxis, Side)> {
        match self {
            Module::Q => Some((HeadAxis::Query, Side::Rows)),
            Module::K | Module::V => Some((HeadAxis::Kv, Side::Rows)),
            Module::O => Some((HeadAxis::Query, Side::Columns)),
            Module::Gate | Module::Up | Module::Down => None,
        }
    }

    /// Number of heads that its change is made of; `None` in the MLP.
    pub fn n_heads(self, config: &ModelConfig) -> Option<usize> {
        self.heads().map(|(axis, _)| if axis == HeadAxis::Kv { config.n_kv_heads } else { config.n_heads })
    }
}

/// Low-rank changes by layer and module.
pub type Changes = BTreeMap<(usize, Module), LowRank>;

/// The norm of one module's change.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// Rows of A.
    pub rank: usize,
    /// ‖ΔW‖_F, in the unit of the weights.
    pub norm: f64,
    /// The same of every head's rows or columns; `None` in the MLP.
    pub heads: Option<Vec<f64>>,
}

/// How alike two adapters' changes of one module are.
#[derive(Debug, Clone, PartialEq)]
pub struct Likeness {
    /// ⟨ΔW₁, ΔW₂⟩ / (‖ΔW₁‖ ‖ΔW₂‖); NaN where one of them is 0.
    pub cosine: f64,
    /// The same of every head's rows or columns; `None` in the MLP.
    pub heads: Option<Vec<f64>>,
    /// Of the column spaces of B: what the changes write.
    pub out: Overlap,
    /// Of the row spaces of A: what the changes read.
    pub input: Overlap,
}

/// The size of every change.
pub fn sizes(changes: &Changes, config: &ModelConfig) -> BTreeMap<(usize, Module), Size> {
    let size = |(&(layer, module), change): (&(usize, Module), &LowRank)| {
        let heads = blocks(change, module, config).map(|blocks| blocks.iter().map(LowRank::norm).collect());
        ((layer, module), Size { rank: change.rank(), norm: change.norm(), heads })
    };
    changes.iter().map(size).collect()
}

/// How alike the changes are of every module that both adapters change.
pub fn likenesses(first: &Changes, second: &Changes, config: &ModelConfig) -> BTreeMap<(usize, Module), Likeness> {
    let likeness = |(&(layer, module), one): (&(usize, Module), &LowRank)| {
        let other = second.get(&(layer, module))?;
        let heads = blocks(one, module, config).zip(blocks(other, module, config));
        let heads = heads.map(|(one, other)| one.iter().zip(&other).map(|(one, other)| one.cosine(other)).collect());
        let (out, input) = (one.overlap(other, Side::Rows), one.overlap(other, Side::Columns));
        Some(((layer, module), Likeness { cosine: one.cosine(other), heads, out, input }))
    };
    first.iter().filter_map(likeness).collect()
}

/// A change head by head.
fn blocks(change: &LowRank, module: Module, config: &ModelConfig) -> Option<Vec<LowRank>> {
    let (_, side) = module.heads()?;
    Some(change.blocks(side, module.n_heads(config)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::{Device, Kind, Tensor};

    use super::*;

    /// Two layers, four query heads, two KV heads, d_head 4, d_model 10.
    fn config() -> ModelConfig {
        let json = json!({
            "model_type": "qwen2", "hidden_size": 10, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 4,
            "num_key_value_heads": 2, "intermediate_size": 14, "vocab_size": 32, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "hidden_act": "silu", "rope_theta": 10000.0,
        });
        ModelConfig::from_json("config.json".as_ref(), &json).unwrap()
    }

    fn change(d_out: i64, d_in: i64, rank: i64, scale: f64) -> LowRank {
        let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Double, Device::Cpu));
        LowRank::new(&random([rank, d_in]), &random([d_out, rank]), scale)
    }

    #[test]
    fn names_of_modules() {
        assert_eq!(Module::parse("model.layers.12.self_attn.o_proj"), Some((12, Module::O)));
        assert_eq!(Module::parse("model.layers.0.mlp.down_proj"), Some((0, Module::Down)));
        for name in ["lm_head", "model.layers.1.mlp.q_proj", "model.layers.x.mlp.up_proj", "model.layers.1.self_attn"] {
            assert_eq!(Module::parse(name), None, "{name}");
        }
    }

    #[test]
    fn heads_are_rows_of_q_k_v_and_columns_of_o() {
        tch::manual_seed(5);
        let config = config();
        let mut changes = Changes::new();
        changes.insert((0, Module::Q), change(16, 10, 3, 2.0));
        changes.insert((0, Module::V), change(8, 10, 3, 2.0));
        changes.insert((1, Module::O), change(10, 16, 4, 0.5));
        changes.insert((1, Module::Up), change(14, 10, 2, 1.0));
        let sizes = sizes(&changes, &config);
        let close = |found: f64, formed: &Tensor| {
            let norm = formed.norm().double_value(&[]);
            assert!((found - norm).abs() <= 1e-12 * norm, "{found} {norm}");
        };
        for (at, side, n) in [((0, Module::Q), 0, 4), ((0, Module::V), 0, 2), ((1, Module::O), 1, 4)] {
            let (product, size) = (changes[&at].formed(), &sizes[&at]);
            close(size.norm, &product);
            let heads = size.heads.as_ref().unwrap();
            assert_eq!(heads.len(), n);
            heads.iter().enumerate().for_each(|(head, &norm)| close(norm, &product.narrow(side, head as i64 * 4, 4)));
        }
        let up = &sizes[&(1, Module::Up)];
        assert_eq!((up.rank, up.heads.is_none()), (2, true));

        // Of two adapters, only modules that both change are compared.
        let mut others = Changes::new();
        others.insert((1, Module::O), change(10, 16, 2, -3.0));
        others.insert((1, Module::Q), change(16, 10, 2, 1.0));
        let found = likenesses(&changes, &others, &config);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&(1, Module::O)]);
        let (one, other) = (changes[&(1, Module::O)].formed(), others[&(1, Module::O)].formed());
        let cosine = |one: &Tensor, other: &Tensor| {
            let inner = (one * other).sum(Kind::Double);
            (inner / (one.norm() * other.norm())).double_value(&[])
        };
        let likeness = &found[&(1, Module::O)];
        assert!((likeness.cosine - cosine(&one, &other)).abs() <= 1e-12);
        for (head, found) in likeness.heads.as_ref().unwrap().iter().enumerate() {
            let block = |product: &Tensor| product.narrow(1, head as i64 * 4, 4);
            assert!((found - cosine(&block(&one), &block(&other))).abs() <= 1e-12);
        }
        let own = likenesses(&changes, &changes, &config);
        for likeness in own.values() {
            let heads = likeness.heads.iter().flatten();
            assert!(heads.chain([&likeness.cosine]).all(|cosine| (cosine - 1.0).abs() <= 1e-12), "{likeness:?}");
            assert!((likeness.out.mean - 1.0).abs() <= 1e-12 && (likeness.input.mean - 1.0).abs() <= 1e-12);
        }
    }
}
