//! `interp study compliance`: what checkpoints of one base answer to cases of procedural compliance, which heads carry it, and where
//! they differ. Asks, then sweeps, then reports; each part that the folder has is left as it is.

mod answers;
mod cases;
mod checkpoints;
mod endpoints;
mod heads;
mod place;
mod report;
mod sweeps;

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use self::answers::{Asking, Said};
use self::cases::Cases;
use self::endpoints::Endpoints;
use self::heads::Heads;
use self::place::Place;
use self::report::Report;
use self::sweeps::Sweeps;
use crate::bases::Bases;
use crate::cli::StudyComplianceArgs;
use crate::interrupt;
use crate::output::{Exit, Printer};

/// What a checkpoint answered to every case, in the order of the cases.
pub struct Answered {
    /// Under its own procedure.
    pub own: Vec<Said>,
    /// Under another process' procedure, where there is one.
    pub other: Option<Vec<Said>>,
}

/// Runs the study, or goes on with it.
pub fn compliance(args: &StudyComplianceArgs, printer: &Printer) -> Result<Exit> {
    let start = Instant::now();
    let checkpoints = checkpoints::open(args)?;
    let cases = Cases::read(args, &checkpoints)?;
    let named = heads::named(args, &checkpoints[0].model)?;
    let place = Place::open(args, &checkpoints, &cases)?;

    interrupt::catch();
    let mut bases = Bases::new(true);
    let mut answered = Vec::with_capacity(checkpoints.len());
    for checkpoint in &checkpoints {
        let asking = Asking { checkpoint, cases: &cases, batch: args.batch.get() };
        let dir = place.checkpoint(&checkpoint.name);
        let Some(own) = asking.ask(&dir.join("answers.jsonl"), &cases.own, &mut bases, printer)? else {
            return Ok(Exit::Interrupted);
        };
        let other = match &cases.other {
            Some(other) => match asking.ask(&dir.join("other-procedure.jsonl"), other, &mut bases, printer)? {
                None => return Ok(Exit::Interrupted),
                said => said,
            },
            None => None,
        };
        answered.push(Answered { own, other });
    }
    let answered_s = start.elapsed().as_secs_f64();

    let endpoints = Endpoints::new(args, &checkpoints, &cases, &answered)?;
    let mut sweeps = Sweeps { args, bases, printer };
    let Some(heads) = Heads::measure(&mut sweeps, &place, &checkpoints, &cases, &answered, named)? else {
        return Ok(Exit::Interrupted);
    };
    let report = Report { args, checkpoints: &checkpoints, cases: &cases, endpoints: &endpoints, heads: &heads };
    report.write(&place)?;
    let swept_s = start.elapsed().as_secs_f64() - answered_s;
    if args.json {
        printer.data(&format!("{:#}\n", json!({ "folder": args.out, "found": endpoints.found().said })))?;
    } else {
        printer.talk(&endpoints.found().said);
        printer.talk(&format!("study: {answered_s:.1} s for the answers, {swept_s:.1} s for the heads"));
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(Exit::Done)
}
