//! The sweeps of the study, each an ordinary one into a folder of its own.

use std::path::Path;

use anyhow::Result;
use interp_core::export::Study;

use super::checkpoints::Checkpoint;
use crate::bases::Bases;
use crate::cli::{CheckFlags, StudyComplianceArgs};
use crate::commands::sweep::{self, Machine, SweepSpec, prepare};
use crate::output::{Exit, Printer};

/// What all sweeps share.
pub struct Sweeps<'a> {
    pub args: &'a StudyComplianceArgs,
    pub bases: Bases,
    pub printer: &'a Printer,
}

impl Sweeps<'_> {
    /// Causal mediation: z of every head at the last position, from the source prompt.
    pub fn mediation(&self, checkpoint: &Checkpoint, trials: &Path) -> SweepSpec {
        let (compute, args) = (&self.args.compute, self.args);
        SweepSpec {
            model: checkpoint.text.clone(),
            dtype: compute.dtype.clone(),
            weights: compute.weights.clone(),
            device: compute.device.clone(),
            trials: trials.display().to_string(),
            target: "one".into(),
            swap: false,
            site: "z".into(),
            edit: "patch".into(),
            from: None,
            grid: "layer-head".into(),
            positions: "last".into(),
            layers: None,
            heads: None,
            metric: "logit-diff".into(),
            max_rows: args.max_rows.map(Into::into),
            seed: args.seed,
            source_model: None,
            layer_map: None,
            head_map: None,
            map: None,
            calibrate: None,
            cumulative: None,
        }
    }

    /// Runs a sweep, or goes on with it; `None` when it was interrupted.
    pub fn run(&mut self, title: &str, spec: &SweepSpec, out: &Path) -> Result<Option<Study>> {
        self.printer.talk(title);
        let compute = &self.args.compute;
        let prepared = prepare(spec, Machine { offline: compute.offline, threads: compute.threads })?;
        let checks = CheckFlags { verify: 0, no_floor: self.args.no_floor };
        match sweep::run(spec, &prepared, out, checks, &mut self.bases, self.printer)? {
            Exit::Interrupted => Ok(None),
            _ => Ok(Some(Study::load(out)?)),
        }
    }
}
