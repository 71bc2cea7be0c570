//! The unedited runs of a sweep's prompts: each is made once and serves the trials nearby, as base and as source. Edits nothing.
//!
//! Which run serves what, and from which other run a prompt takes its beginning over, follows from the list of trials alone:
//! a sweep that is stopped and resumed makes the same runs, to the bit, as one that is not.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Models, Sweep};
use crate::cache::CleanRun;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::intervention::{Edit, common_prefix};
use crate::site::{Axis, HookPoint};
use crate::transfer::extent;
use crate::trial::Trial;

/// Over how many further trials a run is kept that none of them needs, in the hope of the one after. Also how many runs
/// deep a beginning may be taken over from a run that has taken over its own.
const WINDOW: usize = 8;

/// Bytes: a run of `n` is kept over at most `KEPT / n` trials. A trial has two runs, so what is kept for later stays below
/// 2·KEPT·(1 + 1/2 + … + 1/WINDOW), less than 6 GiB, and in practice, where runs are of one size, below 2 GiB.
const KEPT: usize = 1 << 30;

/// What a trial needs of its unedited runs.
#[derive(Debug)]
pub(super) struct Needs {
    /// Layers that its waves start from, sorted.
    pub(super) layers: Vec<usize>,
    /// First base position that a cell changes.
    pub(super) pos: usize,
    /// First source position that a cell takes from.
    pub(super) source_pos: usize,
    /// Hook points that cells patch from the source.
    pub(super) points: Vec<HookPoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Base,
    Source,
}

/// A prompt and the trials, not far from each other, that one run of it serves.
#[derive(Debug)]
struct Stay<'a> {
    tokens: &'a [i64],
    /// Whether it runs on another model than the edited one, and so serves as source only.
    other: bool,
    uses: Vec<(usize, Role)>,
    /// The stay whose run it takes its beginning over from: that of the base beside which it first serves as source.
    parent: Option<usize>,
    /// How many parents up there are.
    depth: usize,
}

/// All runs of a sweep, planned, and those that are made and still needed.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    stays: Vec<Stay<'a>>,
    /// Per trial, the stays of base and source.
    of_trial: Vec<Option<(usize, Option<usize>)>>,
    held: HashMap<usize, Rc<CleanRun>>,
    /// Runs made so far.
    pub(super) made: usize,
}

/// The unedited runs of one trial.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) base: Rc<CleanRun>,
    pub(super) source: Option<Rc<CleanRun>>,
}

impl<'a> Runs<'a> {
    /// Plans the runs of those trials that are `Some`. Runs of one model say nothing of another's.
    pub(super) fn plan(sweep: &Sweep, models: Models<'_>, trials: impl Iterator<Item = Option<&'a Trial>>) -> Self {
        let mut runs = Self { stays: Vec::new(), of_trial: Vec::new(), held: HashMap::new(), made: 0 };
        let mut latest: HashMap<(bool, &[i64]), usize> = HashMap::new();
        for (index, trial) in trials.enumerate() {
            let pair = trial.map(|trial| {
                let mut stay = |tokens: &'a [i64], role, decoder: &Decoder, parent: Option<usize>| {
                    let other = role == Role::Source && !models.same_weights();
                    let parent = parent.filter(|_| !other);
                    let kept = (KEPT / size(sweep, decoder, tokens.len()).max(1)).min(WINDOW);
                    let found = latest.get(&(other, tokens)).copied();
                    let found = found.filter(|&id| index - runs.stays[id].last() <= kept);
                    let id = found.unwrap_or_else(|| {
                        let depth = parent.map_or(0, |parent| runs.stays[parent].depth + 1);
                        let (parent, depth) = if depth <= WINDOW { (parent, depth) } else { (None, 0) };
                        runs.stays.push(Stay { tokens, other, uses: Vec::new(), parent, depth });
                        runs.stays.len() - 1
                    });
                    latest.insert((other, tokens), id);
                    runs.stays[id].uses.push((index, role));
                    id
                };
                let base = stay(&trial.base.tokens, Role::Base, models.base, None);
                let source = models.donating(trial).zip(models.source());
                (base, source.map(|(source, model)| stay(&source.tokens, Role::Source, model, Some(base))))
            });
            runs.of_trial.push(pair);
        }
        runs
    }

    /// The runs of a trial, made now if no earlier trial left them. `needs` says what a trial needs.
    pub(super) fn of(
        &mut self,
        trial: usize,
        models: Models<'_>,
        needs: &dyn Fn(usize) -> Result<Needs>,
    ) -> Result<Pair> {
        let (base, source) = self.of_trial[trial].expect("only planned trials run");
        let base = self.run(base, models, needs)?;
        Ok(Pair { base, source: source.map(|source| self.run(source, models, needs)).transpose()? })
    }

    /// Lets go of the runs that no trial after this one needs.
    pub(super) fn release(&mut self, trial: usize) {
        self.held.retain(|&id, _| self.stays[id].last() > trial);
    }

    fn run(&mut self, id: usize, models: Models<'_>, needs: &dyn Fn(usize) -> Result<Needs>) -> Result<Rc<CleanRun>> {
        if let Some(run) = self.held.get(&id) {
            return Ok(run.clone());
        }
        let parent = self.stays[id].parent.map(|parent| self.run(parent, models, needs)).transpose()?;
        let Stay { tokens, uses, other, .. } = &self.stays[id];
        let decoder = models.source().filter(|_| *other).unwrap_or(models.base);
        let (mut layers, mut points) = (Vec::new(), Vec::new());
        // The last layer is computed from `from` on, and records begin at `first` at the latest.
        let (mut from, mut first) = (tokens.len() - 1, tokens.len() - 1);
        for &(trial, role) in uses {
            let needs = needs(trial)?;
            match role {
                Role::Base => {
                    if needs.layers.last().is_some_and(|&layer| layer > 0) {
                        first = first.min(needs.pos);
                    }
                    layers.extend(needs.layers);
                }
                Role::Source => {
                    (from, first) = (from.min(needs.source_pos), first.min(needs.source_pos));
                    points.extend(needs.points);
                }
            }
        }
        let common = parent.as_ref().map_or(0, |parent| common_prefix(parent.tokens(), tokens).min(first));
        let run = match parent {
            Some(parent) if common > 0 => CleanRun::after(decoder, &parent, common, tokens, layers, points, from),
            _ => CleanRun::new(decoder, tokens, layers, points, from),
        };
        let run = Rc::new(run);
        self.made += 1;
        self.held.insert(id, run.clone());
        Ok(run)
    }
}

impl Stay<'_> {
    /// The last trial it serves.
    fn last(&self) -> usize {
        self.uses.last().map_or(0, |&(trial, _)| trial)
    }
}

/// Bytes that the run of a prompt of `len` tokens holds at most: keys and values, and what patches take.
fn size(sweep: &Sweep, decoder: &Decoder, len: usize) -> usize {
    let config = decoder.config();
    let past = 2 * config.n_layers * config.n_kv_heads * config.d_head * len;
    let points = if matches!(sweep.edit, Edit::Patch) { sweep.points() } else { Vec::new() };
    let recorded: usize = points.iter().map(|at| numbers(at.site.axes(), config, len)).sum();
    (past + recorded + config.d_model * len) * decoder.kind().elt_size_in_bytes()
}

/// Numbers of an activation of one row over `len` positions.
fn numbers(axes: &[Axis], config: &ModelConfig, len: usize) -> usize {
    let length = |axis: &Axis| match axis {
        Axis::Pos | Axis::Dest | Axis::Src => len,
        axis => extent(*axis, config),
    };
    axes.iter().map(length).product()
}
