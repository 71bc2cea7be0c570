//! What a checkpoint answers to every case, freely and forced: asked in batches, kept batch by batch, read again by a later start.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use interp_core::Error;
use interp_core::compliance::metrics::Judged;
use interp_core::compliance::{Answer, Reader, Record};
use interp_core::decoder::Decoder;
use interp_core::export::write_atomic;
use interp_core::generate::{batches, generate_batch, log_likelihoods_batch};
use interp_core::guard::catch_torch;
use interp_core::prompt::Tokenizer;
use serde::{Deserialize, Serialize};

use super::cases::{Asked, Cases};
use super::checkpoints::Checkpoint;
use crate::bases::Bases;
use crate::interrupt;
use crate::output::Printer;
use crate::progress::bar;

/// The answers to one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Said {
    /// Of the case.
    pub id: String,
    /// What was generated, without special tokens.
    pub completion: String,
    /// Its tokens, the end included.
    pub n_tokens: usize,
    /// Whether it was cut off.
    pub truncated: bool,
    /// ln P of ` compliant` and ` non-compliant` behind the forced prefix, summed over their tokens.
    pub log_likelihoods: [f64; 2],
    /// Logit of the first token of ` compliant` less that of ` non-compliant` there.
    pub logit_diff: f64,
}

/// A regime of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// What was generated, as it is parsed.
    Free,
    /// The likelier of the two words.
    Forced,
}

/// Who is asked.
pub struct Asking<'a> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// The cases.
    pub cases: &'a Cases,
    /// Most prompts of one pass.
    pub batch: usize,
}

impl Regime {
    /// Both, in the order of tables.
    pub const ALL: [Regime; 2] = [Regime::Free, Regime::Forced];

    /// The name, as it stands in tables.
    pub fn name(self) -> &'static str {
        match self {
            Regime::Free => "free-form",
            Regime::Forced => "forced",
        }
    }
}

impl Said {
    /// The answer as it counts.
    pub fn judged<'a>(
        &self,
        record: &'a Record,
        regime: Regime,
        tokenizer: &Tokenizer,
    ) -> interp_core::Result<Judged<'a>> {
        let Regime::Free = regime else {
            return Ok(Judged { record, answer: Answer::forced(self.log_likelihoods), reasoning: None });
        };
        let answer = Reader::default().read(&self.completion, self.truncated);
        let before = answer.reasoning(&self.completion);
        let reasoning = before.map(|text| tokenizer.encode(text, false).map(|tokens| tokens.len())).transpose()?;
        Ok(Judged { record, answer, reasoning })
    }
}

