//! What a user writes where a checkpoint is meant, `[NAME=]MODEL[+merge:ADAPTER][+apply:ADAPTER[+only:PARTS]]…`; looks at the
//! file system, opens nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::hub::HubId;

/// A checkpoint as named on a command line or in a spec file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRef {
    /// The label before `=`, if one was given.
    pub name: Option<String>,
    /// Where the files are.
    pub model: Location,
    /// What is done with adapters, in order: first what is merged, then what is applied.
    pub steps: Vec<Step>,
}

/// One adapter of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done with it.
    pub how: How,
    /// Where its files are.
    pub adapter: Location,
    /// Of an applied one, the parts that count, as typed; all if `None`.
    pub only: Option<String>,
}

/// What is done with an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its change is added to the weights when they are read.
    Merge,
    /// Its change is computed beside the weights.
    Apply,
}

impl How {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            How::Merge => "merge",
            How::Apply => "apply",
        }
    }
}

/// A folder or a repository of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local folder.
    Folder(PathBuf),
    /// A hub repository, perhaps pinned to a revision.
    Hub(HubId),
}

impl CheckpointRef {
    /// A local folder without a label.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self { name: None, model: Location::Folder(path.into()), steps: Vec::new() }
    }

    /// The label, or else the last part of the path or hub id, with those of its adapters.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let adapters = self.steps.iter().map(|step| format!("+{}", step.adapter.name()));
            std::iter::once(self.model.name()).chain(adapters).collect()
        })
    }
}

impl Location {
    /// The last part of the path or hub id.
    pub fn name(&self) -> String {
        match self {
            Location::Hub(id) => id.name().to_owned(),
            Location::Folder(path) => {
                // `.` and `..` have no last part of their own.
                let full = path.canonicalize().unwrap_or_else(|_| path.clone());
                full.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
            }
        }
    }

    /// A folder's path, or a hub id, whichever the text reads as.
    fn parse(text: &str) -> Self {
        let is_path = Path::new(text).exists() || text.starts_with(['.', '/']) || text.matches('/').count() != 1;
        match HubId::parse(text) {
            // A pinned branch may itself hold slashes, so the revision is split off before they are counted.
            Some(id) if !is_path || (text.contains('@') && !text.starts_with(['.', '/'])) => Location::Hub(id),
            _ => Location::Folder(text.into()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(path) => write!(f, "{}", path.display()),
            Location::Hub(id) => write!(f, "{id}"),
        }
    }
}

/// Marks that introduce what comes after MODEL.
const MARKS: [&str; 3] = ["+merge:", "+apply:", "+only:"];

/// `MODEL`, and each mark with what follows it.
fn cut(text: &str) -> (&str, Vec<(&str, &str)>) {
    let next = |text: &str| MARKS.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let (model, mut rest) = text.split_at(next(text));
    let mut parts = Vec::new();
    while let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
        let (value, after) = rest[mark.len()..].split_at(next(&rest[mark.len()..]));
        parts.push((*mark, value));
        rest = after;
    }
    (model, parts)
}

impl FromStr for CheckpointRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |problem: &str, hint: &str| Error::Selector {
            what: "checkpoint",
            value: text.into(),
            problem: problem.into(),
            hint: Some(hint.into()),
        };
        // An existing path wins over every other reading, so a folder may be called `a=b`.
        if Path::new(text).exists() {
            return Ok(Self::folder(text));
        }
        let (model, parts) = cut(text);
        let (name, model) = match model.split_once('=') {
            Some((name, model)) if !name.is_empty() && !name.contains('/') => (Some(name.to_owned()), model),
            _ => (None, model),
        };
        if model.is_empty() {
            return Err(refuse("names no model", "write [NAME=]MODEL, MODEL being a folder or owner/name[@revision]"));
        }
        let mut steps: Vec<Step> = Vec::new();
        for (mark, value) in parts {
            if value.is_empty() {
                return Err(refuse(
                    &format!("`{mark}` is followed by nothing"),
                    "write +merge:ADAPTER or +apply:ADAPTER",
                ));
            }
            let how = match mark {
                "+only:" => {
                    let last = steps.last_mut().filter(|step| step.how == How::Apply && step.only.is_none());
                    let last = last.ok_or_else(|| {
                        refuse("`+only:` must follow an applied adapter", "write +apply:ADAPTER+only:L19.H17,…")
                    })?;
                    last.only = Some(value.to_owned());
                    continue;
                }
                "+merge:" => How::Merge,
                _ => How::Apply,
            };
            let adapter = Location::parse(value);
            if let Some(before) = steps.iter().find(|step| step.adapter == adapter) {
                let problem = format!("`{adapter}` is there twice (+{}: and +{}:)", before.how.name(), how.name());
                return Err(refuse(&problem, "use each adapter once"));
            }
            if how == How::Merge && steps.iter().any(|step| step.how == How::Apply) {
                return Err(refuse(
                    &format!("merges `{adapter}` after another adapter was applied"),
                    "an applied adapter was trained on the merged model: write all +merge: before +apply:",
                ));
            }
            steps.push(Step { how, adapter, only: None });
        }
        Ok(Self { name, model: Location::parse(model), steps })
    }
}

