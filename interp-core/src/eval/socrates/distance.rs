//! Rows by study and condition, and the distance of the two distributions of each.

use super::Prediction;
use crate::eval::{to_uniform, wasserstein};

/// Most answers that a uniform guesser chooses among one by one; beyond, the choice counts as continuous.
const OPTIONS: f64 = 10_000.0;

/// The rows of one condition of one study that have both numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The study.
    pub study: String,
    /// The condition.
    pub condition: String,
    /// Human answers.
    pub truth: Vec<f64>,
    /// Predicted ones, row by row.
    pub predicted: Vec<f64>,
}

/// Distances of a group's distributions, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distances {
    /// Each stretched by its own extremes; constants become 0.
    pub self_minmax: f64,
    /// On the range of the human answers, predictions cut off; `None` where all humans answered alike.
    pub ref_range: Option<f64>,
    /// On the same scale, of someone who guesses uniformly over that range.
    pub uniform: Option<f64>,
}

/// Groups in order of first appearance, those with a single row included.
pub fn groups(rows: &[Prediction]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: std::collections::HashMap<(&str, &str), usize> = std::collections::HashMap::new();
    for row in rows {
        let Some((truth, predicted)) = row.pair() else { continue };
        let place = *places.entry((&row.study, &row.condition)).or_insert_with(|| {
            groups.push(Group {
                study: row.study.clone(),
                condition: row.condition.clone(),
                truth: Vec::new(),
                predicted: Vec::new(),
            });
            groups.len() - 1
        });
        groups[place].truth.push(truth);
        groups[place].predicted.push(predicted);
    }
    groups
}

impl Group {
    /// `None` for a single row, which has no distribution.
    pub fn distances(&self) -> Option<Distances> {
        if self.truth.len() < 2 {
            return None;
        }
        let self_minmax = wasserstein(&stretched(&self.truth), &stretched(&self.predicted))?;
        let (low, high) = extremes(&self.truth);
        if low == high {
            return Some(Distances { self_minmax, ref_range: None, uniform: None });
        }
        let on_range = |x: &f64| ((x - low) / (high - low)).clamp(0.0, 1.0);
        let truth: Vec<f64> = self.truth.iter().map(on_range).collect();
        let predicted: Vec<f64> = self.predicted.iter().map(on_range).collect();
        let options = high - low + 1.0;
        let whole = self.truth.iter().all(|x| x.fract() == 0.0) && options <= OPTIONS;
        let uniform = match whole {
            true => {
                let grid: Vec<f64> = (0..options as usize).map(|i| i as f64 / (high - low)).collect();
                wasserstein(&truth, &grid)
            }
            false => to_uniform(&truth),
        };
        Some(Distances { self_minmax, ref_range: wasserstein(&truth, &predicted), uniform })
    }
}

fn extremes(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
}

fn stretched(values: &[f64]) -> Vec<f64> {
    let (low, high) = extremes(values);
    values.iter().map(|x| if high - low > 0.0 { (x - low) / (high - low) } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(truth: &[f64], predicted: &[f64]) -> Option<Distances> {
        let (truth, predicted) = (truth.to_vec(), predicted.to_vec());
        Group { study: "s".into(), condition: "1".into(), truth, predicted }.distances()
    }

    #[test]
    fn constants_are_told_apart_on_the_human_range_only() {
        let two = group(&[8.0, 8.0], &[1.0, 1.0]).unwrap();
        assert_eq!(two, Distances { self_minmax: 0.0, ref_range: None, uniform: None });
        let far = group(&[1.0, 5.0], &[5.0, 5.0]).unwrap();
        assert_eq!((far.self_minmax, far.ref_range), (0.5, Some(0.5)));
        let beyond = group(&[1.0, 5.0], &[1.0, 2e99]).unwrap();
        assert_eq!((beyond.self_minmax, beyond.ref_range), (0.0, Some(0.0)));
        assert_eq!(group(&[1.0], &[1.0]), None);
    }

    #[test]
    fn uniform_guessing_over_the_options_that_there_are() {
        assert_eq!(group(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0; 5]).unwrap().uniform, Some(0.0));
        assert_eq!(group(&[1.5, 2.5], &[1.0; 2]).unwrap().uniform, Some(0.25));
        assert_eq!(group(&[0.0, 1e6], &[1.0; 2]).unwrap().uniform, Some(0.25));
    }
}
