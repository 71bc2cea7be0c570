//! Text, chat messages or token ids in; a [`Prompt`] with named spans out. Owns the tokenizer and the chat template.

use std::collections::BTreeMap;
use std::ops::Range;

/// A prompt ready to run: token ids and the token positions its spans cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids.
    pub tokens: Vec<i64>,
    /// Named spans as half-open ranges of token positions, sorted and disjoint; a selector is their union.
    pub spans: BTreeMap<String, Vec<Range<usize>>>,
}
