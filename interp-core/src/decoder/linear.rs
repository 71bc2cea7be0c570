//! A linear map with weights in their stored dtype; the only place that multiplies by a weight matrix.

use tch::{Kind, Tensor};

use crate::checkpoint::{Placement, Scope};
use crate::error::Result;

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[d_out, d_in]`.
    weight: Tensor,
    /// `[d_out]`.
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` and, when asked for, `bias` under `scope`.
    pub(crate) fn load(scope: &Scope<'_>, d_out: usize, d_in: usize, bias: bool, place: &Placement) -> Result<Self> {
        let weight = scope.tensor("weight", &[d_out as i64, d_in as i64], place)?;
        let bias = if bias { Some(scope.tensor("bias", &[d_out as i64], place)?) } else { None };
        Ok(Self { weight, bias })
    }

    /// `[…, d_in]` to `[…, d_out]`, in the dtype of `x`. Weights stored in another dtype are converted for this product
    /// only, so that a bf16 checkpoint can compute in f32 without a second copy of itself.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(x.kind()));
        x.linear(&self.weight(x.kind()), bias.as_ref())
    }

    /// The weight `[d_out, d_in]` in the given dtype.
    pub(crate) fn weight(&self, kind: Kind) -> Tensor {
        self.weight.to_kind(kind)
    }
}
