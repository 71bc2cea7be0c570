//! What `generation_config.json` says that matters here: end-of-sequence ids and the repetition penalty. Its sampling
//! settings are the user's to choose.

use std::path::Path;

use super::fields::Fields;
use crate::error::{Error, Result};

/// A checkpoint's own defaults of generation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationDefaults {
    /// Ids that end a continuation; empty where the file names none.
    pub eos_token_ids: Vec<i64>,
    /// Applied by Hugging Face's greedy decoding too.
    pub repetition_penalty: Option<f64>,
}

impl GenerationDefaults {
    /// Reads a `generation_config.json`. Errs on unreadable files, broken JSON and values of the wrong type.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.into(), line: None, source })?;
        let fields = Fields::top(path, &json)?;
        Ok(Self {
            eos_token_ids: fields.token_ids("eos_token_id", &[])?,
            repetition_penalty: fields.number("repetition_penalty")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_or_several_and_a_penalty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation_config.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            GenerationDefaults::from_file(&path)
        };
        let found = read(r#"{"eos_token_id":[7,8],"repetition_penalty":1.05,"top_k":20}"#).unwrap();
        assert_eq!(found, GenerationDefaults { eos_token_ids: vec![7, 8], repetition_penalty: Some(1.05) });
        assert_eq!(read(r#"{"eos_token_id":7}"#).unwrap().eos_token_ids, [7]);
        assert_eq!(read("{}").unwrap(), GenerationDefaults::default());
        let error = read(r#"{"repetition_penalty":0}"#).unwrap_err().to_string();
        assert!(error.ends_with("field `repetition_penalty`: must be a number above zero, found 0"), "{error}");
    }
}
