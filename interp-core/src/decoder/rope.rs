//! Rotary position encoding, tables built exactly as Hugging Face builds them.

use std::f64::consts::PI;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::norm::wide_kind;
use crate::config::{Rope, RopeScaling};

/// cos and sin of every position of a pass, `[pos, 1, d_head]`, in the compute dtype.
pub(crate) struct RopeTable {
    cos: Tensor,
    sin: Tensor,
}

impl RopeTable {
    /// The table of `positions`. Angles are formed in f32 (f64 in f64 mode) and only cos and sin are cast to `kind`:
    /// in bf16 itself, position 257 would become 256.
    pub(crate) fn new(rope: &Rope, d_head: usize, positions: Range<usize>, kind: Kind, device: Device) -> Self {
        let wide = wide_kind(kind);
        let inv_freq = inv_freq(rope, d_head, wide, device);
        let positions = Tensor::arange_start(positions.start as i64, positions.end as i64, (wide, device));
        let angles = positions.unsqueeze(-1) * inv_freq.unsqueeze(0);
        let angles = Tensor::cat(&[&angles, &angles], -1).unsqueeze(1);
        Self { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }

    /// The table of a part of the positions, given relative to the table's first.
    pub(crate) fn narrow(&self, start: i64, len: i64) -> Self {
        Self { cos: self.cos.narrow(0, start, len), sin: self.sin.narrow(0, start, len) }
    }

    /// Rotates `[batch, pos, head, d_head]`, halves split.
    pub(crate) fn rotate(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
        x * &self.cos + turned * &self.sin
    }
}

/// Inverse frequencies `[d_head / 2]`.
fn inv_freq(rope: &Rope, d_head: usize, wide: Kind, device: Device) -> Tensor {
    let exponent = Tensor::arange_start_step(0, d_head as i64, 2, (Kind::Int64, device)).to_kind(wide) / d_head as f64;
    let base = Tensor::full([1], rope.theta, (wide, device));
    let inv_freq = base.pow(&exponent).reciprocal();
    match rope.scaling {
        RopeScaling::None => inv_freq,
        RopeScaling::Linear { factor } => inv_freq / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let original = original_max_position_embeddings as f64;
            let wavelength = inv_freq.reciprocal() * (2.0 * PI);
            let smooth = (wavelength.reciprocal() * original - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let blended = (smooth.neg() + 1.0) * &inv_freq / factor + &smooth * &inv_freq;
            let low = wavelength.gt(original / low_freq_factor);
            let high = wavelength.lt(original / high_freq_factor);
            (&inv_freq / factor).where_self(&low, &inv_freq.where_self(&high, &blended))
        }
    }
}
