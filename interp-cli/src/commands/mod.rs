//! One file per command, each with one public function. This file only chooses among them.

mod adapter;
mod attention;
mod bench;
mod capture;
mod contrast;
mod cumulative;
mod eval;
mod generate;
mod inspect;
mod merge;
mod plot;
mod retrieval;
mod roles;
mod rsa;
mod stats;
mod study;
mod sweep;
mod task;
mod verify;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::output::{Exit, Printer};

/// Runs the command that was typed.
pub fn run(cli: Cli, printer: &Printer) -> Result<Exit> {
    match cli.command {
        Command::Inspect(args) => inspect::inspect(&args, printer),
        Command::Generate(args) => generate::generate(&args, printer),
        Command::Capture(args) => capture::capture(&args, printer),
        Command::Merge(args) => merge::merge(&args, printer),
        Command::Sweep(args) => sweep::sweep(&args, printer),
        Command::Verify(args) => verify::verify(&args, printer),
        Command::Stats(args) => stats::stats(&args, printer),
        Command::Contrast(args) => contrast::contrast(&args, printer),
        Command::Adapter(args) => adapter::adapter(&args, printer),
        Command::Plot(args) => plot::plot(&args, printer),
        Command::Bench(args) => bench::bench(&args, printer),
        Command::Cumulative(args) => cumulative::cumulative(&args, printer),
        Command::Eval(args) => eval::eval(&args, printer),
        Command::Task(args) => task::task(&args, printer),
        Command::Study(args) => study::study(&args, printer),
        Command::Rsa(args) => rsa::rsa(&args, printer),
        Command::Roles(args) => roles::roles(&args, printer),
        Command::Attention(args) => attention::attention(&args, printer),
        Command::Retrieval(args) => retrieval::retrieval(&args, printer),
    }
}
