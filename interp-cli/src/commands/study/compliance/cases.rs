//! The cases that are put to the checkpoints, as prompts; read and checked before any weights.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use interp_core::Error;
use interp_core::compliance::ask::{FORCED, words};
use interp_core::compliance::read;
use interp_core::compliance::{Pair, Record, other_procedures};
use interp_core::generate::{EditScope, check};
use interp_core::prompt::{ChatMessage, Prompt, PromptInput, PromptSpec, ReadPrompt};

use super::checkpoints::Checkpoint;
use crate::cli::StudyComplianceArgs;

/// All of them.
pub struct Cases {
    /// In the order of the file.
    pub records: Vec<Record>,
    /// What should be known about them.
    pub warnings: Vec<String>,
    /// Pairs of them.
    pub pairs: Vec<Pair>,
    /// Their prompts.
    pub own: Vec<Asked>,
    /// Their prompts under another process' procedure; `None` where there is one process only.
    pub other: Option<Vec<Asked>>,
    /// Tokens of ` compliant` and ` non-compliant` behind the forced prefix.
    pub words: [Vec<i64>; 2],
    /// The files.
    pub files: Vec<PathBuf>,
}

/// A case as token ids.
pub struct Asked {
    /// With the generation prompt.
    pub free: Vec<i64>,
    /// With the forced prefix behind it.
    pub forced: Vec<i64>,
}

impl Cases {
    /// Reads what the flags name. Errs for a broken line, and for a case that some checkpoint's context cannot hold.
    pub fn read(args: &StudyComplianceArgs, checkpoints: &[Checkpoint]) -> Result<Self> {
        let (records_file, pairs_file) = match (&args.data, &args.records) {
            (Some(dir), _) => (dir.join("test.jsonl"), Some(dir.join("pairs.jsonl"))),
            (None, Some(records)) => (records.clone(), args.pairs.clone()),
            (None, None) => return Err(anyhow!("there are no cases: give --data or --records")),
        };
        let read::Cases { records, warnings } = read::records(&records_file)?;
        if records.is_empty() {
            let hint = Some("give one case per line, as `interp task compliance` writes them".into());
            return Err(Error::File { path: records_file, problem: "holds no cases".into(), hint }.into());
        }
        let pairs = pairs_file.as_ref().map(|file| read::pairs(file, &records)).transpose()?.unwrap_or_default();
        let own: Vec<Asked> =
            records.iter().map(|record| asked(record, checkpoints, "")).collect::<interp_core::Result<_>>()?;
        let alone = records.iter().all(|record| record.process_id == records[0].process_id);
        let other = if alone { None } else { Some(other_procedures(&records, args.seed)?) };
        let under_other = |record: &Record| asked(record, checkpoints, " under another process' procedure");
        let other = other.map(|other| other.iter().map(under_other).collect::<interp_core::Result<_>>()).transpose()?;
        let words = tokens(&records[0], &checkpoints[0])?;
        let files = std::iter::once(records_file).chain(pairs_file).collect();
        Ok(Self { records, warnings, pairs, own, other, words, files })
    }

    /// The place of a case.
    pub fn place(&self, id: &str) -> usize {
        self.records.iter().position(|record| record.id == id).expect("pairs were checked against the cases")
    }
}

/// The user's message alone.
pub fn messages(record: &Record) -> Vec<ChatMessage> {
    vec![ChatMessage { role: "user".into(), content: record.content() }]
}

fn put(record: &Record, prefix: &str, checkpoint: &Checkpoint, place: &str) -> interp_core::Result<ReadPrompt> {
    let input = PromptInput::Chat { messages: messages(record), prefix: prefix.into() };
    checkpoint.model.reader().read(&PromptSpec::from(input), place)
}

fn asked(record: &Record, checkpoints: &[Checkpoint], under: &str) -> interp_core::Result<Asked> {
    let place = format!("case {}{under}", record.id);
    let free = put(record, "", &checkpoints[0], &place)?.prompt;
    for checkpoint in checkpoints {
        check(checkpoint.model.checkpoint.config(), &free, &checkpoint.options, &[], EditScope::Prompt, &place)?;
    }
    let Prompt { tokens: forced, .. } = put(record, FORCED, &checkpoints[0], &place)?.prompt;
    Ok(Asked { free: free.tokens, forced })
}

/// The two words behind a forced prompt. Errs where they begin with one token, which δ could not tell apart.
fn tokens(record: &Record, checkpoint: &Checkpoint) -> Result<[Vec<i64>; 2]> {
    let forced = put(record, FORCED, checkpoint, "the forced prompt")?;
    let [compliant, non_compliant] = words();
    let reader = checkpoint.model.reader();
    let of = |word: &str| reader.continuation(&forced, word, "the forced answer");
    let found = [of(&compliant)?, of(&non_compliant)?];
    let differ = found[0].first().zip(found[1].first()).is_some_and(|(a, b)| a != b);
    if !differ {
        let problem = format!("{compliant:?} and {non_compliant:?} begin with the same token, or have none");
        let path = checkpoint.model.checkpoint.dir().into();
        let hint = Some("use a checkpoint whose tokenizer tells the two words apart at once".into());
        return Err(Error::File { path, problem, hint }.into());
    }
    Ok(found)
}
