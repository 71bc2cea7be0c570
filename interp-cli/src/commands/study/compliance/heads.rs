//! Which heads carry the verdict: procedural causal mediation of every checkpoint over the flip pairs that it gets right, and what follows
//! from it. Each measurement is an ordinary sweep in a folder of its own.

mod others;
mod row;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::compliance::ask::{spread, trial};
use interp_core::compliance::{Pair, PairKind};
use interp_core::export::{Arm as Swept, Contrast, Contrasted, Judge, Study};
use interp_core::scores::{cell_label, n_cells};
use interp_core::site::{HeadAxis, HeadRef};
use interp_core::stats::{Bootstrap, Flips, Permutation};
use serde_json::{Map, Value, json};

pub use self::others::ABLATION;
pub use self::row::{Measure, Row};
use super::Answered;
use super::answers::Regime;
use super::cases::{Cases, messages};
use super::checkpoints::Checkpoint;
use super::place::{Place, write};
use super::sweeps::Sweeps;
use crate::cli::StudyComplianceArgs;
use crate::model::Model;
use crate::ranked::Chosen;

/// The heads that the published cards name.
const PUBLISHED: [HeadRef; 2] = [HeadRef { layer: 19, head: 17 }, HeadRef { layer: 20, head: 17 }];
/// The share of attention that goes to a section.
pub const ATTENTION: &str = "attention";
/// So few valid pairs that the report says so.
pub const FEW: usize = 100;

/// Heads that stand in every table, as far as they are known before anything is measured.
pub enum Named {
    /// These.
    Heads(Vec<HeadRef>, &'static str),
    /// The strongest of each checkpoint.
    Strongest,
}

/// One checkpoint's causal mediation.
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// Flip pairs with both halves right in forced mode.
    pub valid: Vec<Pair>,
    /// Those that were swept.
    pub used: Vec<Pair>,
    /// The sweep; `None` where no pair is valid.
    pub study: Option<Study>,
}

/// Two checkpoints' causal mediation over the pairs that both get right.
pub struct Changes {
    pub contrast: Contrast,
    pub contrasted: Contrasted,
    /// Its folder, in the study's.
    pub folder: String,
}

/// Everything that was measured.
pub struct Heads {
    /// Flip pairs among the cases.
    pub flips: usize,
    pub arms: Vec<Arm>,
    pub changes: Vec<Changes>,
    pub named: Vec<HeadRef>,
    /// How these were chosen.
    pub how: String,
    /// Every number of a named head.
    pub rows: Vec<Row>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// What `--heads` names, checked against the model; the published ones or the strongest if nothing does.
pub fn named(args: &StudyComplianceArgs, model: &Model) -> Result<Named> {
    let config = model.checkpoint.config();
    let Some(text) = &args.heads else {
        let there = PUBLISHED.iter().all(|head| head.layer < config.n_layers && head.head < config.n_heads);
        return Ok(if there {
            Named::Heads(PUBLISHED.into(), "those of the published cards")
        } else {
            Named::Strongest
        });
    };
    let mut heads = Chosen::read(text, None)?.on_axis(HeadAxis::Query, config)?.heads;
    let mut seen = BTreeSet::new();
    heads.retain(|head| seen.insert((head.layer, head.head)));
    Ok(Named::Heads(heads, "those asked for"))
}

impl Heads {
    /// Measures what the folder does not have; `None` when it was interrupted.
    pub fn measure(
        sweeps: &mut Sweeps<'_>,
        place: &Place,
        checkpoints: &[Checkpoint],
        cases: &Cases,
        answered: &[Answered],
        named: Named,
    ) -> Result<Option<Self>> {
        let mut heads = Self {
            flips: cases.pairs.iter().filter(|pair| pair.kind == PairKind::Flip).count(),
            arms: Vec::new(),
            changes: Vec::new(),
            named: Vec::new(),
            how: String::new(),
            rows: Vec::new(),
            notes: Vec::new(),
        };
        for (checkpoint, answered) in checkpoints.iter().zip(answered) {
            let valid = valid(cases, answered, checkpoint)?;
            let used = spread(valid.clone(), sweeps.args.max_pairs.get(), |pair| process(cases, pair));
            let mut arm = Arm { name: checkpoint.name.clone(), valid, used, study: None };
            if !arm.used.is_empty() {
                let dir = place.checkpoint(&arm.name);
                let trials = dir.join("pairs.jsonl");
                write_pairs(&trials, &arm.used, cases, checkpoint)?;
                let title = format!("{}: causal mediation, {} pairs in both directions", arm.name, arm.used.len());
                let spec = sweeps.mediation(checkpoint, &trials);
                let Some(study) = sweeps.run(&title, &spec, &dir.join("mediation"))? else { return Ok(None) };
                arm.study = Some(study);
            }
            heads.arms.push(arm);
        }
        heads.choose(named)?;
        heads.compare(sweeps.args, place)?;
        let more = others::measure(&mut heads, sweeps, place, checkpoints, cases)?;
        Ok(more.map(|()| heads))
    }

    /// The number of a named head.
    pub fn found(&self, measure: &str, checkpoint: &str, head: HeadRef, other: Option<&str>) -> Option<&Row> {
        let is = |row: &&Row| {
            (row.measure, &*row.checkpoint, row.head) == (measure, checkpoint, head) && row.other.as_deref() == other
        };
        self.rows.iter().find(is)
    }

