//! Long work: a line that shows how far it is, on a terminal only, and Ctrl-C in between.

use std::io::IsTerminal as _;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt;
use crate::output::Printer;

/// A bar over `len` things, which `unit` names: `trials`, `prompts`, ….
pub fn bar(len: usize, unit: &str) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = format!("{{bar:24}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is fixed");
    ProgressBar::with_draw_target(Some(len as u64), target).with_style(style)
}

/// `work` on every item in turn, under a bar, until Ctrl-C asks to stop: `None` then. For what is only written when all is done.
pub fn each<T, R>(
    items: &[T],
    unit: &str,
    printer: &Printer,
    mut work: impl FnMut(usize, &T) -> Result<R>,
) -> Result<Option<Vec<R>>> {
    interrupt::catch();
    let bar = bar(items.len(), unit);
    let mut done = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if interrupt::requested() {
            bar.finish_and_clear();
            printer.talk(&format!("interrupted after {index} of {} {unit}; nothing is kept", items.len()));
            return Ok(None);
        }
        done.push(work(index, item)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Some(done))
}
