//! A low-rank change of one linear map (LoRA, or DoRA where it has a magnitude), computed beside the map's own product, in f32
//! (f64 in f64 mode), as PEFT does with half-precision adapters.

use tch::{Device, Kind, Tensor};

use super::norm::wide_kind;
use crate::adapter::Delta;

/// `y += B (A x)`, perhaps for some rows' heads only.
#[derive(Debug)]
pub(crate) struct LowRank {
    /// In the dtype of computation.
    delta: Delta,
    /// What a magnitude multiplies outputs by, `[d_out]`.
    stretch: Option<Tensor>,
    mask: Option<Mask>,
}

/// For which rows, and which heads of them, a change counts: factors `[row, head]`, one row standing for all.
#[derive(Debug)]
pub(crate) struct Mask {
    pub(crate) factors: Tensor,
    pub(crate) side: Side,
}

/// Where the heads of a linear map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Its outputs are heads side by side, as q, k and v; or one unit, as in the MLP.
    Out,
    /// Its inputs are, as o's.
    In,
}

impl Mask {
    fn share(&self) -> Self {
        Self { factors: self.factors.shallow_clone(), side: self.side }
    }

    /// A factor for each of the `width` numbers of a side, `[width]`; `None` for the side that has no heads.
    ///
    /// # Panics
    /// If rows have factors of their own.
    fn of_all_rows(&self, side: Side, width: i64) -> Option<Tensor> {
        assert_eq!(self.factors.size()[0], 1, "rows that differ have no weight in common");
        let heads = self.factors.size()[1];
        (self.side == side).then(|| self.factors.get(0).repeat_interleave_self_int(width / heads, 0, None))
    }

    /// `x [row, pos, …]` with each head's part times its factor.
    fn apply(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let heads = self.factors.size()[1];
        let rows = self.factors.size()[0].min(size[0]);
        let factors = self.factors.narrow(0, 0, rows).view([rows, 1, heads, 1]);
        (x.view([size[0], size[1], heads, -1]) * factors).view(size.as_slice())
    }
}

impl LowRank {
    /// An adapter's change, for passes in `kind`. `weight` gives the map's own weight, which a magnitude asks for.
    pub(crate) fn new(delta: &Delta, kind: Kind, device: Device, weight: impl FnOnce(Kind) -> Tensor) -> Self {
        let wide = wide_kind(kind);
        let delta = delta.to(wide, device);
        let stretch = delta.magnitude.is_some().then(|| delta.stretch(&weight(wide))).flatten();
        Self { delta, stretch, mask: None }
    }

    /// The same change, sharing its tensors.
    pub(crate) fn share(&self) -> Self {
        let stretch = self.stretch.as_ref().map(Tensor::shallow_clone);
        Self { delta: self.delta.share(), stretch, mask: self.mask.as_ref().map(Mask::share) }
    }

    /// The same change, for some rows and heads only.
    pub(crate) fn masked(&self, mask: Mask) -> Self {
        Self { mask: Some(mask), ..self.share() }
    }

    /// Whether it needs to know which row a token belongs to.
    pub(crate) fn is_masked(&self) -> bool {
        self.mask.is_some()
    }

    /// `y`, the map's own output with its bias, changed; in `y`'s dtype, which is wide. `x` is `[…, d_in]`, with a mask
    /// `[row, pos, d_in]`.
    pub(crate) fn add_to(&self, y: Tensor, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let masked = |side: Side, t: Tensor| match &self.mask {
            Some(mask) if mask.side == side => mask.apply(&t),
            _ => t,
        };
        let wide = |tensor: &Tensor| tensor.to_kind(y.kind());
        let x = masked(Side::In, wide(x));
        // Scaled where it is narrowest.
        let inner = x.linear(&wide(&self.delta.a), None::<&Tensor>) * self.delta.scale;
        let bias_of_b = self.delta.bias.as_ref().map(|bias| wide(bias) * self.delta.scale);
        let change = inner.linear(&wide(&self.delta.b), bias_of_b.as_ref());
        let change = masked(Side::Out, change);
        let Some(stretch) = &self.stretch else { return y + change };
        let plain = bias.map_or_else(|| y.shallow_clone(), |bias| &y - bias.to_kind(y.kind()));
        y + (stretch - 1.0) * plain + stretch * change
    }

    /// `weight [d_out, d_in]` (wide) with the change merged in.
    pub(crate) fn merged(&self, weight: &Tensor) -> Tensor {
        let mut delta = self.delta.to(weight.kind(), weight.device());
        if let Some(mask) = &self.mask {
            let factors = |side, width| mask.of_all_rows(side, width).map(|factors| factors.to_kind(weight.kind()));
            // Products, not in place: the tensors are shared with the adapter.
            let a = factors(Side::In, delta.a.size()[1]).map(|factors| &delta.a * factors);
            let b = factors(Side::Out, delta.b.size()[0]).map(|factors| &delta.b * factors.unsqueeze(1));
            (delta.a, delta.b) = (a.unwrap_or(delta.a), b.unwrap_or(delta.b));
        }
        delta.merged(weight)
    }
}
