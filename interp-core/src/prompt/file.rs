//! A file of prompts, one [`PromptSpec`] per line of JSON: good lines become prompts, bad ones are kept by number.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{Prompt, PromptReader, PromptSpec};
use crate::error::{Error, Result};

/// A prompt and what results call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPrompt {
    /// `line-N`, a trial's id, or the flag it came from.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
}

/// What a prompt file holds.
#[derive(Debug)]
pub struct PromptFile {
    /// Prompts of the good lines, in file order.
    pub prompts: Vec<NamedPrompt>,
    /// What is wrong with each of the other lines; names file and line.
    pub bad_lines: Vec<Error>,
}

impl PromptFile {
    /// Reads and checks every line; blank lines are passed over. Errs only if the file cannot be read or holds no line.
    pub fn read(path: &Path, reader: &PromptReader<'_>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let mut out = Self { prompts: Vec::new(), bad_lines: Vec::new() };
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = format!("{}:{number}", path.display());
            let spec = parse_line::<PromptSpec>(line.trim_ascii_end()).map_err(|problem| Error::Prompt {
                place: place.clone(),
                problem,
                hint: None,
            });
            match spec.and_then(|spec| reader.prompt(&spec, &place)) {
                Ok(prompt) => out.prompts.push(NamedPrompt { id: format!("line-{number}"), prompt }),
                Err(error) => out.bad_lines.push(error),
            }
        }
        if out.prompts.is_empty() && out.bad_lines.is_empty() {
            return Err(Error::File {
                path: path.into(),
                problem: "the prompt file is empty".into(),
                hint: Some(
                    "write one JSON object per line: {\"text\": …}, {\"messages\": …} or {\"tokens\": …}".into(),
                ),
            });
        }
        Ok(out)
    }
}

/// One line of a JSONL file, or what is wrong with it and at which column.
pub(crate) fn parse_line<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    if !text.trim_start().starts_with('{') {
        return Err("malformed JSON: a line is one object, {…}".into());
    }
    serde_json::from_str(text).map_err(|error| {
        // The parser counts lines within what it is given; the file's own line is already in the place.
        let message = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&at).unwrap_or(&message);
        match error.classify() {
            Category::Data => format!("{message} (column {})", error.column()),
            _ => format!("malformed JSON: {message} (column {})", error.column()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_are_kept_and_bad_ones_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        let reader = PromptReader { tokenizer: None, d_vocab: 9, n_ctx: 4 };
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            PromptFile::read(&path, &reader)
        };
        let file = read("{\"tokens\":[1,2]}\r\n\n{\"tokens\":[9]}\n{\"tokn\":[1]}\n{\"tokens\":[3]}").unwrap();
        let ids: Vec<&str> = file.prompts.iter().map(|prompt| prompt.id.as_str()).collect();
        assert_eq!(ids, ["line-1", "line-5"]);
        let bad: Vec<String> = file.bad_lines.iter().map(ToString::to_string).collect();
        assert!(bad[0].ends_with("p.jsonl:3: token id 9 is not in the model's vocabulary of 9"), "{bad:?}");
        assert!(bad[1].contains("p.jsonl:4: unknown field `tokn`, expected one of `text`"), "{bad:?}");
        assert!(read("\n \n").unwrap_err().to_string().ends_with("p.jsonl: the prompt file is empty"));
    }
}
