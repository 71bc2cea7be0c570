//! Regular expressions of an `adapter_config.json`, in Python's syntax and with the anchors that peft puts around each.

use std::path::PathBuf;

use fancy_regex::Regex;

use crate::config::fields::Fields;
use crate::error::{Error, Result};

/// A pattern and the field it stands in.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    path: PathBuf,
    field: String,
    text: String,
    regex: Regex,
}

impl Pattern {
    /// `re.fullmatch(text, name)`.
    pub(super) fn whole(fields: &Fields<'_>, field: &str, text: &str) -> Result<Self> {
        Self::new(fields, field, text, &format!(r"\A(?:{text})\z"))
    }

    /// The end of a module's name, from a dot on: peft's `get_pattern_key`.
    pub(super) fn end(fields: &Fields<'_>, field: &str, text: &str) -> Result<Self> {
        Self::new(fields, field, text, &format!(r"\A(.*\.)?({text})$"))
    }

    /// Whole parts of a module's name, wherever: how peft keeps LoRA off modules that are saved as a whole.
    pub(super) fn part(fields: &Fields<'_>, field: &str, text: &str) -> Result<Self> {
        Self::new(fields, field, text, &format!(r"\A(?:(^|.*\.){text}($|\..*))"))
    }

    /// A part that the layer's number follows; `None` for any part.
    pub(super) fn before_layer(fields: &Fields<'_>, field: &str, text: Option<&str>) -> Result<Self> {
        let regex = match text {
            Some(text) => format!(r"\A(?:^|.*?\.){text}\.(?P<idx>\d+)\."),
            None => r"\A.*?\.[^.]*\.(?P<idx>\d+)\.".into(),
        };
        Self::new(fields, field, text.unwrap_or_default(), &regex)
    }

    fn new(fields: &Fields<'_>, field: &str, text: &str, regex: &str) -> Result<Self> {
        let regex = Regex::new(regex).map_err(|error| {
            let problem = format!("`{text}` is not a regular expression that can be read: {error}");
            fields.refuse(field, problem, Some("name the modules instead, in a list".into()))
        })?;
        Ok(Self { path: fields.path().into(), field: field.into(), text: text.into(), regex })
    }

    /// Whether it fits the module `name`.
    pub(super) fn fits(&self, name: &str) -> Result<bool> {
        self.regex.is_match(name).map_err(|error| self.endless(name, &error))
    }

    /// The layer that [`Pattern::before_layer`] finds in the module `name`.
    pub(super) fn layer(&self, name: &str) -> Result<Option<u64>> {
        let captures = self.regex.captures(name).map_err(|error| self.endless(name, &error))?;
        Ok(captures.and_then(|captures| captures.name("idx")?.as_str().parse().ok()))
    }

    fn endless(&self, name: &str, error: &fancy_regex::Error) -> Error {
        Error::Field {
            path: self.path.clone(),
            field: self.field.clone(),
            problem: format!("`{}` cannot be compared with `{name}`: {error}", self.text),
            hint: Some("name the modules instead, in a list".into()),
        }
    }
}
