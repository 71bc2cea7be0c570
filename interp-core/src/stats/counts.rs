//! Counts of yes and no: Wilson's interval of a share, and McNemar's exact test of two answers to each of the same questions.

use super::bca::normal_quantile;

/// Wilson's score interval (1927) of `hits` out of `n` independent trials, without continuity correction; `level` such as 0.95.
/// `None` for no trial, and for a level outside 0 to 1.
pub fn wilson(hits: usize, n: usize, level: f64) -> Option<[f64; 2]> {
    let z = normal_quantile((1.0 + level) / 2.0).filter(|z| n > 0 && *z > 0.0)?;
    let (k, n) = (hits as f64, n as f64);
    let share = k / n;
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // At the ends the formula gives 0 and 1 but for a rounding.
    let low = if hits == 0 { 0.0 } else { middle - half };
    let high = if k == n { 1.0 } else { middle + half };
    Some([low, high])
}

/// Two-sided p of McNemar's exact test: `only_a` questions are answered right by a alone, `only_b` by b alone. Twice the chance
/// that a fair coin falls on one side at most min(only_a, only_b) times, and at most 1.
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let n = only_a + only_b;
    // ln C(n, k) step by step: the terms themselves are too small for a float from about a thousand questions on.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut terms = vec![ln_term];
    for k in 1..=only_a.min(only_b) {
        ln_term += ((n - k + 1) as f64 / k as f64).ln();
        terms.push(ln_term);
    }
    // The last term is the largest, since k stays below the middle.
    let sum: f64 = terms.iter().map(|term| (term - ln_term).exp()).sum();
    (2.0 * (ln_term + sum.ln()).exp()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with statsmodels 0.15.0: `proportion_confint(hits, n, 1 - level, method="wilson")`.
    const WILSON: [(usize, usize, f64, f64, f64); 7] = [
        (0, 10, 0.95, 0.0, 0.2775327998628892),
        (10, 10, 0.95, 0.7224672001371107, 0.9999999999999999),
        (1, 3, 0.95, 0.06149194472039621, 0.7923403991979522),
        (68, 100, 0.95, 0.5833738138954762, 0.7633085267500092),
        (83, 100, 0.9, 0.7597233990511757, 0.8828904052319292),
        (3500, 7217, 0.99, 0.4698333375041262, 0.5001263845601623),
        (1, 100_000, 0.95, 1.7652477303783126e-06, 5.664709659040966e-05),
    ];

    /// Made with statsmodels 0.15.0 and scipy 1.17.1: `mcnemar([[9, a], [b, 9]], exact=True).pvalue`.
    const MCNEMAR: [(usize, usize, f64); 9] = [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 0.0625),
        (3, 3, 1.0),
        (10, 25, 0.016673847800120715),
        (37, 12, 0.0004697573180081349),
        (200, 260, 0.0058839224731039984),
        (4000, 4400, 1.3353978213570538e-05),
        (1500, 3000, 1.054495344069943e-112),
    ];

    #[test]
    fn intervals_are_those_of_statsmodels() {
        for (hits, n, level, low, high) in WILSON {
            let found = wilson(hits, n, level).unwrap();
            assert!((found[0] - low).abs() < 1e-12 && (found[1] - high).abs() < 1e-12, "{hits} of {n}: {found:?}");
        }
        assert_eq!((wilson(0, 0, 0.95), wilson(1, 2, 0.0), wilson(1, 2, 1.0)), (None, None, None));
    }

    #[test]
    fn exact_tests_are_those_of_statsmodels() {
        for (a, b, p) in MCNEMAR {
            for found in [mcnemar(a, b), mcnemar(b, a)] {
                assert!((found - p).abs() <= 1e-11 * p, "{a} {b}: {found} is not {p}");
            }
        }
    }
}
