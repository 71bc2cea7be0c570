//! NF4: a matrix in 4 bits per number and one scale per block, as bitsandbytes makes and stores it. Holds it, makes it, and
//! gives its numbers back; knows neither files nor what the matrix is for.

mod codec;
mod scales;

use tch::{Device, Kind, TchError, Tensor};

pub use self::codec::{BLOCK, CODE, quantize};
use self::codec::{Bf16, Number, dequantize};
pub use self::scales::DoubleScales;
use crate::error::{Error, Result};

/// Numbers converted to f32 at a time while a matrix is quantised; a multiple of every block.
const PIECE: i64 = 1 << 22;

/// A matrix `[d_out, d_in]` as 4-bit indices into a table of 16 numbers, times a scale per block of consecutive numbers.
#[derive(Debug)]
pub struct Nf4 {
    /// u8 `[d_out · d_in / 2]`: two indices per byte, the first in the high half.
    packed: Tensor,
    /// f32 `[block]`, on the same device.
    absmax: Tensor,
    form: Form,
}

/// What the bytes of a 4-bit matrix mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form {
    /// What indices stand for, times their block's scale.
    pub code: [f32; 16],
    /// Numbers per scale.
    pub block: usize,
    /// `[d_out, d_in]`
    pub shape: [i64; 2],
    /// Whether scales were quantised themselves.
    pub double: bool,
    /// dtype of the weights that were quantised.
    pub made_of: Kind,
}

impl Nf4 {
    /// A matrix from its parts: `packed` u8 `[d_out · d_in / 2]` on any device, and one f32 scale per block.
    ///
    /// # Panics
    /// If the parts do not have these lengths.
    pub fn new(packed: Tensor, absmax: &[f32], form: Form) -> Self {
        let numbers = form.shape.iter().product::<i64>() as usize;
        assert_eq!((packed.kind(), packed.numel(), numbers % 2), (Kind::Uint8, numbers / 2, 0), "packed bytes");
        assert_eq!((absmax.len(), form.block % 2), (numbers.div_ceil(form.block), 0), "one scale per block");
        let absmax = Tensor::from_slice(absmax).to_device(packed.device());
        Self { packed: packed.view([-1]), absmax, form }
    }

    /// `weight [d_out, d_in]`, of floats on the CPU, to the 4-bit numbers that bitsandbytes makes of it in blocks of
    /// [`BLOCK`]; with `double`, scales are then rounded as [`DoubleScales`] does. Needs f32 copies of a few million numbers.
    ///
    /// Errs when libtorch runs out of memory, and when the matrix has an odd number of numbers.
    pub fn quantize(weight: &Tensor, double: bool) -> Result<Self> {
        let size = weight.size();
        let &[d_out, d_in] = size.as_slice() else {
            return Err(failure(format!("a matrix is needed, this has shape {size:?}")));
        };
        let n = d_out * d_in;
        if n % 2 != 0 {
            return Err(failure(format!("{d_out} times {d_in} numbers cannot be packed two by two")));
        }
        let mut packed = vec![0u8; n as usize / 2];
        let mut absmax = vec![0f32; (n as usize).div_ceil(BLOCK)];
        let flat = weight.f_reshape([-1]).map_err(torch)?;
        let mut at = 0;
        while at < n {
            let len = PIECE.min(n - at);
            let numbers = flat.f_narrow(0, at, len).and_then(|part| part.f_to_kind(Kind::Float)).map_err(torch)?;
            let numbers = numbers.f_contiguous().map_err(torch)?;
            // SAFETY: a contiguous f32 tensor on the CPU of `len` numbers, which outlives the slice.
            let numbers = unsafe { std::slice::from_raw_parts(numbers.data_ptr().cast::<f32>(), len as usize) };
            let (from, blocks) = (at as usize, numbers.len().div_ceil(BLOCK));
            let bytes = &mut packed[from / 2..][..numbers.len() / 2];
            quantize(numbers, bytes, &mut absmax[from / BLOCK..][..blocks], threads(numbers.len()));
            at += len;
        }
        if double {
            absmax = DoubleScales::quantize(&absmax)?.expand();
        }
        let form = Form { code: CODE, block: BLOCK, shape: [d_out, d_in], double, made_of: weight.kind() };
        Ok(Self::new(Tensor::from_slice(&packed), &absmax, form))
    }

    /// The same matrix, sharing its numbers.
    pub fn share(&self) -> Self {
        Self { packed: self.packed.shallow_clone(), absmax: self.absmax.shallow_clone(), form: self.form }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.packed.device()
    }

    /// The matrix in 4 bits once more after `change`, as peft merges an adapter into 4-bit weights: `change` gets the numbers
    /// in f32, rounded to the dtype of the weights that were quantised.
    ///
    /// Errs as [`Nf4::quantize`] does.
    pub fn changed(&self, change: impl FnOnce(Tensor) -> Tensor) -> Result<Self> {
        let Form { double, made_of, .. } = self.form;
        let again =
            Self::quantize(&change(self.dequantize(Kind::Float).to_kind(made_of).to_kind(Kind::Float)), double)?;
        Ok(Self { form: Form { made_of, ..again.form }, ..again })
    }

