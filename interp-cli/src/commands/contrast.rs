//! `interp contrast`: the same sweep on several checkpoints, one after the other, and what differs between them. The
//! comparison reads the sweeps' folders and needs no model.

pub mod place;
mod report;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use interp_core::Error;
use interp_core::checkpoint::CheckpointRef;
use interp_core::export::{Arm, Contrast, Judge, Layout, Study};
use interp_core::scores::{GridAxis, cell_label, n_cells};
use interp_core::site::HeadRef;
use interp_core::stats::{Bootstrap, Flips};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use self::report::Report;
use super::sweep::{self, Machine, Prepared, SweepSpec, prepare};
use crate::bases::Bases;
use crate::cli::ContrastArgs;
use crate::interrupt;
use crate::output::{Exit, Printer};
use crate::select::list;

/// Sweeps what is not swept yet, compares, writes, prints.
pub fn contrast(args: &ContrastArgs, printer: &Printer) -> Result<Exit> {
    let heads = args.heads.as_deref().map(list::<HeadRef>).transpose()?.unwrap_or_default();
    judge(args, Bootstrap::default()).check()?;
    let (arms, exit) = if args.folders.is_empty() {
        match swept(args, &heads, printer)? {
            (None, exit) => return Ok(exit),
            (Some(arms), exit) => (arms, exit),
        }
    } else {
        (folders(&args.folders)?, Exit::Done)
    };
    let contrast = Contrast::new(arms)?;
    let named = on_grid(contrast.layout(), &heads)?;
    place::check(&args.out, &names(&contrast))?;
    fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
    let judge = judge(args, contrast.arms()[0].study.bootstrap);
    let contrasted = contrast.write(&args.out, &judge, &describe(&contrast, &judge, &args.out)?)?;
    let report = Report { contrast: &contrast, judge: &judge, contrasted: &contrasted[0], named, top: args.top };
    if args.json {
        printer.data(&format!("{:#}\n", report.json(&args.out)))?;
    } else {
        report.talk(printer);
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(exit)
}

fn judge(args: &ContrastArgs, bootstrap: Bootstrap) -> Judge {
    Judge { bootstrap, flips: Flips { n: args.flips.get(), seed: bootstrap.seed }, level: args.level }
}

/// Every checkpoint's sweep, run or gone on with; `None` when it was interrupted. Everything that can be wrong is found
/// before the first weights are loaded.
fn swept(args: &ContrastArgs, heads: &[HeadRef], printer: &Printer) -> Result<(Option<Vec<Arm>>, Exit)> {
    let names: Vec<String> =
        args.checkpoints.iter().map(|text| Ok(text.parse::<CheckpointRef>()?.name())).collect::<Result<_>>()?;
    if let [name] = names.as_slice() {
        let (value, problem) = (name.clone(), "there is nothing to compare it with".into());
        let hint = Some("name two checkpoints or more, the reference first".into());
        return Err(Error::Selector { what: "checkpoint", value, problem, hint }.into());
    }
    place::labels(&names)?;
    place::check(&args.out, &names)?;
    let trials = args.trials.as_ref().expect("clap asks for it where there are no --folders");
    let machine = Machine { offline: args.flags.compute.offline, threads: args.flags.compute.threads };
    let mut sweeps: Vec<(SweepSpec, Prepared)> = Vec::new();
    for (name, model) in names.iter().zip(&args.checkpoints) {
        let spec = SweepSpec::of_flags(model.clone(), trials.clone(), None, &args.flags);
        let prepared = prepare(&spec, machine)?;
        let reference = sweeps.first().map_or(&prepared, |(_, reference)| reference);
        if let Some(problem) = prepared.plan.layout.unlike(&reference.plan.layout) {
            let problem = format!("its grid is not that of {}: {problem}", names[0]);
            let hint = Some("compare checkpoints of one geometry".into());
            return Err(Error::Selector { what: "checkpoint", value: name.clone(), problem, hint }.into());
        }
        sweeps.push((spec, prepared));
    }
    on_grid(&sweeps[0].1.plan.layout, heads)?;
    if sweeps.iter().any(|(_, other)| other.plan.spec["tokenizer_sha256"] != sweeps[0].1.plan.spec["tokenizer_sha256"])
    {
        printer.talk("note: the tokenizers differ: a text's tokens, positions and targets are each checkpoint's own");
    }
    let (mut arms, mut exit) = (Vec::new(), Exit::Done);
    let mut bases = Bases::new(true);
    let n = sweeps.len();
    // By value: what a checkpoint holds is given back before the next is loaded, but for the base that the two share.
    for (i, (name, (spec, prepared))) in names.into_iter().zip(sweeps).enumerate() {
        printer.talk(&format!("{name} ({} of {n})", i + 1));
        let dir = args.out.join(&name);
        match sweep::run(&spec, &prepared, &dir, args.checks, &mut bases, printer)? {
            Exit::Done => {}
            Exit::Interrupted => return Ok((None, Exit::Interrupted)),
            other => exit = other,
        }
        if i + 1 < n && interrupt::requested() {
            printer.talk(&format!("interrupted after {} of {n} checkpoints; the same command resumes", i + 1));
            return Ok((None, Exit::Interrupted));
        }
        arms.push(Arm { study: Study::load(&dir)?, name, dir });
    }
    Ok((Some(arms), exit))
}

/// Finished sweeps, named as their checkpoints, or as their folders where two checkpoints are called the same.
fn folders(dirs: &[PathBuf]) -> Result<Vec<Arm>> {
    let studies = dirs.iter().map(|dir| Ok(Study::load(dir)?)).collect::<Result<Vec<Study>>>()?;
    let checkpoint = |study: &Study| study.run["model"]["checkpoint"].as_str().map(str::to_owned);
    let by_checkpoint: Option<Vec<String>> = studies.iter().map(checkpoint).collect();
    let last = |dir: &PathBuf| dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
    let names = match by_checkpoint {
        Some(names) if place::labels(&names).is_ok() => names,
        _ => dirs.iter().map(last).collect(),
    };
    place::labels(&names)?;
    let arms = names.into_iter().zip(dirs).zip(studies);
    Ok(arms.map(|((name, dir), study)| Arm { name, dir: dir.clone(), study }).collect())
}

fn names(contrast: &Contrast) -> Vec<String> {
    contrast.arms().iter().map(|arm| arm.name.clone()).collect()
}

/// The cells of named heads.
fn on_grid(layout: &Layout, heads: &[HeadRef]) -> Result<Vec<usize>> {
    let cell = |head: &HeadRef| {
        let label = head.to_string();
        let cell = (0..n_cells(&layout.axes)).find(|&cell| cell_label(&layout.axes, cell) == label);
        cell.ok_or_else(|| {
            let ends = |axis: &GridAxis| match &axis.labels[..] {
                [first, .., last] => format!("{first} to {last}"),
                labels => labels.concat(),
            };
            let axes: Vec<String> = layout.axes.iter().map(ends).collect();
            let hint = Some(format!("the grid has {}", axes.join(" and ")));
            Error::Selector { what: "head", value: label, problem: "not on the sweep's grid".into(), hint }.into()
        })
    };
    heads.iter().map(cell).collect()
}

/// `run.json`: what was compared. Folders of this contrast's own sweeps are named from its folder.
fn describe(contrast: &Contrast, judge: &Judge, out: &Path) -> Result<Map<String, Value>> {
    let arms = contrast.arms();
    let checkpoint = |arm: &Arm| -> Result<Value> {
        let path = arm.dir.join("run.json");
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(json!({
            "name": arm.name,
            "folder": arm.dir.strip_prefix(out).unwrap_or(&arm.dir),
            "run_sha256": format!("{:x}", Sha256::digest(bytes)),
            "model": arm.study.run["model"],
        }))
    };
    let mut spec = arms[0].study.run["spec"].clone();
    if let Some(sweep) = spec["sweep"].as_object_mut() {
        sweep.remove("model");
    }
    let mut run = Map::new();
    run.insert("schema".into(), json!(place::SCHEMA));
    run.insert("command".into(), json!("contrast"));
    run.insert("reference".into(), json!(arms[0].name));
    run.insert("checkpoints".into(), arms.iter().map(checkpoint).collect::<Result<_>>()?);
    run.insert("sweep".into(), spec["sweep"].take());
    run.insert("trials_sha256".into(), spec["trials_sha256"].take());
    let Bootstrap { level, resamples, seed } = judge.bootstrap;
    run.insert("bootstrap".into(), json!({ "level": level, "resamples": resamples, "seed": seed }));
    run.insert("flips".into(), json!({ "n": judge.flips.n, "seed": judge.flips.seed }));
    run.insert("level".into(), json!(judge.level));
    run.insert("tool_version".into(), json!(env!("CARGO_PKG_VERSION")));
    Ok(run)
}
