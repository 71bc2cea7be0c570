//! Sums in a given order of additions. Two programs that add the same numbers in another order differ in their last digits.

/// From left to right, as Python's `sum` does up to version 3.11.
pub fn in_order(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// As numpy adds a contiguous array: eight running sums over blocks of up to 128 numbers, and halves above that.
pub fn by_blocks(values: &[f64]) -> f64 {
    const BLOCK: usize = 128;
    match values.len() {
        0..8 => in_order(values),
        n if n <= BLOCK => {
            let mut sums: [f64; 8] = std::array::from_fn(|i| values[i]);
            let whole = n - n % 8;
            for eight in values[8..whole].chunks_exact(8) {
                sums.iter_mut().zip(eight).for_each(|(sum, value)| *sum += value);
            }
            let [a, b, c, d, e, f, g, h] = sums;
            let first = ((a + b) + (c + d)) + ((e + f) + (g + h));
            values[whole..].iter().fold(first, |sum, value| sum + value)
        }
        n => {
            let half = n / 2 - n / 2 % 8;
            by_blocks(&values[..half]) + by_blocks(&values[half..])
        }
    }
}

/// [`in_order`] over the count; `None` of nothing.
pub fn mean_in_order(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| in_order(values) / values.len() as f64)
}

/// [`by_blocks`] over the count; `None` of nothing.
pub fn mean_by_blocks(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| by_blocks(values) / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_summed_once_and_the_order_shows_in_the_last_digits() {
        for n in 0..400 {
            let whole: Vec<f64> = (0..n).map(f64::from).collect();
            assert_eq!((by_blocks(&whole), in_order(&whole)), (f64::from(n * (n - 1) / 2), f64::from(n * (n - 1) / 2)));
        }
        let tenths = vec![0.1; 100];
        assert_eq!((in_order(&tenths), by_blocks(&tenths)), (9.99999999999998, 9.999999999999998));
    }
}
