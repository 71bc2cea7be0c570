//! The config's word on quantised weights: bitsandbytes' NF4 is understood, everything else is refused by name.

use super::fields::{Fields, short};
use crate::error::Result;

const FIELD: &str = "quantization_config";
const REMEDY: &str = "use the unquantized checkpoint; interp can hold it in 4 bits itself (--weights nf4)";

/// Fields that do not reach the numbers: the dtype is the caller's choice, the tensors say for themselves which of them are
/// quantised and how their scales are stored, and the rest is about 8 bits.
const BENIGN: &[&str] = &[
    "_load_in_4bit",
    "_load_in_8bit",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_use_double_quant",
    "llm_int8_enable_fp32_cpu_offload",
    "llm_int8_has_fp16_weight",
    "llm_int8_skip_modules",
    "llm_int8_threshold",
];

/// Whether weights are stored in NF4. Errs on every other quantisation.
pub(super) fn is_nf4(fields: &Fields<'_>) -> Result<bool> {
    let Some(value) = fields.get(FIELD).filter(|value| !value.is_null()) else { return Ok(false) };
    let method = value.get("quant_method").map(|method| format!(" ({})", short(method))).unwrap_or_default();
    let refuse = |problem: String| Err(fields.refuse(FIELD, problem, Some(REMEDY.into())));
    if value.get("quant_method").and_then(|method| method.as_str()) != Some("bitsandbytes") {
        return refuse(format!("the weights are stored quantized{method}, which is not supported"));
    }
    let Some(inner) = fields.child(FIELD)? else { return Ok(false) };
    inner.text("quant_method")?;
    if inner.flag("load_in_8bit", false)? || !inner.flag("load_in_4bit", false)? {
        return refuse("the weights are stored in 8 bits by bitsandbytes; only its 4-bit NF4 is supported".into());
    }
    // What bitsandbytes takes where nothing is said.
    let kind = inner.text("bnb_4bit_quant_type")?.unwrap_or("fp4");
    if kind != "nf4" {
        return refuse(format!("the weights are stored in {kind:?}; of bitsandbytes' types only \"nf4\" is supported"));
    }
    let storage = inner.text("bnb_4bit_quant_storage")?.unwrap_or("uint8");
    if storage.trim_start_matches("torch.") != "uint8" {
        return refuse(format!("packs 4-bit weights as {storage:?}; only \"uint8\" is supported"));
    }
    inner.finish(BENIGN)?;
    Ok(true)
}
