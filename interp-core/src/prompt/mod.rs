//! Text, chat messages or token ids in; a [`Prompt`] with named spans out. Owns the tokenizer and the chat template;
//! knows no model beyond the size of its vocabulary and of its context.

mod file;
mod positions;
mod reader;
mod spans;
mod spec;
mod template;
#[cfg(test)]
pub(crate) mod testing;
mod tokenizer;

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) use file::parse_line;
pub use file::{NamedPrompt, PromptFile};
pub use positions::paired_positions;
pub use reader::{NextToken, PromptReader, ReadPrompt};
pub use spec::{Answer, ChatMessage, PromptInput, PromptSpec, SpanSpec};
pub use tokenizer::Tokenizer;

/// A prompt ready to run: token ids and the token positions its spans cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids.
    pub tokens: Vec<i64>,
    /// Named spans as half-open ranges of token positions, sorted and disjoint; a selector is their union.
    pub spans: BTreeMap<String, Vec<Range<usize>>>,
}
