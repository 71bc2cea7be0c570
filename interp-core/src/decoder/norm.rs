//! RMS norm, computed in f32 (f64 in f64 mode) and cast back before the weight, as Hugging Face does.

use tch::{Kind, Tensor};

use super::linear::Loading;
use crate::adapter::Adapter;
use crate::checkpoint::Scope;
use crate::error::Result;

#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(scope: &Scope<'_>, width: usize, eps: f64, loading: &Loading<'_>) -> Result<Self> {
        Ok(Self { weight: loading.tensor(scope, "weight", &[width as i64])?, eps })
    }

    /// The same norm.
    pub(crate) fn share(&self) -> Self {
        Self { weight: self.weight.shallow_clone(), eps: self.eps }
    }

    /// The same norm, with the weight that `adapter` has saved for the module `name`, if any.
    pub(crate) fn with(&self, name: &str, adapter: &Adapter) -> Self {
        let saved = adapter.saved().get(&format!("{name}.weight"));
        saved.map_or_else(
            || self.share(),
            |saved| Self { weight: saved.to_device(self.weight.device()).to_kind(self.weight.kind()), eps: self.eps },
        )
    }

    /// `[…, width]` to `[…, width]`, in the dtype of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let wide = wide_kind(kind);
        let x = x.to_kind(wide);
        let variance = (&x * &x).mean_dim(-1, true, None::<Kind>);
        let normed = x * (variance + self.eps).rsqrt();
        self.weight.to_kind(kind) * normed.to_kind(kind)
    }
}

/// The dtype in which norms, softmax, rope tables and logits are computed: f32, or f64 when everything is.
pub(crate) fn wide_kind(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}
