//! One line of a trial file to one trial, or two when each is also run the other way round. Reads no files.

use serde::Deserialize;
use serde_json::error::Category;

use super::file::TrialOptions;
use super::{Target, Trial};
use crate::error::{Error, Result};
use crate::prompt::{Answer, PromptReader, PromptSpec, ReadPrompt};

/// A line as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<String>,
    cluster: Option<String>,
    direction: Option<String>,
    base: PromptSpec,
    source: Option<PromptSpec>,
    target: TargetSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetSpec {
    correct: Answer,
    incorrect: Option<Answer>,
}

/// Reads lines under the same options. `place` names the line in errors (`trials.jsonl:12`).
pub(super) struct LineReader<'a> {
    pub(super) prompts: &'a PromptReader<'a>,
    pub(super) options: TrialOptions,
}

impl LineReader<'_> {
    /// The line's trial, then, under `swap`, its mirror image. What a reader should know of them goes to `notes`.
    pub(super) fn read(&self, bytes: &[u8], number: usize, place: &str, notes: &mut Vec<String>) -> Result<Vec<Trial>> {
        let line = parse(bytes).map_err(|problem| refuse(place, problem, None))?;
        let base = self.prompts.read(&line.base, &format!("{place}: base"))?;
        let source =
            line.source.as_ref().map(|spec| self.prompts.read(spec, &format!("{place}: source"))).transpose()?;

        let target = self.target(&line.target, &base, place, notes)?;
        if let Some(answer) = &line.base.answer
            && self.token(answer, &base, "base.answer", place, notes)? != target.correct
        {
            return Err(refuse(place, "base.answer is not target.correct", Some("leave base.answer out")));
        }
        let source_answer = match (&line.source, &source) {
            (Some(PromptSpec { answer: Some(answer), .. }), Some(source)) => {
                Some(self.token(answer, source, "source.answer", place, notes)?)
            }
            _ => None,
        };
        let trial = Trial {
            id: line.id.unwrap_or_else(|| format!("line-{number}")),
            cluster: line.cluster,
            direction: line.direction,
            base: base.prompt,
            source: source.as_ref().map(|source| source.prompt.clone()),
            source_answer,
            target,
        };
        if !self.options.swap {
            return Ok(vec![trial]);
        }
        let Some(source) = source else {
            return Err(refuse(place, "it has no `source`, so it cannot be swapped", Some("leave out --swap")));
        };
        let swapped = self.swapped(&trial, &line.target, &source, place, notes)?;
        Ok(vec![trial, swapped])
    }

    /// The trial the other way round: source edited, base donating. It keeps its cluster.
    ///
    /// The source's answer is `incorrect` unless the file says that it is `correct` (SPEC 1.2: the prompts of an
    /// abstract pair have the same answer, by different rules); only in the first case do the targets change places.
    fn swapped(
        &self,
        trial: &Trial,
        target: &TargetSpec,
        source: &ReadPrompt,
        place: &str,
        notes: &mut Vec<String>,
    ) -> Result<Trial> {
        let Some(incorrect) = &target.incorrect else {
            return Err(refuse(place, "it has no target.incorrect, so it cannot be swapped", Some("leave out --swap")));
        };
        let correct = self.token(&target.correct, source, "target.correct after source", place, notes)?;
        let incorrect = self.token(incorrect, source, "target.incorrect after source", place, notes)?;
        let target = match trial.source_answer {
            None => Target { correct: incorrect, incorrect: Some(correct) },
            Some(answer) if answer == incorrect => Target { correct: incorrect, incorrect: Some(correct) },
            Some(answer) if answer == correct => Target { correct, incorrect: Some(incorrect) },
            Some(_) => {
                let problem = "source.answer is neither of its targets, so it cannot be swapped";
                return Err(refuse(place, problem, Some("leave out --swap, and write the other way round as a trial")));
            }
        };
        Ok(Trial {
            id: format!("{}~swap", trial.id),
            cluster: trial.cluster.clone(),
            direction: Some(trial.direction.as_ref().map_or_else(|| "swap".into(), |label| format!("{label}~swap"))),
            base: source.prompt.clone(),
            source: Some(trial.base.clone()),
            source_answer: Some(trial.target.correct),
            target,
        })
    }

    fn target(&self, target: &TargetSpec, base: &ReadPrompt, place: &str, notes: &mut Vec<String>) -> Result<Target> {
        let correct = self.token(&target.correct, base, "target.correct", place, notes)?;
        let incorrect = target.incorrect.as_ref();
        let incorrect =
            incorrect.map(|answer| self.token(answer, base, "target.incorrect", place, notes)).transpose()?;
        if incorrect == Some(correct) {
            let problem = format!("target.correct and target.incorrect are the same token, {correct}");
            return Err(refuse(place, problem, None));
        }
        Ok(Target { correct, incorrect })
    }

    fn token(
        &self,
        answer: &Answer,
        after: &ReadPrompt,
        what: &str,
        place: &str,
        notes: &mut Vec<String>,
    ) -> Result<i64> {
        let token = self.prompts.next_token(after, answer, self.options.first_token, &format!("{place}: {what}"))?;
        if let (Answer::Text(text), 2..) = (answer, token.n_tokens) {
            notes.push(format!("{what} {text:?} is {} tokens; the first, {}, is used", token.n_tokens, token.id));
        }
        Ok(token.id)
    }
}

fn parse(bytes: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    if !text.trim_start().starts_with('{') {
        return Err("malformed JSON: a line is one object, {…}".into());
    }
    serde_json::from_str(text).map_err(|error| {
        // The parser counts lines within what it is given; the file's own line is already in the place.
        let message = error.to_string();
        let at = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&at).unwrap_or(&message);
        match error.classify() {
            Category::Data => format!("{message} (column {})", error.column()),
            _ => format!("malformed JSON: {message} (column {})", error.column()),
        }
    })
}

fn refuse(place: &str, problem: impl Into<String>, hint: Option<&str>) -> Error {
    Error::Prompt { place: place.into(), problem: problem.into(), hint: hint.map(str::to_owned) }
}
