//! Sweeps that run side by side: the same models, each with its own trials and its own sink, and unedited runs shared by all.

use std::ops::ControlFlow;

use super::runner::{Runner, Step};
use super::sink::Sink;
use super::{Models, Sweep};
use crate::error::Result;
use crate::trial::Trial;

/// A sweep, the trials that it runs on, and where its results go.
pub struct Job<'a> {
    /// What to run.
    pub sweep: &'a Sweep,
    /// On what.
    pub trials: &'a [Trial],
    /// Where to. One that has every trial already costs nothing, and still decides which runs the others share.
    pub sink: &'a mut dyn Sink,
}

/// Runs several sweeps with the same models: the first trial of each, then the second of each, and so on, so that a prompt
/// which they have in common runs once. Trials that a sink has are not run, those that cannot run are skipped with the reason.
/// Every sink is finished after the last trial of all; none is after a `Break`.
///
/// Errs before anything runs if one of the sweeps cannot run on any of its trials.
pub fn run_together(models: Models<'_>, jobs: &mut [Job<'_>]) -> Result<()> {
    let mut wrong = Vec::with_capacity(jobs.len());
    let mut axes = Vec::with_capacity(jobs.len());
    for Job { sweep, trials, .. } in jobs.iter() {
        models.check(sweep)?;
        let found = sweep.check(models.base.config(), trials, models.donor.is_some())?;
        let first = found.iter().position(Option::is_none).expect("some trial can run");
        axes.push(sweep.axes(models.base.config(), &trials[first])?);
        wrong.push(found);
    }
    // In turn; a job that has fewer trials than another is through earlier.
    let longest = jobs.iter().map(|job| job.trials.len()).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|trial| (0..jobs.len()).map(move |job| (job, trial)));
    let turns: Vec<(usize, usize)> = turns.filter(|&(job, trial)| trial < jobs[job].trials.len()).collect();
    let step = |&(job, trial): &(usize, usize)| {
        let (sweep, trials) = (jobs[job].sweep, jobs[job].trials);
        wrong[job][trial].is_none().then(|| Step { sweep, trial: &trials[trial], only: None })
    };
    // Planned over all trials, those included that are there already: which runs serve what must not depend on that.
    let mut runner = Runner::new(models, turns.iter().map(step).collect());
    for job in jobs.iter_mut() {
        job.sink.begin(job.trials.len())?;
    }
    for (number, &(job, trial)) in turns.iter().enumerate() {
        let sink = &mut jobs[job].sink;
        if sink.has(trial) {
            continue;
        }
        let flow = match &wrong[job][trial] {
            Some(error) => sink.skip(trial, &error.to_string())?,
            None => {
                let (grid, report) = runner.step(number, &axes[job])?;
                sink.trial(trial, &grid, &report)?
            }
        };
        if flow == ControlFlow::Break(()) {
            return Ok(());
        }
    }
    jobs.iter_mut().try_for_each(|job| job.sink.finish())
}
