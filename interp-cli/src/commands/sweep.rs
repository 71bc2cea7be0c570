//! `interp sweep`: the effect of an edit on every cell of a grid, per trial, into an output folder.

mod plan;
mod spec;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::{Opened, RunFolder, Study};
use interp_core::hash::Hashes;
use interp_core::intervention::Moments;
use interp_core::site::HookPoint;
use interp_core::sweep::Models;
use interp_core::trial::{BadLine, TrialFile};
use serde_json::json;

pub use self::plan::{Prepared, prepare};
pub use self::spec::{Machine, SweepSpec};
use super::verify::recheck;
use crate::cli::SweepArgs;
use crate::edits::{moments_of_capture, moments_of_prompts};
use crate::interrupt;
use crate::output::{Exit, Printer};
use crate::watch::Watched;

/// Runs a sweep, or goes on with an interrupted one.
pub fn sweep(args: &SweepArgs, printer: &Printer) -> Result<Exit> {
    let spec = SweepSpec::resolve(args)?;
    let machine = Machine { offline: args.flags.compute.offline, threads: args.flags.compute.threads };
    let prepared = prepare(&spec, machine)?;
    let Prepared { model, trials, refused, sweep, plan, .. } = &prepared;
    report_lines(trials, printer);

    let mut folder = match RunFolder::open(&args.out, plan.clone())? {
        Opened::Finished => {
            printer.talk("this run is already finished");
            if args.verify > 0 {
                printer.talk("to check it again: interp verify, on the folder");
            }
            printer.data(&format!("{}\n", args.out.display()))?;
            return Ok(exit(&prepared));
        }
        Opened::Ready(folder) => folder,
    };
    prepared.refuse_changed_weights(&folder)?;
    if folder.n_done() > 0 {
        printer.talk(&format!("resuming: {} of {} trials are there", folder.n_done(), trials.trials.len()));
    }
    let decoder = match model.load_for_waves(printer) {
        Ok(decoder) => decoder,
        Err(error) => {
            // Weights that cannot be used leave no trace.
            folder.abandon()?;
            return Err(error);
        }
    };
    let weights = model.checkpoint.weight_files().iter().map(|path| path.to_path_buf()).collect();
    let hashes = Hashes::start(weights);
    let moments = prepared.moments(&decoder)?;
    let models = Models { base: &decoder, moments: moments.as_ref() };

    interrupt::catch();
    let mut sink = Described { folder: &mut folder, prepared: &prepared, hashes: Some(hashes) };
    let mut watched = Watched::new(&mut sink);
    sweep.run(models, &trials.trials, &mut watched)?;
    if watched.end(printer) == Exit::Interrupted {
        return Ok(Exit::Interrupted);
    }
    if !trials.bad_lines.is_empty() {
        printer.talk(&format!("{} lines of {} are broken and were left out", trials.bad_lines.len(), spec.trials));
    }
    if *refused > 0 {
        printer.talk(&format!("{refused} of {} trials could not run; see skipped.json", trials.trials.len()));
    }
    printer.data(&format!("{}\n", args.out.display()))?;
    if args.verify == 0 {
        return Ok(exit(&prepared));
    }
    let found = recheck(&args.out, &Study::load(&args.out)?, &prepared, models, args.verify, 0)?;
    found.table.lines().for_each(|line| printer.talk(line));
    found.wrong.iter().for_each(|line| printer.talk(&format!("no: {line}")));
    Ok(if found.wrong.is_empty() { exit(&prepared) } else { Exit::No })
}

/// Broken lines are reported by number; the good ones run.
fn report_lines(trials: &TrialFile, printer: &Printer) {
    let mut last = None;
    for BadLine { error, .. } in &trials.bad_lines {
        printer.talk(&format!("error: {error}"));
        // A remedy is not repeated for every line that needs it.
        match error.hint() {
            Some(hint) if last != Some(hint) => printer.talk(&format!("hint: {hint}")),
            _ => {}
        }
        last = error.hint();
    }
    for note in &trials.notes {
        printer.talk(&format!("note: line {}: {}", note.line, note.text));
    }
}

fn exit(prepared: &Prepared) -> Exit {
    if prepared.trials.bad_lines.is_empty() && prepared.refused == 0 { Exit::Done } else { Exit::Failed }
}

impl Prepared {
    /// Statistics over a capture folder's or the trial file's base prompts, when the edit needs them.
    pub fn moments(&self, decoder: &interp_core::decoder::Decoder) -> Result<Option<Moments>> {
        if !self.sweep.needs_moments() {
            return Ok(None);
        }
        let points: Vec<HookPoint> = self.sweep.points();
        if let Some(capture) = &self.capture {
            return Ok(Some(moments_of_capture(capture, &points, decoder.config())?));
        }
        let prompts = self.trials.trials.iter().map(|trial| trial.base.tokens.as_slice());
        Ok(Some(moments_of_prompts(decoder, prompts, &points, || ())))
    }

    /// A resumed run must go on with the weights it began with.
    fn refuse_changed_weights(&self, folder: &RunFolder) -> Result<()> {
        let now = json!(self.fingerprint()?);
        match folder.notes().values().find(|earlier| **earlier != now) {
            None => Ok(()),
            Some(_) => Err(Error::File {
                path: folder.dir().into(),
                problem: format!("the weights of {} changed since this run began", self.model.checkpoint.name()),
                hint: Some("give another --out, or put the old weights back".into()),
            }
            .into()),
        }
    }
}

/// Adds to the folder what is known only when the run ends.
struct Described<'a> {
    folder: &'a mut RunFolder,
    prepared: &'a Prepared,
    hashes: Option<Hashes>,
}

impl interp_core::sweep::Sink for Described<'_> {
    fn begin(&mut self, n_trials: usize) -> interp_core::Result<()> {
        self.folder.begin(n_trials)
    }

    fn has(&self, index: usize) -> bool {
        self.folder.has(index)
    }

    fn trial(
        &mut self,
        index: usize,
        grid: &interp_core::scores::ScoreGrid,
    ) -> interp_core::Result<std::ops::ControlFlow<()>> {
        self.folder.note(json!(self.prepared.fingerprint()?));
        self.folder.trial(index, grid)
    }

    fn skip(&mut self, index: usize, reason: &str) -> interp_core::Result<std::ops::ControlFlow<()>> {
        self.folder.skip(index, reason)
    }

    fn finish(&mut self) -> interp_core::Result<()> {
        let hashes = self.hashes.take().map(Hashes::wait).transpose()?.unwrap_or_default();
        let described = self.prepared.describe(&hashes);
        self.folder.describe(described, vec![None; self.prepared.sweep.metrics.len()]);
        self.folder.finish()
    }
}
