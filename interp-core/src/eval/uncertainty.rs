//! V4, uncertainty: is the stated confidence the right one for this question and this answer?
//!
//! Questions with a `correct_behavior` are held to it. Otherwise, where the question has an expected confidence and V1 could
//! judge the answer, confidence should be 1 for a right answer and 0 for a wrong one. Where V1 could not, it should lie in the
//! expected range. Questions without either follow [`Mode`].

use std::fmt;
use std::str::FromStr;

use super::text::has_any;
use super::{Confidence, GroundTruth};
use crate::error::{Error, Result};

/// What V4 does where a question names neither a behaviour nor an expected confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// As V1 has judged the answer, where it has.
    #[default]
    MatchV1,
    /// Confidence near one half is best, always.
    Legacy,
}

/// Targets of the calibration-aware rule, and the least it gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aware {
    /// Confidence that a right answer should have.
    pub right: f64,
    /// Confidence that a wrong answer should have.
    pub wrong: f64,
    /// Least score.
    pub floor: f64,
}

impl Aware {
    /// The released rule.
    pub const CURRENT: Self = Self { right: 1.0, wrong: 0.0, floor: 0.2 };
    /// The rule of 30 March 2026, which some published files were scored by.
    pub const OLDER: Self = Self { right: 0.80, wrong: 0.25, floor: 0.1 };

    /// The score of a confidence, given V1's score of the answer; above 0.5 that is right.
    pub fn score(&self, confidence: f64, v1: f64) -> f64 {
        let target = if v1 > 0.5 { self.right } else { self.wrong };
        (1.0 - (confidence - target).abs() * 2.0).max(self.floor)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::MatchV1 => "match_v1",
            Mode::Legacy => "legacy",
        })
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "match_v1" => Ok(Mode::MatchV1),
            "legacy" => Ok(Mode::Legacy),
            _ => Err(Error::Selector {
                what: "V4 mode",
                value: text.into(),
                problem: "no such mode".into(),
                hint: Some("modes are match_v1 and legacy".into()),
            }),
        }
    }
}

const UNKNOWN: [&str; 9] = [
    "cannot assess",
    "cannot determine",
    "don't know",
    "fictional",
    "hypothetical",
    "no information",
    "not enough",
    "unable to",
    "unknown",
];

/// The score of V4, 0 to 1. `v1` is V1's score of the same answer, where it has one.
pub fn uncertainty(text: &str, truth: &GroundTruth, confidence: Confidence, v1: Option<f64>, mode: Mode) -> f64 {
    let c = confidence.value;
    match (&truth.correct_behavior, &truth.expected_confidence, v1) {
        (Some(wanted), ..) => {
            let says_unknown = wanted == "acknowledge_unknown" && has_any(&text.to_lowercase(), &UNKNOWN);
            behaviour(wanted, c, says_unknown)
        }
        (None, Some(_), Some(v1)) => Aware::CURRENT.score(c, v1),
        (None, Some(level), None) => in_range(c, level),
        (None, None, Some(v1)) if mode == Mode::MatchV1 => Aware::CURRENT.score(c, v1),
        (None, None, _) => (1.0 - (c - 0.5).abs() * 1.5).max(0.2),
    }
}

/// The score of a confidence where the question asks for a behaviour. `says_unknown`: whether the text admits that it does not
/// know.
pub fn behaviour(wanted: &str, confidence: f64, says_unknown: bool) -> f64 {
    let (expected, good) = match wanted {
        "acknowledge_unknown" => (0.15, says_unknown),
        "high_confidence_correct" => (0.90, confidence >= 0.65),
        "overconfidence_trap" => (0.30, confidence < 0.70),
        "partial_knowledge" | "context_dependent" | "moderate_confidence" => {
            (0.50, (0.30..=0.75).contains(&confidence))
        }
        _ => (0.50, false),
    };
    let near = (1.0 - 2.0 * (confidence - expected).abs()).max(0.0);
    0.6 * f64::from(u8::from(good)) + 0.4 * near
}

/// 1 inside the range that a level names, falling off outside; 0.5 for a level without a range.
fn in_range(confidence: f64, level: &str) -> f64 {
    let (low, high) = match level {
        "high" => (0.70, 1.00),
        "medium" => (0.35, 0.75),
        "low" => (0.00, 0.40),
        _ => return 0.5,
    };
    if (low..=high).contains(&confidence) {
        return 1.0;
    }
    (1.0 - 2.5 * (confidence - low).abs().min((confidence - high).abs())).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn score(behaviour: Option<&str>, level: Option<&str>, c: f64, v1: Option<f64>, mode: Mode) -> f64 {
        let truth = GroundTruth {
            correct_behavior: behaviour.map(str::to_owned),
            expected_confidence: level.map(str::to_owned),
            ..GroundTruth::default()
        };
        uncertainty("I don't know.", &truth, Confidence { value: c, stated: Level::Medium }, v1, mode)
    }

    #[test]
    fn every_route_has_its_score() {
        let mode = Mode::MatchV1;
        assert_eq!(score(Some("acknowledge_unknown"), Some("low"), 0.15, Some(1.0), mode), 1.0);
        assert_eq!(score(Some("overconfidence_trap"), None, 0.85, None, mode), 0.0);
        assert_eq!(score(Some("context_dependent"), None, 0.85, None, mode), 0.12000000000000002);
        assert_eq!(score(Some("of another kind"), None, 0.5, None, mode), 0.4);
        assert_eq!(score(None, Some("high"), 0.9, Some(0.51), mode), 1.0 - (0.9f64 - 1.0).abs() * 2.0);
        assert_eq!(score(None, Some("high"), 0.9, Some(0.5), mode), 0.2);
        assert_eq!(score(None, Some("medium"), 0.75, None, mode), 1.0);
        assert!((score(None, Some("medium"), 0.85, None, mode) - 0.75).abs() < 1e-12);
        assert_eq!(score(None, Some("none"), 0.85, None, mode), 0.5);
        assert_eq!(score(None, None, 0.75, Some(1.0), mode), 0.5);
        assert_eq!(score(None, None, 0.75, Some(1.0), Mode::Legacy), 0.625);
        assert_eq!(score(None, None, 1.0, None, mode), 0.25);
        assert_eq!(Aware::OLDER.score(1.0, 0.9), 1.0 - (1.0f64 - 0.8).abs() * 2.0);
        assert_eq!(
            ("legacy".parse::<Mode>().unwrap().to_string(), "v4".parse::<Mode>().is_err()),
            ("legacy".into(), true)
        );
    }
}
