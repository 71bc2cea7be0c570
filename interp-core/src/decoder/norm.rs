//! RMS norm, computed in f32 (f64 in f64 mode) and cast back before the weight, as Hugging Face does.

use tch::{Kind, Tensor};

use crate::checkpoint::{Placement, Scope};
use crate::error::Result;

#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(scope: &Scope<'_>, width: usize, eps: f64, place: &Placement) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[width as i64], place)?, eps })
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
