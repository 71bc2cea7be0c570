//! From a grid to cells, from cells to waves, from waves to a [`ScoreGrid`] per trial: the engine.

mod cost;
mod graft;
mod grid;
mod jobs;
mod kept;
mod models;
mod report;
mod runner;
mod runs;
mod sample;
mod sink;
mod split;
mod wave;

use std::ops::Range;
use std::rc::Rc;

use crate::cache::CleanRun;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::intervention::{Context, Donors, Edit, Edits};
use crate::metric::{Metric, Readout};
use crate::scores::{GridAxis, ScoreGrid};
use crate::site::{HeadRef, HookPoint, Positions, Site};
use crate::trial::Trial;

pub use self::cost::pass_flop;
pub use self::grid::{Grid, GridSpec, HeadSet};
pub use self::jobs::{Job, run_together};
pub use self::kept::KeptSources;
pub use self::models::{Donor, Models};
pub use self::report::{TrialNoise, TrialReport};
use self::runner::{Runner, Step};
use self::runs::Pair;
pub use self::sample::Sample;
pub use self::sink::Sink;
use self::wave::{Run, Source};

/// What to run on every trial.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Kind of activation that is edited.
    pub site: Site,
    /// What happens to it.
    pub edit: Edit,
    /// Which cells.
    pub grid: Grid,
    /// Where: one selector, or one per column of a layer x position grid.
    pub positions: Vec<Positions>,
    /// Layers on the layer axis.
    pub layers: Range<usize>,
    /// Only these heads of a layer x head grid; the others stay null.
    pub heads: Option<Vec<HeadRef>>,
    /// What is measured; the first is the primary metric.
    pub metrics: Vec<Metric>,
    /// Most rows of one wave; `None` takes what fits into memory.
    pub max_rows: Option<usize>,
    /// Seed of `noise`.
    pub seed: u64,
}

impl Sweep {
    /// Whether the edit draws on statistics over prompts.
    pub fn needs_moments(&self) -> bool {
        matches!(self.edit, Edit::Mean | Edit::Noise(_))
    }

    /// Hook points that some cell edits.
    pub fn points(&self) -> Vec<HookPoint> {
        if self.site.is_per_layer() {
            return self.layers.clone().map(|layer| HookPoint::new(self.site, layer)).collect();
        }
        vec![HookPoint::new(self.site, 0)]
    }

    /// What is wrong with each trial, if anything, found without running the model. Errs when nothing could run at all, for
    /// then the mistake is the sweep's own: a head that does not exist, a site that cannot be edited so. Where another model
    /// donates (`other_donor`), a trial needs no source of its own.
    pub fn check(&self, config: &ModelConfig, trials: &[Trial], other_donor: bool) -> Result<Vec<Option<Error>>> {
        let mut axes = None;
        let mut found: Vec<Option<Error>> = Vec::with_capacity(trials.len());
        for trial in trials {
            let check = || -> Result<()> {
                Readout::new(&self.metrics, trial.target, &trial.id)?;
                let context = Context::of_prompt(config, &trial.id);
                for cell in self.cells(config, trial)? {
                    Edits::check(&cell.set, &trial.base, trial.donating(other_donor), &context)?;
                }
                match &axes {
                    None => axes = Some(self.axes(config, trial)?),
                    Some(axes) => self.check_columns(trial, axes)?,
                }
                Ok(())
            };
            found.push({ check }().err());
        }
        match axes {
            None => Err(found.into_iter().flatten().next().unwrap_or(Error::NoTrials)),
            Some(_) => Ok(found),
        }
    }

    /// Runs every trial that the sink does not have yet; trials that cannot run are skipped with the reason.
    pub fn run(&self, models: Models<'_>, trials: &[Trial], sink: &mut dyn Sink) -> Result<()> {
        run_together(models, &mut [Job { sweep: self, trials, sink }])
    }

    /// The δ of every cell on one trial, and what finding them cost.
    pub fn trial(&self, models: Models<'_>, axes: &[GridAxis], trial: &Trial) -> Result<(ScoreGrid, TrialReport)> {
        models.check(self)?;
        Runner::new(models, vec![Some(Step { sweep: self, trial, only: None })]).step(0, axes)
    }

    /// [`Sweep::trial`] for a few cells (row-major indices on the grid) only; the others are NaN.
    pub fn cells_of(&self, models: Models<'_>, axes: &[GridAxis], trial: &Trial, cells: &[usize]) -> Result<ScoreGrid> {
        models.check(self)?;
        Ok(Runner::new(models, vec![Some(Step { sweep: self, trial, only: Some(cells) })]).step(0, axes)?.0)
    }

    /// δ of one cell (row-major index on the grid) by a plain full pass that shares nothing with the engine but the decoder.
    /// `None` when the sweep does not have that cell.
    pub fn plain(&self, models: Models<'_>, trial: &Trial, index: usize) -> Result<Option<Vec<f64>>> {
        let _no_grad = tch::no_grad_guard();
        let readout = Readout::new(&self.metrics, trial.target, &trial.id)?;
        let cells = self.cells(models.base.config(), trial)?;
        let Some(cell) = cells.iter().find(|cell| cell.index == index) else { return Ok(None) };
        // Not the engine's own runs: the source runs whole, from its own first token on.
        let points: Vec<HookPoint> = cell.set.iter().map(|one| one.at).collect();
        let source = models.donating(trial).zip(models.source());
        let source = source.map(|(source, model)| Rc::new(CleanRun::new(model, &source.tokens, [], points, 0)));
        let base = Rc::new(CleanRun::new(models.base, &trial.base.tokens, [], [], 0));
        Pair { base, source }.run(self, models, trial, &readout)?.plain(cell).map(Some)
    }

    /// Metrics of the unedited base run, by a plain full pass.
    pub fn plain_clean(&self, models: Models<'_>, trial: &Trial) -> Result<Vec<f64>> {
        let _no_grad = tch::no_grad_guard();
        let readout = Readout::new(&self.metrics, trial.target, &trial.id)?;
        let base = Rc::new(CleanRun::new(models.base, &trial.base.tokens, [], [], 0));
        let alone = Models { donor: None, ..models };
        Ok(Pair { base, source: None }.run(self, alone, trial, &readout)?.unedited().0)
    }
}

impl Pair {
    /// What the waves of a trial share.
    fn run<'a>(
        &'a self,
        sweep: &'a Sweep,
        models: Models<'a>,
        trial: &'a Trial,
        readout: &'a Readout,
    ) -> Result<Run<'a>> {
        let source = match (models.donor, self.source.as_deref()) {
            (Some(Donor::Kept(kept)), _) => Some(Source::Kept(kept.of(trial)?)),
            (Some(Donor::Model(donor)), Some(run)) => Some(Source::Other(donor, run)),
            (None, Some(run)) => Some(Source::Same(run)),
            (_, None) => None,
        };
        let donating = models.donating(trial).zip(source.map(Source::cache));
        let donors = Donors { source: donating, same_weights: models.same_weights(), moments: models.moments };
        let Models { base: decoder, adapted, .. } = models;
        Ok(Run { sweep, decoder, adapted, trial, base: &self.base, source, donors, readout })
    }
}
