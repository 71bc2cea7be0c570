//! From interventions and a prompt to rows, places and values. Errors name what the user wrote.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::apply::{Op, Point, Pull};
use super::donors::Donors;
use super::places::{Place, changed, refuse, resolve};
use super::{Edit, Intervention};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::device::Devices;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::site::{Axis, HeadAxis, HookPoint, Site};

/// What a binding needs to know besides the interventions.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// Geometry of the edited model.
    pub config: &'a ModelConfig,
    /// Where the edited model is.
    pub devices: Devices,
    /// dtype of activations.
    pub kind: Kind,
    /// Seed of `noise`.
    pub seed: u64,
    /// Name of the trial, for messages and for `noise`.
    pub trial: &'a str,
}

impl<'a> Context<'a> {
    /// For a run on a decoder.
    pub fn of_run(decoder: &'a Decoder, seed: u64, trial: &'a str) -> Self {
        Self { config: decoder.config(), devices: decoder.devices().clone(), kind: decoder.kind(), seed, trial }
    }

    /// Where the values of a hook point are put.
    fn device_of(&self, at: HookPoint) -> Device {
        if at.site == Site::LnFinal {
            return self.devices.last();
        }
        self.devices.of_layer(at.layer, self.config.n_layers)
    }

    /// For checking only, before any decoder is loaded.
    pub fn of_prompt(config: &'a ModelConfig, trial: &'a str) -> Self {
        Self { config, devices: Device::Cpu.into(), kind: Kind::Float, seed: 0, trial }
    }
}

/// The earliest (layer, position) that a set of edits can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frontier {
    /// Layers below are as in the clean run.
    pub layer: usize,
    /// Positions before are as in the clean run.
    pub pos: usize,
}

/// Where a set of interventions begins to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// First hook point at which it changes anything.
    pub at: HookPoint,
    /// Smallest base position it changes.
    pub pos: usize,
    /// Smallest source position it takes from, for a patch.
    pub source_pos: Option<usize>,
}

/// Interventions bound to a prompt, one set per row. A hook: row 0 stays clean and edited rows enter the pass, as copies of
/// it, where they are first edited.
#[derive(Debug)]
pub struct Edits {
    pub(super) points: BTreeMap<(usize, Site), Point>,
    row_of: Vec<Option<i64>>,
    frontier: Option<Frontier>,
}

/// A cell's number, which `noise` depends on, and what the cell changes.
pub type CellSet<'a> = (usize, &'a [Intervention]);

