//! `interp eval socrates`: how people answered, predicted by a model or read from completions made elsewhere.

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::eval::read::{self, Row};
use interp_core::eval::socrates::{
    Metrics, Prediction, Question, alpaca, chat, groups, metrics, metrics_json, number, rows_json,
};
use interp_core::export::write_atomic;
use interp_core::prompt::{ChatMessage, PromptInput, PromptSpec};
use serde_json::{Value, json};

use super::paired::{Measure, Paired, paired};
use super::runner::{Published, Runner, completions};
use super::score::socrates::{notes, tables};
use super::{figures, folder};
use crate::cli::{ModelArgs, SocratesArgs};
use crate::folder::Folder;
use crate::output::{Exit, Printer};

/// As the released evaluation decodes: greedily, without a stop string.
const PUBLISHED: Published = Published { max_new_tokens: 100, temperature: 0.0, top_p: 1.0 };

/// Answers, reads numbers, compares, and writes the folder.
pub fn socrates(args: &SocratesArgs, printer: &Printer) -> Result<Exit> {
    Folder::check(&args.out)?;
    let (ids, questions) = questions(&args.questions)?;
    let prompt = match args.form.as_str() {
        "alpaca" => |one: &Question| PromptSpec::text(alpaca(one)),
        "chat" => |one: &Question| -> PromptSpec {
            let messages = vec![ChatMessage { role: "user".into(), content: chat(one) }];
            PromptInput::Chat { messages, prefix: String::new() }.into()
        },
        other => return Err(anyhow!("--form {other}: it is `alpaca` (as trained) or `chat` (the card's)")),
    };
    let (settings, plain, edited) = match (&args.model, &args.completions) {
        (Some(model), None) => {
            let model = ModelArgs { model: model.clone(), compute: args.compute.clone() };
            let prompts: Vec<(String, PromptSpec)> = ids.iter().cloned().zip(questions.iter().map(prompt)).collect();
            let runner = Runner::open(&model, (&args.answers, &PUBLISHED), &args.edit, &prompts, printer)?;
            let mut settings = runner.settings();
            settings["form"] = json!(args.form);
            (settings, runner.texts(false)?, runner.has_edit().then(|| runner.texts(true)).transpose()?)
        }
        (None, Some(file)) => {
            super::no_edit(&args.edit)?;
            (json!({ "completions": file.display().to_string() }), completions(file, &ids)?, None)
        }
        _ => return Err(anyhow!("there is nobody to answer: give --model or --completions")),
    };
    let rows = predictions(&ids, &questions, &plain);
    let found = metrics(&rows);
    super::notes(printer, &notes(&found));
    put(&args.out, &settings, &rows, &found)?;
    let mut text = tables(&rows, &found);
    if let Some(texts) = &edited {
        let edited = predictions(&ids, &questions, texts);
        put(&args.out.join("edited"), &settings, &edited, &metrics(&edited))?;
        let compared = compare(&rows, &edited)?;
        compared.0.write(&args.out, &settings)?;
        text += &format!("\n{}", compared.0.table());
        if compared.1 > 0 {
            printer.talk(&format!(
                "note: {} rows or conditions have a number only without or only with the edit",
                compared.1
            ));
        }
    }
    folder::done(&args.out, "socrates", &settings)?;
    folder::say(args.json, &args.out, &text, &metrics_json(&found), printer)?;
    Ok(Exit::Done)
}

fn questions(path: &Path) -> Result<(Vec<String>, Vec<Question>)> {
    let (mut ids, mut questions) = (Vec::new(), Vec::new());
    let lines = read::lines(path)?;
    for (line, map) in &lines {
        let row = Row::of_line(path, *line, map);
        let label = |field: &str| -> Result<String> {
            row.value(field)?;
            Ok(row.label(field)?.unwrap_or_default())
        };
        ids.push(row.label("id")?.unwrap_or_else(|| format!("line-{line}")));
        questions.push(Question {
            instruction: row.text("instruction")?.into(),
            input: row.text("input")?.into(),
            answer: row.text("output")?.replace("Response: ", "").trim().into(),
            study: label("study_id")?,
            condition: label("condition_num")?,
        });
    }
    read::distinct(path, lines.iter().zip(&ids).map(|((line, _), id)| (format!("line {line}"), id.clone())))?;
    Ok((ids, questions))
}

fn predictions(ids: &[String], questions: &[Question], texts: &[String]) -> Vec<Prediction> {
    let one = |((id, question), text): ((&String, &Question), &String)| {
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
    ids.iter().zip(questions).zip(texts).map(one).collect()
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
    Ok((paired(&measures, &clusters, Vec::new())?, lost))
}
