//! Adapters merged into the weights they belong to, tensor by tensor, as the weights are read.

use tch::{Device, Kind, Tensor};

use super::{Adapter, Delta};
use crate::checkpoint::{Checkpoint, Placement, Scope};
use crate::error::{Error, Result};

/// Adapters to merge, in order. None at all leaves every tensor as the checkpoint has it.
#[derive(Debug, Clone, Copy)]
pub struct Merges<'a>(pub &'a [Adapter]);

impl Merges<'_> {
    /// [`Scope::tensor`] with every adapter merged in. As PEFT does on a model loaded in its own dtype, each sum is formed in
    /// f32 and rounded to the dtype of the file (of f16 files, f32) before anything else is done with it.
    ///
    /// Errs as [`Scope::tensor`] does, and when an adapter adds a bias to a map that has none.
    pub fn tensor(&self, scope: &Scope<'_>, name: &str, shape: &[i64], place: &Placement) -> Result<Tensor> {
        if !self.changes(scope, name) {
            return scope.tensor(name, shape, place);
        }
        let stored = scope.kind(name).filter(|&kind| kind != Kind::Half).unwrap_or(Kind::Float);
        let native = Placement { kind: Some(stored), ..*place };
        let tensor = self.onto(scope, name, scope.tensor(name, shape, &native)?)?;
        scope.release(name);
        Ok(place.kind.map_or(tensor.shallow_clone(), |kind| tensor.to_kind(kind)))
    }

    /// Whether some adapter changes the tensor `name`.
    pub fn changes(&self, scope: &Scope<'_>, name: &str) -> bool {
        let full = full(scope, name);
        self.0.iter().any(|adapter| adapter.changes(&full))
    }

    /// `tensor`, which stands for `name`, with every adapter merged in, in its own dtype.
    pub fn onto(&self, scope: &Scope<'_>, name: &str, tensor: Tensor) -> Result<Tensor> {
        let full = full(scope, name);
        self.0.iter().try_fold(tensor, |tensor, adapter| adapter.merged(&full, tensor))
    }

    /// The stored tensor of that full name with the adapters merged in, in its own dtype (of an f16 file, f32); `None` when
    /// none of them changes it.
    pub fn of(&self, checkpoint: &Checkpoint, name: &str, device: Device) -> Result<Option<Tensor>> {
        if !self.0.iter().any(|adapter| adapter.changes(name)) {
            return Ok(None);
        }
        let shape = checkpoint.tensors().find(|(stored, _)| *stored == name).map(|(_, shape)| shape.to_vec());
        let place = Placement { device, kind: None };
        shape.map(|shape| self.tensor(&checkpoint.scope(), name, &shape, &place)).transpose()
    }

    /// Bytes of the stored tensors that the merges change, each once.
    pub fn bytes(&self, checkpoint: &Checkpoint) -> u64 {
        let changed = |name: &&str| self.0.iter().any(|adapter| adapter.changes(name));
        let names: Vec<&str> = checkpoint.tensors().map(|(name, _)| name).filter(changed).collect();
        names.into_iter().filter_map(|name| checkpoint.stored_bytes(name)).sum()
    }

    /// Errs when an adapter adds a bias to a linear map without one, or replaces a weight that the checkpoint does not store:
    /// merged weights have no place for them.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        let stored = |name: &str| checkpoint.scope().has(name);
        for adapter in self.0 {
            let saved = |name: &str| adapter.saved().get(name);
            if checkpoint.config().tie_word_embeddings
                && let (embedding, unembedding) = (saved("model.embed_tokens.weight"), saved("lm_head.weight"))
                && let Some((name, _)) =
                    [("embed_tokens", embedding), ("lm_head", unembedding)].into_iter().find(|(_, t)| t.is_some())
                && !embedding.zip(unembedding).is_some_and(|(a, b)| a.equal(b))
            {
                return Err(Error::Field {
                    path: adapter.dir().join("adapter_config.json"),
                    field: "modules_to_save".into(),
                    problem: format!("replaces `{name}` alone, which {} ties to its other half", checkpoint.name()),
                    hint: Some("use +apply: instead of +merge:".into()),
                });
            }
            let tied = |name: &str| checkpoint.config().tie_word_embeddings && name == "lm_head.weight";
            if let Some(name) = adapter.saved().keys().find(|name| !stored(name) && !tied(name)) {
                return Err(Error::Field {
                    path: adapter.dir().join("adapter_config.json"),
                    field: "modules_to_save".into(),
                    problem: format!("holds `{name}`, which {} does not store by itself", checkpoint.name()),
                    hint: Some("use +apply: instead of +merge:".into()),
                });
            }
            let homeless = |(name, delta): &(&String, &Delta)| delta.bias.is_some() && !stored(&format!("{name}.bias"));
            if let Some((name, _)) = adapter.deltas().iter().find(homeless) {
                return Err(Error::Field {
                    path: adapter.dir().join("adapter_config.json"),
                    field: "lora_bias".into(),
                    problem: format!("adds a bias to `{name}`, which has none to merge it into"),
                    hint: Some("use +apply: instead of +merge:".into()),
                });
            }
        }
        Ok(())
    }
}

