//! Trial files: JSONL in, checked [`Trial`]s out, bad lines named by number. Runs nothing.
//!
//! One JSON object per line. `base` and `source` are prompts as in [`PromptSpec`](crate::prompt::PromptSpec):
//!
//! ```json
//! {"id": "t1", "cluster": "c1", "direction": "ABA",
//!  "base": {"text": "Lily was a girl. One day,"},
//!  "source": {"text": "Tim was a boy. One day,", "answer": " he"},
//!  "target": {"correct": " she", "incorrect": " he"}}
//! ```
//!
//! | key | | meaning |
//! |---|---|---|
//! | `id` | optional | unique in the file; `line-N` where it is missing |
//! | `cluster` | optional | the draw of material that the trial comes from |
//! | `direction` | optional | free label |
//! | `base` | required | the prompt that is edited |
//! | `source` | optional | the prompt that donates activations |
//! | `target.correct` | required | the base prompt's answer: a token id, or text that is one token after `base` |
//! | `target.incorrect` | optional | the answer it is compared with, likewise after `base` |
//! | `base.answer` | optional | must be `target.correct` again |
//! | `source.answer` | optional | what the source prompt answers, as one token after `source` |
//!
//! Unknown keys are errors. Blank lines and a byte-order mark are passed over; lines may end in CRLF.

mod file;
mod line;

pub use file::{BadLine, Note, TrialFile, TrialOptions};

use crate::error::{Error, Result};
use crate::prompt::{Prompt, paired_positions};
use crate::site::Positions;

/// One question put to the model. The `base` run is edited; the `source` run donates.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Unique within the file.
    pub id: String,
    /// The draw of material the trial comes from; `None` makes it a cluster of its own.
    pub cluster: Option<String>,
    /// Free label, e.g. the rule of the source.
    pub direction: Option<String>,
    /// The prompt that is edited.
    pub base: Prompt,
    /// The prompt that donates activations, for patches.
    pub source: Option<Prompt>,
    /// What the source prompt answers, where the file says so: needed to keep only trials whose prompts are both
    /// answered rightly, for it need not be `target.incorrect` (SPEC 1.2, abstract pairs).
    pub source_answer: Option<i64>,
    /// Which next tokens the metrics compare.
    pub target: Target,
}

/// Token ids the metrics read at the last position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The base prompt's answer.
    pub correct: i64,
    /// The answer it is compared with (SPEC's y*), needed by `logit-diff`.
    pub incorrect: Option<i64>,
}

impl Trial {
    /// The prompt that donates: `source`, or, where another model donates, `base` if there is no source.
    pub fn donating(&self, other_model: bool) -> Option<&Prompt> {
        self.source.as_ref().or(other_model.then_some(&self.base))
    }

    /// The selector's positions in base and source, sorted, entry i of one belonging to entry i of the other. Errs if
    /// there is no source, or if the selector means different numbers of positions in the two.
    pub fn check_positions(&self, selector: &Positions) -> Result<(Vec<usize>, Vec<usize>)> {
        let source = self.source.as_ref().ok_or_else(|| Error::Prompt {
            place: format!("trial {}", self.id),
            problem: "it has no source to take activations from".into(),
            hint: Some("give the trial a `source` prompt, or choose an edit that needs none".into()),
        })?;
        let name = |part: &str| format!("trial {} ({part})", self.id);
        paired_positions((&self.base, &name("base")), (source, &name("source")), selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_resolved_in_both_prompts() {
        let prompt = |len: i64| Prompt { tokens: (0..len).collect(), spans: [].into() };
        let trial = Trial {
            id: "t1".into(),
            cluster: None,
            direction: None,
            base: prompt(6),
            source: Some(prompt(4)),
            source_answer: None,
            target: Target { correct: 0, incorrect: None },
        };
        assert_eq!(trial.check_positions(&"last".parse().unwrap()).unwrap(), (vec![5], vec![3]));
        assert_eq!(
            trial.check_positions(&Positions::All).unwrap_err().to_string(),
            "positions `all`: 6 positions in trial t1 (base) but 4 in trial t1 (source)"
        );
        let alone = Trial { source: None, ..trial };
        assert_eq!(
            alone.check_positions(&Positions::All).unwrap_err().to_string(),
            "trial t1: it has no source to take activations from"
        );
    }
}
