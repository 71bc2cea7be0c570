//! How a user writes a prompt in JSON. Shapes only: nothing is tokenised or checked against a model here.
//!
//! ```json
//! {"text": "Lily was a girl. One day,", "spans": {"name": {"chars": [[0, 4]]}}}
//! {"messages": [{"role": "user", "content": "Procedure: …"}], "prefix": "FINAL ANSWER:"}
//! {"tokens": [1, 403, 407], "spans": {"third": [[1, 2]]}}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A prompt as written, with the spans its author named.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawPrompt")]
pub struct PromptSpec {
    /// What is put to the model.
    pub input: PromptInput,
    /// Named parts of it.
    pub spans: BTreeMap<String, SpanSpec>,
    /// What this prompt answers, where a trial file says so; a [`Prompt`](super::Prompt) does not keep it.
    pub answer: Option<Answer>,
}

/// The three forms of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptInput {
    /// Text, tokenised as Hugging Face does by default: with the special tokens that `tokenizer.json` adds.
    Text(String),
    /// A conversation, rendered by the checkpoint's chat template with its generation prompt, then `prefix`. The
    /// rendered text is tokenised with special tokens parsed and none added.
    Chat {
        /// Turns in order.
        messages: Vec<ChatMessage>,
        /// Beginning of the reply, put after the generation prompt.
        prefix: String,
    },
    /// Token ids, taken as they are.
    Tokens(Vec<i64>),
}

/// One turn of a conversation; the content reaches the template unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// Half-open ranges that make up one span.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a span is a list of [start, end] token ranges, or {\"chars\": [[start, end], …]}")]
pub enum SpanSpec {
    /// Token positions.
    Tokens(Vec<[usize; 2]>),
    /// Characters (Unicode scalar values, as Python counts them) of the text; for chat messages of the rendered text,
    /// prefix included.
    Chars(CharRanges),
}

/// Character ranges, kept apart from token ranges by their key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharRanges {
    /// Half-open ranges.
    pub chars: Vec<[usize; 2]>,
}

/// An answer as written: text, which must be one token where it follows its prompt, or a token id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "an answer is a string or a token id")]
pub enum Answer {
    /// Token id.
    Id(i64),
    /// Text.
    Text(String),
}

impl PromptSpec {
    /// Plain text without spans.
    pub fn text(text: impl Into<String>) -> Self {
        Self::from(PromptInput::Text(text.into()))
    }

    /// Token ids without spans.
    pub fn tokens(tokens: impl Into<Vec<i64>>) -> Self {
        Self::from(PromptInput::Tokens(tokens.into()))
    }
}

impl From<PromptInput> for PromptSpec {
    fn from(input: PromptInput) -> Self {
        Self { input, spans: BTreeMap::new(), answer: None }
    }
}

/// All keys side by side, so that serde names an unknown one instead of saying that no form matches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrompt {
    text: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    prefix: Option<String>,
    tokens: Option<Vec<i64>>,
    #[serde(default)]
    spans: BTreeMap<String, SpanSpec>,
    answer: Option<Answer>,
}

impl TryFrom<RawPrompt> for PromptSpec {
    type Error = &'static str;

    fn try_from(raw: RawPrompt) -> Result<Self, Self::Error> {
        let input = match (raw.text, raw.messages, raw.tokens, raw.prefix) {
            (Some(text), None, None, None) => PromptInput::Text(text),
            (None, Some(messages), None, prefix) => PromptInput::Chat { messages, prefix: prefix.unwrap_or_default() },
            (None, None, Some(tokens), None) => PromptInput::Tokens(tokens),
            (None, None, None, _) => return Err("a prompt needs `text`, `messages` or `tokens`"),
            (Some(_), None, None, Some(_)) | (None, None, Some(_), Some(_)) => {
                return Err("`prefix` belongs to `messages` only");
            }
            _ => return Err("a prompt has only one of `text`, `messages` and `tokens`"),
        };
        Ok(Self { input, spans: raw.spans, answer: raw.answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        serde_json::from_str::<PromptSpec>(json).unwrap_err().to_string()
    }

    #[test]
    fn three_forms_are_read() {
        let spec: PromptSpec = serde_json::from_str(r#"{"tokens":[1,2],"spans":{"a":[[0,1]]}}"#).unwrap();
        assert_eq!(spec.input, PromptInput::Tokens(vec![1, 2]));
        assert_eq!(spec.spans["a"], SpanSpec::Tokens(vec![[0, 1]]));
        let spec: PromptSpec =
            serde_json::from_str(r#"{"messages":[{"role":"user","content":" x "}],"prefix":"A:"}"#).unwrap();
        let messages = vec![ChatMessage { role: "user".into(), content: " x ".into() }];
        assert_eq!(spec.input, PromptInput::Chat { messages, prefix: "A:".into() });
        let spec: PromptSpec = serde_json::from_str(r#"{"text":"hé","spans":{"a":{"chars":[[1,2]]}}}"#).unwrap();
        assert_eq!(spec.spans["a"], SpanSpec::Chars(CharRanges { chars: vec![[1, 2]] }));
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        assert!(refused(r#"{"txt":"a"}"#).starts_with("unknown field `txt`, expected one of `text`, `messages`"));
        assert!(refused(r#"{"messages":[{"role":"user","content":"a","name":"b"}]}"#).contains("unknown field `name`"));
        assert_eq!(refused("{}"), "a prompt needs `text`, `messages` or `tokens`");
        assert_eq!(refused(r#"{"prefix":"a"}"#), "a prompt needs `text`, `messages` or `tokens`");
        assert_eq!(refused(r#"{"text":"a","tokens":[1]}"#), "a prompt has only one of `text`, `messages` and `tokens`");
        assert_eq!(refused(r#"{"text":"a","prefix":"b"}"#), "`prefix` belongs to `messages` only");
        for span in [r#"[[1]]"#, r#"[[-1,2]]"#, r#"{"char":[[1,2]]}"#, r#"{"chars":[[1,2]],"x":1}"#, "3"] {
            let error = refused(&format!(r#"{{"text":"a","spans":{{"s":{span}}}}}"#));
            assert!(error.starts_with("a span is a list of [start, end] token ranges"), "{error}");
        }
        assert!(refused(r#"{"text":"a","answer":1.5}"#).starts_with("an answer is a string or a token id"));
    }
}
