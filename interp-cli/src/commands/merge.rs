//! `interp merge`: a checkpoint with its adapters merged in, as a folder that any program loads.

use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::adapter::Merges;
use interp_core::hash::Hashes;
use serde_json::json;
use tch::Device;

use crate::chain::RECORD;
use crate::cli::{ComputeArgs, MergeArgs, ModelArgs};
use crate::folder::Folder;
use crate::model::Model;
use crate::output::{Exit, Printer};

/// Writes the folder, whole or not at all.
pub fn merge(args: &MergeArgs, printer: &Printer) -> Result<Exit> {
    let compute = ComputeArgs { offline: args.offline, ..ComputeArgs::cpu() };
    let model = Model::open(&ModelArgs { model: args.checkpoint.clone(), compute })?;
    let merges = Merges(model.chain.merges());
    if merges.0.is_empty() || model.chain.n_applied() > 0 {
        let problem =
            if merges.0.is_empty() { "names nothing to merge" } else { "applies an adapter without merging it" };
        return Err(Error::Selector {
            what: "checkpoint",
            value: args.checkpoint.clone(),
            problem: problem.into(),
            hint: Some("write MODEL+merge:ADAPTER, with +merge: for each adapter".into()),
        }
        .into());
    }
    if let Some(quantization) = model.checkpoint.quantization() {
        return Err(Error::File {
            path: model.checkpoint.dir().into(),
            problem: format!("its weights are quantized ({quantization}), and would have to be quantized again"),
            hint: Some("merge into the original checkpoint, or use +merge: where the model is run".into()),
        }
        .into());
    }
    let folder = Folder::check(&args.out)?;
    model.chain.warnings().for_each(|line| printer.talk(&line));
    let hashes = Hashes::start(model.weight_files());
    // What is half there must not be taken for a checkpoint.
    let folder = folder.begin()?;
    write(&model, merges, hashes, folder.dir())?;
    folder.finish()?;
    printer.data(&format!("{}\n", args.out.display()))?;
    Ok(Exit::Done)
}

fn write(model: &Model, merges: Merges<'_>, hashes: Hashes, dir: &Path) -> Result<()> {
    let checkpoint = &model.checkpoint;
    merges.check(checkpoint)?;
    let described = model.describe(&hashes.wait()?);
    let record = json!({
        "schema": "interp.merge/1",
        "base": checkpoint.name(),
        "revision": checkpoint.revision(),
        "weights": described["weights"],
        "chain": described["chain"],
        "tool_version": env!("CARGO_PKG_VERSION"),
    });
    let record = format!("{record:#}\n").into_bytes();
    checkpoint.write(dir, &|name| merges.of(checkpoint, name, Device::Cpu), &[(RECORD, record)])?;
    Ok(())
}