impl fmt::Display for CheckpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        write!(f, "{}", self.model)?;
        for step in &self.steps {
            write!(f, "+{}:{}", step.how.name(), step.adapter)?;
            if let Some(only) = &step.only {
                write!(f, "+only:{only}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str, revision: Option<&str>) -> Location {
        let id = HubId::parse(text).unwrap();
        assert_eq!(id.revision(), revision);
        Location::Hub(id)
    }

    #[test]
    fn folders_and_hub_ids_are_told_apart() {
        let folder = |path: &str| Location::Folder(path.into());
        for (text, name, model) in [
            ("Qwen/Qwen2.5-0.5B", None, hub("Qwen/Qwen2.5-0.5B", None)),
            ("Qwen/Qwen2.5-0.5B@main", None, hub("Qwen/Qwen2.5-0.5B@main", Some("main"))),
            ("Qwen/Qwen2.5-0.5B@refs/pr/1", None, hub("Qwen/Qwen2.5-0.5B@refs/pr/1", Some("refs/pr/1"))),
            ("base=Qwen/Qwen2.5-0.5B", Some("base"), hub("Qwen/Qwen2.5-0.5B", None)),
            ("./Qwen/model", None, folder("./Qwen/model")),
            ("../a", None, folder("../a")),
            ("/a/b", None, folder("/a/b")),
            ("a/b/c", None, folder("a/b/c")),
            ("gpt2", None, folder("gpt2")),
            ("base=runs/2/model", Some("base"), folder("runs/2/model")),
            ("./runs/lr=1/model", None, folder("./runs/lr=1/model")),
        ] {
            let parsed: CheckpointRef = text.parse().unwrap();
            assert_eq!(parsed, CheckpointRef { name: name.map(str::to_owned), model, steps: Vec::new() }, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn an_existing_path_wins() {
        // Tests run in the crate's folder, where this reads like a hub id.
        assert_eq!("src/checkpoint".parse::<CheckpointRef>().unwrap(), CheckpointRef::folder("src/checkpoint"));
    }

    #[test]
    fn names_come_from_label_repository_or_folder() {
        for (text, name) in [("a=Qwen/Q", "a"), ("Qwen/Q@main", "Q"), ("/x/y", "y"), ("./src", "src")] {
            assert_eq!(text.parse::<CheckpointRef>().unwrap().name(), name);
        }
    }

    #[test]
    fn chains_are_read_in_order() {
        let text = "b5=Qwen/Q@main+merge:runs/1/sft+apply:me/grpo+only:L1.H2,q_proj";
        let parsed: CheckpointRef = text.parse().unwrap();
        assert_eq!(parsed.model, hub("Qwen/Q@main", Some("main")));
        let step = |how, adapter, only: Option<&str>| Step { how, adapter, only: only.map(str::to_owned) };
        let sft = Location::Folder("runs/1/sft".into());
        let expected = [step(How::Merge, sft, None), step(How::Apply, hub("me/grpo", None), Some("L1.H2,q_proj"))];
        assert_eq!(parsed.steps, expected);
        assert_eq!(parsed.to_string(), text);
        assert_eq!(text[3..].parse::<CheckpointRef>().unwrap().name(), "Q+sft+grpo");
    }

    #[test]
    fn wrong_chains_are_refused() {
        for (text, problem) in [
            ("x=", "names no model"),
            ("+merge:a/b", "names no model"),
            ("Qwen/Q+apply:", "`+apply:` is followed by nothing"),
            ("Qwen/Q+merge:a/b+apply:a/b", "`a/b` is there twice (+merge: and +apply:)"),
            ("Qwen/Q+apply:a/b+merge:a/c", "merges `a/c` after another adapter was applied"),
            ("Qwen/Q+merge:a/b+only:L1", "`+only:` must follow an applied adapter"),
        ] {
            let error = text.parse::<CheckpointRef>().unwrap_err().to_string();
            assert_eq!(error, format!("checkpoint `{text}`: {problem}"));
        }
    }
}
