//! `interp bench`: how fast this machine sweeps, against the fastest matrix product it can do. Random weights by default, so
//! that nothing has to be there to measure it.

mod case;
mod clock;
mod linearity;
mod measure;
mod report;
mod study;

use anyhow::Result;
use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::decoder::MatrixPeak;

use self::case::Case;
use self::report::{Report, Row};
use crate::cli::{BenchArgs, ModelArgs};
use crate::memory;
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::select::list;

/// Measures what was asked for and prints a table, JSON, or the paths of the figure and its numbers.
pub fn bench(args: &BenchArgs, printer: &Printer) -> Result<Exit> {
    if args.study {
        return study::study(args, printer);
    }
    if let Some(out) = &args.out {
        return linearity::linearity(args, out, printer);
    }
    let cases = list::<Case>(&args.sweep)?;
    let model = open(args, "qwen2.5-0.5b")?;
    let config = model.checkpoint.config();
    let lengths = lengths(&args.tokens, config)?;
    let (device, repeats) = (model.devices.first(), args.repeats.get());

    // Before and after everything else, since other work on the machine only ever slows a product down.
    let mut peak = MatrixPeak::measure(model.precision.dtype.kind(), device);
    let (load_s, decoder) = clock::timed(&model.devices, || model.load_for_waves(printer));
    let decoder = decoder?;
    let (mut passes, mut rows) = (Vec::new(), Vec::new());
    for &n_tokens in &lengths {
        let trial = case::trial(config, n_tokens, args.seed, 0);
        printer.talk(&format!("measuring {n_tokens} tokens"));
        passes.push(measure::pass(&decoder, &trial.base.tokens, repeats)?);
        for &case in &cases {
            let sweep = case.sweep(config, args.seed, args.max_rows.map(Into::into));
            // One sweep that does not fit leaves the others their numbers.
            let measured = measure::sweep(&decoder, &sweep, &trial, repeats).map_err(|error| format!("{error:#}"));
            if let Err(problem) = &measured {
                printer.talk(&format!("error: {case} at {n_tokens} tokens: {problem}"));
            }
            let gpu_bytes = model.devices.used_gpu_memory();
            rows.push(Row { case, n_tokens, measured, peak_bytes: memory::peak(), gpu_bytes });
        }
    }
    peak = peak.max(MatrixPeak::measure(model.precision.dtype.kind(), device));
    let failed = rows.iter().any(|row| row.measured.is_err());
    let report = Report { args, model: &model, peak, load_s, passes, rows };
    printer.data(&if args.json { format!("{:#}\n", report.json()) } else { report.text() })?;
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The checkpoint, or random weights.
fn open(args: &BenchArgs, geometry: &str) -> Result<Model> {
    match &args.model {
        Some(model) => Model::open(&ModelArgs { model: model.clone(), compute: args.compute.clone() }),
        None => Model::random(args.geometry.as_deref().unwrap_or(geometry), args.seed, &args.compute),
    }
}

/// Lengths of prompts that can have a middle token of their own and that the model has positions for.
fn lengths(text: &str, config: &ModelConfig) -> Result<Vec<usize>> {
    let length = |part: &str| {
        let number = part.trim().parse::<usize>().ok().filter(|n| (2..=config.n_ctx).contains(n));
        number.ok_or_else(|| Error::Selector {
            what: "tokens",
            value: part.trim().into(),
            problem: format!("not a number of tokens from 2 to {}", config.n_ctx),
            hint: Some("write 64,300,2048".into()),
        })
    };
    Ok(text.split(',').map(length).collect::<interp_core::Result<_>>()?)
}
