//! Files of evaluations: JSON and JSONL in, rows with typed fields out. Every refusal names file, line or field, and remedy.
//!
//! Unlike a sweep's trials, rows are not passed over when they are broken, unless that is asked for: a mean over other rows is
//! another number.

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
        Some((line, error)) => refuse(
            path,
            format!("line {line}: {error}"),
            "numbers must be finite: score these samples again, or take them out",
        ),
        None => Error::Json { path: path.into(), line: None, source },
    })
}

/// The objects of a JSONL file with their 1-based lines; blank lines are passed over.
pub fn lines(path: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    parsed(path, &text(path)?).map(|(line, map)| Ok((line, map?))).collect()
}

/// Every line that is not blank, or what is wrong with it.
fn parsed<'a>(path: &'a Path, text: &'a str) -> impl Iterator<Item = (usize, Result<Map<String, Value>>)> + 'a {
    let filled = (1..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty());
    filled.map(|(number, line)| {
        let refuse = |problem| Error::Prompt {
            place: format!("{}:{number}", path.display()),
            problem,
            hint: Some("a line is one JSON object, {…}; mend it or take it out".into()),
        };
        (number, line_of(line).map_err(refuse))
    })
}

/// The rows of a JSONL file that can be used, and what is wrong with the others.
#[derive(Debug)]
pub struct Rows<T> {
    /// In the file's order.
    pub good: Vec<T>,
    /// One error for each of the others; none unless broken rows are passed over.
    pub bad: Vec<Error>,
    pass_over: bool,
}

impl<T> Rows<T> {
    /// What `of` makes of every row, given its id (its own, or `line-N`). Errs at the first row that it cannot use; with
    /// `pass_over`, only where there is no other. Errs in any case for ids that stand twice, since nobody can say which is meant.
    pub fn read(path: &Path, pass_over: bool, of: impl Fn(&str, &Row<'_>) -> Result<T>) -> Result<Self> {
        let mut ids = Vec::new();
        let mut rows = Rows { good: Vec::new(), bad: Vec::new(), pass_over };
        for (line, map) in parsed(path, &text(path)?) {
            let one = map.and_then(|map| {
                let row = Row::of_line(path, line, &map);
                let id = row.label("id")?.unwrap_or_else(|| format!("line-{line}"));
                Ok((of(&id, &row)?, id))
            });
            if let Some((one, id)) = rows.accept(one)? {
                rows.good.push(one);
                ids.push((format!("line {line}"), id));
            }
        }
        distinct(path, ids.into_iter())?;
        rows.some_are_good()
    }

    /// What `of` makes of every row that is good so far. A row that it cannot use is treated like a broken one, and gone.
    pub fn keep<U>(&mut self, mut of: impl FnMut(&T) -> Result<U>) -> Result<Vec<U>> {
        let mut made = Vec::new();
        let mut rows = Rows { good: Vec::new(), bad: std::mem::take(&mut self.bad), pass_over: self.pass_over };
        for one in std::mem::take(&mut self.good) {
            if let Some(new) = rows.accept(of(&one))? {
                rows.good.push(one);
                made.push(new);
            }
        }
        *self = rows.some_are_good()?;
        Ok(made)
    }

    fn accept<U>(&mut self, one: Result<U>) -> Result<Option<U>> {
        match one {
            Ok(one) => Ok(Some(one)),
            Err(error) if self.pass_over => {
                self.bad.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn some_are_good(mut self) -> Result<Self> {
        match self.good.is_empty() {
            true => Err(self.bad.swap_remove(0)),
            false => Ok(self),
        }
    }
}

/// One line of JSONL, or what is wrong with it.
pub fn line_of(line: &str) -> std::result::Result<Map<String, Value>, String> {
    // The parser counts lines within this one, and callers say which it is.
    let malformed = |error: String| format!("malformed JSON: {}", error.replace(" at line 1 column ", " at column "));
    serde_json::from_str::<Map<String, Value>>(line).map_err(|error| match bare_number(line) {
        Some((_, problem)) => problem,
        None => malformed(error.to_string()),
    })
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

/// NaN and infinities as some programs write them into what is then no JSON: the line, and the field they stand in.
fn bare_number(text: &str) -> Option<(usize, String)> {
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
                return Some((line, format!("field `{name}` is {sign}{word}, which is no number")));
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

    /// All its fields.
    pub fn fields(&self) -> &'a Map<String, Value> {
        self.map
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
        assert_eq!(bare_number(text).unwrap(), (2, "field `total_reward` is NaN, which is no number".into()));
        assert_eq!(bare_number("{\"x\": -Infinity}").unwrap().1, "field `x` is -Infinity, which is no number");
        assert_eq!(line_of("{\"x\": NaN}").unwrap_err(), "field `x` is NaN, which is no number");
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

    #[test]
    fn broken_rows_are_passed_over_only_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let number = |id: &str, row: &Row<'_>| Ok((id.to_owned(), row.number("x")?));
        let read = |text: &str, pass_over| {
            std::fs::write(&path, text).unwrap();
            Rows::read(&path, pass_over, number).map_err(|error| error.to_string())
        };
        let text = "{\"x\": 1}\n{\"x\": NaN}\n\n{\"id\": \"a\", \"x\": 4}\n{\"id\": \"b\"}\n";
        assert!(read(text, false).unwrap_err().ends_with("f:2: field `x` is NaN, which is no number"));
        let mut rows = read(text, true).unwrap();
        assert_eq!(rows.good, [("line-1".into(), 1.0), ("a".into(), 4.0)]);
        let places: Vec<String> = rows.bad.iter().map(|error| error.to_string()).collect();
        assert!(places.len() == 2 && places[1].ends_with("f:5: field `x`: missing"), "{places:?}");

        let odd = |(id, x): &(String, f64)| match x % 2.0 == 1.0 {
            true => Ok(*x as i64),
            false => Err(refuse(&path, format!("{id} is even"), "give odd ones")),
        };
        assert_eq!((rows.keep(odd).unwrap(), rows.good.len(), rows.bad.len()), (vec![1], 1, 3));
        assert!(rows.keep(|_| Err::<(), _>(refuse(&path, "no".into(), "yes"))).is_err(), "none is left");
        // What nobody can decide is refused whatever was asked for.
        assert!(
            read("{\"x\": \"y\"}", true).is_err()
                && read("{\"id\": 1, \"x\": 1}\n{\"id\": 1, \"x\": 2}", true).is_err()
        );
    }
}
