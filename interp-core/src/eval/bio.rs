//! BioRLHF's evaluation: scored samples, what they amount to, and the results file that its scripts write and read.

mod file;
mod question;
mod v4;

use super::{Calibration, Composer, Reward, Verifier, calibration};
use crate::eval::sums::mean_in_order;

pub use self::file::{Baseline, Evaluation, Head};
pub use self::question::{Question, questions, sample};
pub use self::v4::{V4Check, V4Rule};

/// A reward above this counts as a right answer.
pub const RIGHT: f64 = 0.5;

/// Where card, README and code of the release disagree, and what is done here.
pub const NOTES: [&str; 2] = [
    "the card exchanges V1 and V2; here, as in the code, V1 is pathway direction and V2 is facts",
    "the card gives the training weights (0.30, 0.15, 0.10, 0.45); published evaluations used 0.35, 0.30, 0.15, 0.20",
];

/// What a prompt is for a model of this kind.
pub fn prompt(question: &str) -> String {
    format!("### Instruction:\n{question}\n\n### Response:\n")
}

/// The answer in a generated text: what follows the last `### Response:`, trimmed; all of it where there is none.
pub fn answer(text: &str) -> &str {
    match text.rsplit_once("### Response:") {
        Some((_, answer)) => answer.trim(),
        None => text,
    }
}

/// A question's completion with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// What names the sample, where anything does.
    pub id: Option<String>,
    /// The question.
    pub prompt: String,
    /// The answer.
    pub response: String,
    /// Composed reward.
    pub total: f64,
    /// Scores of V1 to V4, where they apply.
    pub scores: [Option<f64>; 4],
    /// `direction`, `uncertainty`, …
    pub question_type: String,
    /// Where the question comes from.
    pub source: String,
    /// The tissue it is about.
    pub tissue: String,
    /// 0 to 1.
    pub confidence: f64,
    /// `high`, `medium` or `low`.
    pub stated: String,
}

/// What samples amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Mean of the rewards; 0 of no samples.
    pub mean_reward: f64,
    /// Mean of each verifier over the samples it applies to, in order of first appearance.
    pub verifier_means: Vec<(Verifier, f64)>,
    /// Mean reward and number of samples by type of question, in order of first appearance.
    pub by_type: Vec<(String, f64, usize)>,
    /// Calibration of the stated confidence.
    pub calibration: Calibration,
}

impl Scored {
    /// Whether the reward counts as a right answer.
    pub fn right(&self) -> bool {
        self.total > RIGHT
    }

    /// What `composer` would make of the scores that are there.
    pub fn recomposed(&self, weights: &[f64; 4]) -> f64 {
        super::total(&self.scores, weights).0
    }
}

impl From<(&Composer, &super::Sample)> for Scored {
    fn from((composer, sample): (&Composer, &super::Sample)) -> Self {
        let Reward { total, scores, confidence, .. } = composer.reward(sample);
        Self {
            id: None,
            prompt: String::new(),
            response: sample.completion.clone(),
            total,
            scores,
            question_type: sample.question_type.clone(),
            source: "unknown".into(),
            tissue: "unknown".into(),
            confidence: confidence.value,
            stated: confidence.stated.name().into(),
        }
    }
}

/// Means and calibration of samples, in their order.
pub fn summary(samples: &[Scored]) -> Summary {
    let mean = |values: Vec<f64>| mean_in_order(&values).unwrap_or(0.0);
    let mut verifiers: Vec<Verifier> = Vec::new();
    let mut types: Vec<&str> = Vec::new();
    for sample in samples {
        let scored = Verifier::ALL.into_iter().filter(|&verifier| sample.scores[verifier as usize].is_some());
        for verifier in scored {
            if !verifiers.contains(&verifier) {
                verifiers.push(verifier);
            }
        }
        if !types.contains(&sample.question_type.as_str()) {
            types.push(&sample.question_type);
        }
    }
    let of = |verifier: Verifier| samples.iter().filter_map(|sample| sample.scores[verifier as usize]).collect();
    let by_type = |name: &str| {
        let rewards: Vec<f64> =
            samples.iter().filter(|sample| sample.question_type == name).map(|sample| sample.total).collect();
        (name.to_owned(), mean_in_order(&rewards).unwrap_or(0.0), rewards.len())
    };
    Summary {
        mean_reward: mean(samples.iter().map(|sample| sample.total).collect()),
        verifier_means: verifiers.into_iter().map(|verifier| (verifier, mean(of(verifier)))).collect(),
        by_type: types.into_iter().map(by_type).collect(),
        calibration: calibration(
            &samples.iter().map(|sample| (sample.confidence, sample.right())).collect::<Vec<(f64, bool)>>(),
        ),
    }
}
