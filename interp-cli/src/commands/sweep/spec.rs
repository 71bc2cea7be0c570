//! A sweep as text: from flags, or from the `run.json` of an earlier run. Everything that decides the numbers is in here.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::intervention::EditSpec;
use serde::{Deserialize, Serialize};

use super::sets::SetPlan;
use crate::cli::{ComputeArgs, ModelArgs, SweepArgs, SweepFlags};

/// The typed part of a run's identity, as `run.json` keeps it under `spec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// Checkpoint that is edited.
    pub model: String,
    /// dtype of computation.
    pub dtype: String,
    /// How weights are held.
    pub weights: String,
    /// Device as typed.
    pub device: String,
    /// Trial file.
    pub trials: String,
    /// `one` token per target, or the `first-token` of several.
    pub target: String,
    /// Whether each trial also runs the other way round.
    pub swap: bool,
    /// Site that is edited.
    pub site: String,
    /// Edit.
    pub edit: String,
    /// Keys that a knockout forbids.
    pub from: Option<String>,
    /// Kind of grid.
    pub grid: String,
    /// Positions, or columns of a layer x position grid.
    pub positions: String,
    /// Layers.
    pub layers: Option<String>,
    /// Only these heads.
    pub heads: Option<String>,
    /// Metrics, the primary one first.
    pub metric: String,
    /// Bound on the rows of a wave.
    pub max_rows: Option<usize>,
    /// Seed.
    pub seed: u64,
    /// Checkpoint that patches take from, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_model: Option<String>,
    /// Which of its layers stands for which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_map: Option<String>,
    /// Which of its heads stands for which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_map: Option<String>,
    /// How its vectors are carried over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// Trial file that this was fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<String>,
    /// Sets of heads that follow from a ranking; they are the grid then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cumulative: Option<SetPlan>,
}

/// Flags that do not belong to a run's identity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    /// Use only what the hub cache holds.
    pub offline: bool,
    /// Threads of the CPU.
    pub threads: Option<NonZeroUsize>,
}

impl SweepSpec {
    /// From flags, or from `--spec`.
    pub fn resolve(args: &SweepArgs) -> Result<Self> {
        match &args.spec {
            Some(file) => Self::read(file),
            None => {
                let required = |flag: &Option<String>| flag.clone().expect("clap asks for it where there is no --spec");
                Ok(Self::of_flags(required(&args.model), required(&args.trials), args.heads.clone(), &args.flags))
            }
        }
    }

    /// From flags, of one checkpoint.
    pub fn of_flags(model: String, trials: String, heads: Option<String>, flags: &SweepFlags) -> Self {
        // A knockout's positions are the queries.
        let positions = flags.to.as_ref().or(flags.positions.as_ref());
        // An adapter acts at all positions.
        let usual = if flags.edit.parse().is_ok_and(|edit: EditSpec| edit.is_graft()) { "all" } else { "last" };
        Self {
            model,
            dtype: flags.compute.dtype.clone(),
            weights: flags.compute.weights.clone(),
            device: flags.compute.device.clone(),
            trials,
            target: flags.target.clone(),
            swap: flags.swap,
            site: flags.site.clone(),
            edit: flags.edit.clone(),
            from: flags.from.clone(),
            grid: flags.grid.clone(),
            positions: positions.map_or(usual, String::as_str).to_owned(),
            layers: flags.layers.clone(),
            heads,
            metric: flags.metric.clone(),
            max_rows: flags.max_rows.map(NonZeroUsize::get),
            seed: flags.seed,
            source_model: flags.source.source_model.clone(),
            layer_map: flags.source.layer_map.clone(),
            head_map: flags.source.head_map.clone(),
            map: flags.source.map.clone(),
            calibrate: flags.source.calibrate.clone(),
            cumulative: None,
        }
    }

    /// From an output folder's `run.json`.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
        let refuse = |problem: String| Error::File {
            path: file.into(),
            problem,
            hint: Some("give the run.json that `interp sweep` wrote into its output folder".into()),
        };
        let run: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| refuse(format!("not JSON: {error}")))?;
        let spec = run.get("spec").and_then(|spec| spec.get("sweep"));
        let spec = spec.ok_or_else(|| refuse("describes no sweep".into()))?;
        Ok(serde_json::from_value(spec.clone()).map_err(|error| refuse(format!("field `spec.sweep`: {error}")))?)
    }

    /// A model's part, as the flags of other commands have it.
    pub fn model_args(&self, model: &str, machine: Machine) -> ModelArgs {
        let compute = ComputeArgs {
            dtype: self.dtype.clone(),
            weights: self.weights.clone(),
            device: self.device.clone(),
            offline: machine.offline,
            threads: machine.threads,
        };
        ModelArgs { model: model.into(), compute }
    }
}
