//! Questions of the BioRLHF set, and samples for its reward functions, as JSON objects.

use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::eval::read::{Row, Rows};
use crate::eval::{GroundTruth, Sample, Verifier};

/// A question with what its verifiers need.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// As given, or `line-N`.
    pub id: String,
    /// What the question was drawn from together with others, for intervals.
    pub cluster: Option<String>,
    /// The question's text.
    pub prompt: String,
    /// All but the completion.
    pub sample: Sample,
    /// Where it comes from.
    pub source: String,
    /// The tissue it is about.
    pub tissue: String,
    /// `easy`, `medium` or `hard`.
    pub difficulty: Option<String>,
}

/// Reads a JSONL file of questions as [`Rows::read`] does.
pub fn questions(path: &Path, pass_over: bool) -> Result<Rows<Question>> {
    Rows::read(path, pass_over, |id, row| {
        Ok(Question {
            id: id.into(),
            cluster: row.label("cluster")?,
            prompt: row.text("prompt")?.into(),
            sample: known(row)?,
            source: row.text_or("source", "unknown")?.into(),
            tissue: row.text_or("tissue", "unknown")?.into(),
            difficulty: row.label("difficulty")?,
        })
    })
}

/// A sample for a reward function: `completion` (text, or chat messages), and optionally `ground_truth` (an object, or a string
/// that holds one), `question_type` and `applicable_verifiers` (a list, or a string that holds one). What is absent is as in the
/// released reward functions: no ground truth, type `unknown`, all verifiers.
pub fn sample(row: &Row<'_>) -> Result<Sample> {
    let completion = match row.value("completion")? {
        Value::String(text) => text.clone(),
        Value::Array(messages) => {
            let content = |message: &Value| message.get("content").and_then(Value::as_str).map(str::to_owned);
            messages.iter().filter_map(content).collect::<Vec<String>>().join(" ")
        }
        _ => {
            let problem = "must be a string or a list of chat messages".into();
            return Err(row.wrong("completion", problem, "give the generated text"));
        }
    };
    Ok(Sample { completion, ..known(row)? })
}

fn known(row: &Row<'_>) -> Result<Sample> {
    let truth = match row.optional("ground_truth") {
        None => GroundTruth::default(),
        Some(value) => GroundTruth::from_value(value)
            .map_err(|(field, problem)| row.wrong(&field, problem, "mend the field, or take the row out"))?,
    };
    let parsed;
    let names = match row.optional("applicable_verifiers") {
        None => None,
        Some(Value::String(text)) => {
            parsed = serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
            Some(&parsed)
        }
        Some(value) => Some(value),
    };
    let applicable = match names {
        None => Verifier::ALL.to_vec(),
        Some(names) => {
            let hint = "give a list of V1, V2, V3 and V4";
            let wrong = |problem: String| row.wrong("applicable_verifiers", problem, hint);
            let list = names.as_array().ok_or_else(|| wrong("must be a list of verifiers".into()))?;
            let verifier = |name: &Value| {
                let named = name.as_str().and_then(|name| name.parse().ok());
                named.ok_or_else(|| wrong(format!("no such verifier: {name}")))
            };
            list.iter().map(verifier).collect::<Result<Vec<Verifier>>>()?
        }
    };
    Ok(Sample {
        completion: String::new(),
        truth,
        question_type: row.text_or("question_type", "unknown")?.into(),
        applicable,
    })
}
