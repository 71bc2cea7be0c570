//! The prompts of `interp attention`, with the positions that attend and the spans that are attended to.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Result, anyhow};
use interp_core::Error;
use interp_core::patterns::overlap;
use interp_core::prompt::Prompt;
use interp_core::site::Positions;
use interp_core::trial::{TrialFile, TrialOptions};

use crate::cli::AttentionArgs;
use crate::model::Model;
use crate::prompts::Prompts;

/// Names of what is in no span.
pub const OTHERS: [&str; 2] = ["first", "rest"];

/// Everything that is looked at.
pub struct Material {
    /// Prompts that run.
    pub items: Vec<Item>,
    /// Names of the spans.
    pub spans: Vec<String>,
    /// Whether the spans of some prompt overlap.
    pub overlap: bool,
    /// What was decided on the user's behalf.
    pub notes: Vec<String>,
    /// Prompts that cannot be used.
    pub bad: Vec<Error>,
}

/// One prompt.
pub struct Item {
    pub id: String,
    pub cluster: Option<String>,
    pub direction: Option<String>,
    pub prompt: Prompt,
    /// Positions that attend, sorted.
    pub at: Vec<usize>,
    /// Per span.
    pub spans: Vec<Vec<Range<usize>>>,
}

impl Material {
    /// Reads what the flags name.
    pub fn read(args: &AttentionArgs, model: &Model) -> Result<Self> {
        let at: Positions = args.at.parse()?;
        let (prompts, mut bad) = prompts(args, model)?;
        let mut notes = Vec::new();
        let names = names(args, &prompts, &mut notes)?;
        let mut items = Vec::new();
        for item in prompts {
            match place(item, &names, &at) {
                Ok(item) => items.push(item),
                Err(error) => bad.push(error),
            }
        }
        if items.is_empty() {
            return Err(match bad.len() {
                0 => anyhow!("there is no prompt to run"),
                1 => bad.remove(0).into(),
                n => anyhow!("{n} prompts, none of them usable, the first: {}", bad[0]),
            });
        }
        let of = |item: &Item| overlap(&item.spans.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let overlap = items.iter().any(of);
        if overlap {
            notes.push(
                "spans overlap: what lies in two of them counts in both, and shares add up to more than 1".into(),
            );
        }
        Ok(Self { items, spans: names, overlap, notes, bad })
    }

    /// Names of the columns: the spans, the first token, the rest.
    pub fn columns(&self) -> Vec<String> {
        self.spans.iter().cloned().chain(OTHERS.map(String::from)).collect()
    }
}

/// Prompts without their places.
fn prompts(args: &AttentionArgs, model: &Model) -> Result<(Vec<Item>, Vec<Error>)> {
    let item = |id: String, cluster, direction, prompt| Item {
        id,
        cluster,
        direction,
        prompt,
        at: Vec::new(),
        spans: Vec::new(),
    };
    let Some(file) = &args.trials else {
        let prompts = Prompts::read(&args.prompts, &model.reader())?;
        let Prompts { good, bad } = prompts
            .ok_or_else(|| anyhow!("there is no prompt: give --prompt, --messages, --tokens, --prompts or --trials"))?;
        return Ok((good.into_iter().map(|one| item(one.id, None, None, one.prompt)).collect(), bad));
    };
    let TrialFile { trials, bad_lines, .. } =
        TrialFile::read(file, &model.reader(), TrialOptions { first_token: true, swap: false })?;
    let mut bad: Vec<Error> = bad_lines.into_iter().map(|line| line.error).collect();
    let mut items = Vec::new();
    for trial in trials {
        let prompt = if args.source { trial.source } else { Some(trial.base) };
        match prompt {
            Some(prompt) => items.push(item(trial.id, trial.cluster, trial.direction, prompt)),
            None => bad.push(Error::Prompt {
                place: format!("trial {}", trial.id),
                problem: "it has no source prompt".into(),
                hint: Some("leave --source out".into()),
            }),
        }
    }
    Ok((items, bad))
}

/// The spans asked for, or those that all prompts name.
fn names(args: &AttentionArgs, items: &[Item], notes: &mut Vec<String>) -> Result<Vec<String>> {
    let any: BTreeSet<&String> = items.iter().flat_map(|item| item.prompt.spans.keys()).collect();
    if !args.spans.is_empty() {
        let mut names: Vec<String> = Vec::new();
        for name in &args.spans {
            let name = name.trim().trim_start_matches("span:");
            if OTHERS.contains(&name) {
                let problem = "the name of what is in no span".into();
                let hint = Some("it is always measured; name spans only".into());
                return Err(Error::Selector { what: "span", value: name.into(), problem, hint }.into());
            }
            if !any.iter().any(|known| *known == name) {
                let there: Vec<&str> = any.iter().map(|name| name.as_str()).collect();
                let hint = match there.is_empty() {
                    true => "name spans in the prompts: \"spans\": {\"NAME\": [[start, end]]}".into(),
                    false => format!("their spans are {}", there.join(", ")),
                };
                let problem = "no prompt has such a span".into();
                return Err(Error::Selector { what: "span", value: name.into(), problem, hint: Some(hint) }.into());
            }
            if !names.iter().any(|known| known == name) {
                names.push(name.into());
            }
        }
        return Ok(names);
    }
    let (all, some): (Vec<_>, Vec<_>) =
        any.into_iter().partition(|name| items.iter().all(|item| item.prompt.spans.contains_key(*name)));
    if !some.is_empty() {
        let some: Vec<&str> = some.into_iter().map(String::as_str).collect();
        notes.push(format!("not every prompt has the spans {}; name them by --spans to measure them", some.join(", ")));
    }
    if all.is_empty() {
        let problem = "there is no span that all prompts name".into();
        let hint = Some("name spans in the prompts: \"spans\": {\"NAME\": [[start, end]]}".into());
        return Err(Error::Selector { what: "--spans", value: String::new(), problem, hint }.into());
    }
    Ok(all.into_iter().cloned().collect())
}

fn place(mut item: Item, names: &[String], at: &Positions) -> interp_core::Result<Item> {
    item.at = item.prompt.positions(at, &item.id)?;
    for name in names {
        // For its message: what is there is taken as ranges.
        item.prompt.positions(&Positions::Span(name.clone()), &item.id)?;
        item.spans.push(item.prompt.spans[name].clone());
    }
    Ok(item)
}
