//! Several sweeps of one checkpoint at once, each into its own folder: the weights are loaded once, and prompts that the sweeps
//! have in common run once.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use interp_core::export::{Opened, RunFolder};
use interp_core::scores::ScoreGrid;
use interp_core::sweep::{Job, Sink, TrialReport, run_together};

use super::folder::{Folder, WeightHashes};
use super::{Prepared, report_end};
use crate::bases::Bases;
use crate::interrupt;
use crate::output::{Exit, Printer};
use crate::progress::bar;
use crate::timing::Timing;
use crate::watch::Watched;

/// One of the sweeps.
pub struct Part {
    /// What it is called in messages.
    pub name: String,
    /// The sweep; of one checkpoint for all, without a donor, an adapter to graft or statistics.
    pub prepared: Prepared,
    /// Its output folder.
    pub out: PathBuf,
}

/// Runs what is not finished yet, or goes on with it, and says how it went.
pub fn together(parts: &[Part], wants_floor: bool, bases: &mut Bases, printer: &Printer) -> Result<Exit> {
    let mut folders = Vec::with_capacity(parts.len());
    for Part { prepared, out, .. } in parts {
        folders.push(match RunFolder::open(out, prepared.plan.clone())? {
            Opened::Finished => None,
            Opened::Ready(folder) => {
                prepared.refuse_changed_weights(&folder)?;
                Some(folder)
            }
        });
    }
    if folders.iter().all(Option::is_none) {
        printer.talk("all sweeps are already finished");
        return Ok(Exit::Done);
    }
    let n: usize = parts.iter().map(|part| part.prepared.trials.trials.len()).sum();
    let done = |(part, folder): (&Part, &Option<Box<RunFolder>>)| {
        folder.as_ref().map_or(part.prepared.trials.trials.len(), |folder| folder.n_done())
    };
    match parts.iter().zip(&folders).map(done).sum::<usize>() {
        0 => {}
        done => printer.talk(&format!("resuming: {done} of {n} trials are there")),
    }
    let loading = Instant::now();
    let loaded = match parts[0].prepared.load(&|_| true, bases, printer) {
        Ok(loaded) => loaded,
        Err(error) => {
            folders.into_iter().flatten().try_for_each(|folder| folder.abandon())?;
            return Err(error);
        }
    };
    let load_s = loading.elapsed().as_secs_f64();
    let hashes = WeightHashes::start(parts[0].prepared.weight_files());

    interrupt::catch();
    let mut sinks: Vec<Sheet<'_>> = parts
        .iter()
        .zip(&mut folders)
        .map(|(part, folder)| match folder {
            None => Sheet::Finished,
            Some(folder) => Sheet::Open(Box::new(Folder {
                folder,
                prepared: &part.prepared,
                loaded: &loaded,
                hashes: &hashes,
                wants_floor,
                timing: Timing::new(load_s),
                end: None,
            })),
        })
        .collect();
    let bar = bar(0, "trials");
    let mut watched: Vec<Watched<'_, Sheet<'_>>> = sinks.iter_mut().map(|sink| Watched::on(sink, &bar)).collect();
    let mut jobs: Vec<Job<'_>> = parts
        .iter()
        .zip(&mut watched)
        .map(|(Part { prepared, .. }, sink)| Job { sweep: &prepared.sweep, trials: &prepared.trials.trials, sink })
        .collect();
    run_together(loaded.models(), &mut jobs)?;
    drop(jobs);
    bar.finish_and_clear();
    let progress: Vec<(usize, usize, bool)> = watched.iter().map(Watched::progress).collect();
    drop(watched);
    if progress.iter().any(|(_, _, stopped)| *stopped) {
        let done: usize = progress.iter().map(|(done, _, _)| done).sum();
        printer.talk(&format!("interrupted after {done} of {n} trials; the same command resumes"));
        return Ok(Exit::Interrupted);
    }
    for (part, sink) in parts.iter().zip(sinks) {
        let Sheet::Open(folder) = sink else { continue };
        let Folder { timing, end, .. } = *folder;
        let Some(end) = end else {
            printer.talk(
                "interrupted at the noise floor; the same command resumes there, and with --no-floor goes without",
            );
            return Ok(Exit::Interrupted);
        };
        timing.write(&part.out, &part.prepared.model)?;
        printer.talk(&format!("{}:", part.name));
        report_end(&end, &part.prepared, &timing, printer);
    }
    Ok(Exit::Done)
}

/// Where a sweep's results go.
enum Sheet<'a> {
    Open(Box<Folder<'a>>),
    /// The folder is complete. Its trials still count when runs are planned, so that a resumed study makes the same runs.
    Finished,
}

impl Sink for Sheet<'_> {
    fn begin(&mut self, n_trials: usize) -> interp_core::Result<()> {
        match self {
            Sheet::Open(folder) => folder.begin(n_trials),
            Sheet::Finished => Ok(()),
        }
    }

    fn has(&self, index: usize) -> bool {
        match self {
            Sheet::Open(folder) => folder.has(index),
            Sheet::Finished => true,
        }
    }

    fn trial(&mut self, index: usize, grid: &ScoreGrid, report: &TrialReport) -> interp_core::Result<ControlFlow<()>> {
        match self {
            Sheet::Open(folder) => folder.trial(index, grid, report),
            Sheet::Finished => Ok(ControlFlow::Continue(())),
        }
    }

    fn skip(&mut self, index: usize, reason: &str) -> interp_core::Result<ControlFlow<()>> {
        match self {
            Sheet::Open(folder) => folder.skip(index, reason),
            Sheet::Finished => Ok(ControlFlow::Continue(())),
        }
    }

    fn finish(&mut self) -> interp_core::Result<()> {
        match self {
            Sheet::Open(folder) => folder.finish(),
            Sheet::Finished => Ok(()),
        }
    }
}
