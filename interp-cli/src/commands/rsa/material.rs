//! What `interp rsa` compares: prompts, the positions of them that are rows, and what each hypothesis says of every row.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::prompt::{Prompt, PromptFile, PromptReader};
use interp_core::rsa::IdentityPrompt;
use interp_core::site::Positions;
use interp_core::trial::{Trial, TrialFile, TrialOptions};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::RsaArgs;

/// The hypotheses of Yang et al., which the prompts themselves speak to.
const BUILT_IN: [&str; 2] = ["abstract", "token"];

/// Prompts in the order of their rows.
pub struct Material {
    /// Each distinct prompt once.
    pub pieces: Vec<Piece>,
    /// What rows are expected to be alike.
    pub hypotheses: Vec<Hypothesis>,
    /// Lines that could not be used.
    pub bad: Vec<Error>,
    /// Hash of the file, or files.
    pub sha256: String,
}

/// One prompt.
pub struct Piece {
    /// The trial's id and which of its prompts, or the line.
    pub id: String,
    /// Token ids.
    pub tokens: Vec<i64>,
    /// Positions that are rows, sorted.
    pub positions: Vec<usize>,
    /// `ABA` or `ABB`, where the prompt is one of identity rules.
    pub rule: Option<&'static str>,
}

/// A label for every row; rows of equal labels should be alike.
pub struct Hypothesis {
    /// As typed.
    pub name: String,
    /// One per row.
    pub labels: Vec<Value>,
}

impl Material {
    /// Reads what the flags name. Errs for a prompt without labels, or a position that does not exist.
    pub fn read(args: &RsaArgs, reader: &PromptReader<'_>) -> Result<Self> {
        let positions: Positions = args.positions.parse()?;
        match (&args.trials, &args.prompts, &args.labels) {
            (Some(file), ..) => Self::of_trials(file, args, &positions, reader),
            (None, Some(prompts), Some(labels)) => Self::of_prompts(prompts, labels, args, &positions, reader),
            _ => unreachable!("clap asks for one of the two"),
        }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.positions.len()).sum()
    }

    /// `rows.json`: what each row of the arrays is.
    pub fn rows(&self) -> Vec<Map<String, Value>> {
        let mut rows = Vec::new();
        for piece in &self.pieces {
            for &position in &piece.positions {
                let mut row = Map::new();
                row.insert("row".into(), json!(rows.len()));
                row.insert("prompt".into(), json!(piece.id));
                row.insert("rule".into(), json!(piece.rule));
                row.insert("position".into(), json!(position));
                row.insert("token".into(), json!(piece.tokens[position]));
                let labels: Map<String, Value> =
                    self.hypotheses.iter().map(|one| (one.name.clone(), one.labels[rows.len()].clone())).collect();
                row.insert("labels".into(), Value::Object(labels));
                rows.push(row);
            }
        }
        rows
    }

    fn of_trials(file: &Path, args: &RsaArgs, positions: &Positions, reader: &PromptReader<'_>) -> Result<Self> {
        let names = names(&args.hypothesis, &BUILT_IN.map(String::from))?;
        let TrialFile { trials, bad_lines, sha256, .. } =
            TrialFile::read(file, reader, TrialOptions { first_token: true, swap: false })?;
        let mut found: Vec<(IdentityPrompt, Piece)> = Vec::new();
        let mut seen = HashSet::new();
        let mut add = |tokens: Vec<i64>, prompt: &Prompt, id: String, said: Option<i64>| -> Result<()> {
            let identity = identity(&tokens, said, &id)?;
            if seen.insert(tokens.clone()) {
                let positions = prompt.positions(positions, &id)?;
                let rule = Some(identity.rule.name());
                found.push((identity, Piece { id, tokens, positions, rule }));
            }
            Ok(())
        };
        for trial in trials.iter().take(limit(args)) {
            for (part, prompt, said) in sides(trial) {
                let id = format!("trial {} ({part})", trial.id);
                add(prompt.tokens.clone(), prompt, id.clone(), said)?;
                if args.add_swap {
                    let swapped = identity(&prompt.tokens, said, &id)?.with_query_swapped();
                    add(swapped, prompt, format!("{id}, query swapped"), None)?;
                }
            }
        }
        found.sort_by_key(|(identity, _)| identity.rule);
        let mut labels = Vec::new();
        for (identity, piece) in &found {
            for &position in &piece.positions {
                labels.push(identity.labels(position).ok_or_else(|| no_variable(position, positions, &piece.id))?);
            }
        }
        let value = |name: &str, labels: &interp_core::rsa::Labels| match name {
            "abstract" => json!(labels.variable.name()),
            _ => json!(labels.token),
        };
        let hypothesis = |name: String| {
            let labels = labels.iter().map(|one| value(&name, one)).collect();
            Hypothesis { name, labels }
        };
        Ok(Self {
            hypotheses: names.into_iter().map(hypothesis).collect(),
            pieces: found.into_iter().map(|(_, piece)| piece).collect(),
            bad: bad_lines.into_iter().map(|line| line.error).collect(),
            sha256,
        })
    }

    fn of_prompts(
        file: &Path,
        labels_file: &Path,
        args: &RsaArgs,
        positions: &Positions,
        reader: &PromptReader<'_>,
    ) -> Result<Self> {
        let PromptFile { prompts, mut bad_lines } = PromptFile::read(file, reader)?;
        if !bad_lines.is_empty() {
            // Which labels belong to which prompt could not be told any more.
            return Err(bad_lines.remove(0).into());
        }
        let lines = Lines::read(labels_file)?;
        if lines.objects.len() != prompts.len() {
            let problem =
                format!("has labels of {} prompts, {} has {}", lines.objects.len(), file.display(), prompts.len());
            let hint = Some("write one line of labels per prompt, in the same order".into());
            return Err(Error::File { path: labels_file.into(), problem, hint }.into());
        }
        let all: Vec<String> = lines.objects[0].1.keys().cloned().collect();
        let names = names(&args.hypothesis, &all)?;
        let mut hypotheses: Vec<Hypothesis> =
            names.into_iter().map(|name| Hypothesis { name, labels: Vec::new() }).collect();
        let mut pieces = Vec::new();
        for (one, (place, object)) in prompts.into_iter().zip(&lines.objects).take(limit(args)) {
            let positions = one.prompt.positions(positions, &one.id)?;
            for hypothesis in &mut hypotheses {
                hypothesis.labels.extend(labels_of(object, &hypothesis.name, positions.len(), place)?);
            }
            pieces.push(Piece { id: one.id, tokens: one.prompt.tokens, positions, rule: None });
        }
        let mut hash = Sha256::new();
        hash.update(fs::read(file).map_err(Error::io("read", file))?);
        hash.update(lines.bytes);
        Ok(Self { pieces, hypotheses, bad: Vec::new(), sha256: format!("{:x}", hash.finalize()) })
    }
}

