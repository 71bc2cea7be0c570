//! The measurements themselves: a clean pass, and a sweep split into its unedited and its edited runs.

use anyhow::Result;
use interp_core::decoder::Decoder;
use interp_core::guard::catch_torch;
use interp_core::scores::ScoreGrid;
use interp_core::sweep::{Models, Sweep, TrialReport, pass_flop};
use interp_core::trial::Trial;

use super::clock::{Seconds, timed};

/// A pass over one prompt to all logits of its last position.
pub struct Pass {
    pub tokens: usize,
    pub seconds: Seconds,
    pub flop: f64,
}

/// One sweep on one trial.
pub struct Measured {
    /// The unedited runs.
    pub runs: Seconds,
    /// The edited ones.
    pub waves: Seconds,
    /// Both.
    pub whole: Seconds,
    pub runs_flop: f64,
    pub waves_flop: f64,
    /// Largest |δ|.
    pub largest: f64,
    /// Metric of the unedited base run.
    pub clean: f64,
    pub cells: usize,
}

/// Measures a clean pass `repeats` times, after once that does not count.
pub fn pass(decoder: &Decoder, tokens: &[i64], repeats: usize) -> Result<Pass> {
    let _no_grad = tch::no_grad_guard();
    let last = tokens.len() - 1;
    let run = || {
        catch_torch("a clean pass", || {
            let resid = decoder.forward(decoder.embed(tokens), last..last + 1, &mut ());
            Ok(decoder.unembed(&resid, last, None, &mut ()).argmax(-1, false).int64_value(&[0, 0]))
        })
    };
    run()?;
    let mut seconds = Seconds::default();
    for _ in 0..repeats {
        let (taken, token) = timed(decoder.devices(), run);
        token?;
        seconds.0.push(taken);
    }
    let flop = pass_flop(decoder.config(), tokens.len(), decoder.config().d_vocab);
    Ok(Pass { tokens: tokens.len(), seconds, flop })
}

/// Measures a sweep `repeats` times, after once that does not count.
pub fn sweep(decoder: &Decoder, sweep: &Sweep, trial: &Trial, repeats: usize) -> Result<Measured> {
    let config = decoder.config();
    let (runs_flop, waves_flop) = (sweep.unedited_flop(config, trial)?, sweep.flop(config, trial)?);
    let (first, _) = run(decoder, sweep, trial)?;
    let (mut runs, mut waves, mut whole) = (Seconds::default(), Seconds::default(), Seconds::default());
    for _ in 0..repeats {
        // Both parts end by reading numbers back, so that a GPU has finished when the clock is read.
        let (_, report) = run(decoder, sweep, trial)?;
        runs.0.push(report.runs_s);
        waves.0.push(report.waves_s);
        whole.0.push(report.runs_s + report.waves_s);
    }
    let deltas = first.values[0].iter().filter(|delta| !delta.is_nan());
    let largest = deltas.fold(0.0f64, |largest, delta| largest.max(delta.abs()));
    let (clean, cells) = (first.clean[0], first.n_cells());
    Ok(Measured { runs, waves, whole, runs_flop, waves_flop, largest, clean, cells })
}

/// The trial as `interp sweep` runs it.
pub fn run(decoder: &Decoder, sweep: &Sweep, trial: &Trial) -> Result<(ScoreGrid, TrialReport)> {
    let axes = sweep.axes(decoder.config(), trial)?;
    Ok(sweep.trial(Models::of(decoder), &axes, trial)?)
}
