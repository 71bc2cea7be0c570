//! `interp eval choice`: a user's own multiple-choice questions, by the likelihood of each answer.

use std::path::Path;

use anyhow::Result;
use interp_core::eval::choice::{ChoiceSummary, Chosen, summary};
use interp_core::eval::read::{self, Row};
use interp_core::export::write_atomic;
use interp_core::prompt::{PromptReader, PromptSpec};
use serde_json::{Map, Value, json};

use super::paired::{Measure, Paired, paired};
use super::runner::{Published, Runner};
use super::{figures, folder};
use crate::cli::ChoiceArgs;
use crate::folder::Folder;
use crate::output::{Exit, Printer, columns, number};

/// Nothing is generated; one token of room is asked for.
const NOTHING: Published = Published { max_new_tokens: 1, temperature: 0.0, top_p: 1.0 };

/// A question as written.
struct Question {
    id: String,
    cluster: Option<String>,
    prompt: PromptSpec,
    choices: Vec<String>,
    answer: usize,
}

/// Asks, and writes the folder.
pub fn choice(args: &ChoiceArgs, printer: &Printer) -> Result<Exit> {
    Folder::check(&args.out)?;
    let questions = questions(&args.questions)?;
    let prompts: Vec<(String, PromptSpec)> = questions.iter().map(|one| (one.id.clone(), one.prompt.clone())).collect();
    let runner = Runner::open(&args.model, (&args.answers(), &NOTHING), &args.edit, &prompts, printer)?;
    let tokens: Vec<Vec<Vec<i64>>> =
        questions.iter().map(|one| one.tokens(&runner.reader())).collect::<interp_core::Result<_>>()?;
    let settings = runner.settings();
    let asked = |edited: bool| -> Result<Vec<Chosen>> {
        let found = runner.likelihoods(&tokens, edited)?.into_iter().zip(&tokens).zip(&questions);
        let one = |((logs, tokens), question): ((Vec<f64>, &Vec<Vec<i64>>), &Question)| {
            Chosen::new(logs, &tokens.iter().map(Vec::len).collect::<Vec<_>>(), question.answer)
        };
        Ok(found.map(one).collect())
    };
    let plain = asked(false)?;
    let found = summary(&plain);
    put(&args.out, &settings, &questions, &plain)?;
    let mut text = table(&found);
    if runner.has_edit() {
        let edited = asked(true)?;
        put(&args.out.join("edited"), &settings, &questions, &edited)?;
        let compared = compare(&plain, &edited, &questions)?;
        compared.write(&args.out, &settings)?;
        text += &format!("\n{}", compared.table());
    }
    folder::done(&args.out, "choice", &settings)?;
    folder::say(args.json, &args.out, &text, &summary_json(&found), printer)?;
    Ok(Exit::Done)
}

/// What a question may say. A misspelt field would change the evaluation.
const FIELDS: [&str; 10] =
    ["id", "cluster", "prompt", "text", "messages", "tokens", "prefix", "spans", "choices", "answer"];

fn questions(path: &Path) -> Result<Vec<Question>> {
    let lines = read::lines(path)?;
    let question = |(line, map): &(usize, Map<String, Value>)| -> Result<Question> {
        let row = Row::of_line(path, *line, map);
        let wrong = |field: &str, problem: String, hint: &str| row.wrong(field, problem, hint);
        let choices: Option<Vec<String>> =
            row.list("choices")?.iter().map(|choice| Some(choice.as_str()?.to_owned())).collect();
        if let Some(field) = map.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            let hint = format!("a question has {}", FIELDS.join(", "));
            return Err(wrong(field, "is no field of a question".into(), &hint).into());
        }
        let hint = "give the answers as a list of strings, each as it follows the prompt";
        let choices = choices.ok_or_else(|| wrong("choices", "must be a list of strings".into(), hint))?;
        if choices.len() < 2 || choices.iter().any(String::is_empty) {
            return Err(wrong("choices", "has fewer than two answers, or an empty one".into(), hint).into());
        }
        if let Some(twice) = choices.iter().enumerate().find_map(|(i, one)| choices[..i].contains(one).then_some(one)) {
            return Err(wrong("choices", format!("{twice:?} stands twice"), hint).into());
        }
        let answer = match row.value("answer")? {
            Value::String(text) => choices.iter().position(|choice| choice == text),
            value => value.as_u64().map(|i| i as usize).filter(|i| *i < choices.len()),
        };
        let hint = "give the right choice itself, or its place in `choices`, counted from 0";
        let answer =
            answer.ok_or_else(|| wrong("answer", format!("{} is no choice", row_value(map, "answer")), hint))?;
        Ok(Question {
            id: row.label("id")?.unwrap_or_else(|| format!("line-{line}")),
            cluster: row.label("cluster")?,
            prompt: prompt(&row, map)?,
            choices,
            answer,
        })
    };
    let questions: Vec<Question> = lines.iter().map(question).collect::<Result<_>>()?;
    read::distinct(
        path,
        lines.iter().zip(&questions).map(|((line, _), one)| (format!("line {line}"), one.id.clone())),
    )?;
    Ok(questions)
}

