//! `interp eval reward`: verifiers as reward functions. One process for a whole training run: a line in, a line out, flushed.
//!
//! In: `{"id", "completion", "ground_truth", "question_type", "applicable_verifiers"}`, all but the completion optional. Out:
//! `{"id", "reward", "rewards", "weights", "confidence", "confidence_stated"}`; `rewards` has every verifier, null where it does
//! not apply, which is what TRL leaves out. A line that cannot be used is answered by `{"line", "error"}`, so that answers stay in
//! step with questions, and remembered for the exit code.

use std::io::{self, BufRead, Write};
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::eval::read::{Row, line_of};
use interp_core::eval::{Composer, Reward, Verifier, bio};
use serde_json::{Map, Value, json};

use crate::cli::RewardArgs;
use crate::output::{Exit, Printer};

/// Scores standard input until it ends.
pub fn reward(args: &RewardArgs, printer: &Printer) -> Result<Exit> {
    let composer = super::composer(&args.verifiers)?;
    super::notes(printer, &bio::NOTES);
    stream(&composer, &mut io::stdin().lock(), &mut io::stdout().lock(), &mut |line| printer.talk(line))
}

/// Answers every line of `input` but blank ones.
fn stream(
    composer: &Composer,
    input: &mut impl BufRead,
    output: &mut impl Write,
    talk: &mut impl FnMut(&str),
) -> Result<Exit> {
    let (mut bytes, mut number, mut exit) = (Vec::new(), 0, Exit::Done);
    while input.read_until(b'\n', &mut bytes)? > 0 {
        number += 1;
        if !bytes.trim_ascii().is_empty() {
            let answer = match answer(composer, &bytes, number) {
                Ok(answer) => answer,
                Err(error) => {
                    exit = Exit::Failed;
                    talk(&format!("error: {error}"));
                    json!({ "line": number, "error": error.to_string() })
                }
            };
            serde_json::to_writer(&mut *output, &answer).map_err(io::Error::from)?;
            output.write_all(b"\n")?;
            output.flush()?;
        }
        bytes.clear();
    }
    Ok(exit)
}

fn answer(composer: &Composer, bytes: &[u8], line: usize) -> interp_core::Result<Value> {
    let wrong = |problem: String| Error::Prompt { place: format!("line {line}"), problem, hint: None };
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(format!("not UTF-8 at byte {}", e.valid_up_to() + 1)))?;
    let map = line_of(text.trim()).map_err(wrong)?;
    let row = Row::new(Path::new(&format!("line {line}")), "", &map);
    let Reward { total, scores, weights, confidence } = composer.reward(&bio::sample(&row)?);
    let by_name = |value: &dyn Fn(usize) -> Value| -> Map<String, Value> {
        Verifier::ALL.into_iter().map(|verifier| (verifier.name().to_owned(), value(verifier as usize))).collect()
    };
    let mut answer = Map::new();
    if let Some(id) = map.get("id") {
        answer.insert("id".into(), id.clone());
    }
    answer.insert("reward".into(), json!(total));
    answer.insert("rewards".into(), Value::Object(by_name(&|i| json!(scores[i]))));
    answer.insert("weights".into(), Value::Object(by_name(&|i| json!(weights[i]))));
    answer.insert("confidence".into(), json!(confidence.value));
    answer.insert("confidence_stated".into(), json!(confidence.stated.name()));
    Ok(Value::Object(answer))
}
