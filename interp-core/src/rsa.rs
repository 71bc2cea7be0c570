//! Representational similarity analysis: do the rows that a head writes lie as a hypothesis about them says? Plain slices in,
//! numbers out; no tensors, no files.
//!
//! A *row* is one vector: what a head has at one position of one prompt. Matrices of similarities are `[row, row]`, row-major.
//! The measure is that of Yang et al. (ICML 2025): cosine similarity of the rows, compared with a matrix that is 1 where two
//! rows should be alike and 0 where they should not, by Pearson's r of the strictly lower triangles.

mod identity;

pub use self::identity::{IdentityPrompt, Labels, Rule, Variable};
use crate::error::{Error, Result};

/// Entries of a matrix that differ by less are equal: rows that are alike up to a rounding in f32 have cosines that differ from 1
/// by its square.
const SPREAD: f64 = 1e-12;

/// Fewest rows whose matrices can be correlated: two rows have one similarity, and one number correlates with nothing.
pub const MIN_ROWS: usize = 3;

/// Cosine similarities `[row, row]` of `rows`. A row of zeros has no direction: it is 0 alike to all others and to itself.
pub fn cosine<T: Copy + Into<f64>>(rows: &[&[T]]) -> Vec<f64> {
    let unit: Vec<Vec<f64>> = rows.iter().map(|row| unit(row)).collect();
    let n = rows.len();
    let mut matrix = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let product: f64 = unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum();
            matrix[i * n + j] = product;
            matrix[j * n + i] = product;
        }
    }
    matrix
}

fn unit<T: Copy + Into<f64>>(row: &[T]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|&x| x.into()).collect();
    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 { row.into_iter().map(|x| x / norm).collect() } else { row }
}

/// What a hypothesis expects `[row, row]`: 1 where two rows have equal labels, else 0.
pub fn expected<T: PartialEq>(labels: &[T]) -> Vec<f64> {
    let same = |a: &T, b: &T| f64::from(u8::from(a == b));
    labels.iter().flat_map(|a| labels.iter().map(move |b| same(a, b))).collect()
}

/// Pearson's r of the strictly lower triangles of two matrices over `n` rows. `None` where either is constant there: then
/// nothing can be correlated with it. Errs for fewer than [`MIN_ROWS`] rows.
pub fn correlation(a: &[f64], b: &[f64], n: usize) -> Result<Option<f64>> {
    if n < MIN_ROWS {
        return Err(Error::Statistics {
            what: "rows",
            value: n.to_string(),
            problem: format!("similarities are correlated over {MIN_ROWS} rows or more"),
        });
    }
    assert!(a.len() == n * n && b.len() == n * n, "matrices over {n} rows");
    let lower = |matrix: &[f64]| -> Vec<f64> { (0..n).flat_map(|i| matrix[i * n..i * n + i].to_vec()).collect() };
    let (a, b) = (lower(a), lower(b));
    if is_constant(&a) || is_constant(&b) {
        return Ok(None);
    }
    let (a, b) = (deviations(&a), deviations(&b));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    Ok(Some((product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()).clamp(-1.0, 1.0)))
}

fn is_constant(values: &[f64]) -> bool {
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    // What is not a number varies in no way that means something.
    high - low < SPREAD || values.iter().any(|x| !x.is_finite())
}

fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|x| x - mean).collect()
}

/// Σ w·r / Σ w over the heads that have an r. `None` where none has, or where the weights do not add up to more than 0.
pub fn weighted_mean(heads: impl IntoIterator<Item = (Option<f64>, f64)>) -> Option<f64> {
    let (sum, weights) =
        heads.into_iter().filter_map(|(r, w)| Some((r?, w))).fold((0.0, 0.0), |(s, ws), (r, w)| (s + w * r, ws + w));
    (weights > 0.0).then(|| sum / weights)
}

