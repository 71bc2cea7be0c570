//! What is measured of the named heads besides mediation: patches from another checkpoint, grafts of the adapter, ablation beside the
//! other heads of the layer, attention to the sections.

use std::fs;

use anyhow::Result;
use interp_core::Error;
use interp_core::compliance::Pair;
use interp_core::compliance::ask::{prompt, spread, trial};
use interp_core::site::HeadRef;
use interp_core::stats::{Bootstrap, CellStats, compare};
use serde_json::Value;

use super::row::{Measure, Row, of_study};
use super::{ATTENTION, Heads, process, rendered, two_sided, write_pairs};
use crate::cli::{AttentionArgs, ModelArgs, PromptArgs};
use crate::commands::attention;
use crate::commands::study::compliance::cases::Cases;
use crate::commands::study::compliance::checkpoints::Checkpoint;
use crate::commands::study::compliance::place::{Place, write};
use crate::commands::study::compliance::sweeps::Sweeps;
use crate::commands::sweep::SweepSpec;
use crate::folder::Folder;

/// Most pairs of a graft, which computes every position of every layer for every head.
const GRAFTED: usize = 50;
/// What ablation is read for: the head's own drop of accuracy between the two words, that less the mean of the layer's other heads, and
/// both for the logit difference.
pub const ABLATION: [&str; 4] = [
    "accuracy lost by ablation",
    "accuracy lost beside the layer's others",
    "logit difference lost by ablation",
    "logit difference lost beside the layer's others",
];