/// The prompts of a trial, each with the answer that the file names.
fn sides(trial: &Trial) -> impl Iterator<Item = (&'static str, &Prompt, Option<i64>)> {
    let base = ("base", &trial.base, Some(trial.target.correct));
    std::iter::once(base).chain(trial.source.iter().map(|source| ("source", source, trial.source_answer)))
}

fn identity(tokens: &[i64], said: Option<i64>, place: &str) -> Result<IdentityPrompt> {
    let refuse = |problem: String| {
        let hint = Some("give other prompts as --prompts, with --labels that say what is alike".into());
        Error::Prompt { place: place.into(), problem, hint }
    };
    let identity = IdentityPrompt::read(tokens)
        .ok_or_else(|| refuse("its examples do not follow one identity rule, ABA or ABB".into()))?;
    match said {
        Some(said) if said != identity.answer => {
            let rule = identity.rule.name();
            Err(refuse(format!("its answer is token {said}, but by its examples ({rule}) {}", identity.answer)).into())
        }
        _ => Ok(identity),
    }
}

fn no_variable(position: usize, positions: &Positions, place: &str) -> Error {
    Error::Selector {
        what: "positions",
        value: positions.to_string(),
        problem: format!("position {position} of {place} is no item of an example or the query, and has no label"),
        hint: Some("choose items (0, 2 and 4 of every 6 tokens), such as 4,10 or span:third, or last".into()),
    }
}

fn limit(args: &RsaArgs) -> usize {
    args.limit.map_or(usize::MAX, usize::from)
}

/// The hypotheses meant by `text` among `all`. `both` means all of them.
fn names(text: &str, all: &[String]) -> Result<Vec<String>> {
    if text == "both" {
        return Ok(all.to_vec());
    }
    let mut chosen: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if !all.iter().any(|known| known == name) {
            let hint = Some(format!("hypotheses are {}, or both for all", all.join(", ")));
            let problem = "no such hypothesis".into();
            return Err(Error::Selector { what: "hypothesis", value: name.into(), problem, hint }.into());
        }
        if !chosen.iter().any(|known| known == name) {
            chosen.push(name.into());
        }
    }
    Ok(chosen)
}

/// A file of labels.
struct Lines {
    bytes: Vec<u8>,
    /// Place and object of every line.
    objects: Vec<(String, Map<String, Value>)>,
}

impl Lines {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let mut objects: Vec<(String, Map<String, Value>)> = Vec::new();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let object: Map<String, Value> = serde_json::from_slice(line).map_err(|source| Error::Json {
                path: path.into(),
                line: Some(number),
                source,
            })?;
            objects.push((format!("{}:{number}", path.display()), object));
        }
        let plain =
            |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) && !name.is_empty();
        let names = objects.first().map(|(_, object)| object.keys().collect::<Vec<_>>()).unwrap_or_default();
        if names.is_empty() || !names.iter().all(|name| plain(name)) {
            let problem = "its first line names no hypothesis, or one that is no plain word".into();
            let hint =
                Some("write one JSON object per prompt: {\"NAME\": LABEL, …}, with names of letters and digits".into());
            return Err(Error::File { path: path.into(), problem, hint }.into());
        }
        Ok(Self { bytes, objects })
    }
}

/// One label per row of a prompt with `n` rows.
fn labels_of(object: &Map<String, Value>, name: &str, n: usize, place: &str) -> Result<Vec<Value>> {
    let refuse = |problem: String, hint: &str| -> anyhow::Error {
        Error::Prompt { place: place.into(), problem, hint: Some(hint.into()) }.into()
    };
    match object.get(name) {
        None | Some(Value::Null) => Err(refuse(format!("it has no label `{name}`"), "every prompt needs all labels")),
        Some(Value::Array(labels)) if labels.len() == n => Ok(labels.clone()),
        Some(Value::Array(labels)) => {
            let problem = format!("`{name}` has {} labels for {n} positions", labels.len());
            Err(refuse(problem, "write one label per selected position, or a single one for all"))
        }
        Some(label) => Ok(vec![label.clone(); n]),
    }
}
