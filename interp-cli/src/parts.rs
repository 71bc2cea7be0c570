//! Parts of an adapter as typed: `L19.H17,L19.KV2,L20,L21.mlp,q_proj`.

use interp_core::config::ModelConfig;
use interp_core::decoder::{Part, Unit};
use interp_core::{Error, Result};

/// Linear maps that an adapter may change.
const MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Which parts of an adapter count: those that are both in `units` and in `modules`.
pub struct Parts {
    /// Heads, KV heads and MLPs; all where only modules were named.
    pub units: Vec<Part>,
    /// Names of linear maps; all if `None`.
    pub modules: Option<Vec<String>>,
}

/// Reads a list of parts. Layers, heads, KV heads and MLPs add up; so do modules; both kinds together mean what is in both.
pub fn parts(text: &str, config: &ModelConfig) -> Result<Parts> {
    let (mut units, mut modules): (Vec<Part>, Vec<String>) = (Vec::new(), Vec::new());
    for item in text.split(',').map(str::trim) {
        if MODULES.contains(&item) {
            modules.push(item.to_owned());
            continue;
        }
        let found = units_of(item, config);
        if found.is_empty() {
            return Err(Error::Selector {
                what: "part of an adapter",
                value: item.into(),
                problem: format!(
                    "the model has {} layers of {} heads, {} KV heads and an MLP",
                    config.n_layers, config.n_heads, config.n_kv_heads
                ),
                hint: Some(format!(
                    "write L19, L19.H17, L19.KV2 or L19.mlp, counted from 0, or one of {}",
                    MODULES.join(", ")
                )),
            });
        }
        units.extend(found);
    }
    if units.is_empty() {
        units = Part::all(config).collect();
    }
    Ok(Parts { units, modules: (!modules.is_empty()).then_some(modules) })
}

/// The parts that one word means; none where it means nothing.
fn units_of(item: &str, config: &ModelConfig) -> Vec<Part> {
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (layer, unit) = item.split_once('.').map_or((item, None), |(layer, unit)| (layer, Some(unit)));
    let Some(layer) = layer.strip_prefix('L').and_then(number) else { return Vec::new() };
    let wanted: Option<(Unit, usize)> = match unit {
        None => None,
        Some("mlp") => Some((Unit::Mlp, 0)),
        Some(unit) => {
            let head = unit.strip_prefix('H').and_then(number).map(|head| (Unit::Head, head));
            match head.or_else(|| unit.strip_prefix("KV").and_then(number).map(|head| (Unit::KvHead, head))) {
                None => return Vec::new(),
                some => some,
            }
        }
    };
    let counts = |part: &Part| {
        part.layer == layer && wanted.is_none_or(|(unit, index)| (part.unit, part.index) == (unit, index))
    };
    Part::all(config).filter(counts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_modules_cut() {
        let config = ModelConfig::named("small").unwrap();
        let per_layer = config.n_heads + config.n_kv_heads + 1;
        let count = |text: &str| parts(text, &config).map(|parts| (parts.units.len(), parts.modules.map(|m| m.len())));
        assert_eq!(count("L0").unwrap(), (per_layer, None));
        assert_eq!(count("L0.H1, L1.KV0,L1.mlp").unwrap(), (3, None));
        assert_eq!(count("q_proj,o_proj").unwrap(), (per_layer * config.n_layers, Some(2)));
        assert_eq!(count("L1.H0,q_proj").unwrap(), (1, Some(1)));
        for wrong in ["L99", "L0.H99", "L0.X", "H1", "L+1", ""] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
