//! Prompts as typed: text, messages, token ids, or a file of many, made into prompts of a model.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use interp_core::Error;
use interp_core::prompt::{ChatMessage, NamedPrompt, PromptFile, PromptInput, PromptReader, PromptSpec};
use interp_core::trial::{TrialFile, TrialOptions};

use crate::cli::PromptArgs;
use crate::output::{Exit, Printer};

/// Prompts that can run, and lines that cannot.
pub struct Prompts {
    /// In the order given.
    pub good: Vec<NamedPrompt>,
    /// What is wrong with the others.
    pub bad: Vec<Error>,
}

impl Prompts {
    /// Reads what the flags name. `None` when they name nothing.
    pub fn read(args: &PromptArgs, reader: &PromptReader<'_>) -> Result<Option<Self>> {
        let (spec, place) = match args {
            PromptArgs { prompt: Some(text), .. } => (PromptSpec::text(text), "--prompt"),
            PromptArgs { tokens: Some(list), .. } => (tokens(list, "--tokens")?, "--tokens"),
            PromptArgs { messages: Some(file), .. } => (messages(file)?, "--messages"),
            PromptArgs { prompts: Some(file), .. } => {
                let PromptFile { prompts, bad_lines } = PromptFile::read(file, reader)?;
                return Ok(Some(Self { good: prompts, bad: bad_lines }));
            }
            _ => return Ok(None),
        };
        let prompt = reader.prompt(&spec, place)?;
        Ok(Some(Self { good: vec![NamedPrompt { id: place.trim_start_matches('-').into(), prompt }], bad: vec![] }))
    }

    /// The base prompts of a trial file.
    pub fn of_trials(file: &Path, reader: &PromptReader<'_>) -> Result<Self> {
        let trials = TrialFile::read(file, reader, TrialOptions { first_token: true, swap: false })?;
        let good = trials.trials.into_iter().map(|trial| NamedPrompt { id: trial.id, prompt: trial.base }).collect();
        Ok(Self { good, bad: trials.bad_lines.into_iter().map(|line| line.error).collect() })
    }

    /// Moves prompts that fail `check` to the bad ones. Errs when none is left.
    pub fn retain(&mut self, check: impl Fn(&NamedPrompt) -> interp_core::Result<()>) -> Result<()> {
        let mut good = Vec::with_capacity(self.good.len());
        for prompt in self.good.drain(..) {
            match check(&prompt) {
                Ok(()) => good.push(prompt),
                Err(error) => self.bad.push(error),
            }
        }
        self.good = good;
        match (self.good.is_empty(), self.bad.len()) {
            (true, 1) => Err(self.bad.remove(0).into()),
            (true, n) => Err(anyhow!("{n} prompts, none of them usable, the first: {}", self.bad[0])),
            _ => Ok(()),
        }
    }

    /// Reports the bad ones; the good ones run.
    pub fn report(&self, printer: &Printer) {
        self.bad.iter().for_each(|error| printer.talk(&format!("error: {error}")));
    }

    /// How a command ends that ran all good prompts.
    pub fn exit(&self) -> Exit {
        if self.bad.is_empty() { Exit::Done } else { Exit::Failed }
    }
}

/// Token ids separated by commas.
pub fn tokens(list: &str, flag: &str) -> Result<PromptSpec> {
    let ids: std::result::Result<Vec<i64>, _> = list.split(',').map(|id| id.trim().parse()).collect();
    ids.map(PromptSpec::tokens).map_err(|_| anyhow!("{flag} {list}: not a list of token ids such as 1,403,407"))
}

/// A file that holds a list of messages, or a whole prompt: `{"messages": […], "prefix": …, "spans": …}`.
fn messages(file: &Path) -> Result<PromptSpec> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let place = || format!("{}: not a list of {{\"role\", \"content\"}}", file.display());
    if text.trim_start().starts_with('[') {
        let messages: Vec<ChatMessage> = serde_json::from_str(&text).with_context(place)?;
        return Ok(PromptInput::Chat { messages, prefix: String::new() }.into());
    }
    serde_json::from_str(&text).with_context(place)
}
