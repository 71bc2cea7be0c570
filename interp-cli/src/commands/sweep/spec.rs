//! A sweep as text: from flags, or from the `run.json` of an earlier run. Everything that decides the numbers is in here.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::cli::{ModelArgs, SweepArgs};

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
}

/// Flags that do not belong to a run's identity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    /// Use only what the hub cache holds.
    pub offline: bool,
    /// Threads of the CPU.
    pub threads: Option<usize>,
}

impl SweepSpec {
    /// From flags, or from `--spec`.
    pub fn resolve(args: &SweepArgs) -> Result<Self> {
        match (&args.spec, &args.flags.model, &args.flags.trials) {
            (Some(file), _, _) => Self::read(file),
            (None, Some(model), Some(trials)) => Ok(Self::of_flags(args, model, trials)),
            (None, None, _) => Err(anyhow!("--model is missing")),
            (None, _, None) => Err(anyhow!("--trials is missing")),
        }
    }

    fn of_flags(args: &SweepArgs, model: &str, trials: &str) -> Self {
        let flags = &args.flags;
        // A knockout's positions are the queries.
        let positions = flags.to.as_ref().unwrap_or(&flags.positions);
        Self {
            model: model.into(),
            dtype: flags.dtype.clone(),
            weights: flags.weights.clone(),
            device: flags.device.clone(),
            trials: trials.into(),
            target: flags.target.clone(),
            swap: flags.swap,
            site: flags.site.clone(),
            edit: flags.edit.clone(),
            from: flags.from.clone(),
            grid: flags.grid.clone(),
            positions: positions.clone(),
            layers: flags.layers.clone(),
            heads: flags.heads.clone(),
            metric: flags.metric.clone(),
            max_rows: flags.max_rows,
            seed: flags.seed,
        }
    }

    /// From an output folder's `run.json`.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let run: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{}: not JSON", file.display()))?;
        let spec = run.get("spec").and_then(|spec| spec.get("sweep"));
        let spec = spec.ok_or_else(|| anyhow!("{}: describes no sweep", file.display()))?;
        serde_json::from_value(spec.clone()).with_context(|| format!("{}: field `spec.sweep`", file.display()))
    }

    /// The model's part, as the flags of other commands have it.
    pub fn model_args(&self, machine: Machine) -> ModelArgs {
        ModelArgs {
            model: self.model.clone(),
            dtype: self.dtype.clone(),
            weights: self.weights.clone(),
            device: self.device.clone(),
            offline: machine.offline,
            threads: machine.threads,
        }
    }
}
