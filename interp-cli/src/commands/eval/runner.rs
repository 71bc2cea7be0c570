//! Questions put to a model, unedited and edited. Knows no evaluation.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::decoder::Decoder;
use interp_core::error::Error;
use interp_core::eval::read::Rows;
use interp_core::generate::{Sample, log_likelihoods};
use interp_core::guard::catch_torch;
use interp_core::hash::Hashes;
use interp_core::intervention::{Context, Donors};
use interp_core::prompt::{NamedPrompt, PromptReader, PromptSpec};
use serde_json::{Value, json};

use super::super::generate::{Request, Taken, request};
use super::folder::skipped;
use crate::cli::{AnswerArgs, DecodingArgs, EditArgs, ModelArgs};
use crate::model::Model;
use crate::output::Printer;
use crate::progress::each;

/// A loaded model, its prompts, and what is to be done with them.
pub struct Runner {
    model: Model,
    hashes: Hashes,
    decoder: Decoder,
    request: Request,
    plain: Request,
    taken: Taken,
    asked: Vec<Asked>,
}

/// One question as the model gets it.
pub struct Asked {
    prompt: NamedPrompt,
    /// Tokens of the answers that may follow, where likelihoods are asked for.
    choices: Vec<Vec<i64>>,
}

/// What was run, and what came of it without and, where there is an edit, with it. In the order of the questions.
pub struct Answers<T> {
    pub settings: Value,
    pub plain: Vec<T>,
    pub edited: Option<Vec<T>>,
}

/// ln P of an answer in nats, and its number of tokens.
pub type Likelihood = (f64, usize);

impl Asked {
    /// A question that is answered in words.
    pub fn text(reader: &PromptReader<'_>, spec: &PromptSpec, id: &str) -> interp_core::Result<Self> {
        Self::choice(reader, spec, &[], id)
    }

    /// A question with the answers that may follow.
    pub fn choice(
        reader: &PromptReader<'_>,
        spec: &PromptSpec,
        choices: &[String],
        id: &str,
    ) -> interp_core::Result<Self> {
        let read = reader.read(spec, id)?;
        let choices = choices.iter().map(|choice| reader.continuation(&read, choice, id)).collect::<Result<_, _>>()?;
        Ok(Self { prompt: NamedPrompt { id: id.into(), prompt: read.prompt }, choices })
    }
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
    /// Opens the model, puts all questions into its tokens, checks them, and loads only then.
    pub fn open<T>(
        model: &ModelArgs,
        (answers, published): (&AnswerArgs, &Published),
        edit: &EditArgs,
        questions: &mut Rows<T>,
        ask: impl Fn(&PromptReader<'_>, &T) -> interp_core::Result<Asked>,
        printer: &Printer,
    ) -> Result<Self> {
        let model = Model::open(model)?;
        let decoding = answers.decoding(published);
        let unedited = EditArgs { edit: None, source_prompt: None, source_tokens: None, ..edit.clone() };
        let (plain, request) = (request(&decoding, &unedited, &model)?, request(&decoding, edit, &model)?);
        let asked = questions.keep(|one| {
            let asked = ask(&model.reader(), one)?;
            request.check(&asked.prompt, &model)?;
            Ok(asked)
        })?;
        skipped(questions, printer);
        let hashes = Hashes::start(model.weight_files());
        let decoder = model.load(printer)?;
        let taken = request.take(&decoder)?;
        Ok(Self { model, hashes, decoder, request, plain, taken, asked })
    }

    /// The generated texts; `None` after Ctrl-C.
    pub fn texts(self, printer: &Printer) -> Result<Option<Answers<String>>> {
        self.answers(|this, edited| {
            let tokenizer = this.model.tokenizer.as_ref();
            let tokenizer =
                tokenizer.ok_or_else(|| anyhow!("the checkpoint has no tokenizer, so it cannot answer in words"))?;
            let request = if edited { &this.request } else { &this.plain };
            each(&this.asked, "answers", printer, |_, one| {
                let samples: Vec<Sample> = request.run(&this.decoder, &one.prompt, &this.taken)?;
                Ok(tokenizer.decode(&samples[0].tokens, true)?)
            })
        })
    }

    /// How likely each question's choices are; `None` after Ctrl-C.
    pub fn likelihoods(self, printer: &Printer) -> Result<Option<Answers<Vec<Likelihood>>>> {
        self.answers(|this, edited| {
            let (edits, donors) = match edited {
                true => (&this.request.edits[..], this.request.donors(&this.taken)),
                false => (&[][..], Donors { source: None, same_weights: true, moments: None }),
            };
            each(&this.asked, "questions", printer, |_, Asked { prompt: NamedPrompt { id, prompt }, choices }| {
                let context = Context::of_run(&this.decoder, this.request.options.seed, id);
                let found =
                    catch_torch(id, || log_likelihoods(&this.decoder, prompt, choices, edits, &donors, &context))?;
                Ok(found.into_iter().zip(choices.iter().map(Vec::len)).collect())
            })
        })
    }

    /// Both sides, and the settings with the hashes of the weights, which were computed meanwhile.
    fn answers<T>(self, of: impl Fn(&Self, bool) -> Result<Option<Vec<T>>>) -> Result<Option<Answers<T>>> {
        let Some(plain) = of(&self, false)? else { return Ok(None) };
        let edited = if self.request.edits.is_empty() { None } else { Some(of(&self, true)?) };
        let edited = match edited {
            Some(None) => return Ok(None),
            edited => edited.flatten(),
        };
        let settings =
            json!({ "model": self.model.describe(&self.hashes.wait()?), "generation": self.request.settings });
        Ok(Some(Answers { settings, plain, edited }))
    }
}

/// Completions made elsewhere: a JSONL file of `{"id", "completion"}`, exactly one for each question, in any order. Where
/// questions are passed over, so are completions of unknown ones.
pub fn completions<T>(path: &Path, questions: &Rows<T>, id: impl Fn(&T) -> &str) -> Result<Answers<String>> {
    let ids: Vec<&str> = questions.good.iter().map(id).collect();
    let known: HashSet<&str> = ids.iter().copied().collect();
    let rows = Rows::read(path, false, |id, row| {
        if !known.contains(id) && questions.bad.is_empty() {
            let problem = format!("no question has the id {id:?}");
            return Err(row.wrong("id", problem, "give completions of these questions, with their ids"));
        }
        Ok((id.to_owned(), row.text("completion")?.to_owned()))
    })?;
    let found: HashMap<String, String> = rows.good.into_iter().collect();
    let missing: Vec<&&str> = ids.iter().filter(|id| !found.contains_key(**id)).collect();
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
    let plain = ids.iter().map(|id| found[*id].clone()).collect();
    Ok(Answers { settings: json!({ "completions": path.display().to_string() }), plain, edited: None })
}
