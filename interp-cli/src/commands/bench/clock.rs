//! Seconds of repeated runs, each closed by waiting for the devices.

use std::time::Instant;

use interp_core::device::Devices;
use serde_json::{Value, json};

/// Seconds of a run, and what it gave.
pub fn timed<T>(devices: &Devices, run: impl FnOnce() -> T) -> (f64, T) {
    devices.synchronize();
    let start = Instant::now();
    let result = run();
    devices.synchronize();
    (start.elapsed().as_secs_f64(), result)
}

/// Seconds of every repeat of one thing.
#[derive(Debug, Clone, Default)]
pub struct Seconds(pub Vec<f64>);

impl Seconds {
    /// The median; NaN of nothing.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n.is_multiple_of(2) => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
            n => sorted[n / 2],
        }
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// `{"median", "min", "max"}`, in seconds.
    pub fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.least(), "max": self.most() })
    }

    /// Half the distance from the least to the most, in per cent of the median.
    pub fn spread(&self) -> String {
        format!("±{:.0} %", 50.0 * (self.most() - self.least()) / self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spreads() {
        let odd = Seconds(vec![3.0, 1.0, 2.0]);
        assert_eq!(odd.json(), json!({ "median": 2.0, "min": 1.0, "max": 3.0 }));
        assert_eq!(odd.spread(), "±50 %");
        assert_eq!(Seconds(vec![4.0, 1.0, 2.0, 3.0]).median(), 2.5);
    }
}
