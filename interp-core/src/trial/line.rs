//! One line of a trial file to one trial, or two when each is also run the other way round. Reads no files.

use serde::Deserialize;

use super::file::TrialOptions;
use super::{Target, Trial};
use crate::error::{Error, Result};
use crate::prompt::{Answer, PromptReader, PromptSpec, ReadPrompt, parse_line};

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

/// What a good line gives.
pub(super) struct Checked {
    /// The line's trial, then, under `swap`, its mirror image.
    pub(super) trials: Vec<Trial>,
    /// What was decided on the user's behalf.
    pub(super) notes: Vec<String>,
}

/// Checks line `number`, without its line end; `place` names it in errors (`trials.jsonl:12`).
pub(super) fn check(
    bytes: &[u8],
    number: usize,
    place: &str,
    prompts: &PromptReader<'_>,
    options: TrialOptions,
) -> Result<Checked> {
    let mut checker = Checker { prompts, options, place, notes: Vec::new() };
    let trials = checker.trials(bytes, number)?;
    Ok(Checked { trials, notes: checker.notes })
}

struct Checker<'a> {
    prompts: &'a PromptReader<'a>,
    options: TrialOptions,
    place: &'a str,
    notes: Vec<String>,
}

impl Checker<'_> {
    fn trials(&mut self, bytes: &[u8], number: usize) -> Result<Vec<Trial>> {
        let hint = r#"write {"base": …, "target": …}, with "source" for a patch"#;
        let line: Line = parse_line(bytes).map_err(|problem| self.refuse(problem, Some(hint)))?;
        let base = self.prompt(&line.base, "base")?;
        let source = line.source.as_ref().map(|spec| self.prompt(spec, "source")).transpose()?;

        let correct = self.token(&line.target.correct, &base, "target.correct")?;
        let incorrect = match &line.target.incorrect {
            Some(answer) => Some(self.token(answer, &base, "target.incorrect")?),
            None => None,
        };
        let target = self.target(correct, incorrect)?;
        if let Some(answer) = &line.base.answer
            && self.token(answer, &base, "base.answer")? != correct
        {
            return Err(self.refuse("base.answer is not target.correct", Some("leave base.answer out")));
        }
        let source_answer = match (&line.source, &source) {
            (Some(PromptSpec { answer: Some(answer), .. }), Some(source)) => {
                Some(self.token(answer, source, "source.answer")?)
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
            return Err(self.refuse("it has no `source`, so it cannot be swapped", Some("leave out --swap")));
        };
        let swapped = self.swapped(&trial, &line.target, source)?;
        Ok(vec![trial, swapped])
    }

    /// The trial the other way round: source edited, base donating. It keeps its cluster.
    ///
    /// The source's answer is `incorrect` unless the file says that it is `correct` (SPEC 1.2: the prompts of an
    /// abstract pair have the same answer, by different rules); only in the first case do the targets change places.
    fn swapped(&mut self, trial: &Trial, target: &TargetSpec, source: ReadPrompt) -> Result<Trial> {
        let Some(incorrect) = &target.incorrect else {
            return Err(self.refuse("it has no target.incorrect, so it cannot be swapped", Some("leave out --swap")));
        };
        let correct = self.token(&target.correct, &source, "target.correct after source")?;
        let incorrect = self.token(incorrect, &source, "target.incorrect after source")?;
        let target = match trial.source_answer {
            Some(answer) if answer == correct => self.target(correct, Some(incorrect))?,
            Some(answer) if answer != incorrect => {
                let problem = "source.answer is neither of its targets, so it cannot be swapped";
                return Err(self.refuse(problem, Some("leave out --swap, and write the other way round as a trial")));
            }
            _ => self.target(incorrect, Some(correct))?,
        };
        Ok(Trial {
            id: format!("{}~swap", trial.id),
            cluster: trial.cluster.clone(),
            direction: Some(trial.direction.as_ref().map_or_else(|| "swap".into(), |label| format!("{label}~swap"))),
            base: source.prompt,
            source: Some(trial.base.clone()),
            source_answer: Some(trial.target.correct),
            target,
        })
    }

    fn prompt(&self, spec: &PromptSpec, part: &str) -> Result<ReadPrompt> {
        self.prompts.read(spec, &format!("{}: {part}", self.place))
    }

    fn target(&self, correct: i64, incorrect: Option<i64>) -> Result<Target> {
        if incorrect == Some(correct) {
            let problem = format!("target.correct and target.incorrect are the same token, {correct}");
            return Err(self.refuse(problem, None));
        }
        Ok(Target { correct, incorrect })
    }

    fn token(&mut self, answer: &Answer, after: &ReadPrompt, what: &str) -> Result<i64> {
        let place = format!("{}: {what}", self.place);
        let token = self.prompts.next_token(after, answer, self.options.first_token, &place)?;
        if let (Answer::Text(text), 2..) = (answer, token.n_tokens) {
            self.notes.push(format!("{what} {text:?} is {} tokens; the first, {}, is used", token.n_tokens, token.id));
        }
        Ok(token.id)
    }

    fn refuse(&self, problem: impl Into<String>, hint: Option<&str>) -> Error {
        Error::Prompt { place: self.place.into(), problem: problem.into(), hint: hint.map(str::to_owned) }
    }
}
