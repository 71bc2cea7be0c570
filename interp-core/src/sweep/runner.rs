//! One trial after another, of one sweep or of several: unedited runs, waves, the grid of effects, and what it cost. Knows no
//! sink.

use std::collections::VecDeque;
use std::time::Instant;

use tch::Tensor;

use super::grid::Cell;
use super::report::{TrialNoise, TrialReport};
use super::runs::{Needs, Runs};
use super::split::{self, Extent, Wave};
use super::wave::{Found, Run};
use super::{Models, Sweep};
use crate::error::{Error, Result};
use crate::guard::catch_torch;
use crate::intervention::{Context, Edit, Edits};
use crate::metric::Readout;
use crate::scores::{GridAxis, ScoreGrid, n_cells};
use crate::trial::Trial;

/// Runs trials, and keeps what one leaves for the next: unedited runs, and how many rows fit.
pub(super) struct Runner<'a> {
    models: Models<'a>,
    steps: Vec<Option<Step<'a>>>,
    runs: Runs<'a>,
    bound: Bound,
}

/// One trial of one sweep.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) sweep: &'a Sweep,
    pub(super) trial: &'a Trial,
    /// Only these cells (row-major indices); all if `None`.
    pub(super) only: Option<&'a [usize]>,
}

/// How many rows a wave may have.
#[derive(Clone, Copy)]
struct Bound {
    /// Bytes free at the start. Later, what libtorch keeps for its next tensors would count as used.
    free: Option<u64>,
    /// What fitted after memory had run out.
    seen_to_fit: Option<usize>,
}

impl<'a> Runner<'a> {
    /// A runner of those steps that can run, each under its own number; the others are `None`.
    pub(super) fn new(models: Models<'a>, steps: Vec<Option<Step<'a>>>) -> Self {
        let runs = Runs::plan(models, steps.iter().map(|step| step.map(|step| (step.sweep, step.trial))));
        let bound = Bound { free: models.base.devices().free_memory(), seen_to_fit: None };
        Self { models, steps, runs, bound }
    }

    /// The δ of every cell of one step. Steps are to be run in their order.
    pub(super) fn step(&mut self, number: usize, axes: &[GridAxis]) -> Result<(ScoreGrid, TrialReport)> {
        let step = self.steps[number].expect("only steps that can run are run");
        let done = catch_torch(&step.trial.id, || self.run(number, step, axes));
        self.runs.release(number);
        done
    }

    fn run(&mut self, number: usize, step: Step<'a>, axes: &[GridAxis]) -> Result<(ScoreGrid, TrialReport)> {
        let _no_grad = tch::no_grad_guard();
        let (models, Step { sweep, trial, .. }) = (self.models, step);
        let readout = Readout::new(&sweep.metrics, trial.target, &trial.id)?;
        let waves = step.waves(models, self.bound)?;
        let first = waves.iter().map(Wave::first_pos).min().unwrap_or(0);
        let mut report = TrialReport { noise: vec![TrialNoise::default(); sweep.metrics.len()], ..Default::default() };

        let (start, made, steps, bound) = (Instant::now(), self.runs.made, &self.steps, self.bound);
        let needs = |number: usize| steps[number].expect("only steps that can run are planned").needs(models, bound);
        let pair = self.runs.of(number, models, &needs)?;
        let run = pair.run(sweep, models, trial, &readout)?;
        let (clean, source) = run.unedited();
        (report.runs_s, report.prompts_run) = (start.elapsed().as_secs_f64(), self.runs.made - made);

        let start = Instant::now();
        let mut values = vec![vec![f64::NAN; n_cells(axes)]; sweep.metrics.len()];
        self.waves(waves, &run, &clean, &mut values, &mut report)?;
        report.waves_s = start.elapsed().as_secs_f64();
        report.max_rows = self.bound.rows(sweep, models, trial, first);
        let metrics = sweep.metrics.iter().map(|metric| metric.to_string()).collect();
        Ok((ScoreGrid { axes: axes.to_vec(), metrics, values, clean, source }, report))
    }

