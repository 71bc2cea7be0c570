//! The adapters of a checkpoint: opened, checked against each other and against what was merged before, put on a decoder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use interp_core::Error;
use interp_core::adapter::Adapter;
use interp_core::checkpoint::{Checkpoint, CheckpointRef, How, Step};
use interp_core::decoder::{Decoder, Masks};
use interp_core::hash::{FileHash, Hashes};
use interp_core::hub::HubOptions;
use serde_json::{Value, json};

use crate::parts::{Parts, parts};

/// File beside merged weights that says what they were made of.
pub const RECORD: &str = "interp_merge.json";

/// The adapters of a checkpoint, in their order.
pub struct Chain {
    steps: Vec<Link>,
    /// Those that are merged.
    merges: Vec<Adapter>,
}

struct Link {
    step: Step,
    name: String,
    file: PathBuf,
    sha256: String,
    /// Numbers in all A and B.
    parameters: u64,
    /// The adapter and its parts that count, where it is applied; merged ones are in `merges`.
    applied: Option<(Adapter, Option<Parts>)>,
}

impl Chain {
    /// Opens every adapter that a checkpoint names. Errs when one does not fit the model, is there twice under two names, or
    /// is in the weights already.
    pub fn open(reference: &CheckpointRef, checkpoint: &Checkpoint, hub: &HubOptions) -> Result<Self> {
        let config = checkpoint.config();
        let already = merged_before(checkpoint)?;
        let mut chain = Self { steps: Vec::new(), merges: Vec::new() };
        for step in &reference.steps {
            let adapter = Adapter::open(&step.adapter, hub, config)?;
            let refuse = |problem: String, hint: &str| Error::Selector {
                what: "checkpoint",
                value: reference.to_string(),
                problem,
                hint: Some(hint.into()),
            };
            let sha256 = sha256(adapter.file())?;
            if already.contains(&sha256) {
                let problem = format!("`{}` is merged into {} already", step.adapter, reference.model);
                return Err(
                    refuse(problem, &format!("leave it out, or start from the model that {RECORD} names")).into()
                );
            }
            if let Some(twin) = chain.steps.iter().find(|link| link.sha256 == sha256) {
                let problem = format!("`{}` and `{}` are the same adapter", twin.step.adapter, step.adapter);
                return Err(refuse(problem, "use each adapter once").into());
            }
            let (name, file) = (adapter.name().to_owned(), adapter.file().to_owned());
            let parameters = adapter.n_params();
            let only = step.only.as_deref().map(|text| parts(text, config)).transpose()?;
            if only.is_some() {
                adapter.check_parts()?;
            }
            let applied = match step.how {
                How::Apply => Some((adapter, only)),
                How::Merge => {
                    chain.merges.push(adapter);
                    None
                }
            };
            chain.steps.push(Link { step: step.clone(), name, file, sha256, parameters, applied });
        }
        Ok(chain)
    }

    /// No adapter at all.
    pub fn none() -> Self {
        Self { steps: Vec::new(), merges: Vec::new() }
    }

    /// Those that are merged into the weights, in order.
    pub fn merges(&self) -> &[Adapter] {
        &self.merges
    }

    /// How many adapters are applied beside the weights.
    pub fn n_applied(&self) -> usize {
        self.steps.iter().filter(|link| link.applied.is_some()).count()
    }

    /// The adapter that is applied last, if it is there as a whole.
    pub fn last_applied(&self) -> Option<&Adapter> {
        let (adapter, only) = self.steps.iter().filter_map(|link| link.applied.as_ref()).next_back()?;
        only.is_none().then_some(adapter)
    }

    /// Files of all adapters.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.steps.iter().map(|link| link.file.as_path())
    }

    /// What about the adapters should be known though nothing is wrong.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let applied = self.steps.iter().filter_map(|link| link.applied.as_ref().map(|(adapter, _)| adapter));
        let line = |adapter: &Adapter, text: &String| format!("warning: {}: {text}", adapter.name());
        self.merges
            .iter()
            .chain(applied)
            .flat_map(move |adapter| adapter.warnings().iter().map(move |text| line(adapter, text)))
    }

    /// `base`, which has the merges, with the applied adapters active. Shares the weights of `base`.
    pub fn apply(&self, base: &Decoder) -> interp_core::Result<Decoder> {
        self.apply_first(usize::MAX, base)
    }

    /// [`Chain::apply`] without the adapter that is applied last.
    pub fn apply_but_last(&self, base: &Decoder) -> interp_core::Result<Decoder> {
        self.apply_first(self.n_applied().saturating_sub(1), base)
    }

    fn apply_first(&self, n: usize, base: &Decoder) -> interp_core::Result<Decoder> {
        let applied = self.steps.iter().filter_map(|link| link.applied.as_ref());
        applied.take(n).try_fold(base.share(), |decoder, (adapter, only)| {
            let adapted = decoder.with(adapter)?;
            let Some(only) = only else { return Ok(adapted) };
            let masks = Masks::only(adapted.config(), &[&only.units], adapted.kind());
            Ok(adapted.grafted(&match &only.modules {
                Some(modules) => masks.of_modules(modules.clone()),
                None => masks,
            }))
        })
    }

    /// What files of results say: every step with its hash.
    pub fn describe(&self) -> Value {
        let step = |link: &Link| {
            let mut step = json!({
                "step": link.step.how.name(),
                "adapter": link.step.adapter.to_string(),
                "name": link.name,
                "sha256": link.sha256,
                "parameters": link.parameters,
            });
            if let Some(only) = &link.step.only {
                step["only"] = json!(only);
            }
            step
        };
        self.steps.iter().map(step).collect()
    }
}

/// Hashes of the adapters that the record beside merged weights names; none where there is no record.
fn merged_before(checkpoint: &Checkpoint) -> Result<BTreeSet<String>> {
    let Some(path) = checkpoint.file(RECORD)? else { return Ok(BTreeSet::new()) };
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let record: Value =
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), line: None, source })?;
    let steps = record["chain"].as_array().into_iter().flatten();
    Ok(steps.filter_map(|step| step["sha256"].as_str().map(str::to_owned)).collect())
}

/// Remembered like those of all weight files, so that a large adapter is not read twice.
fn sha256(file: &Path) -> Result<String> {
    Ok(Hashes::start(vec![file.into()]).wait()?.remove(0).sha256)
}

/// `{file, bytes, sha256}` of weight files.
pub fn describe_files(hashes: &[FileHash]) -> Value {
    let file = |hash: &FileHash| {
        let name = hash.path.file_name().map(|name| name.to_string_lossy().into_owned());
        json!({ "file": name, "bytes": hash.bytes, "sha256": hash.sha256 })
    };
    hashes.iter().map(file).collect()
}