/// The weighted mean of matrices, entry by entry. `None` without any, or where the weights do not add up to more than 0.
pub fn weighted_matrix<'a>(matrices: impl IntoIterator<Item = (&'a [f64], f64)>) -> Option<Vec<f64>> {
    let (mut sum, mut weights) = (Vec::new(), 0.0);
    for (matrix, w) in matrices {
        sum.resize(matrix.len(), 0.0);
        sum.iter_mut().zip(matrix).for_each(|(sum, x)| *sum += w * x);
        weights += w;
    }
    (weights > 0.0).then(|| sum.into_iter().map(|x| x / weights).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa<T: PartialEq>(rows: &[&[f64]], labels: &[T]) -> Option<f64> {
        correlation(&cosine(rows), &expected(labels), rows.len()).unwrap()
    }

    #[test]
    fn the_golden_vector() {
        let rows: [&[f64]; 4] = [&[1.0, 0.0, 0.1], &[0.9, 0.1, 0.0], &[0.0, 1.0, 0.2], &[0.1, 0.8, 0.0]];
        let r = rsa(&rows, &["A", "A", "B", "B"]).unwrap();
        assert!((r - 0.988_485_744_497_679_7).abs() < 1e-15, "{r}");
    }

    #[test]
    fn perfect_codes_correlate_perfectly() {
        // Rows that are one of two directions, at any length.
        let (a, b) = ([3.0, 0.0], [0.0, 0.5]);
        let rows: [&[f64]; 5] = [&a, &b, &[0.1, 0.0], &b, &a];
        assert_eq!(rsa(&rows, &['A', 'B', 'A', 'B', 'A']), Some(1.0));
        assert!(rsa(&rows, &[1, 2, 3, 1, 2]).unwrap() < 0.0);
        // One direction per token.
        let tokens: [&[f64]; 4] = [&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0], &[2.0, 0.0, 0.0]];
        assert_eq!(rsa(&tokens, &[7, 8, 9, 7]), Some(1.0));
    }

    #[test]
    fn constant_matrices_have_no_correlation() {
        let same: [&[f64]; 3] = [&[1.0, 2.0], &[2.0, 4.0], &[0.5, 1.0]];
        assert_eq!(rsa(&same, &['A', 'B', 'A']), None, "all rows point the same way");
        // Rows that differ by roundings of f32.
        let noisy: [&[f64]; 3] = [&[1.0, 2.0], &[1.0 + 1e-7, 2.0], &[1.0, 2.0 - 2e-7]];
        assert_eq!(rsa(&noisy, &['A', 'B', 'A']), None);
        let zeros: [&[f64]; 3] = [&[0.0, 0.0]; 3];
        assert_eq!(rsa(&zeros, &['A', 'B', 'A']), None);
        let rows: [&[f64]; 3] = [&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0]];
        assert_eq!(rsa(&rows, &['A', 'A', 'A']), None, "a hypothesis that tells no rows apart");
        let broken: [&[f64]; 3] = [&[f64::NAN, 0.0], &[0.0, 1.0], &[1.0, 1.0]];
        assert_eq!(rsa(&broken, &['A', 'B', 'A']), None);
    }

    #[test]
    fn two_rows_are_too_few() {
        let error = correlation(&[1.0; 4], &[1.0; 4], 2).unwrap_err();
        assert_eq!(error.to_string(), "rows 2: similarities are correlated over 3 rows or more");
    }

    #[test]
    fn means_are_weighted_by_effect() {
        assert_eq!(weighted_mean([(Some(1.0), 3.0), (Some(-1.0), 1.0), (None, 9.0)]), Some(0.5));
        assert_eq!(weighted_mean([(None, 1.0)]), None);
        assert_eq!(weighted_mean([(Some(1.0), 1.0), (Some(0.0), -1.0)]), None);
        let (one, other): (&[f64], &[f64]) = (&[1.0, 0.0], &[0.0, 1.0]);
        assert_eq!(weighted_matrix([(one, 1.0), (other, 3.0)]), Some(vec![0.25, 0.75]));
        assert_eq!(weighted_matrix([]), None);
    }
}