    /// The same on another device. Errs when there is no room for it.
    pub fn to_device(self, device: Device) -> Result<Self> {
        let [packed, absmax] = [&self.packed, &self.absmax].map(|part| part.f_to_device(device).map_err(torch));
        Ok(Self { packed: packed?, absmax: absmax?, ..self })
    }

    /// The matrix `[d_out, d_in]` in `kind`: f32, bf16 or f64. Each number is the product of table entry and scale in f32,
    /// rounded once if `kind` is narrower.
    ///
    /// # Panics
    /// As tch's own operators do, when memory runs out; and for other dtypes.
    pub fn dequantize(&self, kind: Kind) -> Tensor {
        if self.packed.device() != Device::Cpu {
            return self.dequantize_by_torch(kind);
        }
        match kind {
            Kind::Float => self.filled::<f32>(kind),
            Kind::BFloat16 => self.filled::<Bf16>(kind),
            Kind::Double => self.filled::<f64>(kind),
            other => panic!("4-bit weights do not become {other:?}"),
        }
    }

    fn filled<T: Number>(&self, kind: Kind) -> Tensor {
        let out = Tensor::empty(self.form.shape, (kind, Device::Cpu));
        let n = out.numel();
        // SAFETY: fresh, contiguous and of `n` numbers of `T`'s size; nobody else has it yet, and every number is written.
        let numbers = unsafe { std::slice::from_raw_parts_mut(out.data_ptr().cast::<T>(), n) };
        // SAFETY: contiguous tensors on the CPU of these lengths, checked when they were put together, never written to.
        let (packed, absmax) = unsafe {
            let packed = std::slice::from_raw_parts(self.packed.data_ptr().cast::<u8>(), n / 2);
            (packed, std::slice::from_raw_parts(self.absmax.data_ptr().cast::<f32>(), n.div_ceil(self.form.block)))
        };
        dequantize(packed, absmax, &self.form.code, self.form.block, numbers, threads(n));
        out
    }

    /// The same by libtorch's operators, for devices that a loop of ours cannot reach.
    fn dequantize_by_torch(&self, kind: Kind) -> Tensor {
        let (high, low) = (self.packed.bitwise_right_shift_tensor_scalar(4), self.packed.bitwise_and(15));
        let indices = Tensor::stack(&[high, low], -1).view([-1]).to_kind(Kind::Int);
        let code = Tensor::from_slice(&self.form.code).to_device(self.packed.device());
        let scales = self.absmax.repeat_interleave_self_int(self.form.block as i64, 0, None);
        let numbers = code.index_select(0, &indices) * scales.narrow(0, 0, indices.size()[0]);
        numbers.to_kind(kind).view(self.form.shape)
    }

    /// The packed indices, u8 `[d_out · d_in / 2]`.
    pub fn packed(&self) -> &Tensor {
        &self.packed
    }

    /// The scales, f32 `[block]`.
    pub fn absmax(&self) -> &Tensor {
        &self.absmax
    }
}

/// Threads worth starting for `n` numbers, of those that libtorch may use.
fn threads(n: usize) -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).min(n >> 17).max(1)
}

fn torch(source: TchError) -> Error {
    failure(source.to_string().lines().next().unwrap_or_default().to_owned())
}

fn failure(message: String) -> Error {
    Error::Torch { context: "quantising a weight to 4 bits".into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(d_out: i64, d_in: i64) -> Tensor {
        let numbers = Tensor::arange(d_out * d_in, (Kind::Double, Device::Cpu)) * 0.7;
        numbers.sin().to_kind(Kind::Float).view([d_out, d_in])
    }

    #[test]
    fn both_ways_back_give_the_same_bits_in_every_dtype() {
        // A last block of 20 numbers, and enough of them for several threads.
        for (d_out, d_in) in [(6, 14), (700, 900)] {
            for double in [false, true] {
                let packed = Nf4::quantize(&wave(d_out, d_in), double).unwrap();
                for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
                    let fast = packed.dequantize(kind);
                    assert_eq!((fast.size(), fast.kind()), (vec![d_out, d_in], kind));
                    assert!(fast.equal(&packed.dequantize_by_torch(kind)), "{d_out} x {d_in}, {double}, {kind:?}");
                }
            }
        }
    }

    #[test]
    fn errors_stay_below_half_the_widest_gap_and_pieces_do_not_show() {
        let weight = wave(3, PIECE / 2 + 64);
        let back = Nf4::quantize(&weight, false).unwrap().dequantize(Kind::Float);
        let worst = (&back - &weight).abs().max().double_value(&[]);
        assert!((0.1..0.1519).contains(&worst), "the widest gap is 0.3038: {worst}");
        let (from, len) = (PIECE - 128, 256);
        let around = weight.reshape([-1]).narrow(0, from, len).view([1, len]);
        let alone = Nf4::quantize(&around, false).unwrap().dequantize(Kind::Float);
        assert!(alone.equal(&back.reshape([-1]).narrow(0, from, len).view([1, len])));
    }

    #[test]
    fn what_is_no_even_matrix_is_refused() {
        for size in [vec![3, 5], vec![4], vec![2, 2, 2]] {
            let weight = Tensor::ones(&size, (Kind::Float, Device::Cpu));
            assert!(Nf4::quantize(&weight, false).is_err(), "{size:?}");
        }
    }
}
