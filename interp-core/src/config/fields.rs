//! Typed reading of one JSON object that remembers which fields were read, so that none is passed over in silence.
//! Knows nothing of models.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// An object of a JSON file, with the place it stands at for messages.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    /// Dotted path of the object with a final dot, empty at the top.
    prefix: String,
    object: &'a Map<String, Value>,
    seen: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Fields<'a> {
    /// The top of a file; errs when it is not an object.
    pub(crate) fn top(path: &'a Path, json: &'a Value) -> Result<Self> {
        let object = json.as_object().ok_or_else(|| Error::File {
            path: path.into(),
            problem: "is not a JSON object".into(),
            hint: None,
        })?;
        Ok(Self { path, prefix: String::new(), object, seen: RefCell::default() })
    }

    /// The object in field `key`; `None` when absent, null or empty.
    pub(super) fn child(&self, key: &'a str) -> Result<Option<Fields<'a>>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) if object.is_empty() => Ok(None),
            Some(Value::Object(object)) => {
                let prefix = format!("{}{key}.", self.prefix);
                Ok(Some(Fields { path: self.path, prefix, object, seen: RefCell::default() }))
            }
            Some(other) => Err(self.wrong(key, "an object", other)),
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// Names of all fields.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.object.keys().map(String::as_str)
    }

    /// The raw value, `None` when absent; counts as read.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        let (key, value) = self.object.get_key_value(key)?;
        self.seen.borrow_mut().insert(key);
        Some(value)
    }

    /// A whole number of at least one.
    pub(crate) fn positive(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => self.as_positive(key, value),
        }
    }

    /// A whole number of at least one, or null.
    pub(super) fn positive_or_null(&self, key: &str, default: Option<usize>) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => self.as_positive(key, value).map(Some),
        }
    }

    /// A whole number, zero included.
    pub(super) fn count(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => as_whole(value).map(|n| n as usize).ok_or_else(|| self.wrong(key, "a whole number", value)),
        }
    }

    /// A finite number above zero; `None` when absent or null.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
                _ => Err(self.wrong(key, "a number above zero", value)),
            },
        }
    }

    /// `true` or `false`; null is taken as absent.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A string; `None` when absent or null.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    /// Token ids: null, one, or a list.
    pub(super) fn token_ids(&self, key: &str, default: &[i64]) -> Result<Vec<i64>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let ids = match value {
            Value::Null => Some(Vec::new()),
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            one => one.as_i64().map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong(key, "a token id, a list of them, or null", value))
    }

    /// Fields that were not read and are not in `benign`.
    pub(crate) fn unread(&self, benign: &[&str]) -> Vec<(&'a str, &'a Value)> {
        let seen = self.seen.borrow();
        let all = self.object.iter().map(|(key, value)| (key.as_str(), value));
        all.filter(|(key, _)| !seen.contains(key) && !benign.contains(key)).collect()
    }

    /// Errs unless every field was read, is in `benign`, or says nothing (null, false, zero, empty).
    pub(super) fn finish(&self, benign: &[&str]) -> Result<()> {
        match self.unread(benign).into_iter().find(|(_, value)| !says_nothing(value)) {
            None => Ok(()),
            Some((key, value)) => Err(self.refuse(
                key,
                format!("is not understood, and its value {} may change the computation", short(value)),
                Some("use a checkpoint without it, or delete the field if it is mere bookkeeping".into()),
            )),
        }
    }

    /// The error that `key` holds `value` where `expected` belongs.
    pub(crate) fn wrong(&self, key: &str, expected: &str, value: &Value) -> Error {
        self.refuse(key, format!("must be {expected}, found {}", short(value)), None)
    }

    /// An error about field `key`.
    pub(crate) fn refuse(&self, key: &str, problem: impl Into<String>, hint: Option<String>) -> Error {
        let field = format!("{}{key}", self.prefix);
        Error::Field { path: self.path.into(), field, problem: problem.into(), hint }
    }

    fn as_positive(&self, key: &str, value: &Value) -> Result<usize> {
        match as_whole(value) {
            Some(n) if n >= 1 => Ok(n as usize),
            _ => Err(self.wrong(key, "a whole number of at least 1", value)),
        }
    }
}

/// Sizes stay below 2^31 so that products of three of them cannot overflow 64 bits unnoticed by libtorch's i64.
fn as_whole(value: &Value) -> Option<u64> {
    value.as_u64().filter(|&n| n <= i32::MAX as u64)
}

/// Whether a value is null, false, zero or empty.
pub(crate) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// The value as JSON, cut to a length that fits a message.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
