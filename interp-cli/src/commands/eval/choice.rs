//! `interp eval choice`: a user's own multiple-choice questions, by the likelihood of each answer.

use std::path::Path;

use anyhow::Result;
use interp_core::eval::choice::{ChoiceSummary, Chosen, summary};
use interp_core::eval::read::{Row, Rows};
use interp_core::export::write_atomic;
use interp_core::prompt::{PromptReader, PromptSpec};
use serde_json::{Map, Value, json};

use super::paired::{Measure, Paired, paired};
use super::runner::{Answers, Asked, Likelihood, Published, Runner};
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
    let place = Folder::check(&args.out)?;
    let mut questions = questions(&args.questions, args.skip_broken)?;
    let place = place.begin()?;
    let ask = |reader: &PromptReader<'_>, one: &Question| Asked::choice(reader, &one.prompt, &one.choices, &one.id);
    let runner = Runner::open(&args.model, (&args.answers(), &NOTHING), &args.edit, &mut questions, ask, printer)?;
    let Some(Answers { settings, plain, edited }) = runner.likelihoods(printer)? else { return Ok(Exit::Interrupted) };
    let chosen = |found: Vec<Vec<Likelihood>>| -> Vec<Chosen> {
        let one = |(found, question): (Vec<Likelihood>, &Question)| {
            let (logs, tokens): (Vec<f64>, Vec<usize>) = found.into_iter().unzip();
            Chosen::new(logs, &tokens, question.answer)
        };
        found.into_iter().zip(&questions.good).map(one).collect()
    };
    let plain = chosen(plain);
    let found = summary(&plain);
    let out = place.dir();
    put(out, &settings, &questions.good, &plain)?;
    let mut text = table(&found);
    if let Some(edited) = edited.map(chosen) {
        put(&out.join("edited"), &settings, &questions.good, &edited)?;
        let compared = compare(&plain, &edited, &questions.good)?;
        compared.write(out, &settings)?;
        text += &format!("\n{}", compared.table());
    }
    folder::done(out, "choice", (&args.questions, &questions), &settings)?;
    place.finish()?;
    folder::say(args.json, &args.out, &text, &summary_json(&found), printer)?;
    Ok(Exit::Done)
}

/// What a question may say. A misspelt field would change the evaluation.
const FIELDS: [&str; 10] =
    ["id", "cluster", "prompt", "text", "messages", "tokens", "prefix", "spans", "choices", "answer"];

fn questions(path: &Path, pass_over: bool) -> interp_core::Result<Rows<Question>> {
    Rows::read(path, pass_over, |id, row| {
        if let Some(field) = row.fields().keys().find(|field| !FIELDS.contains(&field.as_str())) {
            let hint = format!("a question has {}", FIELDS.join(", "));
            return Err(row.wrong(field, "is no field of a question".into(), &hint));
        }
        let choices: Option<Vec<String>> =
            row.list("choices")?.iter().map(|choice| Some(choice.as_str()?.to_owned())).collect();
        let hint = "give the answers as a list of strings, each as it follows the prompt";
        let choices = choices.ok_or_else(|| row.wrong("choices", "must be a list of strings".into(), hint))?;
        if choices.len() < 2 || choices.iter().any(String::is_empty) {
            return Err(row.wrong("choices", "has fewer than two answers, or an empty one".into(), hint));
        }
        if let Some(twice) = choices.iter().enumerate().find_map(|(i, one)| choices[..i].contains(one).then_some(one)) {
            return Err(row.wrong("choices", format!("{twice:?} stands twice"), hint));
        }
        let given = row.value("answer")?;
        let answer = match given {
            Value::String(text) => choices.iter().position(|choice| choice == text),
            value => value.as_u64().map(|i| i as usize).filter(|i| *i < choices.len()),
        };
        let hint = "give the right choice itself, or its place in `choices`, counted from 0";
        let answer = answer.ok_or_else(|| row.wrong("answer", format!("{given} is no choice"), hint))?;
        Ok(Question { id: id.into(), cluster: row.label("cluster")?, prompt: prompt(row)?, choices, answer })
    })
}

/// `prompt` as text, or what a prompt file's line has: `text`, `messages` or `tokens`, with `prefix` and `spans`.
fn prompt(row: &Row<'_>) -> interp_core::Result<PromptSpec> {
    if row.optional("prompt").is_some() {
        return Ok(PromptSpec::text(row.text("prompt")?));
    }
    let own = ["text", "messages", "tokens", "prefix", "spans"];
    let spec: Map<String, Value> = row
        .fields()
        .iter()
        .filter(|(key, _)| own.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let hint = "give the question as `prompt`, or as `text`, `messages` or `tokens`";
    serde_json::from_value(Value::Object(spec)).map_err(|error| row.wrong("prompt", error.to_string(), hint))
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
    let chosen = |all: &[Chosen]| -> Vec<(f64, bool)> { all.iter().map(|one| (one.confidence, one.right())).collect() };
    paired(&measures, &clusters)?.calibrated([&chosen(plain), &chosen(edited)], &clusters)
}
