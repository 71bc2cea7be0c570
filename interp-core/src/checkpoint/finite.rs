//! Finds NaN and infinity in stored numbers, as fast as memory can be read. Looks at bits; makes no tensors.

use safetensors::tensor::Dtype;

/// Below this many bytes threads cost more than they save.
const SPLIT: usize = 4 << 20;
/// Numbers per block: a block is scanned without branches, so that it becomes vector code.
const BLOCK: usize = 4096;

/// Index of the first number that is not finite and what it is, `NaN` or `infinite`. Numbers are little-endian floats of
/// `dtype`, which must be one of F16, BF16, F32 and F64.
pub(crate) fn first_bad(bytes: &[u8], dtype: Dtype) -> Option<(usize, &'static str)> {
    match dtype {
        Dtype::F16 => split(bytes, 2, |part| scan(part, 0x7c00, u16::from_le_bytes)),
        Dtype::BF16 => split(bytes, 2, |part| scan(part, 0x7f80, u16::from_le_bytes)),
        Dtype::F32 => split(bytes, 4, |part| scan(part, 0x7f80_0000, u32::from_le_bytes)),
        Dtype::F64 => split(bytes, 8, |part| scan(part, 0x7ff0_0000_0000_0000, u64::from_le_bytes)),
        _ => None,
    }
}

type Found = Option<(usize, &'static str)>;

/// Runs `scan` on the processors at hand, each on its own part; indices count from the start of `bytes`.
fn split(bytes: &[u8], size: usize, scan: impl Fn(&[u8]) -> Found + Sync) -> Found {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(bytes.len() / SPLIT);
    if threads < 2 {
        return scan(bytes);
    }
    let numbers = (bytes.len() / size).div_ceil(threads);
    let scan = &scan;
    std::thread::scope(|scope| {
        let parts: Vec<_> = bytes.chunks(numbers * size).map(|part| scope.spawn(move || scan(part))).collect();
        let found = parts.into_iter().enumerate().map(|(part, handle)| {
            let found = handle.join().expect("scanning does not panic");
            found.map(|(index, what)| (part * numbers + index, what))
        });
        // All parts are joined before the first finding is returned.
        found.collect::<Vec<_>>().into_iter().flatten().next()
    })
}

/// A float is NaN or infinite exactly when all bits of its exponent are set.
fn scan<const N: usize, U>(bytes: &[u8], exponent: U, read: impl Fn([u8; N]) -> U) -> Found
where
    U: Copy + Eq + std::ops::BitAnd<Output = U> + std::ops::Shl<u32, Output = U> + Default,
{
    let (numbers, _) = bytes.as_chunks::<N>();
    for (block, numbers) in numbers.chunks(BLOCK).enumerate() {
        let bad = numbers.iter().fold(false, |bad, &number| bad | (read(number) & exponent == exponent));
        if bad {
            let at = numbers.iter().position(|&number| read(number) & exponent == exponent)?;
            // Of an infinite number nothing but the sign and the exponent is set.
            let number = read(numbers[at]);
            let infinite = number << 1 == exponent << 1;
            return Some((block * BLOCK + at, if infinite { "infinite" } else { "NaN" }));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn finite_numbers_pass() {
        let numbers = [0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45];
        assert_eq!(first_bad(&f32s(&numbers), Dtype::F32), None);
        assert_eq!(first_bad(&f64::MAX.to_le_bytes(), Dtype::F64), None);
        assert_eq!(first_bad(&0x7bff_u16.to_le_bytes(), Dtype::F16), None);
        assert_eq!(first_bad(&0x7f7f_u16.to_le_bytes(), Dtype::BF16), None);
        assert_eq!(first_bad(&[], Dtype::F32), None);
    }

    #[test]
    fn nan_and_infinity_are_told_apart_in_every_dtype() {
        assert_eq!(first_bad(&f32s(&[1.0, f32::NAN]), Dtype::F32), Some((1, "NaN")));
        assert_eq!(first_bad(&f32s(&[-f32::INFINITY]), Dtype::F32), Some((0, "infinite")));
        assert_eq!(first_bad(&f64::NAN.to_le_bytes(), Dtype::F64), Some((0, "NaN")));
        assert_eq!(first_bad(&f64::INFINITY.to_le_bytes(), Dtype::F64), Some((0, "infinite")));
        assert_eq!(first_bad(&0xfc00_u16.to_le_bytes(), Dtype::F16), Some((0, "infinite")));
        assert_eq!(first_bad(&0x7fc0_u16.to_le_bytes(), Dtype::BF16), Some((0, "NaN")));
    }

    #[test]
    fn the_first_of_several_is_found_across_blocks_and_threads() {
        let mut numbers = vec![1.0_f32; 5_000_001];
        for at in [4_999_999, 3_000_001] {
            numbers[at] = f32::NAN;
            assert_eq!(first_bad(&f32s(&numbers), Dtype::F32), Some((at, "NaN")));
        }
    }
}
