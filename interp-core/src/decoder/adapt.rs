//! A decoder with an adapter beside its weights: another value that shares every tensor of the base. Which adapters are active
//! is a question of which decoder a pass is made with; nothing is switched on or off.

use std::collections::HashMap;

use tch::Tensor;

use super::graft::Masks;
use super::{Block, Decoder, expected_tensors};
use crate::adapter::Adapter;
use crate::error::{Error, Result};

/// What is active beside the weights.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    name: String,
    has_magnitude: bool,
    /// Biases and whole weights that it brings along instead of the base's.
    replaces: Vec<String>,
}

impl Decoder {
    /// The same model with an adapter active, after those that already are. Shares all weights: it costs the adapter's own
    /// numbers, in f32.
    ///
    /// Errs when the adapter was opened for another geometry, when a second DoRA adapter would be active, and when two adapters
    /// replace the same tensor: what they amount to together is not defined.
    pub fn with(&self, adapter: &Adapter) -> Result<Self> {
        let active = self.admit(adapter)?;
        let saved = |name: &str, own: &Tensor| {
            let saved = adapter.saved().get(name);
            saved.map_or_else(|| own.shallow_clone(), |saved| saved.to_device(own.device()).to_kind(own.kind()))
        };
        let layer = |(i, block): (usize, &Block)| block.with(&format!("model.layers.{i}"), adapter, self.kind);
        let mut same = self.with_layers(self.layers.iter().enumerate().map(layer).collect());
        same.embed_tokens = saved("model.embed_tokens.weight", &self.embed_tokens);
        same.lm_head = saved("lm_head.weight", &self.lm_head);
        same.norm = self.norm.with("model.norm", adapter);
        same.active.push(active);
        Ok(same)
    }

    /// The same model, where the parts of the adapter that came last count as `masks` says, row by row. Its tensors that are no
    /// parts (replaced weights and biases) stay as they are; [`Adapter::check_parts`] says whether it has any.
    pub fn grafted(&self, masks: &Masks) -> Self {
        let layers = self.layers.iter().enumerate().map(|(i, block)| block.masked(i, masks)).collect();
        self.with_layers(layers)
    }

    /// The same model once more, sharing every tensor.
    pub fn share(&self) -> Self {
        self.with_layers(self.layers.iter().map(Block::share).collect())
    }

    fn with_layers(&self, layers: Vec<Block>) -> Self {
        Self {
            config: self.config.clone(),
            embed_tokens: self.embed_tokens.shallow_clone(),
            layers,
            norm: self.norm.share(),
            lm_head: self.lm_head.shallow_clone(),
            devices: self.devices.clone(),
            kind: self.kind,
            active: self.active.clone(),
            _weights: self._weights.clone(),
        }
    }

    fn admit(&self, adapter: &Adapter) -> Result<Active> {
        let path = adapter.dir().join("adapter_config.json");
        let refuse = |field: &str, problem: String, hint: &str| {
            Err(Error::Field { path: path.clone(), field: field.into(), problem, hint: Some(hint.into()) })
        };
        let biases = adapter.biases().keys().map(|name| format!("{name}.bias"));
        let active = Active {
            name: adapter.name().to_owned(),
            has_magnitude: adapter.deltas().values().any(|delta| delta.magnitude.is_some()),
            replaces: adapter.saved().keys().cloned().chain(biases).collect(),
        };
        let expected: HashMap<String, Vec<i64>> = expected_tensors(&self.config).into_iter().collect();
        for (name, delta) in adapter.deltas() {
            let shape = [delta.b.size()[0], delta.a.size()[1]];
            let own = expected.get(&format!("{name}.weight")).map(Vec::as_slice);
            if own != Some(shape.as_slice()) {
                let problem = format!("changes `{name}` of shape {shape:?}, where the model has {own:?}");
                return refuse("target_modules", problem, "open the adapter for the model that it is used with");
            }
        }
        for other in &self.active {
            if active.has_magnitude && other.has_magnitude {
                let problem = format!("is true here and in `{}`, which is active already", other.name);
                return refuse("use_dora", problem, "merge one of the two: +merge:ADAPTER");
            }
            if let Some(tensor) = active.replaces.iter().find(|tensor| other.replaces.contains(tensor)) {
                let field = if tensor.ends_with(".bias") { "bias" } else { "modules_to_save" };
                let problem = format!("replaces `{tensor}`, which `{}` has replaced already", other.name);
                return refuse(field, problem, "merge one of the two: +merge:ADAPTER");
            }
        }
        Ok(active)
    }
}