/// Everything, checkpoint by checkpoint; `None` when it was interrupted.
pub fn measure(
    heads: &mut Heads,
    sweeps: &mut Sweeps<'_>,
    place: &Place,
    checkpoints: &[Checkpoint],
    cases: &Cases,
) -> Result<Option<()>> {
    for (index, checkpoint) in checkpoints.iter().enumerate() {
        let mut one = One { heads, sweeps, place, cases, checkpoint, index };
        if one.heads.arms[index].used.is_empty() || one.heads.named.is_empty() {
            continue;
        }
        if one.ablation()?.is_none() || one.graft()?.is_none() || one.attention()?.is_none() {
            return Ok(None);
        }
    }
    // Of a base and its fine-tunings, the fine-tunings are patched into each other.
    let first = usize::from(checkpoints.len() > 2);
    for a in first..checkpoints.len() {
        for b in a + 1..checkpoints.len() {
            if across(heads, sweeps, place, cases, [&checkpoints[a], &checkpoints[b]], [a, b])?.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(()))
}

/// One checkpoint.
struct One<'a, 'b> {
    heads: &'a mut Heads,
    sweeps: &'a mut Sweeps<'b>,
    place: &'a Place,
    cases: &'a Cases,
    checkpoint: &'a Checkpoint,
    index: usize,
}

impl One<'_, '_> {
    fn dir(&self) -> std::path::PathBuf {
        self.place.checkpoint(&self.checkpoint.name)
    }

    /// The named heads taken away at all positions, each beside the other heads of its layer.
    fn ablation(&mut self) -> Result<Option<()>> {
        let (config, named) = (self.checkpoint.model.checkpoint.config(), self.heads.named.clone());
        let mut layers: Vec<usize> = named.iter().map(|head| head.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let all = layers.iter().flat_map(|&layer| (0..config.n_heads).map(move |head| HeadRef { layer, head }));
        let text: Vec<String> = all.map(|head| head.to_string()).collect();
        let name = &self.checkpoint.name;
        let spec = SweepSpec {
            edit: "zero".into(),
            positions: "all".into(),
            heads: Some(text.join(",")),
            ..self.sweeps.mediation(self.checkpoint, &self.dir().join("pairs.jsonl"))
        };
        let title = format!("{name}: ablation of the heads of {} layers", layers.len());
        let Some(study) = self.sweeps.run(&title, &spec, &self.dir().join("ablation"))? else { return Ok(None) };
        let bootstrap = Bootstrap { seed: self.sweeps.args.seed, ..Bootstrap::default() };
        let right = |difference: f64| f32::from(u8::from(difference > 0.0));
        // Which of the two words has the larger logit: before less after.
        let lost = |(cells, clean): (&Vec<f32>, &Vec<f64>)| -> Vec<f32> {
            cells.iter().map(|&delta| right(clean[0]) - right(clean[0] - f64::from(delta))).collect()
        };
        let verdicts: Vec<Vec<f32>> = study.cells[0].iter().zip(&study.clean).map(lost).collect();
        for head in &named {
            let cell = study.cells_of_heads(0, &[*head])?;
            let others: Vec<HeadRef> = (0..config.n_heads)
                .map(|other| HeadRef { layer: head.layer, head: other })
                .filter(|other| !named.contains(other))
                .collect();
            let others = study.cells_of_heads(0, &others)?;
            let control = if others.is_empty() { &cell } else { &others };
            for (measure, beside, values) in
                [(ABLATION[0], ABLATION[1], &verdicts), (ABLATION[2], ABLATION[3], &study.cells[0])]
            {
                let trials: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                let found = compare(&trials, &cell, control, &study.clusters(), &bootstrap)?;
                let row = |measure, stats: &CellStats| Row {
                    measure,
                    checkpoint: name.clone(),
                    other: None,
                    head: *head,
                    n_trials: study.rows.len(),
                    mean: stats.mean,
                    ci: stats.ci,
                    p: None,
                    rank: None,
                    found: None,
                };
                self.heads.rows.push(row(measure, &found.named));
                if !others.is_empty() {
                    self.heads.rows.push(row(beside, &found.difference));
                }
            }
        }
        Ok(Some(()))
    }

    /// The adapter's part of each head put on the base, where the checkpoint ends in an adapter that falls apart into heads.
    fn graft(&mut self) -> Result<Option<()>> {
        let name = self.checkpoint.name.clone();
        let Some(adapter) = self.checkpoint.model.chain.last_applied() else { return Ok(Some(())) };
        if let Err(error) = adapter.check_parts() {
            self.heads.notes.push(format!("{name}: no grafts: {error}."));
            return Ok(Some(()));
        }
        let pairs: Vec<Pair> =
            spread(self.heads.arms[self.index].used.clone(), GRAFTED, |pair| process(self.cases, pair));
        let trials = self.dir().join("graft.jsonl");
        write_pairs(&trials, &pairs, self.cases, self.checkpoint)?;
        let spec = SweepSpec {
            edit: "graft".into(),
            positions: "all".into(),
            ..self.sweeps.mediation(self.checkpoint, &trials)
        };
        let title = format!("{name}: the adapter's part of each head grafted on its base, {} pairs", pairs.len());
        let Some(study) = self.sweeps.run(&title, &spec, &self.dir().join("graft"))? else { return Ok(None) };
        let measure = Measure { name: "gain by graft", sign: -1.0, permutation: two_sided(&study) };
        self.heads.rows.extend(of_study(&study, measure, &name, None, &self.heads.named)?);
        Ok(Some(()))
    }

    /// Attention from the last position to the sections.
    fn attention(&mut self) -> Result<Option<()>> {
        let name = self.checkpoint.name.clone();
        let (out, pair) = (self.dir().join("attention"), &self.heads.arms[self.index].used[0]);
        let case = self.cases.place(&pair.a);
        let text = rendered(self.cases, case, self.checkpoint)?;
        if prompt(&self.cases.records[case], &text).get("spans").is_none() {
            self.heads.notes.push(format!("{name}: no attention to sections: its template changes the message."));
            return Ok(Some(()));
        }
        let file = out.join("attention.json");
        if !file.is_file() {
            self.sweeps.printer.talk(&format!("{name}: attention to the sections"));
            let labels: Vec<String> = self.heads.named.iter().map(HeadRef::to_string).collect();
            let args = AttentionArgs {
                model: ModelArgs { model: self.checkpoint.text.clone(), compute: self.sweeps.args.compute.clone() },
                prompts: PromptArgs { prompt: None, messages: None, tokens: None, prompts: None },
                trials: Some(self.dir().join("pairs.jsonl")),
                source: false,
                heads: labels.join(","),
                ranked_by: None,
                at: "last".into(),
                spans: ["procedure", "scenario", "question"].map(Into::into).into(),
                patterns: 0,
                ci: 0.95,
                resamples: Bootstrap::default().resamples,
                seed: self.sweeps.args.seed,
                json: false,
                out: out.clone(),
            };
            let folder = Folder::check(&out)?;
            let model = &self.checkpoint.model;
            let printer = self.sweeps.printer;
            if attention::measure(&args, folder, model, &mut self.sweeps.bases, printer)?.is_none() {
                return Ok(None);
            }
        }
        let bytes = fs::read(&file).map_err(Error::io("read", &file))?;
        let table: Value =
            serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: file.clone(), line: None, source })?;
        let n_trials = table["n_trials"].as_u64().unwrap_or(0) as usize;
        for cell in table["cells"].as_array().into_iter().flatten() {
            let number = |value: &Value| value.as_f64();
            self.heads.rows.push(Row {
                measure: ATTENTION,
                checkpoint: name.clone(),
                other: cell["span"].as_str().map(Into::into),
                head: cell["label"].as_str().unwrap_or_default().parse()?,
                n_trials,
                mean: number(&cell["mean"]).unwrap_or(f64::NAN),
                ci: number(&cell["ci"][0]).zip(number(&cell["ci"][1])).map(Into::into),
                p: None,
                rank: None,
                found: None,
            });
        }
        Ok(Some(()))
    }
}

