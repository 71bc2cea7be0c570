//! Files of evaluations: JSON and JSONL in, rows with typed fields out. Every refusal names file, line or field, and remedy.
//!
//! Unlike a sweep's trials, rows are not passed over when they are broken: a mean over other rows is another number.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::truth::kind;
use crate::error::{Error, Result};

/// One JSON object of a file, with the place that errors name.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    path: PathBuf,
    prefix: String,
    map: &'a Map<String, Value>,
}

/// A whole JSON file.
pub fn json(path: &Path) -> Result<Value> {
    let text = text(path)?;
    serde_json::from_str(&text).map_err(|source| match bare_number(&text) {
        Some(error) => refuse(path, error, "numbers must be finite: score these samples again, or take them out"),
        None => Error::Json { path: path.into(), line: None, source },
    })
}

/// The objects of a JSONL file with their 1-based lines; blank lines are passed over.
pub fn lines(path: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    let text = text(path)?;
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        if !line.trim().is_empty() {
            let row = line_of(line).map_err(|problem| Error::Prompt {
                place: format!("{}:{number}", path.display()),
                problem,
                hint: Some("a line is one JSON object, {…}; mend it or take it out".into()),
            })?;
            rows.push((number, row));
        }
    }
    match rows.is_empty() {
        true => Err(refuse(path, "the file holds no line".into(), "write one JSON object per line")),
        false => Ok(rows),
    }
}

/// One line of JSONL, or what is wrong with it.
pub fn line_of(line: &str) -> std::result::Result<Map<String, Value>, String> {
    serde_json::from_str::<Map<String, Value>>(line)
        .map_err(|error| bare_number(line).unwrap_or_else(|| format!("malformed JSON: {error}")))
}

/// What is wrong with `path` as a whole.
pub fn refuse(path: &Path, problem: String, hint: &str) -> Error {
    Error::File { path: path.into(), problem, hint: Some(hint.into()) }
}

