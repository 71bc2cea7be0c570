//! From a grid to cells, from cells to waves, from waves to a [`ScoreGrid`] per trial: the engine.

mod grid;
mod sink;
mod wave;

use std::ops::{ControlFlow, Range};

use crate::cache::CleanRun;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::guard::catch_torch;
use crate::intervention::{Context, Donors, Edit, Edits, Moments, common_prefix};
use crate::metric::{Metric, Readout};
use crate::prompt::Prompt;
use crate::scores::{GridAxis, ScoreGrid};
use crate::site::{HeadRef, HookPoint, Positions, Site};
use crate::trial::Trial;

pub use self::grid::{Grid, GridSpec, HeadSet};
pub use self::sink::Sink;
use self::wave::Run;

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

/// The models and statistics a sweep runs with.
#[derive(Debug, Clone, Copy)]
pub struct Models<'a> {
    /// The checkpoint that is edited.
    pub base: &'a Decoder,
    /// Statistics over prompts, for `mean` and `noise`.
    pub moments: Option<&'a Moments>,
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
    /// then the mistake is the sweep's own: a head that does not exist, a site that cannot be edited so.
    pub fn check(&self, config: &ModelConfig, trials: &[Trial]) -> Result<Vec<Option<Error>>> {
        let mut axes = None;
        let mut found: Vec<Option<Error>> = Vec::with_capacity(trials.len());
        for trial in trials {
            let check = || -> Result<()> {
                Readout::new(&self.metrics, trial.target, &trial.id)?;
                let context = Context::of_prompt(config, &trial.id);
                for cell in self.cells(config, trial)? {
                    Edits::check(&cell.set, &trial.base, trial.source.as_ref(), &context)?;
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
        let wrong = self.check(models.base.config(), trials)?;
        let first = wrong.iter().position(Option::is_none).expect("some trial can run");
        let axes = self.axes(models.base.config(), &trials[first])?;
        sink.begin(trials.len())?;
        for (index, (trial, wrong)) in trials.iter().zip(wrong).enumerate() {
            if sink.has(index) {
                continue;
            }
            let flow = match wrong {
                Some(error) => sink.skip(index, &error.to_string())?,
                None => sink.trial(index, &self.trial(models, &axes, trial)?)?,
            };
            if flow == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        sink.finish()
    }

    /// The δ of every cell on one trial.
    pub fn trial(&self, models: Models<'_>, axes: &[GridAxis], trial: &Trial) -> Result<ScoreGrid> {
        catch_torch(&trial.id, || self.run_trial(models, axes, trial))
    }

    fn run_trial(&self, models: Models<'_>, axes: &[GridAxis], trial: &Trial) -> Result<ScoreGrid> {
        let _no_grad = tch::no_grad_guard();
        let decoder = models.base;
        let readout = Readout::new(&self.metrics, trial.target, &trial.id)?;
        let cells = self.cells(decoder.config(), trial)?;
        let waves = wave::split(cells, self.wave_rows(decoder, trial));

        let runs = self.runs(models, trial, waves.iter().map(|wave| wave.layer), wave::points(&waves))?;
        let donors = runs.donors(trial, models);
        let run = Run { decoder, trial, base: &runs.base, donors: &donors, readout: &readout, seed: self.seed };

        let n_cells: usize = axes.iter().map(|axis| axis.labels.len()).product();
        let mut values = vec![vec![f64::NAN; n_cells]; self.metrics.len()];
        for wave in waves {
            for (cell, deltas) in run.wave(wave)? {
                deltas.iter().zip(&mut values).for_each(|(delta, column)| column[cell] = *delta);
            }
        }
        let clean = run.unedited(&runs.base);
        let source = runs.source.as_ref().map(|source| run.unedited(source));
        let metrics = self.metrics.iter().map(|metric| metric.to_string()).collect();
        Ok(ScoreGrid { axes: axes.to_vec(), metrics, values, clean, source })
    }

    /// δ of one cell (row-major index on the grid) by a plain full pass that shares nothing with the engine but the decoder.
    /// `None` when the sweep does not have that cell.
    pub fn plain(&self, models: Models<'_>, trial: &Trial, index: usize) -> Result<Option<Vec<f64>>> {
        let _no_grad = tch::no_grad_guard();
        let readout = Readout::new(&self.metrics, trial.target, &trial.id)?;
        let cells = self.cells(models.base.config(), trial)?;
        let Some(cell) = cells.iter().find(|cell| cell.index == index) else { return Ok(None) };
        // Not `runs`: the source runs whole, from its own first token on.
        let base = CleanRun::new(models.base, &trial.base.tokens, [], [], 0);
        let points: Vec<HookPoint> = cell.set.iter().map(|one| one.at).collect();
        let whole = |source: &Prompt| CleanRun::new(models.base, &source.tokens, [], points.clone(), 0);
        let runs = Runs { base, source: trial.source.as_ref().map(whole) };
        let donors = runs.donors(trial, models);
        let run =
            Run { decoder: models.base, trial, base: &runs.base, donors: &donors, readout: &readout, seed: self.seed };
        run.plain((index, &cell.set)).map(Some)
    }

    /// Metrics of the unedited base run, by a plain full pass.
    pub fn plain_clean(&self, models: Models<'_>, trial: &Trial) -> Result<Vec<f64>> {
        let _no_grad = tch::no_grad_guard();
        let readout = Readout::new(&self.metrics, trial.target, &trial.id)?;
        let base = CleanRun::new(models.base, &trial.base.tokens, [], [], 0);
        let runs = Runs { base, source: None };
        let donors = runs.donors(trial, models);
        let run =
            Run { decoder: models.base, trial, base: &runs.base, donors: &donors, readout: &readout, seed: self.seed };
        Ok(run.unedited(&runs.base))
    }

    /// The unedited runs of a trial: base, to resume from `layers`, and source, with what a patch takes from it at `points`.
    /// What the two prompts begin with alike runs once.
    fn runs(
        &self,
        models: Models<'_>,
        trial: &Trial,
        layers: impl IntoIterator<Item = usize>,
        points: Vec<HookPoint>,
    ) -> Result<Runs> {
        let base = CleanRun::new(models.base, &trial.base.tokens, layers, [], trial.base.tokens.len() - 1);
        let Some(source) = &trial.source else { return Ok(Runs { base, source: None }) };
        let (points, from) = match self.edit {
            Edit::Patch => (points, self.first_position(source, &trial.id)?),
            _ => (Vec::new(), source.tokens.len() - 1),
        };
        let common = common_prefix(&trial.base.tokens, &source.tokens).min(from);
        let source = CleanRun::after(models.base, &base, common, &source.tokens, points, from);
        Ok(Runs { base, source: Some(source) })
    }
}

/// The unedited runs of one trial.
struct Runs {
    base: CleanRun,
    source: Option<CleanRun>,
}

impl Runs {
    fn donors<'a>(&'a self, trial: &'a Trial, models: Models<'a>) -> Donors<'a> {
        let source = trial.source.as_ref().zip(self.source.as_ref());
        Donors { source, same_weights: true, moments: models.moments }
    }
}
