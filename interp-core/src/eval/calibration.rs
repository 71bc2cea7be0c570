//! Is stated confidence the frequency of being right? Expected and largest calibration error over ten bins, Brier score, and
//! how often high confidence is wrong and low confidence right.
//!
//! Bin edges are the products i·0.1 in f64, as in the published code: the third is 0.30000000000000004, so that a confidence of
//! 0.3 lies in the bin below it. Naive binning by the first decimal gives other numbers.

use super::sums::{in_order, mean_in_order};

/// Number of bins.
pub const N_BINS: usize = 10;
/// Confidence above this is high, below that low.
const HIGH: f64 = 0.8;
const LOW: f64 = 0.3;

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Lower edge, inclusive.
    pub lower: f64,
    /// Upper edge, exclusive; the last bin also holds 1.
    pub upper: f64,
    /// Mean confidence of its samples; the middle of the bin where there are none.
    pub confidence: f64,
    /// Share of its samples that are right; 0 where there are none.
    pub accuracy: f64,
    /// Number of samples.
    pub count: usize,
    /// |accuracy − confidence|; 0 where there are none.
    pub error: f64,
}

/// All calibration numbers of a set of samples; 0 where there is no sample to speak of.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Expected calibration error: mean of the bins' errors, weighted by their counts.
    pub ece: f64,
    /// Largest error of a bin.
    pub mce: f64,
    /// Mean squared difference of confidence and outcome.
    pub brier: f64,
    /// Share wrong among confidence above 0.8.
    pub overconfidence: f64,
    /// Share right among confidence below 0.3.
    pub underconfidence: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// Share right.
    pub accuracy: f64,
    /// Number of samples.
    pub n: usize,
    /// [`N_BINS`] bins; none without samples.
    pub bins: Vec<Bin>,
}

/// Calibration of `(confidence, right)` pairs. Confidence is 0 to 1; what lies outside is in no bin.
pub fn calibration(samples: &[(f64, bool)]) -> Calibration {
    let n = samples.len();
    let outcome = |right: bool| f64::from(u8::from(right));
    let bins: Vec<Bin> = if n == 0 { Vec::new() } else { (0..N_BINS).map(|i| bin(i, samples)).collect() };
    let filled = || bins.iter().filter(|bin| bin.count > 0);
    let shares: Vec<f64> = filled().map(|bin| bin.count as f64 / n as f64 * bin.error).collect();
    let squares: Vec<f64> = samples.iter().map(|&(c, right)| (c - outcome(right)).powi(2)).collect();
    let confidences: Vec<f64> = samples.iter().map(|sample| sample.0).collect();
    let rate = |of: &dyn Fn(f64) -> bool, counts: bool| {
        let among: Vec<bool> = samples.iter().filter(|(c, _)| of(*c)).map(|(_, right)| *right).collect();
        let hits = among.iter().filter(|right| **right == counts).count();
        if among.is_empty() { 0.0 } else { hits as f64 / among.len() as f64 }
    };
    Calibration {
        ece: in_order(&shares),
        mce: filled().map(|bin| bin.error).fold(0.0, f64::max),
        brier: mean_in_order(&squares).unwrap_or(0.0),
        overconfidence: rate(&|c| c > HIGH, false),
        underconfidence: rate(&|c| c < LOW, true),
        confidence: mean_in_order(&confidences).unwrap_or(0.0),
        accuracy: rate(&|_| true, true),
        n,
        bins,
    }
}

fn bin(i: usize, samples: &[(f64, bool)]) -> Bin {
    let width = 1.0 / N_BINS as f64;
    let (lower, upper) = (i as f64 * width, (i + 1) as f64 * width);
    let holds = |c: f64| (lower <= c && c < upper) || (i == N_BINS - 1 && c == 1.0);
    let inside: Vec<(f64, bool)> = samples.iter().copied().filter(|&(c, _)| holds(c)).collect();
    let confidences: Vec<f64> = inside.iter().map(|sample| sample.0).collect();
    let Some(confidence) = mean_in_order(&confidences) else {
        return Bin { lower, upper, confidence: (lower + upper) / 2.0, accuracy: 0.0, count: 0, error: 0.0 };
    };
    let accuracy = inside.iter().filter(|sample| sample.1).count() as f64 / inside.len() as f64;
    Bin { lower, upper, confidence, accuracy, count: inside.len(), error: (accuracy - confidence).abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_edges_decide() {
        let c = [0.25, 0.3, 0.6, 0.65, 0.7, 1.0];
        let right = [false, true, false, true, true, true];
        let found = calibration(&c.into_iter().zip(right).collect::<Vec<_>>());
        assert_eq!(found.ece, 0.2833333333333333);
        let filled: Vec<(usize, usize)> =
            found.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0).map(|(i, bin)| (i, bin.count)).collect();
        assert_eq!(filled, [(2, 2), (5, 1), (6, 2), (9, 1)]);
        assert_eq!((found.overconfidence, found.underconfidence, found.n), (0.0, 0.0, 6));
        assert_eq!((found.mce, found.accuracy), (0.6, 4.0 / 6.0));
    }

    #[test]
    fn nothing_is_calibrated_as_nothing() {
        let found = calibration(&[]);
        assert_eq!((found.ece, found.mce, found.brier, found.n, found.bins.len()), (0.0, 0.0, 0.0, 0, 0));
        let one = calibration(&[(1.0, false)]);
        assert_eq!((one.ece, one.overconfidence, one.bins[9].count), (1.0, 1.0, 1));
    }
}
