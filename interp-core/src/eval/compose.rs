//! The four verifiers together: which of them apply to a sample, and one reward of what they say.

use std::fmt;
use std::str::FromStr;

use super::{Confidence, Extractor, GroundTruth, Mode, consistency, direction, facts, uncertainty};
use crate::error::{Error, Result};

/// One of BioRLHF's verifiers, numbered as in its code; its card and README exchange V1 and V2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verifier {
    /// Pathway direction.
    V1,
    /// Facts.
    V2,
    /// Consistency across contexts.
    V3,
    /// Uncertainty.
    V4,
}

/// Default weights of V1 to V4, by which every published evaluation was scored.
pub const WEIGHTS: [f64; 4] = [0.35, 0.30, 0.15, 0.20];

/// Weights of V1 to V4 in training, where absent verifiers count 0 and nothing is renormalised.
pub const TRAINING_WEIGHTS: [f64; 4] = [0.30, 0.15, 0.10, 0.45];

impl Verifier {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::V1, Self::V2, Self::V3, Self::V4];

    /// `V1` to `V4`.
    pub fn name(self) -> &'static str {
        ["V1", "V2", "V3", "V4"][self as usize]
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Verifier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|verifier| verifier.name() == text).ok_or_else(|| Error::Selector {
            what: "verifier",
            value: text.into(),
            problem: "no such verifier".into(),
            hint: Some(
                "verifiers are V1 (pathway direction), V2 (facts), V3 (consistency) and V4 (uncertainty)".into(),
            ),
        })
    }
}

/// What is scored: a completion, and what is known of its question.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The answer alone, without the prompt.
    pub completion: String,
    /// What is known of the right one.
    pub truth: GroundTruth,
    /// `direction`, `comparison`, `uncertainty`, …
    pub question_type: String,
    /// Verifiers that the question asks for.
    pub applicable: Vec<Verifier>,
}

/// How samples are scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Composer {
    weights: [f64; 4],
    active: Vec<Verifier>,
    /// What reads the confidence for V4.
    pub extractor: Extractor,
    /// What V4 does where a question says nothing.
    pub mode: Mode,
}

/// What the verifiers say of a sample. Arrays are indexed by verifier, V1 first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reward {
    /// 0 to 1; 0 where no verifier applies.
    pub total: f64,
    /// Scores of those that apply.
    pub scores: [Option<f64>; 4],
    /// Their weights, which sum to 1; 0 for the others.
    pub weights: [f64; 4],
    /// The confidence that V4 saw.
    pub confidence: Confidence,
}

impl Default for Composer {
    fn default() -> Self {
        Self {
            weights: WEIGHTS,
            active: Verifier::ALL.to_vec(),
            extractor: Extractor::default(),
            mode: Mode::default(),
        }
    }
}

impl Composer {
    /// With other weights, of V1 to V4, and only some verifiers, whose weights then sum to 1. Errs on weights that are
    /// negative, not finite or all 0.
    pub fn new(weights: [f64; 4], active: &[Verifier]) -> Result<Self> {
        let named: f64 = active.iter().map(|&verifier| weights[verifier as usize]).sum();
        let bad = weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0);
        if bad || named <= 0.0 {
            return Err(Error::Selector {
                what: "weights",
                value: weights.map(|weight| weight.to_string()).join(","),
                problem: "weights are 0 or more, and one of the verifiers that are used must have some".into(),
                hint: Some("give one number for each of V1,V2,V3,V4, such as 0.35,0.30,0.15,0.20".into()),
            });
        }
        let mut active = active.to_vec();
        active.sort_unstable();
        active.dedup();
        let weights = if active.len() < 4 { weights.map(|weight| weight / named) } else { weights };
        Ok(Self { weights, active, ..Self::default() })
    }

    /// Scores one sample.
    pub fn reward(&self, sample: &Sample) -> Reward {
        let Sample { completion: text, truth, question_type, applicable } = sample;
        let confidence = self.extractor.confidence(text);
        let asked = |verifier: Verifier| applicable.contains(&verifier) && self.active.contains(&verifier);
        let wants = |verifier: Verifier| asked(verifier).then_some(());
        // V4 judges the answer by V1 even where V1 itself is not asked for.
        let v1 = (asked(Verifier::V1) || asked(Verifier::V4)).then(|| direction(text, truth, question_type)).flatten();
        let scores = [
            wants(Verifier::V1).and(v1),
            wants(Verifier::V2).and_then(|()| facts(text, truth)),
            wants(Verifier::V3).and_then(|()| consistency(text, truth, question_type)),
            wants(Verifier::V4).map(|()| uncertainty(text, truth, confidence, v1, self.mode)),
        ];
        let (total, weights) = total(&scores, &self.weights);
        Reward { total, scores, weights, confidence }
    }
}

/// The weighted mean of the scores that are there, and their weights, renormalised to sum to 1.
pub fn total(scores: &[Option<f64>; 4], weights: &[f64; 4]) -> (f64, [f64; 4]) {
    let present: [f64; 4] = std::array::from_fn(|i| if scores[i].is_some() { weights[i] } else { 0.0 });
    let sum = present.iter().fold(0.0, |sum, weight| sum + weight);
    let shares = if sum > 0.0 { present.map(|weight| weight / sum) } else { present };
    let total = scores.iter().zip(shares).fold(0.0, |total, (score, share)| total + score.unwrap_or(0.0) * share);
    (total, shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(applicable: &[Verifier]) -> Sample {
        let truth = GroundTruth {
            pathway: Some("Hypoxia".into()),
            direction: Some("UP".into()),
            key_facts: vec!["muscle".into()],
            expected_confidence: Some("high".into()),
            ..GroundTruth::default()
        };
        let completion = "Hypoxia is increased in muscle. Confidence: 90%".into();
        Sample { completion, truth, question_type: "direction".into(), applicable: applicable.to_vec() }
    }

    #[test]
    fn only_what_is_asked_for_and_applies_counts() {
        use Verifier::*;
        let all = Composer::default().reward(&sample(&Verifier::ALL));
        // Three spellings match: the name as given, in lower case, and once more in the list.
        let (v1, v4) = (0.8 + 0.2 * 0.75, 1.0 - (0.9f64 - 1.0).abs() * 2.0);
        assert_eq!(all.scores, [Some(v1), Some(1.0), None, Some(v4)]);
        assert!((all.weights.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(all.weights[2], 0.0);
        let one = Composer::default().reward(&sample(&[V4]));
        assert_eq!((one.total, one.scores), (v4, [None, None, None, Some(v4)]));
        let none = Composer::default().reward(&sample(&[V3]));
        assert_eq!((none.total, none.weights), (0.0, [0.0; 4]));
        let two = Composer::new(WEIGHTS, &[V4, V2]).unwrap().reward(&sample(&Verifier::ALL));
        assert_eq!(two.scores, [None, Some(1.0), None, Some(v4)]);
        assert!((two.total - (0.6 + 0.4 * v4)).abs() < 1e-15);
    }

    #[test]
    fn weights_that_weigh_nothing_are_refused() {
        assert!(Composer::new([0.0, 0.0, 0.0, 1.0], &[Verifier::V1]).is_err());
        assert!(Composer::new([1.0, -1.0, 1.0, 1.0], &Verifier::ALL).is_err());
        assert!(Composer::new([f64::NAN, 1.0, 1.0, 1.0], &Verifier::ALL).is_err());
        assert_eq!("V5".parse::<Verifier>().unwrap_err().to_string(), "verifier `V5`: no such verifier");
    }
}
