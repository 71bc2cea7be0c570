//! Logits to one number per row, every metric oriented so that larger favours the base prompt's answer.

use std::fmt;
use std::str::FromStr;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::trial::Target;

/// A number read off the logits at the last position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// logit(correct) − logit(incorrect).
    LogitDiff,
    /// logit(correct).
    Logit,
    /// Probability of the correct token.
    Prob,
    /// Natural logarithm of that probability.
    LogProb,
    /// 1 if the correct token alone has the largest logit, else 0: what `argmax` makes of a tie depends on the kernel.
    Acc,
    /// Minus the 1-based rank of the correct token; ties count against it.
    Rank,
    /// −KL(clean‖edited) over the whole vocabulary, in nats: 0 for the clean row.
    Kl,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 7] =
        [Metric::LogitDiff, Metric::Logit, Metric::Prob, Metric::LogProb, Metric::Acc, Metric::Rank, Metric::Kl];

    /// The name users type and files carry.
    pub fn name(self) -> &'static str {
        match self {
            Metric::LogitDiff => "logit-diff",
            Metric::Logit => "logit",
            Metric::Prob => "prob",
            Metric::LogProb => "log-prob",
            Metric::Acc => "acc",
            Metric::Rank => "rank",
            Metric::Kl => "kl",
        }
    }

    /// Unit of the number and of δ.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::LogitDiff | Metric::Logit => "logits",
            Metric::Prob => "probability",
            Metric::LogProb | Metric::Kl => "nats",
            Metric::Acc => "accuracy",
            Metric::Rank => "ranks",
        }
    }

    /// Whether logits of the target tokens alone suffice.
    fn local(self) -> bool {
        matches!(self, Metric::LogitDiff | Metric::Logit)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Metric::ALL.into_iter().find(|metric| metric.name() == text).ok_or_else(|| Error::Selector {
            what: "metric",
            value: text.into(),
            problem: "no such metric".into(),
            hint: Some(format!("metrics are {}", Metric::ALL.map(Metric::name).join(", "))),
        })
    }
}

/// Metrics of one trial, and which logits they need.
#[derive(Debug, Clone)]
pub struct Readout {
    metrics: Vec<Metric>,
    target: Target,
}

impl Readout {
    /// Errs when a metric needs an `incorrect` token that the trial does not have.
    pub fn new(metrics: &[Metric], target: Target, trial: &str) -> Result<Self> {
        if metrics.contains(&Metric::LogitDiff) && target.incorrect.is_none() {
            return Err(Error::Prompt {
                place: trial.into(),
                problem: "metric `logit-diff` needs `target.incorrect`".into(),
                hint: Some("name the other answer in the trial, or use --metric logit, prob or log-prob".into()),
            });
        }
        Ok(Self { metrics: metrics.to_vec(), target })
    }

    /// Number of metrics.
    pub fn n_metrics(&self) -> usize {
        self.metrics.len()
    }

    /// Tokens whose logits suffice, or `None` when the whole vocabulary is needed.
    pub fn tokens(&self) -> Option<Vec<i64>> {
        let local = self.metrics.iter().all(|metric| metric.local());
        local.then(|| std::iter::once(self.target.correct).chain(self.target.incorrect).collect())
    }

    /// `[metric, row]` in f64, on the logits' device, from logits `[row, vocab]` (or `[row, token]` of [`Readout::tokens`]).
    /// Row 0 is the clean row that `kl` compares with.
    pub fn measure(&self, logits: &Tensor) -> Tensor {
        let logits = logits.to_kind(Kind::Double);
        let column = |slot: i64, token: i64| logits.select(1, if self.tokens().is_some() { slot } else { token });
        let correct = column(0, self.target.correct);
        let log_probs = || logits.log_softmax(-1, Kind::Double);
        let ahead = || logits.ge_tensor(&correct.unsqueeze(-1)).sum_dim_intlist(-1, false, Kind::Double);
        let rows: Vec<Tensor> = self
            .metrics
            .iter()
            .map(|metric| match metric {
                Metric::LogitDiff => &correct - column(1, self.target.incorrect.expect("checked in new")),
                Metric::Logit => correct.shallow_clone(),
                Metric::Prob => log_probs().select(1, self.target.correct).exp(),
                Metric::LogProb => log_probs().select(1, self.target.correct),
                Metric::Acc => ahead().eq(1.0).to_kind(Kind::Double),
                Metric::Rank => ahead().neg(),
                Metric::Kl => {
                    let log_probs = log_probs();
                    let clean = log_probs.narrow(0, 0, 1).expand_as(&log_probs);
                    (clean.exp() * (log_probs - &clean)).sum_dim_intlist(-1, false, Kind::Double)
                }
            })
            .collect();
        Tensor::stack(&rows, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_two_rows_by_hand() {
        let logits = Tensor::from_slice(&[2.0, 1.0, 0.0, 0.0, 3.0, 1.0]).view([2, 3]);
        let target = Target { correct: 0, incorrect: Some(1) };
        let values =
            Vec::<Vec<f64>>::try_from(Readout::new(&Metric::ALL, target, "t").unwrap().measure(&logits)).unwrap();
        let softmax = |row: [f64; 3]| row.map(|x| x.exp() / row.iter().map(|x| x.exp()).sum::<f64>());
        let (p, q) = (softmax([2.0, 1.0, 0.0]), softmax([0.0, 3.0, 1.0]));
        let kl: f64 = (0..3).map(|i| p[i] * (p[i] / q[i]).ln()).sum();
        let expected =
            [[1.0, -3.0], [2.0, 0.0], [p[0], q[0]], [p[0].ln(), q[0].ln()], [1.0, 0.0], [-1.0, -3.0], [0.0, -kl]];
        for (metric, (value, expected)) in Metric::ALL.iter().zip(values.iter().zip(expected)) {
            for (value, expected) in value.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12, "{metric}: {value} is not {expected}");
            }
        }
    }

    #[test]
    fn a_tie_is_no_right_answer() {
        let logits = Tensor::from_slice(&[2.0, 2.0, 1.0, 3.0, 3.0, 3.0]).view([2, 3]);
        for correct in 0..3 {
            let target = Target { correct, incorrect: None };
            let values = Readout::new(&[Metric::Acc, Metric::Rank], target, "t").unwrap().measure(&logits);
            let rank = if correct == 2 { -3.0 } else { -2.0 };
            assert_eq!(Vec::<Vec<f64>>::try_from(values).unwrap(), [vec![0.0, 0.0], vec![rank, -3.0]]);
        }
    }

    #[test]
    fn logit_diff_alone_needs_two_tokens() {
        let target = Target { correct: 7, incorrect: Some(9) };
        assert_eq!(Readout::new(&[Metric::LogitDiff], target, "t").unwrap().tokens(), Some(vec![7, 9]));
        assert_eq!(Readout::new(&[Metric::LogitDiff, Metric::Acc], target, "t").unwrap().tokens(), None);
        let alone = Target { correct: 7, incorrect: None };
        assert!(Readout::new(&[Metric::LogitDiff], alone, "t").is_err());
    }
}
