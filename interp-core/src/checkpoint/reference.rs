//! What a user writes where a checkpoint is meant, `[NAME=]MODEL`; looks at the file system, opens nothing.

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
        Self { name: None, model: Location::Folder(path.into()) }
    }

    /// The label, or else the last part of the path or hub id.
    pub fn name(&self) -> String {
        match (&self.name, &self.model) {
            (Some(name), _) => name.clone(),
            (None, Location::Hub(id)) => id.name().to_owned(),
            (None, Location::Folder(path)) => {
                // `.` and `..` have no last part of their own.
                let full = path.canonicalize().unwrap_or_else(|_| path.clone());
                full.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
            }
        }
    }
}

/// Marks that introduce an adapter after MODEL.
const ADAPTER_MARKS: [&str; 2] = ["+merge:", "+apply:"];

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
        if ADAPTER_MARKS.iter().any(|mark| text.contains(mark)) {
            return Err(refuse(
                "adapters are not supported by this version",
                "merge the adapter into a checkpoint with peft's `merge_and_unload`, and give that folder",
            ));
        }
        let (name, model) = match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !name.contains('/') => (Some(name.to_owned()), model),
            _ => (None, text),
        };
        if model.is_empty() {
            return Err(refuse("names no model", "write [NAME=]MODEL, MODEL being a folder or owner/name[@revision]"));
        }
        let is_path = Path::new(model).exists() || model.starts_with(['.', '/']) || model.matches('/').count() != 1;
        let model = match HubId::parse(model) {
            // A pinned branch may itself hold slashes, so the revision is split off before they are counted.
            Some(id) if !is_path || (model.contains('@') && !model.starts_with(['.', '/'])) => Location::Hub(id),
            _ => Location::Folder(model.into()),
        };
        Ok(Self { name, model })
    }
}

impl fmt::Display for CheckpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        match &self.model {
            Location::Folder(path) => write!(f, "{}", path.display()),
            Location::Hub(id) => write!(f, "{id}"),
        }
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
            assert_eq!(parsed, CheckpointRef { name: name.map(str::to_owned), model }, "{text}");
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
    fn adapters_are_refused_clearly() {
        let error = "Qwen/Q+merge:runs/lora".parse::<CheckpointRef>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "checkpoint `Qwen/Q+merge:runs/lora`: adapters are not supported by this version"
        );
        assert_eq!("x=".parse::<CheckpointRef>().unwrap_err().to_string(), "checkpoint `x=`: names no model");
    }
}
