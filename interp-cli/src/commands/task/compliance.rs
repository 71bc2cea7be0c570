//! `interp task compliance`: a corpus of cases, from processes and a seed. Runs no model.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::compliance::ask::trial;
use interp_core::compliance::builtin::{builtin_phrases, builtin_processes, phrases};
use interp_core::compliance::corpus::{Corpus, CorpusSpec, corpus};
use interp_core::compliance::process::{Process, processes};
use interp_core::compliance::report::{acceptance, cells, leaks, pair_counts, report};
use interp_core::compliance::scaffold::Scaffold;
use interp_core::compliance::{PairKind, Perturbation, Record};
use interp_core::compliance::{clean, read};
use interp_core::prompt::Tokenizer;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::ComplianceArgs;
use crate::folder::Folder;
use crate::model::tokenizer_of;
use crate::output::{Exit, Printer, columns};

/// Makes the corpus and writes it, or cleans one that is there.
pub fn compliance(args: &ComplianceArgs, printer: &Printer) -> Result<Exit> {
    let folder = Folder::check(&args.out)?;
    if let Some(records) = &args.records {
        return cleaned(args, records, folder, printer);
    }
    let spec = CorpusSpec {
        processes: read_processes(args)?,
        phrases: match &args.phrases {
            Some(path) => phrases(path, &text(path)?)?,
            None => builtin_phrases()?,
        },
        n_train: args.train,
        n_test: args.test,
        seed: args.seed,
    };
    let tokenizer = args.model.as_ref().map(|model| tokenizer_of(model, args.offline)).transpose()?;
    let partial = folder.begin()?;
    let made = corpus(&spec, &|record| too_long(record, tokenizer.as_ref(), args.max_tokens))?;
    partial.put("train.jsonl", jsonl(&made.train)?.as_bytes())?;
    partial.put("test.jsonl", jsonl(&made.test)?.as_bytes())?;
    partial.put("pairs.jsonl", jsonl(&made.pairs)?.as_bytes())?;
    partial.put("traces.jsonl", traces(&made).as_bytes())?;
    partial.put("trials.jsonl", trials(&made).as_bytes())?;
    let mut full = json!({ "schema": "interp.corpus/1", "seed": args.seed, "n_processes": spec.processes.len() });
    for (key, value) in report(&made).as_object_mut().into_iter().flatten() {
        full[key] = value.take();
    }
    partial.put("report.json", format!("{full:#}\n").as_bytes())?;
    partial.finish()?;
    if args.json {
        printer.data(&format!("{full:#}\n"))?;
    } else {
        talk(&made, printer);
        talk_leaks(&full["leakage"], printer);
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(Exit::Done)
}

/// What of a corpus made elsewhere counts, and what it shares with another.
fn cleaned(args: &ComplianceArgs, records: &Path, folder: Folder, printer: &Printer) -> Result<Exit> {
    let cases = read::records(records)?;
    cases.warnings.iter().for_each(|warning| printer.talk(&format!("warning: {warning}")));
    let train = args.against.as_ref().map(|path| read::records(path)).transpose()?;
    let known: Vec<Process> = read_processes(args)?;
    let unseen = |record: &Record| omits_unseen(record, &known);
    let cohorts: Vec<&str> = args.cohorts.iter().map(String::as_str).collect();
    let cleaned = clean::cleaned(&cases.records, &cohorts, unseen);
    let kept: Vec<Record> = cleaned.kept.iter().map(|&place| cases.records[place].clone()).collect();
    let full = json!({
        "schema": "interp.corpus/1",
        "cases": cases.records.len(),
        "kept": kept.len(),
        "dropped": cleaned.dropped,
        "cells": cells(&kept),
        "leakage": train.map(|train| leaks(&train.records, &kept)),
    });
    let partial = folder.begin()?;
    partial.put("cleaned.jsonl", jsonl(&kept)?.as_bytes())?;
    partial.put("report.json", format!("{full:#}\n").as_bytes())?;
    partial.finish()?;
    if args.json {
        printer.data(&format!("{full:#}\n"))?;
        return Ok(Exit::Done);
    }
    let dropped = cleaned.dropped;
    printer.talk(&format!(
        "{} of {} cases kept; left out: {} not admitted, {} that omit what nobody can see, {} the same as another",
        kept.len(),
        cases.records.len(),
        dropped.not_admitted,
        dropped.unobservable,
        dropped.duplicate,
    ));
    talk_leaks(&full["leakage"], printer);
    printer.data(&format!("{}\n", args.out.display()))?;
    Ok(Exit::Done)
}

/// Whether a case leaves out a step that its process calls unobservable. Cases of unknown processes do not.
fn omits_unseen(record: &Record, known: &[Process]) -> bool {
    let Some(process) = known.iter().find(|process| process.id == record.process_id) else { return false };
    let unseen = |id: &String| process.steps.iter().any(|step| step.id == *id && step.unobservable);
    record.perturbation == Perturbation::PrerequisiteOmission && record.meta.edited_steps.first().is_some_and(unseen)
}

/// A line per held-out cohort.
fn talk_leaks(leaks: &Value, printer: &Printer) {
    for one in leaks.as_array().into_iter().flatten() {
        printer.talk(&format!(
            "{}: of {} cases {} are training cases, {} are nearly one, {} are of a process that training has",
            one["cohort"].as_str().unwrap_or_default(),
            one["cases"],
            one["same_instance"],
            one["near_duplicate"],
            one["known_process"],
        ));
    }
}

fn read_processes(args: &ComplianceArgs) -> Result<Vec<Process>> {
    if args.processes.is_empty() {
        return Ok(builtin_processes()?);
    }
    let mut all: Vec<Process> = Vec::new();
    for path in &args.processes {
        for process in processes(path, &text(path)?)? {
            if all.iter().any(|one| one.id == process.id) {
                let problem = format!("process id `{}` stands in another file too", process.id);
                let hint = Some("give every process its own id".into());
                return Err(Error::File { path: path.clone(), problem, hint }.into());
            }
            all.push(process);
        }
    }
    Ok(all)
}

fn text(path: &Path) -> Result<String> {
    Ok(fs::read_to_string(path).map_err(Error::io("read", path))?)
}

fn too_long(
    record: &Record,
    tokenizer: Option<&Tokenizer>,
    most: Option<usize>,
) -> interp_core::Result<Option<String>> {
    let (Some(tokenizer), Some(most)) = (tokenizer, most) else { return Ok(None) };
    let n = tokenizer.encode(&record.content(), false)?.len();
    Ok((n > most).then(|| format!("longer than {most} tokens")))
}

fn jsonl<T: Serialize>(lines: &[T]) -> Result<String> {
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line)?;
        text.push('\n');
    }
    Ok(text)
}

