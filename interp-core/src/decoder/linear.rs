//! A linear map; the only place that multiplies by a weight matrix.

use tch::{Kind, Tensor};

use super::blocks::by_tokens;
use super::kernel::{self, Kernel};
use crate::checkpoint::{Placement, Scope};
use crate::error::{Error, Result};

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    /// `[d_out]`.
    bias: Option<Tensor>,
}

/// `[d_out, d_in]`, held once.
#[derive(Debug)]
enum Weight {
    /// In its stored dtype.
    Plain(Tensor),
    /// In oneDNN's layout and the dtype of computation.
    Packed(Tensor),
}

/// How weights are read: where to, in which dtype, in which layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loading {
    pub(crate) place: Placement,
    /// dtype of computation.
    pub(crate) kind: Kind,
    pub(crate) kernel: Kernel,
}

impl Linear {
    /// Reads `weight` and, when asked for, `bias` under `scope`.
    pub(crate) fn load(scope: &Scope<'_>, d_out: usize, d_in: usize, bias: bool, loading: &Loading) -> Result<Self> {
        let weight = scope.tensor("weight", &[d_out as i64, d_in as i64], &loading.place)?;
        let bias = if bias { Some(scope.tensor("bias", &[d_out as i64], &loading.place)?) } else { None };
        let weight = match loading.kernel {
            // Weights that are stored in another dtype than is computed in are converted product by product.
            Kernel::OneDnn if weight.kind() == loading.kind => {
                let packed = kernel::pack(&weight)
                    .map_err(|message| Error::Torch { context: "laying out weights for oneDNN".into(), message })?;
                drop(weight);
                scope.release("weight");
                Weight::Packed(packed)
            }
            _ => Weight::Plain(weight),
        };
        Ok(Self { weight, bias })
    }

    /// `[…, d_in]` to `[…, d_out]`, in the dtype of `x`. Weights stored in another dtype are converted for this product
    /// only, so that a bf16 checkpoint can compute in f32 without a second copy of itself. Many tokens are multiplied in the
    /// blocks in which a layer that nobody looks into is computed: looking must not change a bit.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(x.kind()));
        match &self.weight {
            Weight::Plain(weight) => {
                let weight = weight.to_kind(x.kind());
                by_tokens(x, |x| x.linear(&weight, bias.as_ref()))
            }
            Weight::Packed(packed) => by_tokens(x, |x| kernel::linear(x, packed, bias.as_ref())),
        }
    }

    /// Whether every product of `kind` converts the weight first.
    pub(crate) fn converts(&self, kind: Kind) -> bool {
        matches!(&self.weight, Weight::Plain(weight) if weight.kind() != kind)
    }

    /// The weight `[d_out, d_in]` in the given dtype.
    pub(crate) fn weight(&self, kind: Kind) -> Tensor {
        match &self.weight {
            Weight::Plain(weight) => weight.to_kind(kind),
            Weight::Packed(packed) => packed.to_dense(None::<Kind>, false).to_kind(kind),
        }
    }
}
