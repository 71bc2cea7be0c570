//! The `interp` command line: parse, run, exit code.

mod bases;
mod beside;
mod chain;
mod cli;
mod commands;
mod edits;
mod figure;
mod folder;
mod interrupt;
mod memory;
mod model;
mod noise;
mod output;
mod parts;
mod progress;
mod prompts;
mod ranked;
mod select;
mod timing;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let printer = output::Printer::new();
    if let Err(error) = interrupt::listen() {
        return printer.error(&error.into()).into();
    }
    match commands::run(cli::Cli::parse(), &printer) {
        Ok(exit) => exit.into(),
        Err(error) => printer.error(&error).into(),
    }
}
