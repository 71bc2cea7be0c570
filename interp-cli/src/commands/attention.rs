//! `interp attention`: how the attention of chosen heads falls on named spans of prompts, per trial and averaged.

mod material;
mod report;

use anyhow::{Result, anyhow};
use interp_core::cache::Picked;
use interp_core::decoder::Decoder;
use interp_core::guard::catch_torch;
use interp_core::hash::Hashes;
use interp_core::patterns::attention_to;
use interp_core::prompt::Tokenizer;
use interp_core::site::{HeadAxis, HeadRef, HookPoint, Site};
use interp_core::stats::{Bootstrap, Clusters, summarize};
use serde_json::json;
use tch::{Kind, Tensor};

use self::material::{Item, Material};
use self::report::Report;
use crate::bases::Bases;
use crate::cli::AttentionArgs;
use crate::folder::Folder;
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::progress::each;
use crate::ranked::Chosen;

/// Runs every prompt once, writes the folder, and prints.
pub fn attention(args: &AttentionArgs, printer: &Printer) -> Result<Exit> {
    let folder = Folder::check(&args.out)?;
    let model = Model::open(&args.model)?;
    let Some(found) = measure(args, folder, &model, &mut Bases::new(false), printer)? else {
        return Ok(Exit::Interrupted);
    };
    if args.json {
        printer.data(&found.json)?;
    } else {
        found.tables.lines().for_each(|line| printer.talk(line));
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(if found.whole { Exit::Done } else { Exit::Failed })
}

/// What was measured.
pub struct Found {
    /// `attention.json`.
    pub json: String,
    /// To read.
    pub tables: String,
    /// Whether every prompt could run.
    pub whole: bool,
}

/// Runs every prompt once and writes the folder; `None` when it was interrupted.
pub fn measure(
    args: &AttentionArgs,
    folder: Folder,
    model: &Model,
    bases: &mut Bases,
    printer: &Printer,
) -> Result<Option<Found>> {
    let chosen = Chosen::read(&args.heads, args.ranked_by.as_deref())?;
    let chosen = chosen.on_axis(HeadAxis::Query, model.checkpoint.config())?;
    let mut heads: Vec<HeadRef> = Vec::new();
    chosen.heads.into_iter().for_each(|head| {
        if !heads.contains(&head) {
            heads.push(head)
        }
    });
    let material = Material::read(args, model)?;
    material.notes.iter().for_each(|note| printer.talk(&format!("note: {note}")));
    material.bad.iter().for_each(|error| printer.talk(&format!("error: {error}")));
    let bootstrap = Bootstrap { level: args.ci, resamples: args.resamples, seed: args.seed };
    bootstrap.check()?;
    let folder = folder.begin()?;

    let hashes = Hashes::start(model.weight_files());
    let decoder = bases.load(model, printer)?;
    let looking = Looking { decoder: &decoder, heads: &heads };
    let trials = each(&material.items, "prompts", printer, |index, item| {
        if index < args.patterns {
            let text = looking.pattern(item, model.tokenizer.as_ref())?;
            folder.put(&format!("patterns/{index}.json"), text.as_bytes())?;
        }
        looking.masses(item)
    })?;
    let Some(trials) = trials else { return Ok(None) };
    let labels: Vec<Option<&str>> = material.items.iter().map(|item| item.cluster.as_deref()).collect();
    let clusters = Clusters::new(&labels);
    let rows: Vec<&[f32]> = trials.iter().map(Vec::as_slice).collect();
    let cells = summarize(&rows, &clusters, &bootstrap)?;
    let model = model.describe(&hashes.wait()?);
    let report = Report { args, model, material: &material, heads, trials: &trials, cells, clusters, bootstrap };
    report.write(&folder)?;
    folder.finish()?;
    Ok(Some(Found { json: report.json(), tables: report.tables(), whole: material.bad.is_empty() }))
}

/// A model and the heads of it that are looked at.
struct Looking<'a> {
    decoder: &'a Decoder,
    heads: &'a [HeadRef],
}

impl Looking<'_> {
    /// The patterns of the heads, `[dest, src]` each, at some destinations.
    fn run(&self, item: &Item, positions: Vec<usize>) -> Result<Vec<Tensor>> {
        let mut layers: Vec<usize> = self.heads.iter().map(|head| head.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let of_layer = |layer: usize| -> Vec<usize> {
            self.heads.iter().filter(|head| head.layer == layer).map(|head| head.head).collect()
        };
        let points = layers.iter().map(|&layer| (HookPoint::new(Site::Pattern, layer), Some(of_layer(layer))));
        let picked = catch_torch(&item.id, || Ok(Picked::run(self.decoder, &item.prompt.tokens, positions, points)))?;
        let pattern = |head: &HeadRef| {
            let index = of_layer(head.layer).iter().position(|&other| other == head.head).expect("it was asked for");
            picked.get(HookPoint::new(Site::Pattern, head.layer)).map(|act| act.get(0).get(index as i64))
        };
        self.heads.iter().map(|head| pattern(head).ok_or_else(|| anyhow!("{head} has no pattern"))).collect()
    }

    /// Attention to every span, the first token and the rest, `[head, span]`, mean over the positions that attend.
    fn masses(&self, item: &Item) -> Result<Vec<f32>> {
        let spans: Vec<&[std::ops::Range<usize>]> = item.spans.iter().map(Vec::as_slice).collect();
        let mut masses = Vec::new();
        for pattern in self.run(item, item.at.clone())? {
            let rows: Vec<Vec<f64>> = Vec::try_from(pattern.to_kind(Kind::Double)).expect("a matrix of f64");
            let mut sums = vec![0.0; spans.len() + 2];
            for row in &rows {
                sums.iter_mut().zip(attention_to(row, &spans)).for_each(|(sum, mass)| *sum += mass);
            }
            masses.extend(sums.into_iter().map(|sum| (sum / rows.len() as f64) as f32));
        }
        Ok(masses)
    }

    /// A prompt's whole patterns as circuitsviz and bertviz take them.
    fn pattern(&self, item: &Item, tokenizer: Option<&Tokenizer>) -> Result<String> {
        let tokens = &item.prompt.tokens;
        let patterns = self.run(item, (0..tokens.len()).collect())?;
        // Five decimals tell shares of attention apart, and keep the file small.
        let rounded = |x: &f64| (x * 1e5).round() / 1e5;
        let of_head = |pattern: &Tensor| -> Vec<Vec<f64>> {
            let rows: Vec<Vec<f64>> = Vec::try_from(pattern.to_kind(Kind::Double)).expect("a matrix of f64");
            rows.iter().map(|row| row.iter().map(rounded).collect()).collect()
        };
        let words: Vec<String> = tokens
            .iter()
            .map(|&id| tokenizer.map_or_else(|| id.to_string(), |tokenizer| tokenizer.token_text(id)))
            .collect();
        let text = json!({
            "id": item.id,
            "tokens": words,
            "token_ids": tokens,
            "heads": self.heads.iter().map(HeadRef::to_string).collect::<Vec<_>>(),
            "attention": patterns.iter().map(of_head).collect::<Vec<_>>(),
        });
        Ok(format!("{text}\n"))
    }
}