    /// Runs waves and puts their δ into `values [metric, cell]`. Out of memory halves a wave, and those after it. Numbers stay
    /// where they were computed until the last wave has been sent there.
    fn waves(
        &mut self,
        waves: Vec<Wave>,
        run: &Run<'_>,
        clean: &[f64],
        values: &mut [Vec<f64>],
        report: &mut TrialReport,
    ) -> Result<()> {
        let mut queue = VecDeque::from(waves);
        let mut found = Vec::new();
        while let Some(wave) = queue.pop_front() {
            let too_large = wave.len() > 1 && self.bound.seen_to_fit.is_some_and(|rows| wave.len() >= rows);
            if too_large {
                wave.halves().into_iter().rev().for_each(|half| queue.push_front(half));
                continue;
            }
            match catch_torch("a sweep's wave", || run.wave(&wave)) {
                Err(Error::Torch { message, .. }) if wave.len() > 1 && is_out_of_memory(&message) => {
                    report.halvings += 1;
                    self.bound.seen_to_fit = Some(wave.len().div_ceil(2) + 1);
                    queue.push_front(wave);
                }
                done => found.push(done?),
            }
        }
        let tensors: Vec<&Tensor> = found.iter().filter_map(|found| found.values.as_ref()).collect();
        report.waves = tensors.len();
        let rows: Vec<Vec<f64>> = match tensors.is_empty() {
            true => vec![Vec::new(); values.len()],
            false => Vec::try_from(Tensor::cat(&tensors, 1)).expect("metrics are a matrix of f64"),
        };
        report.rows = rows.first().map_or(0, Vec::len);
        for (metric, rows) in rows.iter().enumerate() {
            let mut first = 0;
            for Found { cells, controls, values: ran } in &found {
                // A set that causality makes null never ran: its effect is exactly 0.
                let delta = |row: usize| rows[first] - rows[first + row];
                cells.iter().for_each(|&(cell, row)| values[metric][cell] = row.map_or(0.0, delta));
                if let Some(ran) = ran {
                    let batch = controls.iter().map(|&row| delta(row).abs()).reduce(f64::max);
                    let repeat = Some((rows[first] - clean[metric]).abs());
                    report.noise[metric] = report.noise[metric].max(TrialNoise { repeat, batch });
                    first += ran.size()[1] as usize;
                }
            }
        }
        Ok(())
    }
}

impl Step<'_> {
    fn cells(&self, models: Models<'_>) -> Result<Vec<Cell>> {
        let mut cells = self.sweep.cells(models.base.config(), self.trial)?;
        if let Some(only) = self.only {
            cells.retain(|cell| only.contains(&cell.index));
        }
        Ok(cells)
    }

    /// A grid's cells in waves of neighbours; a few chosen cells, which have no neighbours, in one wave if it fits.
    fn waves(&self, models: Models<'_>, bound: Bound) -> Result<Vec<Wave>> {
        let cells = self.cells(models)?;
        let rows = |pos| bound.rows(self.sweep, models, self.trial, pos);
        let first = cells.iter().map(|cell| cell.pos).min().unwrap_or(0);
        if self.only.is_some() && cells.len() < rows(first) {
            return Ok(Wave::of(cells).into_iter().collect());
        }
        let extent = Extent { n_layers: models.base.config().n_layers, n_pos: self.trial.base.tokens.len() };
        Ok(split::split(cells, extent, rows))
    }

    /// What it needs of its unedited runs.
    fn needs(&self, models: Models<'_>, bound: Bound) -> Result<Needs> {
        let trial = self.trial;
        let context = Context::of_prompt(models.base.config(), &trial.id);
        let last = |tokens: &[i64]| tokens.len() - 1;
        let (source, same_weights) = (models.donating(trial), models.same_weights());
        let (mut pos, mut source_pos) = (last(&trial.base.tokens), source.map(|source| last(&source.tokens)));
        for cell in self.cells(models)? {
            if let Some(reach) = Edits::reach(&cell.set, &trial.base, source, same_weights, &context)? {
                pos = pos.min(reach.pos);
                source_pos = source_pos.map(|pos| reach.source_pos.map_or(pos, |first| first.min(pos)));
            }
        }
        let waves = self.waves(models, bound)?;
        let edited = waves.iter().flat_map(|wave| &wave.cells).flat_map(|cell| &cell.set);
        let points = if matches!(self.sweep.edit, Edit::Patch) { split::points(edited) } else { Vec::new() };
        let mut layers: Vec<usize> = waves.iter().map(|wave| wave.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        Ok(Needs { layers, pos, source_pos: source_pos.unwrap_or(0), points })
    }
}

impl Bound {
    /// Most rows of a wave of this trial that begins at a position.
    fn rows(self, sweep: &Sweep, models: Models<'_>, trial: &Trial, pos: usize) -> usize {
        let rows = sweep.wave_rows(models.base, trial, pos, self.free);
        self.seen_to_fit.map_or(rows, |fits| rows.min(fits))
    }
}

fn is_out_of_memory(message: &str) -> bool {
    message.contains("out of memory")
        || message.contains("not enough memory")
        || message.contains("DefaultCPUAllocator")
}