impl Edits {
    /// Binds one set of interventions per cell; the row of the pass that carries set `i` is found by [`Edits::row_of`]. A set
    /// that causality makes null gets no row: its effect is exactly 0.
    pub fn bind(sets: &[CellSet<'_>], prompt: &Prompt, donors: &Donors<'_>, context: &Context<'_>) -> Result<Self> {
        let mut bound = Vec::with_capacity(sets.len());
        for (_, set) in sets {
            let places = changed_by(set, prompt, donors, context)?;
            let first = set.iter().zip(&places).filter(|(_, p)| !p.is_empty()).map(|(one, _)| one.at.order()).min();
            bound.push((first, places));
        }
        // Rows are numbered in the order in which they enter the pass, behind the clean row 0.
        let mut order: Vec<usize> = (0..sets.len()).filter(|&i| bound[i].0.is_some()).collect();
        order.sort_by_key(|&i| bound[i].0);
        let mut edits = Self { points: BTreeMap::new(), row_of: vec![None; sets.len()], frontier: None };
        for (n, &i) in order.iter().enumerate() {
            edits.row_of[i] = Some(n as i64 + 1);
            edits.add(sets[i], &bound[i].1, &[n as i64 + 1], prompt, donors, context)?;
        }
        edits.close(context);
        Ok(edits)
    }

    /// Finds every mistake that binding would find in the prompts and selectors, without any run.
    pub fn check(set: &[Intervention], prompt: &Prompt, source: Option<&Prompt>, context: &Context<'_>) -> Result<()> {
        set.iter().try_for_each(|one| resolve(one, prompt, source, false, context).map(drop))
    }

    /// Where a set begins to act, found from the prompts alone; `None` when causality makes the set null. `same_weights` as
    /// in [`Donors`].
    pub fn reach(
        set: &[Intervention],
        prompt: &Prompt,
        source: Option<&Prompt>,
        same_weights: bool,
        context: &Context<'_>,
    ) -> Result<Option<Reach>> {
        let places = changed(set, prompt, source, same_weights, context)?;
        let acting = set.iter().zip(&places).filter(|(_, places)| !places.is_empty());
        let Some(at) = acting.map(|(one, _)| one.at).min_by_key(|at| at.order()) else { return Ok(None) };
        let places = || places.iter().flatten();
        let source_pos = places().filter_map(|place| place.source_pos).min();
        Ok(places().map(|place| place.pos).min().map(|pos| Reach { at, pos, source_pos }))
    }

    /// Source positions that a set's patches take from another model's run, found from the prompts alone.
    pub fn taken(
        set: &[Intervention],
        prompt: &Prompt,
        source: &Prompt,
        context: &Context<'_>,
    ) -> Result<BTreeSet<usize>> {
        let places = changed(set, prompt, Some(source), false, context)?;
        Ok(places.iter().flatten().filter_map(|place| place.source_pos).collect())
    }

    /// Binds one set of interventions to all `rows` rows that a pass starts with; no row is appended.
    pub fn bind_in_place(
        set: CellSet<'_>,
        rows: usize,
        prompt: &Prompt,
        donors: &Donors<'_>,
        context: &Context<'_>,
    ) -> Result<Self> {
        let places = changed_by(set.1, prompt, donors, context)?;
        let rows: Vec<i64> = (0..rows as i64).collect();
        let mut edits = Self { points: BTreeMap::new(), row_of: vec![Some(0)], frontier: None };
        edits.add(set, &places, &rows, prompt, donors, context)?;
        edits.close(context);
        Ok(edits)
    }

    /// The earliest change, or `None` when nothing at all can change.
    pub fn frontier(&self) -> Option<Frontier> {
        self.frontier
    }

    /// The row of the pass that carries set `i`, or `None` when the set is null by causality.
    pub fn row_of(&self, i: usize) -> Option<i64> {
        self.row_of[i]
    }

    /// Errs unless every bound place was reached: an edit that never fired must not look like an effect of zero.
    pub fn finish(self) -> Result<()> {
        match self.points.iter().find(|(_, point)| point.hit < point.bound()) {
            None => Ok(()),
            Some(((layer, site), point)) => Err(Error::EditNeverFired {
                at: HookPoint::new(*site, *layer).to_string(),
                bound: point.bound(),
                missed: point.bound() - point.hit,
            }),
        }
    }

    fn add(
        &mut self,
        (cell, set): CellSet<'_>,
        places: &[Vec<Place>],
        rows: &[i64],
        prompt: &Prompt,
        donors: &Donors<'_>,
        context: &Context<'_>,
    ) -> Result<()> {
        let mut nth: BTreeMap<(usize, Site), usize> = BTreeMap::new();
        for (one, places) in set.iter().zip(places).filter(|(_, places)| !places.is_empty()) {
            let key = one.at.order();
            let turn = nth.entry(key).or_default();
            let op = values(one, places, rows.len(), cell, prompt, donors, context)?;
            let window = context.config.windows.get(one.at.layer).copied().flatten();
            let point = self.points.entry(key).or_insert_with(|| Point::new(one.at, window));
            for &row in rows {
                point.push(*turn, places.iter().map(|place| (row, place.pos as i64, place.head as i64)));
            }
            point.push_op(*turn, op);
            *turn += 1;
            let here = Frontier {
                layer: if one.at.site == Site::LnFinal { context.config.n_layers - 1 } else { one.at.layer },
                pos: places.iter().map(|place| place.pos).min().expect("places are not empty"),
            };
            self.frontier = Some(match self.frontier {
                None => here,
                Some(old) => Frontier { layer: old.layer.min(here.layer), pos: old.pos.min(here.pos) },
            });
        }
        Ok(())
    }

    /// Settles how many rows the pass has after each point.
    fn close(&mut self, context: &Context<'_>) {
        let mut rows = 0;
        for point in self.points.values_mut() {
            rows = rows.max(point.max_row() + 1);
            point.close(rows, |at| context.device_of(at), context.kind);
        }
    }
}

/// The places that each intervention of a set changes, with the donors at hand.
fn changed_by(
    set: &[Intervention],
    prompt: &Prompt,
    donors: &Donors<'_>,
    context: &Context<'_>,
) -> Result<Vec<Vec<Place>>> {
    changed(set, prompt, donors.source.map(|(source, _)| source), donors.same_weights, context)
}

/// What to write at the places, `repeat` times over (once per row that shares the set).
fn values(
    one: &Intervention,
    places: &[Place],
    repeat: usize,
    cell: usize,
    prompt: &Prompt,
    donors: &Donors<'_>,
    context: &Context<'_>,
) -> Result<Op> {
    let at = one.at;
    let distance = |place: &Place| prompt.tokens.len() - 1 - place.pos;
    let finish = |rows: Vec<Tensor>| {
        Tensor::stack(&rows, 0).to_device(context.device_of(at)).to_kind(context.kind).repeat([repeat as i64, 1])
    };
    let per_head =
        |moment: Tensor, head: usize| if at.site.head_axis().is_some() { moment.get(head as i64) } else { moment };
    Ok(match &one.edit {
        Edit::Zero | Edit::UniformAttention => Op::Zero,
        Edit::Scale(factor) => Op::Scale(*factor),
        // A product with 1 is the value itself.
        Edit::Graft | Edit::Ungraft => Op::Scale(1.0),
        Edit::Patch => {
            let (_, cache) = donors.source.expect("checked while resolving");
            let from = |place: &Place| {
                let index = cache.index_of(at, place.source_pos.expect("a patch has source positions"))?;
                Some((index as i64, place.head as i64))
            };
            let from: Vec<(i64, i64)> = places.iter().filter_map(from).collect();
            let (bound, missed) = (places.len(), places.len() - from.len());
            let act = cache.get(at).filter(|_| missed == 0);
            let act = act.ok_or_else(|| Error::EditNeverFired { at: at.to_string(), bound, missed })?;
            Op::Pull(Pull { act: act.get(0), from: from.repeat(repeat) })
        }
        Edit::Mean | Edit::Noise(_) => {
            let moments = donors.moments.ok_or_else(|| {
                refuse(
                    "edit",
                    one.edit.name(),
                    "needs prompts to average over".into(),
                    "give a trial file, or mean:CAPTURE_DIR",
                )
            })?;
            if let Some(place) = places.iter().find(|place| moments.count(at, distance(place)) == 0) {
                let problem = format!("no averaged prompt has a position {} from its end at {at}", distance(place));
                return Err(refuse(
                    "positions",
                    &one.positions,
                    problem,
                    "average over prompts at least as long as the trial's",
                ));
            }
            match one.edit {
                Edit::Noise(factor) => {
                    let noisy = |place: &Place| {
                        let sd = per_head(moments.sd(at, distance(place)), place.head).to_device(Device::Cpu);
                        let noise = gaussian(&noise_key(context, cell, at, place), sd.numel());
                        Tensor::from_slice(&noise) * sd * factor
                    };
                    Op::Add(finish(places.iter().map(noisy).collect()))
                }
                _ => Op::Set(finish(
                    places.iter().map(|place| per_head(moments.mean(at, distance(place)), place.head)).collect(),
                )),
            }
        }
        Edit::Add { vector, factor } => {
            let width = site_width(at.site, context.config);
            let heads = if at.site.head_axis() == Some(HeadAxis::Kv) {
                context.config.n_kv_heads
            } else {
                context.config.n_heads
            } as i64;
            let size = vector.size();
            let by_head = at.site.head_axis().is_some() && size == [heads, width];
            if size != [width] && !by_head {
                let problem = format!("the vector has shape {size:?}, `{}` is {width} wide", at.site);
                return Err(refuse("edit", "add", problem, "give a vector of the site's width, or one per head"));
            }
            let row =
                |place: &Place| if by_head { vector.get(place.head as i64) } else { vector.shallow_clone() } * *factor;
            Op::Add(finish(places.iter().map(row).collect()))
        }
        Edit::Knockout { keys } => {
            let keys = prompt.positions(keys, context.trial)?;
            Op::Knockout(keys.into_iter().map(|key| key as i64).collect())
        }
    })
}

/// Width of the vectors at a site: the last axis.
fn site_width(site: Site, config: &ModelConfig) -> i64 {
    let width = match site.axes().last().expect("every site has axes") {
        Axis::DHead => config.d_head,
        Axis::DMlp => config.d_mlp,
        _ => config.d_model,
    };
    width as i64
}

/// Noise depends on what it is for and on nothing else, so that splits, resumes and reruns agree.
fn noise_key(context: &Context<'_>, cell: usize, at: HookPoint, place: &Place) -> [u8; 32] {
    let text = format!("{}\0{}\0{cell}\0{at}\0{}\0{}", context.seed, context.trial, place.pos, place.head);
    Sha256::digest(text.as_bytes()).into()
}

fn gaussian(key: &[u8; 32], n: usize) -> Vec<f64> {
    StandardNormal.sample_iter(ChaCha8Rng::from_seed(*key)).take(n).collect()
}
