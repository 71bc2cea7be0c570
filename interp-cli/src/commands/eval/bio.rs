//! `interp eval bio`: questions put to a model, or completions made elsewhere, scored by BioRLHF's verifiers.

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::eval::bio::{Baseline, Evaluation, Head, NOTES, Question, Scored, answer, prompt, questions, summary};
use interp_core::eval::read::{Rows, json as read_json};
use interp_core::eval::{Composer, Sample, Verifier};
use interp_core::export::write_atomic;
use interp_core::prompt::{PromptReader, PromptSpec};
use serde_json::{Value, json};

use super::paired::{Measure, paired};
use super::runner::{Answers, Asked, Published, Runner, completions};
use super::score::bio::{tables, write};
use super::{composer, folder, notes};
use crate::cli::{BioArgs, ModelArgs};
use crate::folder::Folder;
use crate::output::{Exit, Printer};

/// As the released evaluation decodes.
const PUBLISHED: Published = Published { max_new_tokens: 512, temperature: 0.1, top_p: 0.9 };

/// Answers, scores, and writes the folder.
pub fn bio(args: &BioArgs, printer: &Printer) -> Result<Exit> {
    let composer = composer(&args.verifiers)?;
    let place = Folder::check(&args.out)?;
    let mut questions = questions(&args.questions, args.skip_broken)?;
    let baseline = args.baseline.as_deref().map(baseline).transpose()?;
    notes(printer, &NOTES);
    let place = place.begin()?;
    let Some(Answers { settings, plain, edited }) = answers(args, &mut questions, printer)? else {
        return Ok(Exit::Interrupted);
    };
    let evaluation = |texts: &[String]| Evaluation {
        head: head(&settings, &questions.good),
        baseline,
        samples: scored(&composer, &questions.good, texts),
    };
    let unedited = evaluation(&plain);
    let found = summary(&unedited.samples);
    let out = place.dir();
    put(out, &settings, &unedited, &plain)?;
    let mut text = tables(&unedited, &found);
    if let Some(texts) = &edited {
        let edited = evaluation(texts);
        put(&out.join("edited"), &settings, &edited, texts)?;
        let compared = compare(&unedited, &edited, &questions.good)?;
        compared.write(out, &settings)?;
        text += &format!("\n{}", compared.table());
    }
    folder::done(out, "bio", (&args.questions, &questions), &settings)?;
    place.finish()?;
    folder::say(args.json, &args.out, &text, &unedited.json(), printer)?;
    Ok(Exit::Done)
}

/// What was run, and what was answered without and with the edit; `None` after Ctrl-C.
fn answers(args: &BioArgs, questions: &mut Rows<Question>, printer: &Printer) -> Result<Option<Answers<String>>> {
    let answers = match (&args.model, &args.completions) {
        (Some(model), None) => {
            let model = ModelArgs { model: model.clone(), compute: args.compute.clone() };
            let ask = |reader: &PromptReader<'_>, one: &Question| {
                Asked::text(reader, &PromptSpec::text(prompt(&one.prompt)), &one.id)
            };
            let runner = Runner::open(&model, (&args.answers, &PUBLISHED), &args.edit, questions, ask, printer)?;
            let own = |texts: Vec<String>| texts.iter().map(|text| answer(text).to_owned()).collect();
            runner.texts(printer)?.map(|Answers { settings, plain, edited }| Answers {
                settings,
                plain: own(plain),
                edited: edited.map(own),
            })
        }
        (None, Some(file)) => {
            super::no_edit(&args.edit)?;
            folder::skipped(questions, printer);
            Some(completions(file, questions, |one| &one.id)?)
        }
        _ => return Err(anyhow!("there is nobody to answer: give --model or --completions")),
    };
    let scoring = json!({
        "verifiers": args.verifiers.verifiers,
        "weights": args.verifiers.verifier_weights,
        "extractor": args.verifiers.extractor,
        "v4_mode": args.verifiers.v4_mode,
    });
    Ok(answers.map(|mut answers| {
        answers.settings["scoring"] = scoring;
        answers
    }))
}