/// Errs where two rows have the same id. `ids` are `(place, id)`.
pub fn distinct<P: Display>(path: &Path, ids: impl Iterator<Item = (P, String)>) -> Result<()> {
    let mut seen: HashMap<String, P> = HashMap::new();
    for (place, id) in ids {
        if let Some(first) = seen.get(&id) {
            let problem = format!("id {id:?} stands twice, at {first} and at {place}");
            return Err(refuse(path, problem, "give every row an id of its own, or none"));
        }
        seen.insert(id, place);
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        refuse(path, format!("line {line}: not UTF-8 at byte {}", at + 1), "save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    match text.trim().is_empty() {
        true => Err(refuse(path, "the file is empty".into(), "give the file that an evaluation wrote")),
        false => Ok(text),
    }
}

/// NaN and infinities as some programs write them into what is then no JSON, with the field they stand in.
fn bare_number(text: &str) -> Option<String> {
    let (mut line, mut name, mut inside, mut from, mut escaped) = (1, "", false, 0, false);
    for (at, c) in text.char_indices() {
        line += usize::from(c == '\n');
        match c {
            '"' if inside && !escaped => {
                (inside, name) = (false, &text[from..at]);
            }
            '"' if !inside => (inside, from) = (true, at + 1),
            'N' | 'I' if !inside => {
                let word = ["NaN", "Infinity"].into_iter().find(|word| text[at..].starts_with(word))?;
                let sign = if text[..at].ends_with('-') { "-" } else { "" };
                return Some(format!("line {line}: field `{name}` is {sign}{word}, which is no number"));
            }
            _ => {}
        }
        escaped = inside && c == '\\' && !escaped;
    }
    None
}

impl<'a> Row<'a> {
    /// A row; errors name `path`, and `prefix` before the field (`per_sample[3].`).
    pub fn new(path: impl Into<PathBuf>, prefix: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Self { path: path.into(), prefix: prefix.into(), map }
    }

    /// A row of a JSONL file.
    pub fn of_line(path: &Path, line: usize, map: &'a Map<String, Value>) -> Self {
        Self::new(format!("{}:{line}", path.display()), "", map)
    }

    /// An error about a field of this row.
    pub fn wrong(&self, field: &str, problem: String, hint: &str) -> Error {
        let field = format!("{}{field}", self.prefix);
        Error::Field { path: self.path.clone(), field, problem, hint: Some(hint.into()) }
    }

    fn must(&self, field: &str, what: &str, found: &Value) -> Error {
        self.wrong(field, format!("must be {what}, found {}", kind(found)), "mend the field, or take the row out")
    }

    /// A field that must be there.
    pub fn value(&self, field: &str) -> Result<&'a Value> {
        let missing = || self.wrong(field, "missing".into(), "every row needs it: add it, or take the row out");
        self.map.get(field).ok_or_else(missing)
    }

    /// A field that may be absent or null.
    pub fn optional(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub fn text(&self, field: &str) -> Result<&'a str> {
        let value = self.value(field)?;
        value.as_str().ok_or_else(|| self.must(field, "a string", value))
    }

    /// A text, or `otherwise`.
    pub fn text_or(&self, field: &str, otherwise: &'a str) -> Result<&'a str> {
        let Some(value) = self.optional(field) else { return Ok(otherwise) };
        value.as_str().ok_or_else(|| self.must(field, "a string", value))
    }

    /// A string, or a number as one; ids and conditions are written both ways.
    pub fn label(&self, field: &str) -> Result<Option<String>> {
        match self.optional(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.must(field, "a string or a number", other)),
        }
    }

    /// A finite number that must be there.
    pub fn number(&self, field: &str) -> Result<f64> {
        let value = self.value(field)?;
        value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| self.must(field, "a finite number", value))
    }

    /// A number from 0 to 1 that must be there.
    pub fn share(&self, field: &str) -> Result<f64> {
        let found = self.number(field)?;
        let hint = "it is a share from 0 to 1, not a percentage: mend it, or take the row out";
        if (0.0..=1.0).contains(&found) {
            Ok(found)
        } else {
            Err(self.wrong(field, format!("{found} is outside 0 to 1"), hint))
        }
    }

    /// An object that must be there.
    pub fn object(&self, field: &str) -> Result<&'a Map<String, Value>> {
        let value = self.value(field)?;
        value.as_object().ok_or_else(|| self.must(field, "an object", value))
    }

    /// A list that must be there.
    pub fn list(&self, field: &str) -> Result<&'a [Value]> {
        let value = self.value(field)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.must(field, "a list", value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_are_named_with_their_field() {
        let text = "{\"a\": \"N \\\" NaN\",\n \"total_reward\": NaN}";
        assert_eq!(bare_number(text).unwrap(), "line 2: field `total_reward` is NaN, which is no number");
        assert_eq!(bare_number("{\"x\": -Infinity}").unwrap(), "line 1: field `x` is -Infinity, which is no number");
        assert_eq!(bare_number("{\"x\": 1,}"), None);
        assert_eq!(line_of("[1]").unwrap_err().split(':').next(), Some("malformed JSON"));
    }

    #[test]
    fn files_that_cannot_be_read_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let says = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = json(&path).unwrap_err();
            (error.to_string().replace(&path.display().to_string(), "F"), error.hint().is_some())
        };
        assert_eq!(says(b" \n"), ("F: the file is empty".into(), true));
        assert_eq!(says(b"{\n\"a\": \"\xff\"}"), ("F: line 2: not UTF-8 at byte 9".into(), true));
        assert_eq!(says(b"[{\"x\": NaN}]"), ("F: line 1: field `x` is NaN, which is no number".into(), true));
        std::fs::write(&path, "{\"id\": 1}\n\n{\"id\": 1}\n").unwrap();
        let rows = lines(&path).unwrap();
        let ids = rows.iter().map(|(line, row)| (format!("line {line}"), row["id"].to_string()));
        let error = distinct(&path, ids).unwrap_err().to_string();
        assert!(error.ends_with("id \"1\" stands twice, at line 1 and at line 3"), "{error}");
    }
}
