//! A linear map; the only place that multiplies by a weight matrix.

use tch::{Device, Kind, Tensor};

use super::blocks::by_tokens;
use super::kernel::{self, Kernel};
use super::low_rank::{LowRank, Mask};
use super::norm::wide_kind;
use crate::adapter::{Adapter, Merges};
use crate::checkpoint::{Placement, Scope};
use crate::device::Weights;
use crate::error::{Error, Result};
use crate::nf4::Nf4;

/// `x W^T + b`, and what active adapters add.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    /// `[d_out]`.
    bias: Option<Tensor>,
    /// One per active adapter, in their order; `None` where an adapter leaves this map alone.
    low_rank: Vec<Option<LowRank>>,
}

/// `[d_out, d_in]`, held once.
#[derive(Debug)]
enum Weight {
    /// In its stored dtype.
    Plain(Tensor),
    /// In oneDNN's layout and the dtype of computation.
    Packed(Tensor),
    /// In 4 bits.
    Nf4(Nf4),
}

/// How weights are read: where to, in which dtype, in which layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loading<'a> {
    pub(crate) place: Placement,
    /// dtype of computation.
    pub(crate) kind: Kind,
    /// How they are held: whether to quantise.
    pub(crate) weights: Weights,
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

impl Weight {
    fn load(scope: &Scope<'_>, shape: [i64; 2], loading: &Loading<'_>) -> Result<Self> {
        let Loading { place, merges, .. } = loading;
        // What training in 4 bits does when it merges: the 4-bit numbers, the change added, in 4 bits again.
        let merged = |weight: Nf4| match merges.changes(scope, "weight") {
            true => weight.changed(|numbers| merges.onto(scope, "weight", numbers)),
            false => Ok(weight),
        };
        if let Some(weight) = scope.nf4("weight", shape)? {
            return merged(weight)?.to_device(place.device).map(Weight::Nf4);
        }
        if loading.weights.quantizes() {
            let double = loading.weights == Weights::Nf4Double;
            let weight = scope.tensor("weight", &shape, &Placement { device: Device::Cpu, ..*place })?;
            let quantized = merged(Nf4::quantize(&weight, double)?)?;
            drop(weight);
            scope.release("weight");
            return quantized.to_device(place.device).map(Weight::Nf4);
        }
        let weight = loading.tensor(scope, "weight", &shape)?;
        match loading.kernel {
            // Weights that are stored in another dtype than is computed in are converted product by product.
            Kernel::OneDnn if weight.kind() == loading.kind => {
                let packed = kernel::pack(&weight)
                    .map_err(|message| Error::Torch { context: "laying out weights for oneDNN".into(), message })?;
                drop(weight);
                scope.release("weight");
                Ok(Weight::Packed(packed))
            }
            _ => Ok(Weight::Plain(weight)),
        }
    }

    fn share(&self) -> Self {
        match self {
            Weight::Plain(weight) => Weight::Plain(weight.shallow_clone()),
            Weight::Packed(weight) => Weight::Packed(weight.shallow_clone()),
            Weight::Nf4(weight) => Weight::Nf4(weight.share()),
        }
    }

    fn device(&self) -> Device {
        match self {
            Weight::Plain(weight) | Weight::Packed(weight) => weight.device(),
            Weight::Nf4(weight) => weight.device(),
        }
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
        let weight = Weight::load(scope, [d_out as i64, d_in as i64], loading)?;
        let bias = if bias { Some(loading.tensor(scope, "bias", &[d_out as i64])?) } else { None };
        Ok(Self { weight, bias, low_rank: Vec::new() })
    }

    /// The same map, sharing its weight, with what `adapter` changes of the module `name` added, for passes in `kind`.
    pub(crate) fn with(&self, name: &str, adapter: &Adapter, kind: Kind) -> Self {
        let mut same = self.share();
        let device = self.weight.device();
        if let Some(bias) = adapter.biases().get(name) {
            same.bias = Some(bias.to_device(device).to_kind(kind));
        }
        let delta = adapter.deltas().get(name);
        same.low_rank.push(delta.map(|delta| LowRank::new(delta, kind, device, |kind| self.stored(kind))));
        same
    }

    /// The same map, where the change of the last adapter, if it changes this map, counts for some rows and heads only.
    pub(crate) fn masked(&self, mask: Mask) -> Self {
        let mut same = self.share();
        if let Some(Some(last)) = same.low_rank.last_mut() {
            *last = last.masked(Mask { factors: mask.factors.to_device(self.weight.device()), ..mask });
        }
        same
    }

    /// The same map, sharing its weight.
    pub(crate) fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self {
            weight: self.weight.share(),
            bias,
            low_rank: self.low_rank.iter().map(|one| one.as_ref().map(LowRank::share)).collect(),
        }
    }

    /// `[…, d_in]` to `[…, d_out]`, in the dtype of `x`. Weights stored in another dtype are converted for this product
    /// only, so that a bf16 checkpoint can compute in f32 without a second copy of itself. Many tokens are multiplied in the
    /// blocks in which a layer that nobody looks into is computed: looking must not change a bit.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let kind = x.kind();
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(kind));
        let adapted = |y: Tensor, x: &Tensor, masked: bool| {
            let mut changes = self.low_rank.iter().flatten().filter(|one| one.is_masked() == masked).peekable();
            if changes.peek().is_none() {
                return y;
            }
            changes.fold(y.to_kind(wide_kind(kind)), |y, one| one.add_to(y, x, bias.as_ref())).to_kind(kind)
        };
        let plain = |weight: Tensor| by_tokens(x, |x| adapted(x.linear(&weight, bias.as_ref()), x, false));
        let y = match &self.weight {
            Weight::Plain(weight) => plain(weight.to_kind(kind)),
            Weight::Packed(packed) => by_tokens(x, |x| adapted(kernel::linear(x, packed, bias.as_ref()), x, false)),
            Weight::Nf4(weight) => plain(weight.dequantize(kind)),
        };
        adapted(y, x, true)
    }

    /// Whether some row's change differs from another's, so that rows must not be cut apart.
    pub(crate) fn is_masked(&self) -> bool {
        self.low_rank.iter().flatten().any(LowRank::is_masked)
    }

    /// Whether every product of `kind` converts the weight first.
    pub(crate) fn converts(&self, kind: Kind) -> bool {
        match &self.weight {
            Weight::Plain(weight) => weight.kind() != kind,
            Weight::Packed(_) => false,
            Weight::Nf4(_) => true,
        }
    }

    /// The weight `[d_out, d_in]` that the map amounts to, for every row, in the given dtype.
    pub(crate) fn weight(&self, kind: Kind) -> Tensor {
        let mut changes = self.low_rank.iter().flatten().peekable();
        if changes.peek().is_none() {
            return self.stored(kind);
        }
        changes.fold(self.stored(wide_kind(kind)), |weight, one| one.merged(&weight)).to_kind(kind)
    }

    /// The weight without what adapters add.
    fn stored(&self, kind: Kind) -> Tensor {
        match &self.weight {
            Weight::Plain(weight) => weight.to_kind(kind),
            Weight::Packed(packed) => packed.to_dense(None::<Kind>, false).to_kind(kind),
            Weight::Nf4(weight) => weight.dequantize(kind),
        }
    }
}
