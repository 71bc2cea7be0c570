//! Retrieval heads as Wu et al. (2024) score them: heads that, while the model copies a sentence hidden in a long text, look at the
//! very token that comes next. The protocol step by step, and its file of scores; walks through no files of text.
//!
//! A head's score in a trial counts the steps at which its largest attention falls on a token of the needle that is also the token the
//! model then writes, divided by the needle's length. Their code counts repeats, so scores above 1 occur (`counted`); their
//! paper speaks of sets of tokens, of which no head can copy more than all (`as_set`). These heads are not those that causal
//! mediation calls retrieval heads (Yang et al.'s third stage): here nothing is changed in the model.

mod follow;
mod haystack;
mod porter;
mod rouge;
mod scores;

use std::path::Path;

use serde::Deserialize;

pub use self::follow::{Followed, follow};
pub use self::haystack::{insert, linspace, needle_span};
pub use self::porter::stem;
pub use self::rouge::rouge1_recall;
pub use self::scores::{RetrievalScores, TrialScores};
use crate::error::{Error, Result};

/// Share of the needle's words that an answer must repeat for its trial to count.
pub const MIN_RECALL: f64 = 0.5;

/// From this score on the paper calls a head a retrieval head.
pub const RETRIEVAL_HEAD: f64 = 0.1;

/// A sentence to hide, and how to ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Needle {
    /// What is put into the text.
    pub needle: String,
    /// What is asked.
    pub question: String,
    /// The part of it that answers.
    pub real_needle: String,
}

impl Needle {
    /// Reads a file with one needle per line of JSON.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let parse = |(number, line): (usize, &str)| {
            let json = |source| Error::Json { path: path.into(), line: Some(number), source };
            serde_json::from_str(line).map_err(json)
        };
        let needles: Vec<Self> = lines.map(parse).collect::<Result<_>>()?;
        if needles.is_empty() {
            let hint = Some("write {\"needle\": …, \"question\": …, \"real_needle\": …} per line".into());
            return Err(Error::File { path: path.into(), problem: "the file of needles is empty".into(), hint });
        }
        Ok(needles)
    }
}
