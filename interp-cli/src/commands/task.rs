//! `interp task`: the trials of a built-in task, as lines of a trial file, to stdout. Runs a model only where a filter asks.

mod compliance;

use anyhow::Result;
use interp_core::decoder::Decoder;
use interp_core::task::{Filter, IdentityRules, Made, Pairing, Wanted, jsonl};

use crate::cli::{IdentityRulesArgs, RuleFlags, TaskArgs, TaskCommand};
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::progress::bar;

/// Makes the trials and prints them.
pub fn task(args: &TaskArgs, printer: &Printer) -> Result<Exit> {
    match &args.task {
        TaskCommand::IdentityRules(args) => identity_rules(args, printer),
        TaskCommand::Compliance(args) => compliance::compliance(args, printer),
    }
}

fn identity_rules(args: &IdentityRulesArgs, printer: &Printer) -> Result<Exit> {
    let pairing: Pairing = args.pairs.parse()?;
    let wanted: Wanted = args.flags.filter.parse()?;
    let open = if wanted == Wanted::None { Model::without_weights } else { Model::open };
    let model = open(&args.model)?;
    let task = of_flags(&args.flags, vec![pairing]);
    let made = make(&task, wanted, &model, &mut || model.load(printer))?;
    report(&task, &made, printer);
    printer.data(&jsonl(made.lines.iter().flatten()))?;
    Ok(Exit::Done)
}

/// What the flags ask for.
pub fn of_flags(flags: &RuleFlags, pairings: Vec<Pairing>) -> IdentityRules {
    let RuleFlags { shots, draws, seed, .. } = *flags;
    IdentityRules { shots, pairings, draws, seed, max_attempts: flags.attempts() }
}

/// Makes the trials. `load` is called only if the filter asks the model, and after a draw has been made without it, so that
/// settings which can give no trial are refused before any weight is read.
pub fn make(
    task: &IdentityRules,
    wanted: Wanted,
    model: &Model,
    load: &mut dyn FnMut() -> Result<Decoder>,
) -> Result<Made> {
    let reader = model.reader();
    if wanted == Wanted::None {
        return Ok(task.make(&reader, &mut |_, _| Ok(None), &mut || ())?);
    }
    IdentityRules { draws: task.draws.min(1), ..task.clone() }.make(&reader, &mut |_, _| Ok(None), &mut || ())?;
    let (decoder, ends) = (load()?, model.end_tokens()?);
    let tokenizer = model.tokenizer.as_ref().expect("the draw above needed it");
    let filter = Filter::new(&decoder, tokenizer, &ends, wanted)?;
    let bar = bar(task.draws, "draws");
    let made = task.make(&reader, &mut |prompt, answer| filter.judge(prompt, answer), &mut || bar.inc(1));
    bar.finish_and_clear();
    Ok(made?)
}

/// How many draws were rejected, and why.
pub fn report(task: &IdentityRules, made: &Made, printer: &Printer) {
    let n: usize = made.rejected.values().sum();
    printer.talk(&format!("{} draws of {} tried, {n} rejected", task.draws, made.attempts));
    made.rejected.iter().for_each(|(reason, n)| printer.talk(&format!("  {n} rejected: {reason}")));
}
