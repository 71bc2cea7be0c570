//! A sink around a sink: shows progress on a terminal and stops the run after the current trial on Ctrl-C. Stores nothing.

use std::ops::ControlFlow;

use indicatif::ProgressBar;
use interp_core::Result;
use interp_core::scores::ScoreGrid;
use interp_core::sweep::{Sink, TrialReport};

use crate::interrupt;
use crate::output::{Exit, Printer};
use crate::progress::bar;

/// Watches a sweep on its way into `inner`.
pub struct Watched<'a, S> {
    inner: &'a mut S,
    bar: ProgressBar,
    done: usize,
    all: usize,
    stopped: bool,
    is_interrupted: fn() -> bool,
}

impl<'a, S: Sink> Watched<'a, S> {
    /// [`interrupt::catch`] is the caller's to call, once.
    pub fn new(inner: &'a mut S) -> Self {
        Self::on(inner, &bar(0, "trials"))
    }

    /// One of several sweeps that share a bar, which begins at 0 of 0.
    pub fn on(inner: &'a mut S, bar: &ProgressBar) -> Self {
        let is_interrupted = interrupt::requested;
        Self { inner, bar: bar.clone(), done: 0, all: 0, stopped: false, is_interrupted }
    }

    /// How many trials are done, and of how many; whether the run was stopped here.
    pub fn progress(&self) -> (usize, usize, bool) {
        (self.done, self.all, self.stopped)
    }

    /// Ends the display. Says so if the run was stopped.
    pub fn end(self, printer: &Printer) -> Exit {
        self.bar.finish_and_clear();
        if !self.stopped {
            return Exit::Done;
        }
        printer.talk(&format!("interrupted after {} of {} trials; the same command resumes", self.done, self.all));
        Exit::Interrupted
    }

    fn step(&mut self, flow: ControlFlow<()>) -> ControlFlow<()> {
        self.done += 1;
        self.bar.inc(1);
        // After the last trial there is nothing left to stop.
        self.stopped = self.done < self.all && (self.is_interrupted)();
        if self.stopped { ControlFlow::Break(()) } else { flow }
    }
}

impl<S: Sink> Sink for Watched<'_, S> {
    fn begin(&mut self, n_trials: usize) -> Result<()> {
        self.inner.begin(n_trials)?;
        self.all = n_trials;
        self.done = (0..n_trials).filter(|&index| self.inner.has(index)).count();
        self.bar.inc_length(n_trials as u64);
        self.bar.inc(self.done as u64);
        // What an earlier start did must not count into the rate.
        self.bar.reset_eta();
        Ok(())
    }

    fn has(&self, index: usize) -> bool {
        self.inner.has(index)
    }

    fn trial(&mut self, index: usize, grid: &ScoreGrid, report: &TrialReport) -> Result<ControlFlow<()>> {
        let flow = self.inner.trial(index, grid, report)?;
        Ok(self.step(flow))
    }

    fn skip(&mut self, index: usize, reason: &str) -> Result<ControlFlow<()>> {
        let flow = self.inner.skip(index, reason)?;
        Ok(self.step(flow))
    }

    fn finish(&mut self) -> Result<()> {
        // What comes now may show progress of its own.
        self.bar.finish_and_clear();
        self.inner.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counts(usize);

    impl Sink for Counts {
        fn begin(&mut self, _: usize) -> Result<()> {
            Ok(())
        }
        fn has(&self, index: usize) -> bool {
            index == 0
        }
        fn trial(&mut self, _: usize, _: &ScoreGrid, _: &TrialReport) -> Result<ControlFlow<()>> {
            unreachable!()
        }
        fn skip(&mut self, _: usize, _: &str) -> Result<ControlFlow<()>> {
            self.0 += 1;
            Ok(ControlFlow::Continue(()))
        }
        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn ctrl_c_stops_after_the_trial_at_hand() {
        let mut counts = Counts(0);
        let mut watched = Watched::new(&mut counts);
        watched.begin(4).unwrap();
        assert_eq!(watched.skip(1, "").unwrap(), ControlFlow::Continue(()));
        interrupt::request();
        assert_eq!(watched.skip(2, "").unwrap(), ControlFlow::Break(()));
        assert_eq!((watched.done, watched.all), (3, 4));
        assert_eq!(watched.end(&Printer::new()), Exit::Interrupted);
        assert_eq!(counts.0, 2, "the trial at hand was kept");
    }
}