impl Asking<'_> {
    /// Reads `file` if it is there, else asks what is missing of it; `None` when it was interrupted.
    pub fn ask(&self, file: &Path, asked: &[Asked], bases: &mut Bases, printer: &Printer) -> Result<Option<Vec<Said>>> {
        if file.is_file() {
            return self.read(file, &fs::read_to_string(file).map_err(Error::io("read", file))?).map(Some);
        }
        let dir = file.parent().expect("it lies in the study's folder");
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let journal = file.with_extension("partial");
        let mut lines = self.kept(&journal)?;
        // Both prompts of a case have to be of one length with those beside it.
        let lengths: Vec<usize> = asked.iter().map(|one| (one.free.len() << 24) + one.forced.len()).collect();
        let missing = |batch: &Vec<usize>| batch.iter().any(|&case| lines[case].is_none());
        let todo: Vec<Vec<usize>> = batches(&lengths, self.batch).into_iter().filter(missing).collect();
        let name = &self.checkpoint.name;
        let decoder = match todo.is_empty() {
            true => None,
            false => Some(bases.load(&self.checkpoint.model, printer)?),
        };
        let n = asked.len();
        let bar = bar(n, &format!("answers of {name}"));
        bar.inc(lines.iter().flatten().count() as u64);
        for batch in &todo {
            if interrupt::requested() {
                bar.finish_and_clear();
                let done = lines.iter().flatten().count();
                printer.talk(&format!("interrupted after {done} of {n} answers of {name}; the same command resumes"));
                return Ok(None);
            }
            let said = self.batch(decoder.as_ref().expect("there is something to do"), asked, batch)?;
            let new: Vec<String> = said.iter().map(line).collect();
            append(&journal, &new.concat())?;
            batch.iter().zip(new).for_each(|(&case, line)| lines[case] = Some(line));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        let text: String = lines.into_iter().flatten().collect();
        write_atomic(file, text.as_bytes())?;
        if journal.is_file() {
            fs::remove_file(&journal).map_err(Error::io("remove", &journal))?;
        }
        self.read(file, &text).map(Some)
    }

    fn batch(&self, decoder: &Decoder, asked: &[Asked], batch: &[usize]) -> Result<Vec<Said>> {
        let (checkpoint, words) = (self.checkpoint, &self.cases.words);
        let of = |tokens: fn(&Asked) -> &Vec<i64>| -> Vec<&[i64]> {
            batch.iter().map(|&case| tokens(&asked[case]).as_slice()).collect()
        };
        let run = || {
            let free = generate_batch(decoder, &of(|one| &one.free), &checkpoint.options);
            Ok((free, log_likelihoods_batch(decoder, &of(|one| &one.forced), words)))
        };
        let (free, forced) = catch_torch(&checkpoint.name, run).context("a smaller --batch needs less memory")?;
        let one = |((sample, logs), &case): ((_, Vec<Vec<f64>>), &usize)| -> Result<Said> {
            let sample: interp_core::generate::Sample = sample;
            Ok(Said {
                id: self.cases.records[case].id.clone(),
                completion: checkpoint.tokenizer().decode(&sample.tokens, true)?,
                n_tokens: sample.tokens.len(),
                truncated: !sample.stopped,
                log_likelihoods: [0, 1].map(|word| logs[word].iter().sum()),
                // The two share the normaliser.
                logit_diff: logs[0][0] - logs[1][0],
            })
        };
        free.into_iter().zip(forced).zip(batch).map(one).collect()
    }

    /// Whole lines of the journal by case; a line that a killed process left behind is cut off.
    fn kept(&self, journal: &Path) -> Result<Vec<Option<String>>> {
        let mut lines = vec![None; self.cases.records.len()];
        if !journal.is_file() {
            return Ok(lines);
        }
        let text = fs::read_to_string(journal).map_err(Error::io("read", journal))?;
        let whole: String = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        write_atomic(journal, whole.as_bytes())?;
        let places: HashMap<&str, usize> =
            (0..).zip(&self.cases.records).map(|(i, one)| (one.id.as_str(), i)).collect();
        for (number, line) in (1..).zip(whole.split_inclusive('\n')) {
            let said = parse(journal, number, line)?;
            if let Some(&case) = places.get(said.id.as_str()) {
                lines[case] = Some(line.to_owned());
            }
        }
        Ok(lines)
    }

    /// Errs unless the lines are of the cases, in their order.
    fn read(&self, file: &Path, text: &str) -> Result<Vec<Said>> {
        let said: Vec<Said> = (1..).zip(text.lines()).map(|(n, line)| parse(file, n, line)).collect::<Result<_>>()?;
        if said.iter().map(|one| &one.id).eq(self.cases.records.iter().map(|one| &one.id)) {
            return Ok(said);
        }
        let hint = Some("remove it, and the same command asks again".into());
        Err(Error::File { path: file.into(), problem: "does not hold an answer to each case".into(), hint }.into())
    }
}

fn line(said: &Said) -> String {
    format!("{}\n", serde_json::to_string(said).expect("plain data is JSON"))
}

fn parse(file: &Path, line: usize, text: &str) -> Result<Said> {
    Ok(serde_json::from_str(text).map_err(|source| Error::Json { path: file.into(), line: Some(line), source })?)
}

fn append(journal: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().create(true).append(true).open(journal)?;
        // Not synced: what a crash of the machine takes is asked again.
        file.write_all(text.as_bytes())
    };
    Ok(write().map_err(Error::io("write", journal))?)
}
