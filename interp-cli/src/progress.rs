//! A line that shows how far long work is, on a terminal only.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `len` things, which `unit` names: `trials`, `prompts`, ….
pub fn bar(len: usize, unit: &str) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = format!("{{bar:24}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is fixed");
    ProgressBar::with_draw_target(Some(len as u64), target).with_style(style)
}
