//! Which parts of an adapter count for which rows of a pass. A part is a query head (its rows of q, its columns of o), a KV head
//! (its rows of k and v) or a layer's MLP: the units into which a low-rank change falls apart.

use tch::{Kind, Tensor};

use super::low_rank::{Mask, Side};
use super::norm::wide_kind;
use crate::config::ModelConfig;

/// A kind of part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// A query head: its rows of `q_proj`, its columns of `o_proj`.
    Head,
    /// A KV head: its rows of `k_proj` and `v_proj`.
    KvHead,
    /// The MLP of a layer.
    Mlp,
}

/// One part of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// Layer, 0-based.
    pub layer: usize,
    /// Its kind.
    pub unit: Unit,
    /// Head or KV head, 0-based; 0 for the MLP.
    pub index: usize,
}

impl Part {
    /// `H17`, `KV2` or `MLP`.
    pub fn name(&self) -> String {
        match self.unit {
            Unit::Head => format!("H{}", self.index),
            Unit::KvHead => format!("KV{}", self.index),
            Unit::Mlp => "MLP".into(),
        }
    }

    /// All parts of a model, layer by layer.
    pub fn all(config: &ModelConfig) -> impl Iterator<Item = Self> {
        let (n_heads, n_kv_heads) = (config.n_heads, config.n_kv_heads);
        (0..config.n_layers).flat_map(move |layer| {
            let of = move |unit, n| (0..n).map(move |index| Self { layer, unit, index });
            of(Unit::Head, n_heads).chain(of(Unit::KvHead, n_kv_heads)).chain(of(Unit::Mlp, 1))
        })
    }
}

/// Factors of an adapter's parts, per row of a pass.
#[derive(Debug)]
pub struct Masks {
    /// `[layer, row, head]`, `[layer, row, kv_head]` and `[layer, row, 1]`.
    factors: [Tensor; 3],
    /// Only these modules count, such as `q_proj`; all if `None`.
    modules: Option<Vec<String>>,
}

impl Masks {
    /// Row `i` of a pass uses the parts `rows[i]` and no others. A single row stands for all.
    pub fn only(config: &ModelConfig, rows: &[&[Part]], kind: Kind) -> Self {
        Self::new(config, rows, [0.0, 1.0], kind)
    }

    /// Row `i` of a pass uses all parts but `rows[i]`. A single row stands for all.
    pub fn all_but(config: &ModelConfig, rows: &[&[Part]], kind: Kind) -> Self {
        Self::new(config, rows, [1.0, 0.0], kind)
    }

    fn new(config: &ModelConfig, rows: &[&[Part]], [others, named]: [f32; 2], kind: Kind) -> Self {
        let widths = [config.n_heads, config.n_kv_heads, 1];
        let mut factors = widths.map(|width| vec![others; config.n_layers * rows.len() * width]);
        for (row, parts) in rows.iter().enumerate() {
            for part in *parts {
                let unit = part.unit as usize;
                factors[unit][(part.layer * rows.len() + row) * widths[unit] + part.index] = named;
            }
        }
        let size = |unit: usize| [config.n_layers as i64, rows.len() as i64, widths[unit] as i64];
        let put = |unit: usize| Tensor::from_slice(&factors[unit]).view(size(unit)).to_kind(wide_kind(kind));
        Self { factors: [put(0), put(1), put(2)], modules: None }
    }

    /// Of these modules only, such as `q_proj`.
    pub fn of_modules(self, modules: Vec<String>) -> Self {
        Self { modules: Some(modules), ..self }
    }

    /// The factors of one linear map.
    pub(crate) fn of(&self, layer: usize, unit: Unit, module: &str) -> Mask {
        let factors = self.factors[unit as usize].get(layer as i64);
        let counts = self.modules.as_ref().is_none_or(|modules| modules.iter().any(|name| name == module));
        let factors = if counts { factors } else { factors * 0.0 };
        Mask { factors, side: if module == "o_proj" { Side::In } else { Side::Out } }
    }
}
