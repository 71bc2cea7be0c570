//! Where a sweep's results go.

use std::ops::ControlFlow;

use super::report::TrialReport;
use crate::error::Result;
use crate::scores::ScoreGrid;

/// Where a sweep's results go. The engine pushes; one trial is the unit of resume.
pub trait Sink {
    /// Called once before the first trial.
    fn begin(&mut self, n_trials: usize) -> Result<()>;
    /// Whether this trial is already there from an interrupted run and need not be computed.
    fn has(&self, index: usize) -> bool;
    /// The finished grid of one trial, and what it cost. `Break` stops the run after this trial.
    fn trial(&mut self, index: usize, grid: &ScoreGrid, report: &TrialReport) -> Result<ControlFlow<()>>;
    /// A trial that was refused, with the reason.
    fn skip(&mut self, index: usize, reason: &str) -> Result<ControlFlow<()>>;
    /// Called once after the last trial (not after a `Break`).
    fn finish(&mut self) -> Result<()>;
}
