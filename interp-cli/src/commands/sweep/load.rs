//! What a sweep runs with, in memory: the edited model, the donor beside it or what the donor left before it went, and
//! statistics. Decides who is loaded when.

use anyhow::Result;
use interp_core::adapter::Merges;
use interp_core::decoder::Decoder;
use interp_core::device::{Devices, Precision, Weights, free_memory};
use interp_core::intervention::{Edit, Moments};
use interp_core::site::{HookPoint, Positions};
use interp_core::sweep::{Donor, KeptSources, Models};
use interp_core::transfer::{Maps, Samples, extent, hold_out};
use interp_core::trial::Trial;
use interp_core::{Error, guard};
use serde_json::{Value, json};
use tch::{Device, Kind};

use super::Prepared;
use super::source::Source;
use crate::bases::Bases;
use crate::model::Model;
use crate::output::Printer;
use crate::progress::bar;

/// Models and statistics of a sweep.
pub struct Loaded {
    base: Decoder,
    /// With the adapter that is grafted.
    adapted: Option<Decoder>,
    donor: Option<Held>,
    moments: Option<Moments>,
    maps: Option<Maps>,
}

/// The donor's part.
enum Held {
    Beside(Box<Decoder>),
    Kept(KeptSources),
}

impl Loaded {
    /// As the engine takes them.
    pub fn models(&self) -> Models<'_> {
        let donor = self.donor.as_ref().map(|held| match held {
            Held::Beside(decoder) => Donor::Model(decoder),
            Held::Kept(kept) => Donor::Kept(kept),
        });
        Models { base: &self.base, adapted: self.adapted.as_ref(), donor, moments: self.moments.as_ref() }
    }

    /// The map that donated vectors went through, if one was fitted.
    pub fn maps(&self) -> Option<&Maps> {
        self.maps.as_ref()
    }

    /// The donor's part of some trials once more, where what was kept of it is only that of the trials of this start.
    pub fn kept_again(&self, prepared: &Prepared, trials: &[&Trial]) -> Result<Option<KeptSources>> {
        match self.donor {
            Some(Held::Kept(_)) => Ok(prepared.keep_again(self.maps(), trials, prepared.model.precision)?),
            _ => Ok(None),
        }
    }

    /// What `run.json` says of the map: how well it does on prompts that it was not fitted to.
    pub fn describe_maps(&self) -> Option<Value> {
        let maps = self.maps.as_ref()?;
        let (fitted, held_out) = maps.n_samples();
        let r2: serde_json::Map<String, Value> = maps.r2().map(|(at, r2)| (at.to_string(), json!(r2))).collect();
        Some(json!({ "map": maps.method().to_string(), "fitted": fitted, "held_out": held_out, "r2": r2 }))
    }
}

