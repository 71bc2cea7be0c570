//! Finds a checkpoint's files in a folder or on the hub, and says what is there instead when they are not. Reads no weights.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::hub::HubRepo;

pub(super) const GGUF_HINT: &str = "use the original safetensors checkpoint; GGUF weights are quantized";
const CONVERT_HINT: &str =
    "convert once, in Python: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Where files come from.
#[derive(Debug)]
pub(crate) enum Source {
    Folder(PathBuf),
    Hub(Box<HubRepo>),
    /// There are no files.
    Nowhere,
}

/// The weight files, and which of them holds each tensor where an index says so.
pub(super) struct Weights {
    pub(super) paths: Vec<PathBuf>,
    pub(super) index: Option<(PathBuf, BTreeMap<String, usize>)>,
}

impl Source {
    /// A local folder; errs when there is none.
    pub(super) fn folder(path: &Path) -> Result<Self> {
        let refuse = |problem: &str, hint: &str| {
            Err(Error::File { path: path.into(), problem: problem.into(), hint: Some(hint.into()) })
        };
        if path.is_dir() {
            Ok(Self::Folder(path.into()))
        } else if !path.exists() {
            refuse("no such folder", "give a folder that holds config.json, or a hub id such as owner/name")
        } else if has_extension(&path.display().to_string(), "gguf") {
            refuse("is a GGUF file, not a checkpoint folder", GGUF_HINT)
        } else {
            refuse("is a file, not a checkpoint folder", "give the folder that holds config.json")
        }
    }

    /// The path of file `name`, downloaded if need be; `None` when the checkpoint does not have it.
    pub(crate) fn get(&self, name: &str) -> Result<Option<PathBuf>> {
        match self {
            Self::Folder(dir) => Ok(Some(dir.join(name)).filter(|path| path.is_file())),
            Self::Hub(repo) => repo.file(name),
            Self::Nowhere => Ok(None),
        }
    }

    /// The folder in which the files lie.
    pub(crate) fn dir(&self) -> &Path {
        match self {
            Self::Folder(dir) => dir,
            Self::Hub(repo) => repo.snapshot(),
            Self::Nowhere => Path::new(""),
        }
    }

    /// The path of `config.json`.
    pub(super) fn config(&self) -> Result<PathBuf> {
        self.get("config.json")?.ok_or_else(|| {
            let names = self.names();
            let hint = if names.iter().any(|name| has_extension(name, "gguf")) {
                GGUF_HINT
            } else if names.iter().any(|name| name == "adapter_config.json") {
                "this is an adapter: give the checkpoint it belongs to"
            } else {
                "a checkpoint is a folder as transformers' save_pretrained writes it"
            };
            self.refuse("has no config.json", hint)
        })
    }

    /// The weight files.
    pub(super) fn weights(&self) -> Result<Weights> {
        if let Some(path) = self.get(SINGLE)? {
            return Ok(Weights { paths: vec![path], index: None });
        }
        match self.get(INDEX)? {
            Some(index) => self.sharded(index),
            None => Err(self.no_weights()),
        }
    }

    fn sharded(&self, path: PathBuf) -> Result<Weights> {
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let json: Value =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), line: None, source })?;
        let refuse = |field: &str, problem: &str| Error::Field {
            path: path.clone(),
            field: field.into(),
            problem: problem.into(),
            hint: Some("copy or download the checkpoint again, all of its files".into()),
        };
        let map = json["weight_map"].as_object().filter(|map| !map.is_empty());
        let map = map.ok_or_else(|| refuse("weight_map", "must be an object from tensor to file"))?;

        let mut shards = BTreeMap::<&str, usize>::new();
        let mut index = BTreeMap::new();
        for (tensor, file) in map {
            // An index is downloaded text: it may not name files outside its own folder.
            let file = file.as_str().filter(|file| is_inside(file));
            let file =
                file.ok_or_else(|| refuse(&format!("weight_map.{tensor}"), "must name a file of this folder"))?;
            let next = shards.len();
            index.insert(tensor.clone(), *shards.entry(file).or_insert(next));
        }
        let mut paths = vec![PathBuf::new(); shards.len()];
        for (file, number) in shards {
            let found = self.get(file)?;
            paths[number] = found.ok_or_else(|| refuse("weight_map", &format!("names {file}, which is not there")))?;
        }
        Ok(Weights { paths, index: Some((path, index)) })
    }

    fn no_weights(&self) -> Error {
        let names = self.names();
        let find = |extension: &str| names.iter().find(|name| has_extension(name, extension));
        if let Some(name) = ["bin", "pt", "pth"].into_iter().find_map(find) {
            let problem = format!("has its weights only as a pickle, {name}, which can run code when it is opened");
            self.refuse(&problem, CONVERT_HINT)
        } else if let Some(name) = find("gguf") {
            self.refuse(&format!("has its weights only as GGUF, {name}"), GGUF_HINT)
        } else {
            self.refuse(
                &format!("has neither {SINGLE} nor {INDEX}"),
                "a checkpoint folder holds its weights as safetensors",
            )
        }
    }

    /// An error about the checkpoint as a whole.
    pub(crate) fn refuse(&self, problem: &str, hint: &str) -> Error {
        match self {
            Self::Hub(repo) => repo.refuse(problem, hint),
            Self::Folder(_) | Self::Nowhere => {
                Error::File { path: self.dir().into(), problem: problem.into(), hint: Some(hint.into()) }
            }
        }
    }

    /// Names of all files at the top.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Hub(repo) => repo.names(),
            Self::Folder(dir) => folder_names(dir),
            Self::Nowhere => Vec::new(),
        }
    }
}

/// Names of the files of a folder, sorted.
pub(super) fn folder_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}
