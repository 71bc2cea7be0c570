//! `interp study`: a published protocol from the trials to the heads, in one command and one folder.

mod compliance;
mod material;
mod report;
pub mod stages;

use std::time::Instant;

use anyhow::Result;
use interp_core::export::{Stage, write_stages};
use serde_json::{Map, json};

use self::material::Material;
use self::report::Report;
use self::stages::STAGES;
use super::sweep::{Machine, Part, prepare, together};
use crate::bases::Bases;
use crate::cli::{StudyArgs, StudyCommand, SymbolicArgs};
use crate::output::{Exit, Printer};

/// Runs a study, or goes on with one.
pub fn study(args: &StudyArgs, printer: &Printer) -> Result<Exit> {
    match &args.study {
        StudyCommand::Symbolic(args) => symbolic(args, printer),
        StudyCommand::Compliance(args) => compliance::compliance(args, printer),
    }
}

/// Trials, then all stages at once, then the finding. Each part that a folder has is left as it is.
fn symbolic(args: &SymbolicArgs, printer: &Printer) -> Result<Exit> {
    let start = Instant::now();
    let mut bases = Bases::new(true);
    let material = Material::make(args, &mut bases, printer)?;
    let made_s = start.elapsed().as_secs_f64();
    let compute = &args.model.compute;
    let machine = Machine { offline: compute.offline, threads: compute.threads };
    let part = |stage: &stages::Symbolic| -> Result<Part> {
        let prepared = prepare(&stage.spec(args), machine)?;
        Ok(Part { name: stage.name.into(), prepared, out: args.out.join(stage.name) })
    };
    let parts = STAGES.iter().map(part).collect::<Result<Vec<Part>>>()?;
    if together(&parts, !args.no_floor, &mut bases, printer)? == Exit::Interrupted {
        return Ok(Exit::Interrupted);
    }
    let swept_s = start.elapsed().as_secs_f64() - made_s;

    let stages = STAGES.iter().map(|stage| Stage::load(&args.out.join(stage.name), stage.name));
    let stages = stages.collect::<Result<Vec<Stage>, _>>()?;
    let mut head = Map::new();
    head.insert("schema".into(), json!("interp.study/1"));
    head.insert("command".into(), json!("study symbolic"));
    head.insert("index_base".into(), json!(0));
    head.insert("delta_kind".into(), json!("cma_logit_diff"));
    head.insert("model".into(), material.model.clone());
    head.insert("task".into(), material.task.clone());
    head.insert("tool_version".into(), json!(env!("CARGO_PKG_VERSION")));
    write_stages(&args.out, &stages, head, args.top)?;
    let report = Report { stages: &stages, top: args.top };
    if args.json {
        printer.data(&format!("{:#}\n", report.json(&args.out)))?;
    } else {
        report.talk(printer);
        printer.talk(&format!("study: {made_s:.1} s for the trials, {swept_s:.1} s for loading and all stages"));
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(Exit::Done)
}