/// Each head of one checkpoint taken from the other, on the same prompt, both ways.
fn across(
    heads: &mut Heads,
    sweeps: &mut Sweeps<'_>,
    place: &Place,
    cases: &Cases,
    pair: [&Checkpoint; 2],
    [a, b]: [usize; 2],
) -> Result<Option<()>> {
    let names = pair.map(|one| one.name.clone());
    let both: Vec<&Pair> = heads.arms[a].used.iter().filter(|one| heads.arms[b].used.contains(one)).collect();
    if both.is_empty() || heads.named.is_empty() {
        heads.notes.push(format!("{} and {} have no valid pair in common: no patches across.", names[0], names[1]));
        return Ok(Some(()));
    }
    let mut places: Vec<usize> = both.iter().flat_map(|one| [&one.a, &one.b]).map(|id| cases.place(id)).collect();
    places.sort_unstable();
    places.dedup();
    let tokens = [0, 1].map(|word: usize| cases.words[word][0]);
    let mut text = String::new();
    for &case in &places {
        let rendered = rendered(cases, case, pair[0])?;
        text += &format!("{}\n", trial((&cases.records[case], &rendered), None, tokens));
    }
    let trials = place.at(format!("across/{}-{}.jsonl", names[0], names[1]));
    write(&trials, text.as_bytes())?;
    for (edited, donor) in [(0, 1), (1, 0)] {
        let (name, other) = (&names[edited], &names[donor]);
        let spec =
            SweepSpec { source_model: Some(pair[donor].text.clone()), ..sweeps.mediation(pair[edited], &trials) };
        let title = format!("{name}: each head from {other}, {} prompts", places.len());
        let out = place.at(format!("across/{name}-from-{other}"));
        let Some(study) = sweeps.run(&title, &spec, &out)? else { return Ok(None) };
        let measure = Measure { name: "patch across", sign: 1.0, permutation: two_sided(&study) };
        heads.rows.extend(of_study(&study, measure, name, Some(other), &heads.named)?);
    }
    Ok(Some(()))
}
