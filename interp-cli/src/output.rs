//! Everything a user sees: stdout is data, stderr is talk, and how a command ends. Computes nothing.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It ran, and the answer is no.
    No,
    /// An error, or broken input lines.
    Failed,
    /// Stopped by Ctrl-C; what was done is kept.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::No => ExitCode::from(1),
            Exit::Failed => ExitCode::from(2),
            // As shells report it: 128 + SIGINT.
            Exit::Interrupted => ExitCode::from(130),
        }
    }
}

/// The one place that writes to the terminal.
#[derive(Debug)]
pub struct Printer;

impl Printer {
    /// A printer on this process's stdout and stderr.
    pub fn new() -> Self {
        Self
    }

    /// Data, to stdout, as it is.
    pub fn data(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// One line of talk, to stderr. A reader who went away does not stop the work.
    pub fn talk(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Reports why the command failed and how to exit. A broken pipe is success: the reader had enough.
    pub fn error(&self, error: &anyhow::Error) -> Exit {
        if error.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == ErrorKind::BrokenPipe) {
            return Exit::Done;
        }
        self.talk(&format!("error: {}", chain(error)));
        if let Some(hint) = hint(error) {
            self.talk(&format!("hint: {hint}"));
        }
        Exit::Failed
    }
}

/// All causes, joined by colons. A message that already ends in its cause is not followed by it again.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<interp_core::Error>()?.hint())
}

/// A table: text to the left, numbers to the right, two spaces between.
pub fn columns(head: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(head).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let is_text = |column: usize| rows.iter().any(|row| row[column].starts_with(char::is_alphabetic));
    let line = |row: &[String]| {
        let cell = |(column, text): (usize, &String)| match is_text(column) {
            true => format!("{text:<0$}", widths[column]),
            false => format!("{text:>0$}", widths[column]),
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    all().map(line).collect()
}

/// A number of a table; `-` where there is none.
pub fn number(x: f64) -> String {
    if x.is_finite() { format!("{x:.4}") } else { "-".into() }
}

/// An interval of a table.
pub fn interval(ci: Option<[f64; 2]>) -> String {
    ci.map_or("-".into(), |[lo, hi]| format!("[{lo:.4}, {hi:.4}]"))
}

/// A probability of a table: small ones keep their size.
pub fn probability(p: f64) -> String {
    if p > 0.0 && p < 1e-3 { format!("{p:.1e}") } else { number(p) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_is_one_line_and_at_most_one_hint() {
        let source = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = interp_core::Error::Io { action: "write", path: "out/delta.npy".into(), source };
        let error = Err::<(), _>(error).context("trial t7").unwrap_err();
        assert_eq!(chain(&error), "trial t7: cannot write out/delta.npy: No space left on device (os error 28)");
        assert_eq!(hint(&error), Some("free some space; what was written before is kept"));
        assert_eq!(hint(&anyhow::anyhow!("x")), None);
    }

    #[test]
    fn tables_align() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let table =
            columns(&row(["cell", "mean", "se"]), &[row(["L1.H10", "-0.5", "0.1"]), row(["L1.H2", "10.5", "-"])]);
        assert_eq!(table, "cell    mean   se\nL1.H10  -0.5  0.1\nL1.H2   10.5    -\n");
    }
}
