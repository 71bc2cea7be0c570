//! `--source-model`: the other checkpoint that patches take from, opened and held against the edited one, and what its
//! activations go through on the way. Loads no weights.

use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::intervention::Edit;
use interp_core::prompt::Prompt;
use interp_core::sweep::Sweep;
use interp_core::transfer::{Correspondence, HeadMap, LayerMap, Method};
use interp_core::trial::{Trial, TrialFile, TrialOptions};
use serde_json::{Value, json};

use super::spec::{Machine, SweepSpec};
use crate::model::Model;

/// The donor of a sweep across checkpoints.
pub struct Source {
    /// Its files, weights not loaded.
    pub model: Model,
    /// Which of its layers and heads stand for those of the edited model.
    pub via: Correspondence,
    /// How its vectors are carried over.
    pub method: Method,
    /// Prompts that this is fitted on.
    pub calibration: Option<TrialFile>,
}

impl Source {
    /// `None` without `--source-model`, and where it is the edited checkpoint itself and goes through no map: then the sweep
    /// is an ordinary one.
    pub fn open(spec: &SweepSpec, machine: Machine, edited: &Model, sweep: &Sweep) -> Result<Option<Self>> {
        let Some(name) = &spec.source_model else { return Ok(None) };
        if !matches!(sweep.edit, Edit::Patch) {
            return Err(refuse("edit", &spec.edit, "takes nothing from another model".into(), "use --edit patch"));
        }
        let model = Model::open(&spec.model_args(name, machine))?;
        let layers = spec.layer_map.as_deref().map(str::parse::<LayerMap>).transpose()?;
        let heads = spec.head_map.as_deref().map(str::parse::<HeadMap>).transpose()?;
        let (site, config) = (sweep.site, edited.checkpoint.config());
        let via = Correspondence::new(site, config, model.checkpoint.config(), layers.as_ref(), heads.as_ref())?;
        let method = spec.map.as_deref().map_or(Ok(Method::Raw), str::parse)?;
        if method == Method::Raw && via.is_identity() && same_checkpoint(&model, edited) {
            return Ok(None);
        }
        via.check(site, method)?;
        check_tokenizers(edited, &model)?;
        let calibration = match (method, &spec.calibrate) {
            (Method::Raw, None) => None,
            (Method::Raw, Some(file)) => {
                return Err(refuse("calibrate", file, "raw fits nothing".into(), "use --map procrustes or ridge"));
            }
            (_, None) => {
                let hint = "add --calibrate TRIALS.jsonl, prompts that both models run";
                return Err(refuse("map", &method.to_string(), "there is nothing to fit it on".into(), hint));
            }
            (_, Some(file)) => Some(read_calibration(Path::new(file), spec, edited)?),
        };
        let source = Self { model, via, method, calibration };
        source.calibration.iter().try_for_each(|file| source.check_prompts(&file.trials))?;
        Ok(Some(source))
    }

    /// Whether activations go through a map of any kind, and so have to be kept.
    pub fn is_mapped(&self) -> bool {
        self.method != Method::Raw || !self.via.is_identity()
    }

    /// Errs when the donor cannot run the prompts as they are.
    pub fn check_prompts(&self, trials: &[Trial]) -> Result<()> {
        let config = self.model.checkpoint.config();
        for trial in trials {
            let place = || format!("{} in {}", trial.id, self.model.checkpoint.name());
            let refuse = |problem: String, hint: &str| {
                Err(Error::Prompt { place: place(), problem, hint: Some(hint.into()) }.into())
            };
            for Prompt { tokens, .. } in std::iter::once(&trial.base).chain(&trial.source) {
                if tokens.len() > config.n_ctx {
                    let problem = format!("has {} tokens, the donor was made for {}", tokens.len(), config.n_ctx);
                    return refuse(problem, "give shorter prompts");
                }
                let read = [Some(trial.target.correct), trial.target.incorrect].into_iter().flatten();
                if let Some(id) = tokens.iter().copied().chain(read).find(|&id| id as usize >= config.d_vocab) {
                    let problem = format!("token id {id} is not in the donor's vocabulary of {}", config.d_vocab);
                    return refuse(problem, "give two checkpoints of one vocabulary");
                }
            }
        }
        Ok(())
    }

    /// The donor's part of a run's identity.
    pub fn identity(&self) -> Result<Value> {
        Ok(json!({
            "config_sha256": self.model.file_sha256("config.json")?,
            "tokenizer_sha256": self.model.file_sha256("tokenizer.json")?,
            "layers": self.via.layers(),
            "heads": self.via.heads(),
            "map": self.method.to_string(),
            "calibrate_sha256": self.calibration.as_ref().map(|file| &file.sha256),
        }))
    }
}

/// Whether two checkpoints are the same files.
fn same_checkpoint(a: &Model, b: &Model) -> bool {
    let folder = |model: &Model| fs::canonicalize(model.checkpoint.dir()).ok();
    folder(a).is_some_and(|a| folder(b) == Some(a)) && a.chain.describe() == b.chain.describe()
}

/// A donor runs the very token ids of the edited model's prompts: they must mean the same to it.
fn check_tokenizers(edited: &Model, donor: &Model) -> Result<()> {
    let refuse = |problem: String| {
        let hint = Some("patches across checkpoints need one tokenizer: give checkpoints that share it".into());
        Err(Error::File { path: donor.checkpoint.dir().into(), problem, hint }.into())
    };
    match (&edited.tokenizer, &donor.tokenizer) {
        (Some(ours), Some(theirs)) => match ours.first_difference(theirs)? {
            Some(difference) => refuse(format!("another tokenizer than {}'s: {difference}", edited.checkpoint.name())),
            None => Ok(()),
        },
        (None, None) => Ok(()),
        (Some(_), None) => refuse("has no tokenizer.json, the edited model has".into()),
        (None, Some(_)) => refuse("has a tokenizer.json, the edited model has none".into()),
    }
}

/// Calibration prompts: each line counts, for the held-out part decides what a reader believes.
fn read_calibration(path: &Path, spec: &SweepSpec, edited: &Model) -> Result<TrialFile> {
    let options = TrialOptions { first_token: spec.target == "first-token", swap: false };
    let mut file = TrialFile::read(path, &edited.reader(), options)?;
    if !file.bad_lines.is_empty() {
        return Err(anyhow::Error::from(file.bad_lines.swap_remove(0).error).context("calibration"));
    }
    Ok(file)
}

fn refuse(what: &'static str, value: &str, problem: String, hint: &str) -> anyhow::Error {
    Error::Selector { what, value: value.into(), problem, hint: Some(hint.into()) }.into()
}
