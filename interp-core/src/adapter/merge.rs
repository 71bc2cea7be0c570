//! Adapters merged into the weights they belong to, tensor by tensor, as the weights are read.

use tch::{Device, Kind, Tensor};

use super::{Adapter, Delta};
use crate::checkpoint::{Checkpoint, Placement, Scope};
use crate::error::{Error, Result};

const EMBEDDING: &str = "model.embed_tokens.weight";
const UNEMBEDDING: &str = "lm_head.weight";

/// Adapters to merge, in order. None at all leaves every tensor as the checkpoint has it.
#[derive(Debug, Clone, Copy)]
pub struct Merges<'a>(pub &'a [Adapter]);

impl Merges<'_> {
    /// [`Scope::tensor`] with every adapter merged in. As PEFT does on a model loaded in its own dtype, each sum is formed in
    /// f32 and rounded to the dtype of the file (of f16 files, f32) before anything else is done with it.
    ///
    /// Errs as [`Scope::tensor`] does.
    pub fn tensor(&self, scope: &Scope<'_>, name: &str, shape: &[i64], place: &Placement) -> Result<Tensor> {
        if !self.changes(scope, name) {
            return scope.tensor(name, shape, place);
        }
        let stored = scope.kind(name).filter(|&kind| kind != Kind::Half).unwrap_or(Kind::Float);
        let native = Placement { kind: Some(stored), ..*place };
        let tensor = self.onto(scope, name, scope.tensor(name, shape, &native)?);
        scope.release(name);
        Ok(place.kind.map_or(tensor.shallow_clone(), |kind| tensor.to_kind(kind)))
    }

    /// Whether some adapter changes the tensor `name`.
    pub fn changes(&self, scope: &Scope<'_>, name: &str) -> bool {
        let full = full(scope, name);
        self.0.iter().any(|adapter| adapter.changes(&full))
    }

    /// `tensor`, which stands for `name`, with every adapter merged in, in its own dtype.
    pub fn onto(&self, scope: &Scope<'_>, name: &str, tensor: Tensor) -> Tensor {
        let full = full(scope, name);
        self.0.iter().fold(tensor, |tensor, adapter| adapter.merged(&full, tensor))
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

    /// Errs where merged weights have no place for what an adapter changes: a bias of a linear map without one, one half alone of
    /// tied embeddings.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.0.iter().try_for_each(|adapter| adapter.check_places(checkpoint))
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

    fn check_places(&self, checkpoint: &Checkpoint) -> Result<()> {
        let refuse = |field: &str, problem: String| {
            Err(Error::Field {
                path: self.dir().join("adapter_config.json"),
                field: field.into(),
                problem,
                hint: Some("use +apply: instead of +merge:".into()),
            })
        };
        let halves = [EMBEDDING, UNEMBEDDING].map(|name| self.saved().get(name));
        let one = match halves {
            [Some(embedding), Some(unembedding)] => (!embedding.equal(unembedding)).then_some(UNEMBEDDING),
            [Some(_), None] => Some(EMBEDDING),
            [None, Some(_)] => Some(UNEMBEDDING),
            [None, None] => None,
        };
        if let Some(name) = one.filter(|_| checkpoint.config().tie_word_embeddings) {
            let problem = format!("replaces `{name}` alone, which {} ties to its other half", checkpoint.name());
            return refuse("modules_to_save", problem);
        }
        let stored = |name: &str| checkpoint.scope().has(name);
        let homeless = |(name, delta): &(&String, &Delta)| delta.bias.is_some() && !stored(&format!("{name}.bias"));
        match self.deltas().iter().find(homeless) {
            None => Ok(()),
            Some((name, _)) => refuse("lora_bias", format!("adds a bias to `{name}`, which has none to merge it into")),
        }
    }

    /// The stored tensor of that name with this adapter merged in, in the tensor's own dtype.
    fn merged(&self, name: &str, tensor: Tensor) -> Tensor {
        let (kind, device) = (tensor.kind(), tensor.device());
        if let Some(saved) = self.saved().get(name) {
            return saved.to_device(device).to_kind(kind);
        }
        if let Some(module) = name.strip_suffix(".bias") {
            let base = self.biases().get(module).map_or(tensor, |bias| bias.to_device(device).to_kind(kind));
            let of_b = self.deltas().get(module).and_then(|delta| Some(delta.bias.as_ref()? * delta.scale));
            return match of_b {
                Some(of_b) => (base + of_b.to_device(device)).to_kind(kind),
                None => base,
            };
        }
        match name.strip_suffix(".weight").and_then(|module| self.deltas().get(module)) {
            Some(delta) => {
                let wide = wide(kind);
                delta.to(wide, device).merged(&tensor.to_kind(wide)).to_kind(kind)
            }
            None => tensor,
        }
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
