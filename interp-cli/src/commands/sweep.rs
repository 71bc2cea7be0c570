//! `interp sweep`: the effect of an edit on every cell of a grid, per trial, into an output folder.

mod floor;
mod folder;
mod load;
mod plan;
mod sets;
mod source;
mod spec;
mod together;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use interp_core::Error;
use interp_core::export::{Opened, RunFolder, Study};
use interp_core::intervention::Moments;
use interp_core::site::HookPoint;
use interp_core::sweep::{Donor, Models, Sink as _};
use interp_core::trial::{BadLine, TrialFile};

use self::folder::{End, Folder, WeightHashes};
pub use self::plan::{Prepared, prepare};
pub use self::sets::SetPlan;
pub use self::spec::{Machine, SweepSpec};
pub use self::together::{Part, together};
use super::verify::{choose, recheck, trials_of};
use crate::bases::Bases;
use crate::cli::{CheckFlags, SweepArgs};
use crate::edits::{moments_of_capture, moments_of_prompts};
use crate::interrupt;
use crate::noise;
use crate::output::{Exit, Printer};
use crate::timing::Timing;
use crate::watch::Watched;

/// Runs a sweep, or goes on with an interrupted one.
pub fn sweep(args: &SweepArgs, printer: &Printer) -> Result<Exit> {
    let spec = SweepSpec::resolve(args)?;
    let machine = Machine { offline: args.flags.compute.offline, threads: args.flags.compute.threads };
    let prepared = prepare(&spec, machine)?;
    let exit = run(&spec, &prepared, &args.out, args.checks, &mut Bases::new(true), printer)?;
    if exit != Exit::Interrupted {
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(exit)
}

/// Runs a prepared sweep into the folder `out`, or goes on there, and says how it went.
pub fn run(
    spec: &SweepSpec,
    prepared: &Prepared,
    out: &Path,
    checks: CheckFlags,
    bases: &mut Bases,
    printer: &Printer,
) -> Result<Exit> {
    let Prepared { model, trials, sweep, plan, .. } = prepared;
    report_lines(trials, printer);

    let mut folder = match RunFolder::open(out, plan.clone())? {
        Opened::Finished => {
            printer.talk("this run is already finished");
            if checks.verify > 0 {
                printer.talk("to check it again: interp verify, on the folder");
            }
            return Ok(exit(prepared));
        }
        Opened::Ready(folder) => folder,
    };
    prepared.refuse_changed_weights(&folder)?;
    if folder.n_done() > 0 {
        printer.talk(&format!("resuming: {} of {} trials are there", folder.n_done(), trials.trials.len()));
    }
    let loading = Instant::now();
    let loaded = match prepared.load(&|index| !folder.has(index), bases, printer) {
        Ok(loaded) => loaded,
        Err(error) => {
            // Weights that cannot be used leave no trace.
            folder.abandon()?;
            return Err(error);
        }
    };
    let timing = Timing::new(loading.elapsed().as_secs_f64());
    let hashes = WeightHashes::start(prepared.weight_files());
    let models = loaded.models();

    interrupt::catch();
    let mut sink = Folder {
        folder: &mut folder,
        prepared,
        loaded: &loaded,
        hashes: &hashes,
        wants_floor: !checks.no_floor,
        timing,
        end: None,
    };
    let mut watched = Watched::new(&mut sink);
    sweep.run(models, &trials.trials, &mut watched)?;
    if watched.end(printer) == Exit::Interrupted {
        return Ok(Exit::Interrupted);
    }
    let Folder { timing, end, .. } = sink;
    let Some(end) = end else {
        printer
            .talk("interrupted at the noise floor; the same command resumes there, and with --no-floor goes without");
        return Ok(Exit::Interrupted);
    };
    timing.write(out, model)?;
    report_end(&end, prepared, &timing, printer);
    if !trials.bad_lines.is_empty() {
        printer.talk(&format!("{} lines of {} are broken and were left out", trials.bad_lines.len(), spec.trials));
    }
    let refused = prepared.refused();
    if refused > 0 {
        printer.talk(&format!("{refused} of {} trials could not run; see skipped.json", trials.trials.len()));
    }
    if checks.verify == 0 {
        return Ok(exit(prepared));
    }
    let study = Study::load(out)?;
    let cells = choose(out, &study, checks.verify, 0)?;
    let again = loaded.kept_again(prepared, &trials_of(&study, prepared, &cells))?;
    let models = Models { donor: again.as_ref().map(Donor::Kept).or(models.donor), ..models };
    let found = recheck(out, &study, prepared, models, &cells)?;
    found.table.lines().for_each(|line| printer.talk(line));
    found.note.iter().for_each(|line| printer.talk(line));
    found.wrong.iter().for_each(|line| printer.talk(&format!("no: {line}")));
    Ok(if found.wrong.is_empty() { exit(prepared) } else { Exit::No })
}

/// How far the numbers can be trusted, and what they cost.
fn report_end(end: &End, prepared: &Prepared, timing: &Timing, printer: &Printer) {
    let dtype = prepared.model.precision.dtype.to_string();
    for (metric, floor) in prepared.plan.layout.metrics.iter().zip(&end.floors) {
        printer.talk(&noise::line(metric, floor));
        noise::warning(metric, floor, &dtype).iter().for_each(|line| printer.talk(line));
    }
    if let Some(failed) = &end.failed {
        printer.talk(&format!("warning: the precision of the noise floor was not measured: {failed}"));
    }
    timing.lines().iter().for_each(|line| printer.talk(line));
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
    if prepared.trials.bad_lines.is_empty() && prepared.refused() == 0 { Exit::Done } else { Exit::Failed }
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

    /// The checkpoints, for messages.
    fn names(&self) -> String {
        let name = self.model.checkpoint.name();
        match &self.source {
            Some(source) => format!("{name} or {}", source.model.checkpoint.name()),
            None => name.into(),
        }
    }

    /// A resumed run must go on with the weights it began with.
    fn refuse_changed_weights(&self, folder: &RunFolder) -> Result<()> {
        let now = self.fingerprint()?;
        match folder.notes().values().find(|note| folder::weights_of(note) != Some(&now)) {
            None => Ok(()),
            Some(_) => Err(Error::File {
                path: folder.dir().into(),
                problem: format!("the weights of {} changed since this run began", self.names()),
                hint: Some("give another --out, or put the old weights back".into()),
            }
            .into()),
        }
    }
}