    /// The named heads, and their lines of every checkpoint's own mediation.
    fn choose(&mut self, named: Named) -> Result<()> {
        match named {
            Named::Heads(heads, how) => (self.named, self.how) = (heads, how.into()),
            Named::Strongest => {
                for study in self.arms.iter().filter_map(|arm| arm.study.as_ref()) {
                    let strongest = study.top_heads(0, 1)?;
                    strongest.into_iter().for_each(|head| {
                        if !self.named.contains(&head) {
                            self.named.push(head);
                        }
                    });
                }
                self.how =
                    "the strongest of each checkpoint, since this model does not have both L19.H17 and L20.H17".into();
            }
        }
        for arm in &self.arms {
            if let Some(study) = &arm.study {
                let measure = Measure { name: "mediation", sign: 1.0, permutation: study.permutation() };
                self.rows.extend(row::of_study(study, measure, &arm.name, None, &self.named)?);
            }
        }
        Ok(())
    }

    /// Δδ of every two checkpoints, over the pairs that both get right.
    fn compare(&mut self, args: &StudyComplianceArgs, place: &Place) -> Result<()> {
        let bootstrap = Bootstrap { seed: args.seed, ..Bootstrap::default() };
        let judge = Judge { bootstrap, flips: Flips { n: 10_000, seed: args.seed }, level: 0.05 };
        for (i, second) in self.arms.iter().enumerate() {
            for first in &self.arms[..i] {
                let (Some(a), Some(b)) = (&first.study, &second.study) else { continue };
                let folder = format!("contrast/{}-less-{}", second.name, first.name);
                let swept = |arm: &Arm, study: &Study| Swept {
                    name: arm.name.clone(),
                    dir: place.checkpoint(&arm.name).join("mediation"),
                    study: study.clone(),
                };
                if !first.used.iter().any(|pair| second.used.contains(pair)) {
                    self.notes.push(format!("{} and {} have no valid pair in common: no Δδ.", first.name, second.name));
                    continue;
                }
                let contrast = Contrast::matched(vec![swept(first, a), swept(second, b)])?;
                let dir = place.at(&folder);
                fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
                let contrasted = contrast.write(&dir, &judge, &described(&first.name, &second.name))?.remove(0);
                self.rows.extend(changes(&contrast, &contrasted, &self.named));
                self.changes.push(Changes { contrast, contrasted, folder });
            }
        }
        Ok(())
    }
}

/// `run.json` of a contrast in a study.
fn described(reference: &str, other: &str) -> Map<String, Value> {
    let run = json!({
        "schema": "interp.contrast_run/1",
        "command": "study compliance",
        "reference": reference,
        "checkpoints": [
            { "name": reference, "folder": format!("../../checkpoints/{reference}/mediation") },
            { "name": other, "folder": format!("../../checkpoints/{other}/mediation") },
        ],
        "trials": "those that ran in both",
        "tool_version": env!("CARGO_PKG_VERSION"),
    });
    run.as_object().cloned().unwrap_or_default()
}

fn changes(contrast: &Contrast, contrasted: &Contrasted, named: &[HeadRef]) -> Vec<Row> {
    let axes = &contrast.layout().axes;
    let arms = contrast.arms();
    let row = |head: &HeadRef| {
        let cell = (0..n_cells(axes)).find(|&cell| cell_label(axes, cell) == head.to_string())?;
        let change = &contrasted.changes[0][cell];
        Some(Row {
            measure: "change of mediation",
            checkpoint: arms[1].name.clone(),
            other: Some(arms[0].name.clone()),
            head: *head,
            n_trials: contrast.n_trials(),
            mean: change.stats.mean,
            ci: change.stats.ci,
            p: Some(change.p),
            rank: None,
            found: Some(change.changed),
        })
    };
    named.iter().filter_map(row).collect()
}

/// Flip pairs whose halves are both right in forced mode, and passed their acceptance tests.
fn valid(cases: &Cases, answered: &Answered, checkpoint: &Checkpoint) -> Result<Vec<Pair>> {
    let mut valid: Vec<Pair> = Vec::new();
    for pair in cases.pairs.iter().filter(|pair| pair.kind == PairKind::Flip) {
        let mut both = true;
        for id in [&pair.a, &pair.b] {
            let case = cases.place(id);
            let record = &cases.records[case];
            let judged = answered.own[case].judged(record, Regime::Forced, checkpoint.tokenizer())?;
            both &= judged.right() && record.admit;
        }
        let again =
            valid.iter().any(|one| (&one.a, &one.b) == (&pair.a, &pair.b) || (&one.a, &one.b) == (&pair.b, &pair.a));
        if both && !again {
            valid.push(pair.clone());
        }
    }
    Ok(valid)
}

fn process(cases: &Cases, pair: &Pair) -> String {
    cases.records[cases.place(&pair.a)].process_id.clone()
}

/// The forced prompt of a case as the template has it.
fn rendered(cases: &Cases, case: usize, checkpoint: &Checkpoint) -> interp_core::Result<String> {
    let record = &cases.records[case];
    let text = checkpoint.tokenizer().render_chat(&messages(record), &record.id)?;
    Ok(text + interp_core::compliance::ask::FORCED)
}

/// A trial file of pairs, each in both directions.
fn write_pairs(path: &Path, pairs: &[Pair], cases: &Cases, checkpoint: &Checkpoint) -> Result<()> {
    let tokens = [0, 1].map(|word: usize| cases.words[word][0]);
    let mut text = String::new();
    for pair in pairs {
        let halves = [&pair.a, &pair.b].map(|id| cases.place(id));
        let [a, b] = halves.map(|case| rendered(cases, case, checkpoint).map(|text| (&cases.records[case], text)));
        let (a, b) = (a?, b?);
        for (base, source) in [(&a, &b), (&b, &a)] {
            text += &format!("{}\n", trial((base.0, &base.1), Some((source.0, &source.1)), tokens));
        }
    }
    Ok(write(path, text.as_bytes())?)
}

/// A two-sided test of a whole grid.
fn two_sided(study: &Study) -> Permutation {
    Permutation { two_sided: true, ..study.permutation() }
}