impl Adapter {
    /// Whether it changes the stored tensor of that name.
    fn changes(&self, tensor: &str) -> bool {
        let module = |suffix| tensor.strip_suffix(suffix);
        self.saved().contains_key(tensor)
            || module(".weight").is_some_and(|module| self.deltas().contains_key(module))
            || module(".bias").is_some_and(|module| {
                self.biases().contains_key(module)
                    || self.deltas().get(module).is_some_and(|delta| delta.bias.is_some())
            })
    }

    /// The stored tensor of that name with this adapter merged in, in the tensor's own dtype.
    fn merged(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let (kind, device) = (tensor.kind(), tensor.device());
        if let Some(saved) = self.saved().get(name) {
            return Ok(saved.to_device(device).to_kind(kind));
        }
        if let Some(module) = name.strip_suffix(".bias") {
            let base = self.biases().get(module).map_or(tensor, |bias| bias.to_device(device).to_kind(kind));
            let delta =
                self.deltas().get(module).and_then(|delta| Some(delta.bias.as_ref()?.to_device(device) * delta.scale));
            return Ok(delta.map_or(base.shallow_clone(), |delta| (base + delta).to_kind(kind)));
        }
        let delta = name.strip_suffix(".weight").and_then(|module| self.deltas().get(module));
        Ok(delta.map_or(tensor.shallow_clone(), |delta| {
            let wide = wide(kind);
            delta.to(wide, device).merged(&tensor.to_kind(wide)).to_kind(kind)
        }))
    }
}

impl Delta {
    /// The same change, sharing its tensors.
    pub(crate) fn share(&self) -> Self {
        let share = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            a: self.a.shallow_clone(),
            b: self.b.shallow_clone(),
            scale: self.scale,
            bias: share(&self.bias),
            magnitude: share(&self.magnitude),
        }
    }

    /// The same change in another dtype and place; where it is there already, sharing its tensors.
    pub fn to(&self, kind: Kind, device: Device) -> Self {
        let put = |tensor: &Tensor| tensor.to_device(device).to_kind(kind);
        Self {
            a: put(&self.a),
            b: put(&self.b),
            scale: self.scale,
            bias: self.bias.as_ref().map(put),
            magnitude: self.magnitude.as_ref().map(put),
        }
    }

    /// `weight [d_out, d_in]` with the change merged in, in the dtype of `weight`: W + s B A, with a magnitude m times that over
    /// its row norms (DoRA, arXiv 2402.09353).
    pub fn merged(&self, weight: &Tensor) -> Tensor {
        let sum = self.sum(weight);
        match self.stretch_of(&sum) {
            Some(stretch) => sum * stretch.unsqueeze(1),
            None => sum,
        }
    }

    /// What a magnitude multiplies every output by, m / ‖W + s B A‖, `[d_out]`; `None` without one.
    pub fn stretch(&self, weight: &Tensor) -> Option<Tensor> {
        self.stretch_of(&self.sum(weight))
    }

    fn sum(&self, weight: &Tensor) -> Tensor {
        weight + self.b.matmul(&self.a) * self.scale
    }

    fn stretch_of(&self, sum: &Tensor) -> Option<Tensor> {
        self.magnitude.as_ref().map(|magnitude| magnitude / sum.norm_scalaropt_dim(2, [-1i64], false))
    }
}

fn full(scope: &Scope<'_>, name: &str) -> String {
    match scope.name() {
        "" => name.to_owned(),
        prefix => format!("{prefix}.{name}"),
    }
}

/// Sums are formed in f32, or in f64 where the weights are.
fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}