/// Worked solutions of the training cases, every step behind its mark.
fn traces(corpus: &Corpus) -> String {
    let line = |(record, trace): (&Record, &Scaffold)| {
        format!("{}\n", json!({ "id": record.id, "completion": trace.to_string() }))
    };
    corpus.train.iter().zip(&corpus.traces).map(line).collect()
}

/// Flip pairs as trials, each in both directions. Named by texts, for any tokenizer that has both as first tokens.
fn trials(corpus: &Corpus) -> String {
    let by_id: HashMap<&str, &Record> = corpus.test.iter().map(|record| (record.id.as_str(), record)).collect();
    let mut text = String::new();
    for pair in corpus.pairs.iter().filter(|pair| pair.kind == PairKind::Flip) {
        let (a, b) = (by_id[pair.a.as_str()], by_id[pair.b.as_str()]);
        for (base, source) in [(a, b), (b, a)] {
            text += &format!("{}\n", trial((base, ""), Some((source, "")), [" compliant", " non"]));
        }
    }
    text
}

/// Cases per cell, what was refused, pairs.
fn talk(corpus: &Corpus, printer: &Printer) {
    let head = ["cohort", "perturbation", "compliant", "non-compliant"].map(String::from);
    let rows = cells(corpus.train.iter().chain(&corpus.test)).into_iter().map(|cell| {
        vec![cell.cohort, cell.perturbation.to_string(), cell.compliant.to_string(), cell.non_compliant.to_string()]
    });
    columns(&head, &rows.collect::<Vec<_>>()).lines().for_each(|line| printer.talk(line));
    for (perturbation, attempts) in &corpus.attempts {
        let share = acceptance(attempts).map_or("-".into(), |share| format!("{:.1} %", 100.0 * share));
        printer.talk(&format!("{perturbation}: {share} of the edits admitted"));
        for (reason, n) in &attempts.rejected {
            printer.talk(&format!("  {n} rejected: {reason}"));
        }
    }
    for (kind, n) in pair_counts(&corpus.test, &corpus.pairs) {
        printer.talk(&format!("{n} pairs: {kind}"));
    }
}
