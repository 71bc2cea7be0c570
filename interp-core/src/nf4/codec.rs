//! Numbers to 4-bit indices and back, over plain slices. The rule is bitsandbytes' own, to the bit.

/// Numbers that share a scale when we quantise.
pub const BLOCK: usize = 64;

/// The 16 numbers of NF4 (Dettmers et al. 2023, the f32 values of bitsandbytes), ascending from −1 to 1.
pub const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Midpoints of the table: a number above the i-th has an index above i.
const BOUNDS: [f32; 15] = {
    let mut bounds = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        bounds[i] = (CODE[i] + CODE[i + 1]) / 2.0;
        i += 1;
    }
    bounds
};

/// Scales are not taken for smaller than this when numbers are divided by them, so that a block of zeros stays one.
const LEAST: f32 = 1e-38;

/// What weights are multiplied in.
pub(super) trait Number: Copy + Send {
    fn from_f32(number: f32) -> Self;
}

impl Number for f32 {
    fn from_f32(number: f32) -> Self {
        number
    }
}

impl Number for f64 {
    fn from_f32(number: f32) -> Self {
        number.into()
    }
}

/// A bf16 number as libtorch has it in memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Bf16(u16);

impl Number for Bf16 {
    /// The nearest, ties to even. Scales and tables are finite, so NaN needs no care.
    fn from_f32(number: f32) -> Self {
        let bits = number.to_bits();
        Self(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }
}

/// Quantises `numbers`, an even number of finite ones, in blocks of [`BLOCK`], of which the last may be short: indices of
/// two numbers per byte of `packed` (the first in the high half), and each block's largest absolute value.
///
/// Up to `threads` threads share the blocks, and make the same bits as one.
pub fn quantize(numbers: &[f32], packed: &mut [u8], absmax: &mut [f32], threads: usize) {
    let blocks = absmax.len().div_ceil(threads.max(1)).max(1);
    let parts =
        numbers.chunks(blocks * BLOCK).zip(packed.chunks_mut(blocks * BLOCK / 2)).zip(absmax.chunks_mut(blocks));
    share(parts, |((numbers, packed), absmax)| {
        let blocks = numbers.chunks(BLOCK).zip(packed.chunks_mut(BLOCK / 2)).zip(absmax);
        blocks.for_each(|((numbers, packed), absmax)| *absmax = quantize_block(numbers, packed));
    });
}

fn quantize_block(numbers: &[f32], packed: &mut [u8]) -> f32 {
    let largest = numbers.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
    let mut scaled = [0.0f32; BLOCK];
    let mut indices = [0u32; BLOCK];
    // bitsandbytes multiplies whole blocks by the inverse and divides a short one, which differ in last bits.
    let absmax = if numbers.len() == BLOCK {
        let inverse = 1.0 / largest.max(LEAST);
        scaled.iter_mut().zip(numbers).for_each(|(scaled, number)| *scaled = (number * inverse).clamp(-1.0, 1.0));
        largest
    } else {
        let divisor = largest.max(LEAST);
        scaled.iter_mut().zip(numbers).for_each(|(scaled, number)| *scaled = (number / divisor).clamp(-1.0, 1.0));
        divisor
    };
    // Without branches, over all numbers for each bound, so that it becomes vector code.
    for bound in BOUNDS {
        indices.iter_mut().zip(&scaled).for_each(|(index, &number)| *index += u32::from(number > bound));
    }
    let pairs = indices.chunks_exact(2);
    packed.iter_mut().zip(pairs).for_each(|(byte, pair)| *byte = (pair[0] << 4 | pair[1]) as u8);
    absmax
}

/// The numbers of packed indices: `code[index]` times the scale of the number's block, in f32, and then as `T`.
///
/// Up to `threads` threads share the blocks.
pub(super) fn dequantize<T: Number>(
    packed: &[u8],
    absmax: &[f32],
    code: &[f32; 16],
    block: usize,
    out: &mut [T],
    threads: usize,
) {
    let blocks = absmax.len().div_ceil(threads.max(1)).max(1);
    let parts = out.chunks_mut(blocks * block).zip(packed.chunks(blocks * block / 2)).zip(absmax.chunks(blocks));
    share(parts, |((out, packed), absmax)| {
        for ((out, packed), scale) in out.chunks_mut(block).zip(packed.chunks(block / 2)).zip(absmax) {
            // A block has at least twice as many numbers as there are different ones.
            let table = code.map(|number| T::from_f32(number * scale));
            for (pair, byte) in out.chunks_exact_mut(2).zip(packed) {
                pair[0] = table[usize::from(byte >> 4)];
                pair[1] = table[usize::from(byte & 15)];
            }
        }
    });
}

/// `work` on every part, each in a thread of its own if there are several.
fn share<P: Send>(mut parts: impl ExactSizeIterator<Item = P>, work: impl Fn(P) + Sync) {
    if parts.len() < 2 {
        parts.for_each(work);
        return;
    }
    let work = &work;
    std::thread::scope(|scope| {
        let first = parts.next();
        parts.for_each(|part| {
            scope.spawn(move || work(part));
        });
        first.into_iter().for_each(work);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_table_come_back_as_they_are() {
        let numbers: Vec<f32> = CODE.iter().cycle().take(BLOCK).map(|number| number * 3.0).collect();
        let (mut packed, mut absmax) = (vec![0; BLOCK / 2], vec![0.0; 1]);
        quantize(&numbers, &mut packed, &mut absmax, 1);
        assert_eq!((absmax[0], &packed[..8]), (3.0, &[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef][..]));
        let mut back = vec![0.0f32; BLOCK];
        dequantize(&packed, &absmax, &CODE, BLOCK, &mut back, 1);
        assert_eq!(back, numbers);
    }

    #[test]
    fn a_midpoint_goes_down_and_what_is_above_goes_up() {
        for (i, bound) in BOUNDS.into_iter().enumerate() {
            let mut packed = [0u8; BLOCK / 2];
            let mut numbers = [1.0; BLOCK];
            (numbers[0], numbers[1]) = (bound, bound + bound.abs() * 1e-6);
            quantize_block(&numbers, &mut packed);
            assert_eq!(usize::from(packed[0]), i << 4 | (i + 1), "{bound}");
        }
    }

    #[test]
    fn zeros_stay_zeros_and_threads_change_nothing() {
        let mut numbers: Vec<f32> = (0..BLOCK * 9 + 30).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.1).collect();
        numbers[BLOCK..2 * BLOCK].fill(0.0);
        let made = |threads| {
            let (mut packed, mut absmax) = (vec![0; numbers.len() / 2], vec![0.0; 10]);
            quantize(&numbers, &mut packed, &mut absmax, threads);
            let mut back = vec![0.0f64; numbers.len()];
            dequantize(&packed, &absmax, &CODE, BLOCK, &mut back, threads);
            (packed, absmax, back)
        };
        let one = made(1);
        assert!(one.2[BLOCK..2 * BLOCK].iter().all(|&number| number == 0.0) && one.1[1] == 0.0);
        assert!([2, 3, 10, 64].into_iter().all(|threads| made(threads) == one));
    }

    #[test]
    fn bf16_rounds_to_the_nearest_even() {
        let rounded = |number: f32| f32::from_bits(u32::from(Bf16::from_f32(number).0) << 16);
        assert_eq!(
            [1.0, -0.0, 257.0 / 256.0, 259.0 / 256.0, -1.005].map(rounded),
            [1.0, -0.0, 1.0, 1.015625, -1.0078125]
        );
    }
}