impl Prepared {
    /// Loads what the trials that are `wanted` run with, the weights that `bases` has already excepted. Where the donor's
    /// activations go through a map, or the two models do not fit into memory together, the donor runs first, and goes.
    pub fn load(&self, wanted: &dyn Fn(usize) -> bool, bases: &mut Bases, printer: &Printer) -> Result<Loaded> {
        let Some(source) = &self.source else {
            if self.sweep.edit.is_graft() {
                let weights = bases.base(&self.model, printer)?;
                let (base, adapted) = self.grafted(&weights)?;
                return Ok(Loaded { base, adapted: Some(adapted), donor: None, moments: None, maps: None });
            }
            let base = bases.load(&self.model, printer)?;
            let moments = self.moments(&base)?;
            return Ok(Loaded { base, adapted: None, donor: None, moments, maps: None });
        };
        let one_base = self.model.base_key() == source.model.base_key();
        if !source.is_mapped() && (one_base || fit_together(&self.model, &source.model)) {
            let donor = if one_base { bases.load(&source.model, printer)? } else { source.model.load(printer)? };
            let (base, donor) = (bases.load(&self.model, printer)?, Some(Held::Beside(Box::new(donor))));
            return Ok(Loaded { base, adapted: None, donor, moments: None, maps: None });
        }
        let wanted = |(index, can_run): (usize, &bool)| (*can_run && wanted(index)).then(|| &self.trials.trials[index]);
        let trials: Vec<&Trial> = self.can_run.iter().enumerate().filter_map(wanted).collect();
        let calibration = self.calibration(source)?;
        self.refuse_too_much(source, &trials, calibration.as_ref())?;
        // It runs one row at a time, so its weights are not laid out for waves.
        let donor = source.model.load(printer)?;
        let kept = self.keep(source, &donor, &trials)?;
        let points = self.sweep.points();
        let collect = |calibration: &Calibration<'_>| {
            let prompts = calibration.prompts();
            guard::catch_torch("calibration", || Ok(Samples::collect(&donor, prompts, &points, Some(&source.via))))
        };
        let samples = calibration.as_ref().map(collect).transpose()?;
        drop(donor);
        let base = bases.load(&self.model, printer)?;
        let fit = |(calibration, samples): (&Calibration<'_>, &Samples)| {
            guard::catch_torch("fitting the map", || {
                let edited = Samples::collect(&base, calibration.prompts(), &points, None);
                Maps::fit(source.method, samples, &edited, &calibration.held_out)
            })
        };
        let maps = calibration.as_ref().zip(samples.as_ref()).map(fit).transpose()?;
        if let Some(maps) = &maps {
            report(maps, printer);
        }
        let kept = match &maps {
            Some(maps) => kept.carried(maps),
            None => kept,
        };
        Ok(Loaded { base, adapted: None, donor: Some(Held::Kept(kept)), moments: None, maps })
    }

    /// The donor's part of some trials once more, by a donor that is loaded beside everything else for the moment and
    /// computes in `precision`. `None` for a sweep without one.
    pub fn keep_again(
        &self,
        maps: Option<&Maps>,
        trials: &[&Trial],
        precision: Precision,
    ) -> interp_core::Result<Option<KeptSources>> {
        let Some(source) = &self.source else { return Ok(None) };
        let base = mapped(&source.model, precision, &source.model.devices)?;
        let donor = source.model.chain.apply(&base)?;
        let kept = self.keep(source, &donor, trials)?;
        Ok(Some(match maps {
            Some(maps) => kept.carried(maps),
            None => kept,
        }))
    }

    /// The clean run's model, and the one with the adapter whose parts are grafted.
    pub fn grafted(&self, weights: &Decoder) -> interp_core::Result<(Decoder, Decoder)> {
        let chain = &self.model.chain;
        let adapted = chain.apply(weights)?;
        let base =
            if matches!(self.sweep.edit, Edit::Graft) { chain.apply_but_last(weights)? } else { adapted.share() };
        Ok((base, adapted))
    }

    fn keep(&self, source: &Source, donor: &Decoder, trials: &[&Trial]) -> interp_core::Result<KeptSources> {
        let config = self.model.checkpoint.config();
        let bar = bar(trials.len(), "source runs");
        let kept = KeptSources::keep(&self.sweep, donor, config, &source.via, trials.iter().copied(), || bar.inc(1));
        bar.finish_and_clear();
        kept
    }

    /// Both prompts of every calibration trial, at the positions that the sweep edits, and which of them test the map.
    fn calibration<'a>(&self, source: &'a Source) -> Result<Option<Calibration<'a>>> {
        let Some(file) = &source.calibration else { return Ok(None) };
        let (mut prompts, mut groups) = (Vec::new(), Vec::new());
        for trial in &file.trials {
            for prompt in std::iter::once(&trial.base).chain(&trial.source) {
                let place = format!("calibration trial {}", trial.id);
                let of = |selector: &Positions| prompt.positions(selector, &place);
                let mut positions = self.sweep.positions.iter().map(of).collect::<Result<Vec<_>, _>>()?.concat();
                positions.sort_unstable();
                positions.dedup();
                let group = trial.cluster.as_deref().unwrap_or(&trial.id);
                groups.extend(std::iter::repeat_n(group, positions.len()));
                prompts.push((prompt.tokens.as_slice(), positions));
            }
        }
        let held_out = hold_out(&groups, self.sweep.seed)?;
        Ok(Some(Calibration { prompts, held_out }))
    }

    /// What is kept of the donor must fit into half of the memory that is free, before anything is loaded.
    fn refuse_too_much(&self, source: &Source, trials: &[&Trial], calibration: Option<&Calibration<'_>>) -> Result<()> {
        let (config, donor) = (self.model.checkpoint.config(), source.model.checkpoint.config());
        let kind = self.model.precision.dtype.kind();
        let kept = KeptSources::bytes(&self.sweep, config, donor, trials.iter().copied(), kind)?;
        let samples = calibration.map_or(0, |calibration| calibration.held_out.len());
        let per_sample = |at: HookPoint| -> usize {
            let of = |config| at.site.axes().iter().map(|&axis| extent(axis, config)).product::<usize>();
            of(config) + of(donor)
        };
        let width = if kind == Kind::Double { 8 } else { 4 };
        let samples = samples * self.sweep.points().into_iter().map(per_sample).sum::<usize>() * width;
        let needed = kept + samples as u64;
        match free_memory(Device::Cpu) {
            Some(free) if needed > free / 2 => Err(Error::File {
                path: source.model.checkpoint.dir().into(),
                problem: format!(
                    "keeping what patches take from it needs {:.1} GB, half of the free memory is {:.1} GB",
                    needed as f64 / 1e9,
                    free as f64 / 2e9
                ),
                hint: Some("choose fewer --layers or --positions, or split the trial file and sweep each part".into()),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// What a map is fitted and tested on.
struct Calibration<'a> {
    /// With the positions to take.
    prompts: Vec<(&'a [i64], Vec<usize>)>,
    /// Per prompt and position.
    held_out: Vec<bool>,
}

impl<'a> Calibration<'a> {
    fn prompts(&self) -> impl Iterator<Item = (&'a [i64], Vec<usize>)> {
        self.prompts.iter().cloned()
    }
}

/// Whether the weights of both take less than half of what is free.
fn fit_together(edited: &Model, donor: &Model) -> bool {
    let bytes = |model: &Model| {
        let computed = model.precision.dtype.kind().elt_size_in_bytes() as u64;
        let as_computed = |(name, bytes): (&String, &u64)| match name.as_str() {
            "F64" => bytes / 8 * computed,
            "F32" => bytes / 4 * computed,
            _ => bytes / 2 * computed,
        };
        let converted: u64 = model.checkpoint.stored_dtypes().iter().map(as_computed).sum();
        converted.max(model.checkpoint.total_bytes())
    };
    edited.devices.free_memory().is_none_or(|free| bytes(edited) + bytes(donor) < free / 2)
}

/// A checkpoint's base beside what is loaded: weights stay in the memory map and are converted product by product, unless
/// they are quantized on load, which makes them other numbers. A GPU that has no room for them leaves the work to the CPU.
pub fn mapped(model: &Model, precision: Precision, devices: &Devices) -> interp_core::Result<Decoder> {
    let weights = if precision.weights.quantizes() { precision.weights } else { Weights::File };
    let (checkpoint, precision) = (&model.checkpoint, Precision { weights, ..precision });
    let stored = checkpoint.stored_dtypes();
    let total: u64 = stored.values().sum();
    let copied = |device: Device| match precision.storage(&stored, device) {
        Some(kind) => total / 2 * kind.elt_size_in_bytes() as u64,
        None if device == Device::Cpu => 0,
        None => total,
    };
    // A quarter more, for the passes themselves.
    let fits = |devices: &Devices| {
        let share = devices.iter().count() as u64;
        devices.free_memory().is_none_or(|free| copied(devices.first()) / share / 4 * 5 < free)
    };
    let devices = [devices.clone(), Device::Cpu.into()].into_iter().find(fits).ok_or_else(|| {
        let problem = format!("f16 weights take {:.1} GB in {}", copied(Device::Cpu) as f64 / 1e9, precision.dtype);
        Error::File { path: checkpoint.dir().into(), problem, hint: None }
    })?;
    let merges = Merges(model.chain.merges());
    guard::catch_torch("loading weights once more", || {
        Decoder::load_merged(checkpoint, merges, devices, precision, false)
    })
}

/// How well the maps do.
fn report(maps: &Maps, printer: &Printer) {
    let mut r2: Vec<f64> = maps.r2().flat_map(|(_, r2)| r2).filter(|r2| !r2.is_nan()).collect();
    r2.sort_unstable_by(f64::total_cmp);
    let (fitted, held_out) = maps.n_samples();
    let method = maps.method();
    if r2.is_empty() {
        printer.talk(&format!("warning: map {method}: nothing varies over the calibration prompts"));
        return;
    }
    let (least, middle, most) = (r2[0], r2[r2.len() / 2], r2[r2.len() - 1]);
    printer.talk(&format!(
        "map {method}: held-out R² {middle:.3} ({least:.3} to {most:.3}), median and range of {} maps; {fitted} samples \
         fitted, {held_out} held out",
        r2.len()
    ));
    let useless = r2.iter().filter(|r2| **r2 <= 0.0).count();
    if useless > 0 {
        printer.talk(&format!("warning: {useless} of {} maps do no better than a constant", r2.len()));
    }
}
