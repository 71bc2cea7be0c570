//! Which matrix kernel multiplies by weights: libtorch's own (MKL in f32), or oneDNN with the weight in oneDNN's layout.
//! Measured on the machine at hand, once.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

/// Rows that oneDNN is told to lay weights out for. Measured from 1 to 1,024 rows, layouts made for 64 are as fast as
/// layouts made for each number.
const ROWS: i64 = 64;

/// Rounds of which the best counts, both kernels in turn.
const ROUNDS: usize = 16;

/// libtorch's own kernel is taken when it needs less than this part of oneDNN's time. Between two that are nearly as fast the
/// choice must not hang on what else the machine is doing: other kernels round differently, and a run that is resumed is to end
/// in the same bytes. (Measured: twice as slow as oneDNN on AMD processors.)
const CLEARLY: f64 = 0.7;

/// How a decoder multiplies by its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// libtorch's `linear`, with weights as the checkpoint has them.
    Plain,
    /// oneDNN, with weights copied into its layout.
    OneDnn,
}

unsafe extern "C" {
    fn interp_onednn_pack(weight: *const c_void, rows: i64, error: *mut *mut c_char) -> *mut c_void;
    fn interp_onednn_linear(
        x: *const c_void,
        packed: *const c_void,
        bias: *const c_void,
        error: *mut *mut c_char,
    ) -> *mut c_void;
}

/// `weight [d_out, d_in]` in oneDNN's layout, or why it cannot be.
pub(crate) fn pack(weight: &Tensor) -> Result<Tensor, String> {
    let mut error = std::ptr::null_mut();
    // SAFETY: tch's pointer is an `at::Tensor*`; the result is a new one that we own.
    unsafe {
        let packed = interp_onednn_pack(weight.as_ptr().cast(), ROWS, &raw mut error);
        owned(packed, error)
    }
}

/// `x W^T + b` with a packed weight; `x` is `[…, d_in]`.
///
/// # Panics
/// As tch's own operators do, when libtorch fails.
pub(crate) fn linear(x: &Tensor, packed: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let x = x.contiguous();
    let bias = bias.map_or(std::ptr::null(), |bias| bias.as_ptr().cast());
    let mut error = std::ptr::null_mut();
    // SAFETY: as in `pack`; a null bias means none.
    let out = unsafe {
        let out = interp_onednn_linear(x.as_ptr().cast(), packed.as_ptr().cast(), bias, &raw mut error);
        owned(out, error)
    };
    out.unwrap_or_else(|message| panic!("{message}"))
}

/// # Safety
/// `tensor` is null or an `at::Tensor*` that nobody else owns; if null, `error` is a C string made by `malloc`.
unsafe fn owned(tensor: *mut c_void, error: *mut c_char) -> Result<Tensor, String> {
    if !tensor.is_null() {
        // SAFETY: by this function's own contract.
        return Ok(unsafe { Tensor::from_ptr(tensor.cast()) });
    }
    // SAFETY: likewise; the string is copied before it is freed.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        Err(message)
    }
}

impl Kernel {
    /// The faster of the two for waves in `kind` on `device`. Measured at the first call for each dtype and kept.
    pub(crate) fn fastest(kind: Kind, device: Device) -> Self {
        static F32: OnceLock<Kernel> = OnceLock::new();
        static BF16: OnceLock<Kernel> = OnceLock::new();
        match (device, kind) {
            (Device::Cpu, Kind::Float) => *F32.get_or_init(|| measure(kind)),
            (Device::Cpu, Kind::BFloat16) => *BF16.get_or_init(|| measure(kind)),
            _ => Kernel::Plain,
        }
    }
}

fn measure(kind: Kind) -> Kernel {
    let _no_grad = tch::no_grad_guard();
    let weight = Tensor::ones([1024, 512], (kind, Device::Cpu));
    let Ok(packed) = pack(&weight) else { return Kernel::Plain };
    let mut total = [Duration::ZERO; 2];
    for rows in [16, 128] {
        let x = Tensor::ones([rows, 512], (kind, Device::Cpu));
        let mut best = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            best[0] = best[0].min(timed(|| x.linear(&weight, None::<&Tensor>)));
            best[1] = best[1].min(timed(|| linear(&x, &packed, None)));
        }
        total[0] += best[0];
        total[1] += best[1];
    }
    if total[0] < total[1].mul_f64(CLEARLY) { Kernel::Plain } else { Kernel::OneDnn }
}

fn timed(run: impl Fn() -> Tensor) -> Duration {
    let start = Instant::now();
    let _ = std::hint::black_box(run());
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_weight_multiplies_as_a_plain_one() {
        let weight = Tensor::linspace(-1.0, 1.0, 24 * 40, (Kind::Float, Device::Cpu)).view([24, 40]);
        let bias = Tensor::linspace(0.0, 1.0, 24, (Kind::Float, Device::Cpu));
        let packed = pack(&weight).expect("oneDNN packs f32");
        for rows in [1, 3, 64] {
            let x = Tensor::linspace(-2.0, 1.0, rows * 2 * 40, (Kind::Float, Device::Cpu)).view([rows, 2, 40]);
            for bias in [None, Some(&bias)] {
                let difference = (linear(&x, &packed, bias) - x.linear(&weight, bias)).abs().max().double_value(&[]);
                assert!(difference < 1e-4, "{difference}");
            }
        }
        assert!(packed.to_dense(None::<Kind>, false).equal(&weight), "packing changes no number");
    }

    #[test]
    fn a_failure_of_libtorch_is_a_message() {
        let message = pack(&Tensor::ones([3], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(!message.is_empty());
    }
}
