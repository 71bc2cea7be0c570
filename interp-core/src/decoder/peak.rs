//! The fastest matrix product of the machine at hand, as what passes and sweeps are measured against.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::kernel;
use crate::device::synchronize;

/// How often each kernel runs after a first time that does not count; the fastest counts.
const TIMES: usize = 4;

/// FLOP per second of a square product, by kernel.
#[derive(Debug, Clone, Copy)]
pub struct MatrixPeak {
    /// Rows, columns and inner length.
    pub size: i64,
    /// libtorch's own kernel.
    pub plain: f64,
    /// oneDNN with a packed weight; `None` where it does not have the dtype or the device.
    pub onednn: Option<f64>,
}

impl MatrixPeak {
    /// Measures products in `kind` on `device`, with the threads that libtorch is set to. Random numbers: hardware may run
    /// faster on zeros.
    pub fn measure(kind: Kind, device: Device) -> Self {
        let _no_grad = tch::no_grad_guard();
        let size = if device == Device::Cpu { 2048 } else { 8192 };
        let random = || (Tensor::rand([size, size], (Kind::Float, device)) - 0.5).to_kind(kind);
        let (x, weight) = (random(), random());
        let flop = 2.0 * (size as f64).powi(3);
        let plain = flop / fastest(device, || x.linear(&weight, None::<&Tensor>));
        let packed = if device == Device::Cpu { kernel::pack(&weight).ok() } else { None };
        let onednn = packed.map(|packed| flop / fastest(device, || kernel::linear(&x, &packed, None)));
        Self { size, plain, onednn }
    }

    /// Each kernel's better rate of two measurements.
    pub fn max(self, other: Self) -> Self {
        let onednn = self.onednn.zip(other.onednn).map(|(a, b)| a.max(b));
        Self { size: self.size, plain: self.plain.max(other.plain), onednn }
    }

    /// The better kernel's rate.
    pub fn best(&self) -> f64 {
        self.onednn.map_or(self.plain, |onednn| onednn.max(self.plain))
    }
}

/// Least seconds of a few runs.
fn fastest(device: Device, run: impl Fn() -> Tensor) -> f64 {
    let timed = || {
        let start = Instant::now();
        let _ = std::hint::black_box(run());
        synchronize(device);
        start.elapsed().as_secs_f64()
    };
    timed();
    (0..TIMES).map(|_| timed()).fold(f64::INFINITY, f64::min)
}
