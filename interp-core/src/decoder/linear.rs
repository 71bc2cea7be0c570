//! A linear map; the only place that multiplies by a weight matrix.

use tch::{Device, Kind, Tensor};

use super::blocks::by_tokens;
use super::kernel::{self, Kernel};
use super::low_rank::{LowRank, Mask};
use super::norm::wide_kind;
use crate::adapter::{Adapter, Merges};
use crate::checkpoint::{Placement, Scope};
use crate::error::{Error, Result};

/// `x W^T + b`, and what active adapters add.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    /// `[d_out]`.
    bias: Option<Tensor>,
    /// In the order in which the adapters came.
    low_rank: Vec<LowRank>,
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
pub(crate) struct Loading<'a> {
    pub(crate) place: Placement,
    /// dtype of computation.
    pub(crate) kind: Kind,
    pub(crate) kernel: Kernel,
    /// What is merged into them on the way.
    pub(crate) merges: Merges<'a>,
}

impl Loading<'_> {
    /// The tensor `name` of exactly this shape.
    pub(crate) fn tensor(&self, scope: &Scope<'_>, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.merges.tensor(scope, name, shape, &self.place)
    }
}

impl Linear {
    /// Reads `weight` and, when asked for, `bias` under `scope`.
    pub(crate) fn load(
        scope: &Scope<'_>,
        d_out: usize,
        d_in: usize,
        bias: bool,
        loading: &Loading<'_>,
    ) -> Result<Self> {
        let weight = loading.tensor(scope, "weight", &[d_out as i64, d_in as i64])?;
        let bias = if bias { Some(loading.tensor(scope, "bias", &[d_out as i64])?) } else { None };
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
        Ok(Self { weight, bias, low_rank: Vec::new() })
    }

    /// The same map, sharing its weight, with what `adapter` changes of the module `name` added, for passes in `kind`.
    pub(crate) fn with(&self, name: &str, adapter: &Adapter, kind: Kind) -> Self {
        let mut same = self.share();
        let device = self.device();
        if let Some(bias) = adapter.biases().get(name) {
            same.bias = Some(bias.to_device(device).to_kind(kind));
        }
        let delta = adapter.deltas().get(name);
        same.low_rank.extend(delta.map(|delta| LowRank::new(delta, kind, device, |kind| self.stored(kind))));
        same
    }

    /// The same map, where the change that came last counts for some rows and heads only.
    pub(crate) fn masked(&self, mask: Mask) -> Self {
        let mut same = self.share();
        if let Some(last) = same.low_rank.pop() {
            same.low_rank.push(last.masked(Mask { factors: mask.factors.to_device(self.device()), ..mask }));
        }
        same
    }

    fn device(&self) -> Device {
        match &self.weight {
            Weight::Plain(weight) | Weight::Packed(weight) => weight.device(),
        }
    }

    /// The same map, sharing its weight.
    pub(crate) fn share(&self) -> Self {
        let weight = match &self.weight {
            Weight::Plain(weight) => Weight::Plain(weight.shallow_clone()),
            Weight::Packed(weight) => Weight::Packed(weight.shallow_clone()),
        };
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { weight, bias, low_rank: self.low_rank.iter().map(LowRank::share).collect() }
    }

    /// `[…, d_in]` to `[…, d_out]`, in the dtype of `x`. Weights stored in another dtype are converted for this product
    /// only, so that a bf16 checkpoint can compute in f32 without a second copy of itself. Many tokens are multiplied in the
    /// blocks in which a layer that nobody looks into is computed: looking must not change a bit.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(kind));
        let adapted = |y: Tensor, x: &Tensor, masked: bool| {
            let mut changes = self.low_rank.iter().filter(|one| one.is_masked() == masked).peekable();
            if changes.peek().is_none() {
                return y;
            }
            changes.fold(y.to_kind(wide_kind(kind)), |y, one| one.add_to(y, x, bias.as_ref())).to_kind(kind)
        };
        let y = match &self.weight {
            Weight::Plain(weight) => {
                let weight = weight.to_kind(kind);
                by_tokens(x, |x| adapted(x.linear(&weight, bias.as_ref()), x, false))
            }
            Weight::Packed(packed) => by_tokens(x, |x| adapted(kernel::linear(x, packed, bias.as_ref()), x, false)),
        };
        adapted(y, x, true)
    }

    /// Whether some row's change differs from another's, so that rows must not be cut apart.
    pub(crate) fn is_masked(&self) -> bool {
        self.low_rank.iter().any(LowRank::is_masked)
    }

    /// Whether every product of `kind` converts the weight first.
    pub(crate) fn converts(&self, kind: Kind) -> bool {
        matches!(&self.weight, Weight::Plain(weight) if weight.kind() != kind)
    }

    /// The weight `[d_out, d_in]` that the map amounts to, in the given dtype.
    pub(crate) fn weight(&self, kind: Kind) -> Tensor {
        if self.low_rank.is_empty() {
            return self.stored(kind);
        }
        let weight = self.stored(wide_kind(kind));
        self.low_rank.iter().fold(weight, |weight, one| one.merged(&weight)).to_kind(kind)
    }

    /// The weight without what adapters add.
    fn stored(&self, kind: Kind) -> Tensor {
        match &self.weight {
            Weight::Plain(weight) => weight.to_kind(kind),
            Weight::Packed(packed) => packed.to_dense(None::<Kind>, false).to_kind(kind),
        }
    }
}
