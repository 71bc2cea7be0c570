//! Lines of a trial file as a task makes them: text, answers and spans. Reads nothing; `trial` checks what is written here.

use serde_json::{Map, Value, json};

/// One prompt of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its text, without what the tokenizer puts before it.
    pub text: String,
    /// What it answers.
    pub answer: String,
    /// Named half-open ranges of token positions, what the tokenizer puts before the text counted.
    pub spans: Vec<(&'static str, Vec<[usize; 2]>)>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Unique in the file.
    pub id: String,
    /// The draw of material it comes from.
    pub cluster: String,
    /// Free label.
    pub direction: &'static str,
    /// The prompt that is edited; its answer is `target.correct`.
    pub base: Side,
    /// The prompt that donates.
    pub source: Option<Side>,
    /// `target.incorrect`: what the base prompt would answer after the patch.
    pub incorrect: String,
}

impl Line {
    /// The prompts of the line.
    pub fn sides(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.base).chain(&self.source)
    }

    /// The line's object, keys in the order of the format's description.
    pub fn json(&self) -> Value {
        let mut line = Map::new();
        line.insert("id".into(), json!(self.id));
        line.insert("cluster".into(), json!(self.cluster));
        line.insert("direction".into(), json!(self.direction));
        line.insert("base".into(), self.base.json());
        if let Some(source) = &self.source {
            line.insert("source".into(), source.json());
        }
        line.insert("target".into(), json!({ "correct": self.base.answer, "incorrect": self.incorrect }));
        Value::Object(line)
    }
}

impl Side {
    fn json(&self) -> Value {
        let spans: Map<String, Value> =
            self.spans.iter().map(|(name, ranges)| ((*name).to_owned(), json!(ranges))).collect();
        json!({ "text": self.text, "answer": self.answer, "spans": spans })
    }
}

/// A trial file's text.
pub fn jsonl<'a>(lines: impl IntoIterator<Item = &'a Line>) -> String {
    lines.into_iter().map(|line| format!("{}\n", line.json())).collect()
}
