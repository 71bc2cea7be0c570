//! Questions put to a model, unedited and edited. Knows no evaluation.

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::decoder::Decoder;
use interp_core::error::Error;
use interp_core::eval::read;
use interp_core::generate::{Sample, log_likelihoods};
use interp_core::guard::catch_torch;
use interp_core::intervention::{Context, Donors};
use interp_core::prompt::{NamedPrompt, PromptReader, PromptSpec};
use serde_json::{Value, json};

use super::super::generate::{Request, Taken, request};
use crate::cli::{AnswerArgs, DecodingArgs, EditArgs, ModelArgs};
use crate::model::Model;
use crate::output::Printer;
use crate::progress;

/// A loaded model, its prompts, and what is to be done with them.
pub struct Runner {
    model: Model,
    decoder: Decoder,
    request: Request,
    plain: Request,
    taken: Taken,
    prompts: Vec<NamedPrompt>,
}

/// Decoding that an evaluation was published with.
pub struct Published {
    pub max_new_tokens: usize,
    pub temperature: f64,
    pub top_p: f64,
}

impl AnswerArgs {
    /// As typed, and as published where nothing was.
    fn decoding(&self, published: &Published) -> DecodingArgs {
        let temperature = self.temperature.unwrap_or(published.temperature);
        // Greedy decoding has no use for a top-p that was not asked for.
        let top_p = if temperature == 0.0 { 1.0 } else { published.top_p };
        DecodingArgs {
            max_new_tokens: self.max_new_tokens.unwrap_or(published.max_new_tokens),
            temperature,
            top_k: 0,
            top_p: self.top_p.unwrap_or(top_p),
            mode: self.mode.clone(),
            repetition_penalty: None,
            samples: 1,
            seed: self.seed,
            stop: self.stop.clone(),
        }
    }
}

impl Runner {
    /// Opens the model, reads and checks all prompts, and loads only then.
    pub fn open(
        model: &ModelArgs,
        (answers, published): (&AnswerArgs, &Published),
        edit: &EditArgs,
        prompts: &[(String, PromptSpec)],
        printer: &Printer,
    ) -> Result<Self> {
        let model = Model::open(model)?;
        let decoding = answers.decoding(published);
        let unedited = EditArgs { edit: None, source_prompt: None, source_tokens: None, ..edit.clone() };
        let (plain, request) = (request(&decoding, &unedited, &model)?, request(&decoding, edit, &model)?);
        let read = |(id, spec): &(String, PromptSpec)| -> interp_core::Result<NamedPrompt> {
            let prompt = NamedPrompt { id: id.clone(), prompt: model.reader().prompt(spec, id)? };
            request.check(&prompt, &model)?;
            Ok(prompt)
        };
        let prompts: Vec<NamedPrompt> = prompts.iter().map(read).collect::<interp_core::Result<_>>()?;
        let decoder = model.load(printer)?;
        let taken = request.take(&decoder)?;
        Ok(Self { model, decoder, request, plain, taken, prompts })
    }

    /// Whether there is an edit to compare with.
    pub fn has_edit(&self) -> bool {
        !self.request.edits.is_empty()
    }

    /// What a result says of the run.
    pub fn settings(&self) -> Value {
        json!({ "model": self.model.describe(&[]), "generation": self.request.settings })
    }

    /// The model's reader of prompts.
    pub fn reader(&self) -> PromptReader<'_> {
        self.model.reader()
    }

    /// The generated text of every prompt.
    pub fn texts(&self, edited: bool) -> Result<Vec<String>> {
        let tokenizer = self.model.tokenizer.as_ref();
        let tokenizer =
            tokenizer.ok_or_else(|| anyhow!("the checkpoint has no tokenizer, so it cannot answer in words"))?;
        let request = if edited { &self.request } else { &self.plain };
        let bar = progress::bar(self.prompts.len(), "answers");
        let text = |prompt: &NamedPrompt| -> Result<String> {
            let samples: Vec<Sample> = request.run(&self.decoder, prompt, &self.taken)?;
            bar.inc(1);
            Ok(tokenizer.decode(&samples[0].tokens, true)?)
        };
        let texts = self.prompts.iter().map(text).collect();
        bar.finish_and_clear();
        texts
    }

    /// ln P of each prompt's continuations.
    pub fn likelihoods(&self, continuations: &[Vec<Vec<i64>>], edited: bool) -> Result<Vec<Vec<f64>>> {
        let (edits, donors) = match edited {
            true => (&self.request.edits[..], self.request.donors(&self.taken)),
            false => (&[][..], Donors { source: None, same_weights: true, moments: None }),
        };
        let bar = progress::bar(self.prompts.len(), "questions");
        let one = |(prompt, continuations): (&NamedPrompt, &Vec<Vec<i64>>)| -> Result<Vec<f64>> {
            let context = Context::of_run(&self.decoder, self.request.options.seed, &prompt.id);
            let found = catch_torch(&prompt.id, || {
                log_likelihoods(&self.decoder, &prompt.prompt, continuations, edits, &donors, &context)
            });
            bar.inc(1);
            Ok(found?)
        };
        let all = self.prompts.iter().zip(continuations).map(one).collect();
        bar.finish_and_clear();
        all
    }
}

/// Completions made elsewhere: a JSONL file of `{"id", "completion"}`, exactly one for each of `ids`, in any order.
pub fn completions(path: &Path, ids: &[String]) -> Result<Vec<String>> {
    let lines = read::lines(path)?;
    let mut found: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    let mut named = Vec::new();
    for (line, map) in &lines {
        let row = read::Row::of_line(path, *line, map);
        let id = row.label("id")?.unwrap_or_else(|| format!("line-{line}"));
        if !ids.contains(&id) {
            let problem = format!("no question has the id {id:?}");
            return Err(row.wrong("id", problem, "give completions of these questions, with their ids").into());
        }
        named.push((format!("line {line}"), id.clone()));
        found.insert(id, row.text("completion")?.to_owned());
    }
    read::distinct(path, named.into_iter())?;
    let missing: Vec<&String> = ids.iter().filter(|id| !found.contains_key(*id)).collect();
    if let Some(first) = missing.first() {
        let problem =
            format!("{} of {} questions have no completion, the first is {first:?}", missing.len(), ids.len());
        return Err(Error::File {
            path: path.into(),
            problem,
            hint: Some("generate the missing ones, or take their questions out".into()),
        }
        .into());
    }
    Ok(ids.iter().map(|id| found[id].clone()).collect())
}
