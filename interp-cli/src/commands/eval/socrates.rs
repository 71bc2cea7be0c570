//! `interp eval socrates`: how people answered, predicted by a model or read from completions made elsewhere.

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::eval::read::Rows;
use interp_core::eval::socrates::{
    Metrics, Prediction, Question, alpaca, chat, groups, metrics, metrics_json, number, rows_json,
};
use interp_core::export::write_atomic;
use interp_core::prompt::{ChatMessage, PromptInput, PromptReader, PromptSpec};
use serde_json::{Value, json};

use super::paired::{Measure, Paired, paired};
use super::runner::{Answers, Asked, Published, Runner, completions};
use super::score::socrates::{notes, tables};
use super::{figures, folder};
use crate::cli::{ModelArgs, SocratesArgs};
use crate::folder::Folder;
use crate::output::{Exit, Printer};

/// As the released evaluation decodes: greedily, without a stop string.
const PUBLISHED: Published = Published { max_new_tokens: 100, temperature: 0.0, top_p: 1.0 };

/// Answers, reads numbers, compares, and writes the folder.
pub fn socrates(args: &SocratesArgs, printer: &Printer) -> Result<Exit> {
    let place = Folder::check(&args.out)?;
    let prompt = match args.form.as_str() {
        "alpaca" => |one: &Question| PromptSpec::text(alpaca(one)),
        "chat" => |one: &Question| -> PromptSpec {
            let messages = vec![ChatMessage { role: "user".into(), content: chat(one) }];
            PromptInput::Chat { messages, prefix: String::new() }.into()
        },
        other => return Err(anyhow!("--form {other}: it is `alpaca` (as trained) or `chat` (the card's)")),
    };
    let mut questions = questions(&args.questions, args.skip_broken)?;
    let place = place.begin()?;
    let answers = match (&args.model, &args.completions) {
        (Some(model), None) => {
            let model = ModelArgs { model: model.clone(), compute: args.compute.clone() };
            let ask = |reader: &PromptReader<'_>, (id, one): &(String, Question)| Asked::text(reader, &prompt(one), id);
            let (answers, questions) = ((&args.answers, &PUBLISHED), &mut questions);
            let answers = Runner::open(&model, answers, &args.edit, questions, ask, printer)?.texts(printer)?;
            answers.map(|mut answers| {
                answers.settings["form"] = json!(args.form);
                answers
            })
        }
        (None, Some(file)) => {
            super::no_edit(&args.edit)?;
            folder::skipped(&questions, printer);
            Some(completions(file, &questions, |(id, _)| id)?)
        }
        _ => return Err(anyhow!("there is nobody to answer: give --model or --completions")),
    };
    let Some(Answers { settings, plain, edited }) = answers else { return Ok(Exit::Interrupted) };
    let rows = predictions(&questions.good, &plain);
    let found = metrics(&rows);
    super::notes(printer, &notes(&found));
    let out = place.dir();
    put(out, &settings, &rows, &found)?;
    let mut text = tables(&rows, &found);
    if let Some(texts) = &edited {
        let edited = predictions(&questions.good, texts);
        put(&out.join("edited"), &settings, &edited, &metrics(&edited))?;
        let compared = compare(&rows, &edited)?;
        compared.0.write(out, &settings)?;
        text += &format!("\n{}", compared.0.table());
        if compared.1 > 0 {
            printer.talk(&format!(
                "note: {} rows or conditions have a number only without or only with the edit",
                compared.1
            ));
        }
    }
    folder::done(out, "socrates", (&args.questions, &questions), &settings)?;
    place.finish()?;
    folder::say(args.json, &args.out, &text, &metrics_json(&found), printer)?;
    Ok(Exit::Done)
}

/// Questions with their ids.
fn questions(path: &Path, pass_over: bool) -> interp_core::Result<Rows<(String, Question)>> {
    Rows::read(path, pass_over, |id, row| {
        let label = |field: &str| -> interp_core::Result<String> {
            row.value(field)?;
            Ok(row.label(field)?.unwrap_or_default())
        };
        let question = Question {
            instruction: row.text("instruction")?.into(),
            input: row.text("input")?.into(),
            answer: row.text("output")?.replace("Response: ", "").trim().into(),
            study: label("study_id")?,
            condition: label("condition_num")?,
        };
        Ok((id.to_owned(), question))
    })
}

fn predictions(questions: &[(String, Question)], texts: &[String]) -> Vec<Prediction> {
    let one = |((id, question), text): (&(String, Question), &String)| {
        let predicted = text.trim().to_owned();
        Prediction {
            id: Some(id.clone()),
            study: question.study.clone(),
            condition: question.condition.clone(),
            input: question.input.clone(),
            true_number: number(&question.answer),
            predicted_number: number(&predicted),
            answer: question.answer.clone(),
            predicted,
        }
    };
    questions.iter().zip(texts).map(one).collect()
}

/// `predictions.json` and `metrics.json` in the released shape, and figures.
fn put(out: &Path, settings: &Value, rows: &[Prediction], found: &Metrics) -> Result<()> {
    figures::folder(out)?;
    figures::socrates(out, settings["model"]["checkpoint"].as_str().unwrap_or("completions"), found)?;
    write_atomic(&out.join("predictions.json"), format!("{:#}\n", rows_json(rows)).as_bytes())?;
    write_atomic(&out.join("metrics.json"), format!("{:#}\n", metrics_json(found)).as_bytes())?;
    Ok(())
}

/// Row measures by study, then distances by condition; and how many rows or conditions stand on one side only.
fn compare(plain: &[Prediction], edited: &[Prediction]) -> Result<(Paired, usize)> {
    let measure = |name: &str, of: &dyn Fn(&Prediction) -> Option<f64>| {
        Measure::new(name, plain.iter().map(of), edited.iter().map(of))
    };
    let rows = [
        measure("absolute error", &|row| row.pair().map(|(a, b)| (a - b).abs())),
        measure("exact match", &|row| row.pair().map(|(a, b)| f64::from(u8::from(a == b)))),
    ];
    let (one, other) = (groups(plain), groups(edited));
    let same = |group: &interp_core::eval::socrates::Group| {
        other.iter().find(|o| (&o.study, &o.condition) == (&group.study, &group.condition))
    };
    let distance = |name: &str, of: &dyn Fn(&interp_core::eval::socrates::Group) -> Option<f64>| {
        Measure::new(name, one.iter().map(of), one.iter().map(|group| same(group).and_then(of)))
    };
    let conditions = [
        distance("w1_self_minmax", &|group| Some(group.distances()?.self_minmax)),
        distance("w1_ref_range", &|group| group.distances()?.ref_range),
    ];
    let lost = plain.iter().zip(edited).filter(|(a, b)| a.pair().is_some() != b.pair().is_some()).count();
    let mut clusters: Vec<Option<String>> = plain.iter().map(|row| Some(row.study.clone())).collect();
    let first = rows[0].pairs.len();
    clusters.extend(one.iter().map(|group| Some(group.study.clone())));
    // Conditions stand behind the rows, so that one list of clusters serves both.
    let behind = |measure: Measure| Measure {
        pairs: std::iter::repeat_n(None, first).chain(measure.pairs).collect(),
        ..measure
    };
    let measures: Vec<Measure> = rows.into_iter().chain(conditions.into_iter().map(behind)).collect();
    Ok((paired(&measures, &clusters)?, lost))
}
