//! Multiple choice: which of the given answers does a model find most likely, how likely, and is its certainty justified?

use super::{Calibration, calibration};
use crate::eval::sums::mean_in_order;

/// What a model makes of one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// ln P of each answer after the question.
    pub log_likelihoods: Vec<f64>,
    /// Index of the right answer.
    pub answer: usize,
    /// Index of the most likely one; the first of equals.
    pub choice: usize,
    /// Index of the most likely one by ln P per token.
    pub choice_per_token: usize,
    /// Probability of `choice` among the answers.
    pub confidence: f64,
    /// Probability of the right answer among the answers.
    pub probability: f64,
}

/// What many questions amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceSummary {
    /// Number of questions.
    pub n: usize,
    /// Share answered right.
    pub accuracy: f64,
    /// Share answered right when ln P counts per token, which long answers need.
    pub accuracy_per_token: f64,
    /// Mean ln P of the right answer, in nats.
    pub log_likelihood: f64,
    /// Mean probability of the right answer among the answers.
    pub probability: f64,
    /// Accuracy of guessing: the mean of 1 over the number of answers.
    pub chance: f64,
    /// Calibration of the confidence in the choice.
    pub calibration: Calibration,
}

impl Chosen {
    /// From ln P and the number of tokens of each answer. There is at least one, and `answer` is one of them.
    pub fn new(log_likelihoods: Vec<f64>, tokens: &[usize], answer: usize) -> Self {
        let best =
            |values: &[f64]| (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best });
        let choice = best(&log_likelihoods);
        let per_token: Vec<f64> = log_likelihoods.iter().zip(tokens).map(|(ln, &n)| ln / n.max(1) as f64).collect();
        let weights: Vec<f64> = log_likelihoods.iter().map(|ln| (ln - log_likelihoods[choice]).exp()).collect();
        let sum: f64 = weights.iter().sum();
        Self {
            answer,
            choice,
            choice_per_token: best(&per_token),
            confidence: (weights[choice] / sum).min(1.0),
            probability: weights[answer] / sum,
            log_likelihoods,
        }
    }

    /// Whether the choice is the answer.
    pub fn right(&self) -> bool {
        self.choice == self.answer
    }
}

/// Means and calibration.
pub fn summary(questions: &[Chosen]) -> ChoiceSummary {
    let mean =
        |of: &dyn Fn(&Chosen) -> f64| mean_in_order(&questions.iter().map(of).collect::<Vec<f64>>()).unwrap_or(0.0);
    let share = |yes: bool| f64::from(u8::from(yes));
    let pairs: Vec<(f64, bool)> = questions.iter().map(|one| (one.confidence, one.right())).collect();
    ChoiceSummary {
        n: questions.len(),
        accuracy: mean(&|one| share(one.right())),
        accuracy_per_token: mean(&|one| share(one.choice_per_token == one.answer)),
        log_likelihood: mean(&|one| one.log_likelihoods[one.answer]),
        probability: mean(&|one| one.probability),
        chance: mean(&|one| 1.0 / one.log_likelihoods.len() as f64),
        calibration: calibration(&pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_likely_answer_is_chosen_and_its_share_is_the_confidence() {
        let one = Chosen::new(vec![0.2f64.ln(), 0.6f64.ln(), 0.2f64.ln()], &[1, 4, 1], 1);
        assert_eq!((one.choice, one.choice_per_token, one.right()), (1, 1, true));
        assert!((one.confidence - 0.6).abs() < 1e-12 && (one.probability - 0.6).abs() < 1e-12);
        let long = Chosen::new(vec![-3.0, -4.0], &[1, 4], 1);
        assert_eq!((long.choice, long.choice_per_token), (0, 1));
        let all = summary(&[one, long]);
        assert_eq!((all.n, all.accuracy, all.accuracy_per_token), (2, 0.5, 1.0));
        assert!((all.chance - (1.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
        assert_eq!(Chosen::new(vec![-1000.0], &[1], 0).confidence, 1.0);
    }
}
