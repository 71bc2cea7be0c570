//! Rotary position encoding in both spellings: `rope_theta` with `rope_scaling`, and `rope_parameters`. Scalings that are
//! not implemented are refused by name.

use serde_json::Value;

use super::fields::{Fields, short};
use super::{Rope, RopeScaling};
use crate::error::Result;

/// transformers' `default_theta`, the same for every family here.
const DEFAULT_THETA: f64 = 10_000.0;

/// Keys under which `rope_parameters` may hold one object per kind of layer.
const LAYER_KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// What one object says; θ may stand outside it.
#[derive(Clone, Copy, PartialEq)]
struct Entry {
    theta: Option<f64>,
    scaling: RopeScaling,
}

/// Reads every rope field of the config; `n_ctx` is the original context where none is named.
pub(super) fn read(top: &Fields<'_>, n_ctx: usize) -> Result<Rope> {
    let theta = top.number("rope_theta")?;
    let old = top.child("rope_scaling")?.map(|fields| entry(&fields, n_ctx)).transpose()?;
    let new = top.child("rope_parameters")?.map(|fields| parameters(&fields, n_ctx)).transpose()?;
    if let (Some(old), Some(new)) = (old, new)
        && old.scaling != new.scaling
    {
        return Err(top.refuse("rope_parameters", "disagrees with `rope_scaling`", keep_one()));
    }
    // A θ may be named up to three times; HF takes the innermost, which hides a disagreement.
    let named = [theta, old.and_then(|entry| entry.theta), new.and_then(|entry| entry.theta)];
    let mut named = named.into_iter().flatten();
    let theta = named.next().unwrap_or(DEFAULT_THETA);
    if let Some(other) = named.find(|&other| other != theta) {
        return Err(top.refuse("rope_theta", format!("is given both as {theta} and as {other}"), keep_one()));
    }
    Ok(Rope { theta, scaling: new.or(old).map_or(RopeScaling::None, |entry| entry.scaling) })
}

fn keep_one() -> Option<String> {
    Some("keep the one the model was trained with".into())
}

fn parameters(fields: &Fields<'_>, n_ctx: usize) -> Result<Entry> {
    if !fields.keys().any(|key| LAYER_KINDS.contains(&key)) {
        return entry(fields, n_ctx);
    }
    let mut common = None;
    for kind in LAYER_KINDS {
        let Some(child) = fields.child(kind)? else {
            match fields.get(kind) {
                None => continue,
                Some(value) => {
                    return Err(fields.refuse(
                        kind,
                        format!("is {}: layers without rope are not supported", short(value)),
                        None,
                    ));
                }
            }
        };
        let this = entry(&child, n_ctx)?;
        if *common.get_or_insert(this) != this {
            return Err(fields.refuse(
                kind,
                "differs from the other kind of layer: one rope for all layers is supported",
                None,
            ));
        }
    }
    fields.finish(&[])?;
    Ok(common.expect("one of the kinds is among the keys"))
}

fn entry(fields: &Fields<'_>, n_ctx: usize) -> Result<Entry> {
    let (key, name) = match (fields.text("rope_type")?, fields.text("type")?) {
        (Some(new), Some(old)) if new != old => {
            return Err(fields.refuse("rope_type", format!("is {new:?} but `type` is {old:?}"), keep_one()));
        }
        (Some(new), _) => ("rope_type", new),
        (None, Some(old)) => ("type", old),
        (None, None) => ("rope_type", "default"),
    };
    let required =
        |key: &str| fields.number(key)?.ok_or_else(|| fields.wrong(key, "a number above zero", &Value::Null));
    let scaling = match name {
        "default" | "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: required("factor")? },
        "llama3" => {
            let low_freq_factor = required("low_freq_factor")?;
            let high_freq_factor = required("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                return Err(fields.refuse(
                    "high_freq_factor",
                    format!("is {high_freq_factor}, not above `low_freq_factor` {low_freq_factor}"),
                    None,
                ));
            }
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: fields.positive("original_max_position_embeddings", n_ctx)?,
            }
        }
        other => {
            return Err(fields.refuse(
                key,
                format!("{other:?} is not supported"),
                Some("supported are default, linear and llama3".into()),
            ));
        }
    };
    let theta = fields.number("rope_theta")?;
    whole_rotation(fields)?;
    fields.finish(&[])?;
    Ok(Entry { theta, scaling })
}

/// Errs when only part of a head is rotated.
pub(super) fn whole_rotation(fields: &Fields<'_>) -> Result<()> {
    match fields.number("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(part) => {
            Err(fields.refuse("partial_rotary_factor", format!("is {part}; only whole heads (1) are supported"), None))
        }
    }
}
