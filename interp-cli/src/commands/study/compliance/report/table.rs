//! Tables of `report.md`, and how numbers are written in them.

use std::fmt;

pub use crate::output::{number, probability};

/// A Markdown table.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a head.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// One more row, as wide as the head.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // A bar would end the cell.
        self.rows.push(cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, row) in self.rows.iter().enumerate() {
            writeln!(f, "| {} |", row.join(" | "))?;
            if place == 0 {
                writeln!(f, "|{}", "---|".repeat(row.len()))?;
            }
        }
        Ok(())
    }
}

/// A share in per cent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A difference of shares in points.
pub fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference)
}

/// An interval, each end written by `said`; one that could not be drawn is said to be missing.
pub fn interval(ci: Option<[f64; 2]>, said: impl Fn(f64) -> String) -> String {
    ci.map_or("(no interval)".into(), |[low, high]| format!("[{}, {}]", said(low), said(high)))
}
