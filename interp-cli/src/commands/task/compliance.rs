//! `interp task compliance`: a corpus of cases, from processes and a seed. Runs no model.

use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::compliance::Record;
use interp_core::compliance::builtin::{builtin_phrases, builtin_processes, phrases};
use interp_core::compliance::corpus::{Corpus, CorpusSpec, corpus};
use interp_core::compliance::process::{Process, processes};
use interp_core::compliance::report::{acceptance, cells, pair_counts, report};
use interp_core::compliance::scaffold::Scaffold;
use interp_core::prompt::Tokenizer;
use serde::Serialize;
use serde_json::json;

use crate::cli::ComplianceArgs;
use crate::folder::Folder;
use crate::model::tokenizer_of;
use crate::output::{Exit, Printer, columns};

/// Makes the corpus and writes it.
pub fn compliance(args: &ComplianceArgs, printer: &Printer) -> Result<Exit> {
    let folder = Folder::check(&args.out)?;
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
    let mut full = json!({ "schema": "interp.corpus/1", "seed": args.seed, "n_processes": spec.processes.len() });
    for (key, value) in report(&made).as_object_mut().into_iter().flatten() {
        full[key] = value.take();
    }
    let full = format!("{full:#}\n");
    partial.put("report.json", full.as_bytes())?;
    partial.finish()?;
    if args.json {
        printer.data(&full)?;
    } else {
        talk(&made, printer);
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(Exit::Done)
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