fn row_value<'a>(map: &'a Map<String, Value>, field: &str) -> &'a Value {
    map.get(field).unwrap_or(&Value::Null)
}

/// `prompt` as text, or what a prompt file's line has: `text`, `messages` or `tokens`, with `prefix` and `spans`.
fn prompt(row: &Row<'_>, map: &Map<String, Value>) -> Result<PromptSpec> {
    if row.optional("prompt").is_some() {
        return Ok(PromptSpec::text(row.text("prompt")?));
    }
    let own = ["text", "messages", "tokens", "prefix", "spans"];
    let spec: Map<String, Value> =
        map.iter().filter(|(key, _)| own.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    let hint = "give the question as `prompt`, or as `text`, `messages` or `tokens`";
    Ok(serde_json::from_value(Value::Object(spec)).map_err(|error| row.wrong("prompt", error.to_string(), hint))?)
}

impl Question {
    /// Tokens of each answer where it follows the prompt.
    fn tokens(&self, reader: &PromptReader<'_>) -> interp_core::Result<Vec<Vec<i64>>> {
        let read = reader.read(&self.prompt, &self.id)?;
        self.choices.iter().map(|choice| reader.continuation(&read, choice, &self.id)).collect()
    }
}

fn summary_json(found: &ChoiceSummary) -> Value {
    let bin = |bin: &interp_core::eval::Bin| {
        json!({ "bin_lower": bin.lower, "bin_upper": bin.upper, "count": bin.count, "mean_confidence": bin.confidence,
            "mean_accuracy": bin.accuracy, "calibration_error": bin.error })
    };
    let calibration = &found.calibration;
    json!({
        "n": found.n,
        "accuracy": found.accuracy,
        "accuracy_per_token": found.accuracy_per_token,
        "chance": found.chance,
        "log_likelihood": found.log_likelihood,
        "probability": found.probability,
        "ece": calibration.ece,
        "mce": calibration.mce,
        "brier_score": calibration.brier,
        "mean_confidence": calibration.confidence,
        "reliability_bins": calibration.bins.iter().map(bin).collect::<Vec<_>>(),
    })
}

fn table(found: &ChoiceSummary) -> String {
    let calibration = &found.calibration;
    let rows = [
        ("questions", found.n.to_string()),
        ("accuracy", number(found.accuracy)),
        ("  by ln P per token", number(found.accuracy_per_token)),
        ("  by chance", number(found.chance)),
        ("ln P of the right answer", number(found.log_likelihood)),
        ("probability among choices", number(found.probability)),
        ("mean confidence", number(calibration.confidence)),
        ("ECE", number(calibration.ece)),
        ("Brier score", number(calibration.brier)),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    columns(&["measure".to_owned(), "value".into()], &rows)
}

/// `summary.json`, `samples.jsonl` and the reliability diagram.
fn put(out: &Path, settings: &Value, questions: &[Question], chosen: &[Chosen]) -> Result<()> {
    figures::folder(out)?;
    let found = summary(chosen);
    let name = settings["model"]["checkpoint"].as_str().unwrap_or_default();
    let said =
        format!("{name}: {} questions, accuracy {:.3}, ECE {:.3}", found.n, found.accuracy, found.calibration.ece);
    figures::reliability(out, "Reliability of the choice's probability", &said, &found.calibration.bins)?;
    let line = |(question, one): (&Question, &Chosen)| {
        let line = json!({
            "id": question.id,
            "answer": one.answer,
            "choice": one.choice,
            "choice_per_token": one.choice_per_token,
            "confidence": one.confidence,
            "probability": one.probability,
            "log_likelihoods": one.log_likelihoods,
        });
        format!("{line}\n")
    };
    let lines: String = questions.iter().zip(chosen).map(line).collect();
    write_atomic(&out.join("samples.jsonl"), lines.as_bytes())?;
    Ok(write_atomic(&out.join("summary.json"), format!("{:#}\n", summary_json(&found)).as_bytes())?)
}

fn compare(plain: &[Chosen], edited: &[Chosen], questions: &[Question]) -> Result<Paired> {
    let measure = |name: &str, of: &dyn Fn(&Chosen) -> f64| {
        Measure::new(name, plain.iter().map(|one| Some(of(one))), edited.iter().map(|one| Some(of(one))))
    };
    let right = |one: &Chosen| f64::from(u8::from(one.right()));
    let measures = [
        measure("accuracy", &right),
        measure("ln P of the right answer", &|one| one.log_likelihoods[one.answer]),
        measure("probability among choices", &|one| one.probability),
        measure("confidence", &|one| one.confidence),
        measure("Brier score", &|one| (one.confidence - right(one)).powi(2)),
    ];
    let clusters: Vec<Option<String>> = questions.iter().map(|one| one.cluster.clone()).collect();
    let [a, b] = [plain, edited].map(|all| summary(all).calibration.ece);
    paired(&measures, &clusters, vec![("ECE".into(), a, b)])
}