fn scored(composer: &Composer, questions: &[Question], texts: &[String]) -> Vec<Scored> {
    let one = |(question, text): (&Question, &String)| {
        let sample = Sample { completion: text.clone(), ..question.sample.clone() };
        Scored {
            id: Some(question.id.clone()),
            prompt: question.prompt.clone(),
            source: question.source.clone(),
            tissue: question.tissue.clone(),
            ..Scored::from((composer, &sample))
        }
    };
    questions.iter().zip(texts).map(one).collect()
}

fn head(settings: &Value, questions: &[Question]) -> Head {
    let count = |of: &dyn Fn(&Question) -> Option<String>| {
        let mut counts = serde_json::Map::new();
        for name in questions.iter().filter_map(of) {
            let n = counts.get(&name).and_then(Value::as_u64).unwrap_or(0);
            counts.insert(name, json!(n + 1));
        }
        Value::Object(counts)
    };
    let name = settings["model"]["checkpoint"].as_str().or(settings["completions"].as_str()).unwrap_or_default();
    Head {
        model_path: name.into(),
        base_model: settings["generation"]["model"].as_str().unwrap_or_default().into(),
        evaluation_date: Value::Null,
        hold_out_tissues: Vec::new(),
        dataset: json!({
            "total": questions.len(),
            "by_source": count(&|one| Some(one.source.clone())),
            "by_question_type": count(&|one| Some(one.sample.question_type.clone())),
            "by_tissue": count(&|one| Some(one.tissue.clone())),
            "by_difficulty": count(&|one| one.difficulty.clone()),
        }),
    }
}

/// Mean reward and ECE of another results file.
fn baseline(file: &Path) -> Result<Baseline> {
    let found = summary(&Evaluation::from_json(file, &read_json(file)?)?.samples);
    Ok(Baseline { reward: found.mean_reward, ece: found.calibration.ece })
}

/// `evaluation.json`, whole texts in `samples.jsonl`, figures.
fn put(out: &Path, settings: &Value, evaluation: &Evaluation, texts: &[String]) -> Result<()> {
    let name = settings["model"]["checkpoint"].as_str().unwrap_or("completions");
    write(out, name, evaluation)?;
    let line = |(sample, text): (&Scored, &String)| {
        let scores: serde_json::Map<String, Value> =
            Verifier::ALL.iter().map(|one| (one.name().to_owned(), json!(sample.scores[*one as usize]))).collect();
        let line = json!({
            "id": sample.id,
            "prompt": sample.prompt,
            "completion": text,
            "total_reward": sample.total,
            "verifier_scores": scores,
            "confidence": sample.confidence,
            "confidence_stated": sample.stated,
        });
        format!("{line}\n")
    };
    let lines: String = evaluation.samples.iter().zip(texts).map(line).collect();
    write_atomic(&out.join("samples.jsonl"), lines.as_bytes())?;
    write_atomic(&out.join("evaluation.json"), format!("{:#}\n", evaluation.json()).as_bytes())?;
    Ok(())
}

fn compare(plain: &Evaluation, edited: &Evaluation, questions: &[Question]) -> Result<super::paired::Paired> {
    let measure = |name: &str, of: &dyn Fn(&Scored) -> Option<f64>| {
        Measure::new(name, plain.samples.iter().map(of), edited.samples.iter().map(of))
    };
    let right = |one: &Scored| f64::from(u8::from(one.right()));
    let mut measures = vec![
        measure("reward", &|one| Some(one.total)),
        measure("right", &|one| Some(right(one))),
        measure("confidence", &|one| Some(one.confidence)),
        measure("Brier score", &|one| Some((one.confidence - right(one)).powi(2))),
    ];
    measures.extend(Verifier::ALL.map(|verifier| measure(verifier.name(), &|one| one.scores[verifier as usize])));
    let clusters: Vec<Option<String>> = questions.iter().map(|one| one.cluster.clone()).collect();
    let stated = |all: &Evaluation| -> Vec<(f64, bool)> {
        all.samples.iter().map(|one| (one.confidence, one.right())).collect()
    };
    paired(&measures, &clusters)?.calibrated([&stated(plain), &stated(edited)], &clusters)
}
