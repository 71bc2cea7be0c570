//! Trial files: JSONL in, checked [`Trial`]s out, bad lines named by number.

use crate::prompt::Prompt;

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
