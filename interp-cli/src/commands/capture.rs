//! `interp capture`: activations of prompts, at chosen sites, layers, heads and positions, into a folder of `.npy` files.

use anyhow::{Result, anyhow};
use interp_core::cache::Picked;
use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::export::capture::{
    CaptureFolder, CaptureLayout, CapturePlan, CapturePoint, CapturePrompt, OpenedCapture,
};
use interp_core::export::npy::Width;
use interp_core::guard::catch_torch;
use interp_core::hash::Hashes;
use interp_core::prompt::NamedPrompt;
use interp_core::site::{Positions, Site};
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};
use tch::Kind;

use crate::cli::CaptureArgs;
use crate::interrupt;
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::progress::bar;
use crate::prompts::Prompts;
use crate::select::{list, n_heads, points, width};

/// Captures, prompt by prompt, so that memory does not grow with their number.
pub fn capture(args: &CaptureArgs, printer: &Printer) -> Result<Exit> {
    let model = Model::open(&args.model)?;
    let mut prompts = read_prompts(args, &model)?;
    let plan = plan(args, &model, &mut prompts)?;
    prompts.report(printer);

    let weights = || Hashes::start(model.weight_files());
    let folder = match CaptureFolder::open(&args.out, plan)? {
        OpenedCapture::Ready(folder) => folder,
        OpenedCapture::Finished(index) => {
            if index["model"]["weights"] != model.describe(&weights().wait()?)["weights"] {
                let (name, out) = (model.checkpoint.name(), args.out.display());
                return Err(anyhow!("{out}: the weights of {name} changed since this capture; give another --out"));
            }
            printer.talk("this capture is already finished");
            printer.data(&format!("{}\n", args.out.display()))?;
            return Ok(prompts.exit());
        }
    };
    let hashes = weights();
    let decoder = model.load(printer)?;
    let Some(folder) = run(folder, &decoder, &prompts.good, printer)? else { return Ok(Exit::Interrupted) };
    let mut described = Map::new();
    described.insert("model".into(), model.describe(&hashes.wait()?));
    described.insert("geometry".into(), json!(model.geometry()));
    described.insert("index_base".into(), json!(0));
    described.insert("skipped".into(), json!(prompts.bad.iter().map(ToString::to_string).collect::<Vec<_>>()));
    described.insert("tool_version".into(), json!(env!("CARGO_PKG_VERSION")));
    folder.finish(&described)?;
    printer.data(&format!("{}\n", args.out.display()))?;
    Ok(prompts.exit())
}

fn read_prompts(args: &CaptureArgs, model: &Model) -> Result<Prompts> {
    if let Some(file) = &args.trials {
        return Prompts::of_trials(file, &model.reader());
    }
    let prompts = Prompts::read(&args.prompts, &model.reader())?;
    prompts.ok_or_else(|| anyhow!("there is no prompt: give --prompt, --messages, --tokens, --prompts or --trials"))
}

fn plan(args: &CaptureArgs, model: &Model, prompts: &mut Prompts) -> Result<CapturePlan> {
    let config = model.checkpoint.config();
    let mut sites = list::<Site>(&args.sites)?;
    sites.sort_unstable();
    sites.dedup();
    let selected = points(&sites, args.layers.as_deref(), args.heads.as_deref(), config)?;
    let points: Vec<CapturePoint> = selected
        .into_iter()
        .map(|one| CapturePoint {
            at: one.at,
            n_heads: one.heads.as_ref().map(Vec::len).or_else(|| n_heads(one.at.site, config)),
            heads: one.heads,
            width: width(one.at.site, config),
        })
        .collect();
    let default = if args.whole { "all" } else { "last" };
    let positions: Positions = args.positions.as_deref().unwrap_or(default).parse()?;
    prompts.retain(|one| one.prompt.positions(&positions, &one.id).map(drop))?;
    let whole = args.whole || (positions == Positions::All && prompts.good.len() == 1);
    let layout = if whole { CaptureLayout::Whole } else { CaptureLayout::Rows };
    let rows = prompts.good.iter().map(|one| prompt_rows(one, &positions)).collect::<Result<Vec<_>>>()?;
    let spec = json!({
        "command": "capture",
        "model": args.model.model,
        "dtype": model.precision.dtype.to_string(),
        "weights": args.model.compute.weights,
        "device": args.model.compute.device,
        "sites": sites.iter().map(|site| site.name()).collect::<Vec<_>>().join(","),
        "layers": args.layers,
        "heads": args.heads,
        "positions": positions.to_string(),
        "layout": layout.name(),
        "config_sha256": model.file_sha256("config.json")?,
        "prompts_sha256": prompts_sha256(&prompts.good, &rows),
    });
    let width = if model.precision.dtype == Dtype::F64 { Width::F64 } else { Width::F32 };
    Ok(CapturePlan { spec, layout, width, points, prompts: rows })
}

fn prompt_rows(one: &NamedPrompt, positions: &Positions) -> Result<CapturePrompt> {
    let positions = one.prompt.positions(positions, &one.id)?;
    let tokens = positions.iter().map(|&pos| one.prompt.tokens[pos]).collect();
    Ok(CapturePrompt { id: one.id.clone(), n_tokens: one.prompt.tokens.len(), positions, tokens })
}

/// Hash of what is run and of the positions kept.
fn prompts_sha256(prompts: &[NamedPrompt], rows: &[CapturePrompt]) -> String {
    let mut hash = Sha256::new();
    for (one, rows) in prompts.iter().zip(rows) {
        hash.update(json!([one.id, one.prompt.tokens, rows.positions]).to_string());
    }
    format!("{:x}", hash.finalize())
}

/// Runs every prompt. `None` when it was interrupted, and what was written is gone.
fn run(
    mut folder: Box<CaptureFolder>,
    decoder: &Decoder,
    prompts: &[NamedPrompt],
    printer: &Printer,
) -> Result<Option<Box<CaptureFolder>>> {
    let wanted: Vec<_> = folder.plan().points.iter().map(|point| (point.at, point.heads.clone())).collect();
    let layout = folder.plan().layout;
    interrupt::catch();
    let bar = bar(prompts.len(), "prompts");
    for (index, one) in prompts.iter().enumerate() {
        if interrupt::requested() {
            bar.finish_and_clear();
            let n = prompts.len();
            printer.talk(&format!(
                "interrupted after {index} of {n} prompts; nothing is kept, the same command starts again"
            ));
            return Ok(None);
        }
        let positions = folder.plan().prompts[index].positions.clone();
        let picked = catch_torch(&one.id, || Ok(Picked::run(decoder, &one.prompt.tokens, positions, wanted.clone())))?;
        folder.prompt(|point| {
            let at = wanted[point].0;
            let act = match layout {
                CaptureLayout::Rows => picked.rows(at),
                CaptureLayout::Whole => picked.get(at),
            };
            let values = act.map(|act| Vec::try_from(act.contiguous().view([-1]).to_kind(Kind::Double)));
            values.transpose().expect("a vector of f64").unwrap_or_default()
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Some(folder))
}
