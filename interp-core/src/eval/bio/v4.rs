//! V4 once more from what a results file keeps of it: the confidence and V1's score. The ground truth itself is not in the file.

use super::Scored;
use crate::eval::{Aware, Verifier, behaviour};

/// Which published rule made a file's V4 scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V4Rule {
    /// The released one.
    Current,
    /// That of 30 March 2026.
    Older,
    /// Neither.
    Unknown,
}

/// How many V4 scores come out again.
#[derive(Debug, Clone, PartialEq)]
pub struct V4Check {
    /// The rule that most calibration-aware scores follow.
    pub rule: V4Rule,
    /// Calibration-aware scores (samples with V1) that come out, and how many there are.
    pub aware: (usize, usize),
    /// Scores of uncertainty questions that come out, and how many there are.
    pub behaviour: (usize, usize),
    /// Samples that do not come out although most of their kind do: `(index, stored, recomputed)`.
    pub exceptions: Vec<(usize, f64, f64)>,
}

impl V4Check {
    /// Compares all V4 scores that can be recomputed, to 1e-12.
    pub fn of(samples: &[Scored]) -> Self {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12;
        let (mut with_v1, mut uncertain) = (Vec::new(), Vec::new());
        for (index, sample) in samples.iter().enumerate() {
            let Some(v4) = sample.scores[Verifier::V4 as usize] else { continue };
            match sample.scores[Verifier::V1 as usize] {
                Some(v1) if sample.question_type != "uncertainty" => with_v1.push((index, v4, v1, sample.confidence)),
                _ if sample.question_type == "uncertainty" => {
                    uncertain.push((index, v4, behaviour("context_dependent", sample.confidence, false)));
                }
                _ => {}
            }
        }
        let by = |rule: Aware| -> Vec<(usize, f64, f64)> {
            with_v1.iter().map(|&(index, v4, v1, c)| (index, v4, rule.score(c, v1))).collect()
        };
        let hits = |scores: &[(usize, f64, f64)]| scores.iter().filter(|(_, a, b)| near(*a, *b)).count();
        let (current, older) = (by(Aware::CURRENT), by(Aware::OLDER));
        let (rule, aware) =
            if hits(&older) > hits(&current) { (V4Rule::Older, older) } else { (V4Rule::Current, current) };
        let most = |scores: &[(usize, f64, f64)]| 2 * hits(scores) > scores.len();
        let rule = if most(&aware) { rule } else { V4Rule::Unknown };
        let kinds = [&aware, &uncertain];
        let misses = kinds.iter().filter(|scores| most(scores)).flat_map(|scores| scores.iter());
        let exceptions = misses.filter(|(_, a, b)| !near(*a, *b)).copied().collect();
        Self { rule, aware: (hits(&aware), aware.len()), behaviour: (hits(&uncertain), uncertain.len()), exceptions }
    }
}
