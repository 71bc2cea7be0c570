//! The precision part of the noise floor: a few cells that the sweep has run, run once more one precision up.

use std::collections::BTreeMap;

use interp_core::Result;
use interp_core::device::Precision;
use interp_core::export::NoiseFloor;
use interp_core::sweep::{Donor, Models, Sample};
use interp_core::trial::Trial;
use serde_json::{Value, json};

use super::Prepared;
use super::load::{Loaded, mapped};
use crate::interrupt;
use crate::progress::bar;

/// How the precision was measured, or why it was not.
pub struct Reference {
    /// `run.json`'s word for it.
    pub record: Value,
    /// Why it was not measured although it was asked for and could have been.
    pub failed: Option<String>,
}

/// What became of the measurement.
pub enum Outcome {
    /// It is done, or cannot be done.
    Done(Reference),
    /// Ctrl-C: nothing is lost, and the next start begins here.
    Interrupted,
}

impl Reference {
    /// Not measured, for a reason that is no surprise.
    pub fn none(why: &str) -> Self {
        Self { record: json!({ "unmeasured": why }), failed: None }
    }
}

/// Sets `precision` and `correlation` of the floors, one per metric, from a sample of the `effects [metric, cell]` of the
/// trials that ran. A failure is no reason to lose a finished sweep: it is recorded instead.
pub fn measure(
    prepared: &Prepared,
    loaded: &Loaded,
    effects: &BTreeMap<usize, Vec<f32>>,
    floors: &mut [NoiseFloor],
) -> Outcome {
    match compare(prepared, loaded, effects, floors) {
        Ok(outcome) => outcome,
        Err(error) => {
            Outcome::Done(Reference { failed: Some(error.to_string()), ..Reference::none(&error.to_string()) })
        }
    }
}

fn compare(
    prepared: &Prepared,
    loaded: &Loaded,
    effects: &BTreeMap<usize, Vec<f32>>,
    floors: &mut [NoiseFloor],
) -> Result<Outcome> {
    let Some(dtype) = prepared.model.precision.dtype.above() else {
        return Ok(Outcome::Done(Reference::none("nothing is above f64")));
    };
    let (trials, models) = (&prepared.trials.trials, loaded.models());
    let done: Vec<usize> = effects.keys().copied().collect();
    let samples = prepared.sweep.sample(models, trials, &done)?;
    if samples.is_empty() {
        return Ok(Outcome::Done(Reference::none("no cell had to run: each is exactly 0")));
    }
    let above = Precision { dtype, ..prepared.model.precision };
    let chosen: Vec<&Trial> = samples.iter().map(|sample| &trials[sample.trial]).collect();
    let kept = prepared.keep_again(loaded.maps(), &chosen, above)?;
    let (decoder, adapted) = match prepared.model.precision.weights.quantizes() {
        // The same 4-bit numbers, and no second set of them.
        true => (models.base.in_dtype(dtype), models.adapted.map(|adapted| adapted.in_dtype(dtype))),
        false => {
            let weights = mapped(&prepared.model, above, models.base.devices())?;
            match models.adapted {
                None => (prepared.model.chain.apply(&weights)?, None),
                Some(_) => prepared.grafted(&weights).map(|(base, adapted)| (base, Some(adapted)))?,
            }
        }
    };
    // The same statistics and maps: what is compared is the precision of the passes.
    let donor = kept.as_ref().map(Donor::Kept);
    let above = Models { base: &decoder, adapted: adapted.as_ref(), donor, moments: models.moments };
    let axes = &prepared.plan.layout.axes;
    let n_cells: usize = axes.iter().map(|axis| axis.labels.len()).product();
    let mut pairs = vec![(Vec::new(), Vec::new()); floors.len()];
    let bar = bar(samples.len(), "trials of the noise floor");
    for Sample { trial, cells } in &samples {
        if interrupt::requested() {
            return Ok(Outcome::Interrupted);
        }
        let grid = prepared.sweep.cells_of(above, axes, &trials[*trial], cells)?;
        for (metric, (ours, reference)) in pairs.iter_mut().enumerate() {
            ours.extend(cells.iter().map(|cell| f64::from(effects[trial][metric * n_cells + cell])));
            reference.extend(cells.iter().map(|&cell| grid.values[metric][cell]));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for (floor, (ours, reference)) in floors.iter_mut().zip(&pairs) {
        *floor = floor.against(ours, reference);
    }
    let record = json!({
        "dtype": dtype.to_string(),
        "device": decoder.devices().to_string(),
        "trials": samples.iter().map(|sample| &trials[sample.trial].id).collect::<Vec<_>>(),
        "n_cells": samples.iter().map(|sample| sample.cells.len()).sum::<usize>(),
    });
    Ok(Outcome::Done(Reference { record, failed: None }))
}
