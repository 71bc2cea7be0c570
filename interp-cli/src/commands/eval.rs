//! `interp eval`: evaluations that were published with checkpoints, and a user's own. This file only chooses among them.

mod bio;
mod choice;
mod figures;
mod folder;
mod paired;
mod reward;
mod runner;
mod score;
mod socrates;
mod splits;

use std::fmt::Display;

use anyhow::{Result, anyhow};
use interp_core::eval::{Composer, TRAINING_WEIGHTS, Verifier};
use interp_core::{Error, Result as Checked};

use crate::cli::{EditArgs, EvalArgs, EvalCommand, VerifierArgs};
use crate::output::{Exit, Printer};
use crate::select::list;

/// Runs the evaluation that was typed.
pub fn eval(args: &EvalArgs, printer: &Printer) -> Result<Exit> {
    match &args.command {
        EvalCommand::Score(args) => score::score(args, printer),
        EvalCommand::Reward(args) => reward::reward(args, printer),
        EvalCommand::Splits(args) => splits::splits(args, printer),
        EvalCommand::Bio(args) => bio::bio(args, printer),
        EvalCommand::Socrates(args) => socrates::socrates(args, printer),
        EvalCommand::Choice(args) => choice::choice(args, printer),
    }
}

/// The composer that was typed.
fn composer(args: &VerifierArgs) -> Result<Composer> {
    let mut composer = Composer::new(weights(&args.verifier_weights)?, &list::<Verifier>(&args.verifiers)?)?;
    composer.extractor = args.extractor.parse()?;
    composer.mode = args.v4_mode.parse()?;
    Ok(composer)
}

/// Four numbers separated by commas, or `training`.
fn weights(text: &str) -> Checked<[f64; 4]> {
    if text == "training" {
        return Ok(TRAINING_WEIGHTS);
    }
    let numbers: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    numbers.and_then(|numbers| <[f64; 4]>::try_from(numbers).ok()).ok_or_else(|| Error::Selector {
        what: "weights",
        value: text.into(),
        problem: "not four numbers".into(),
        hint: Some("give one number for each of V1,V2,V3,V4, such as 0.35,0.30,0.15,0.20, or `training`".into()),
    })
}

/// What a reader of the results should know.
fn notes(printer: &Printer, notes: &[impl Display]) {
    notes.iter().for_each(|note| printer.talk(&format!("note: {note}")));
}

/// Errs for an edit where no model runs.
fn no_edit(edit: &EditArgs) -> Result<()> {
    match edit.edit {
        None => Ok(()),
        Some(_) => Err(anyhow!("--edit needs --model: completions made elsewhere cannot be edited")),
    }
}
