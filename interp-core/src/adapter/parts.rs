//! Whether an adapter falls apart into heads, KV heads and MLPs. Needs no tensor.

use super::{Adapter, Delta};
use crate::error::{Error, Result};

impl Adapter {
    /// Errs, naming the field, when some of what it changes belongs to no query head, KV head or MLP: whole weights, biases,
    /// magnitudes (a row's norm depends on all heads), a bias behind `o_proj`.
    pub fn check_parts(&self) -> Result<()> {
        let refuse = |field: &str, name: &str| {
            Err(Error::Field {
                path: self.dir().join("adapter_config.json"),
                field: field.into(),
                problem: format!("changes `{name}` in a way that belongs to no single head or MLP"),
                hint: Some("an adapter with it can be applied or merged as a whole, not in parts".into()),
            })
        };
        if let Some(name) = self.saved().keys().next() {
            return refuse("modules_to_save", name);
        }
        if let Some(name) = self.biases().keys().next() {
            return refuse("bias", name);
        }
        if let Some((name, _)) = self.deltas().iter().find(|(_, delta)| delta.magnitude.is_some()) {
            return refuse("use_dora", name);
        }
        let behind_heads = |(name, delta): &(&String, &Delta)| delta.bias.is_some() && name.ends_with("o_proj");
        match self.deltas().iter().find(behind_heads) {
            Some((name, _)) => refuse("lora_bias", name),
            None => Ok(()),
        }
    }
}
