//! The unedited runs of prompts: each is made once and serves the steps nearby, as base and as source, of whatever sweep a step
//! is a trial of. Edits nothing.
//!
//! Which run serves what, and from which other run a prompt takes its beginning over, follows from the list of steps alone:
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

/// Over how many further steps a run is kept that none of them needs, in the hope of the one after. Also how many runs
/// deep a beginning may be taken over from a run that has taken over its own.
const WINDOW: usize = 8;

/// Bytes: a run of `n` is kept over at most `KEPT / n` steps. A step has two runs, so what is kept for later stays below
/// 2·KEPT·(1 + 1/2 + … + 1/WINDOW), less than 6 GiB, and in practice, where runs are of one size, below 2 GiB.
const KEPT: usize = 1 << 30;

/// What a step, one trial of one sweep, needs of its unedited runs.
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

/// A prompt and the steps, not far from each other, that one run of it serves.
#[derive(Debug)]
struct Stay<'a> {
    tokens: &'a [i64],
    /// Whether it runs on another model than the edited one, and so serves as source only.
    other: bool,
    uses: Vec<(usize, Role)>,
    /// The stay whose run it takes its beginning over from: of the two prompts beside each other when it first serves, the one
    /// that is there before it.
    parent: Option<usize>,
    /// How many parents up there are.
    depth: usize,
}

/// All runs, planned, and those that are made and still needed.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    stays: Vec<Stay<'a>>,
    /// Per step, the stays of base and source.
    of_step: Vec<Option<(usize, Option<usize>)>>,
    held: HashMap<usize, Rc<CleanRun>>,
    /// Runs made so far.
    pub(super) made: usize,
}

/// The unedited runs of one step.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) base: Rc<CleanRun>,
    pub(super) source: Option<Rc<CleanRun>>,
}

/// The stays found so far, and the latest of every prompt.
struct Plan<'a, 'm> {
    models: Models<'m>,
    stays: Vec<Stay<'a>>,
    latest: HashMap<(bool, &'a [i64]), usize>,
}

impl<'a> Plan<'a, '_> {
    /// The stays of a step's base and source. One that is new takes its beginning over from the other, if that can be.
    fn pair(&mut self, step: usize, sweep: &Sweep, trial: &'a Trial) -> (usize, Option<usize>) {
        let base = Wanted { tokens: &trial.base.tokens, role: Role::Base, other: false };
        let Some((source, donor)) = self.models.donating(trial).zip(self.models.source()) else {
            return (self.stay(step, base, sweep, self.models.base, None), None);
        };
        let source = Wanted { tokens: &source.tokens, role: Role::Source, other: !self.models.same_weights() };
        let earlier = self.found(step, &source, sweep, donor);
        let base = self.stay(step, base, sweep, self.models.base, earlier);
        (base, Some(self.stay(step, source, sweep, donor, Some(base))))
    }

    /// The stay that serves this step, too: there is one, and it is not far back.
    fn found(&self, step: usize, wanted: &Wanted<'a>, sweep: &Sweep, decoder: &Decoder) -> Option<usize> {
        let kept = (KEPT / size(sweep, decoder, wanted.tokens.len()).max(1)).min(WINDOW);
        let found = self.latest.get(&(wanted.other, wanted.tokens)).copied();
        found.filter(|&id| step - self.stays[id].last() <= kept)
    }

    /// The stay of a prompt in this step: one that is found, or a new one, which may have `parent` as the run that it takes its
    /// beginning over from.
    fn stay(
        &mut self,
        step: usize,
        wanted: Wanted<'a>,
        sweep: &Sweep,
        decoder: &Decoder,
        parent: Option<usize>,
    ) -> usize {
        let id = self.found(step, &wanted, sweep, decoder).unwrap_or_else(|| {
            let parent = parent.filter(|&parent| wanted.other == self.stays[parent].other && !wanted.other);
            let depth = parent.map_or(0, |parent| self.stays[parent].depth + 1);
            let (parent, depth) = if depth <= WINDOW { (parent, depth) } else { (None, 0) };
            let Wanted { tokens, other, .. } = wanted;
            self.stays.push(Stay { tokens, other, uses: Vec::new(), parent, depth });
            self.stays.len() - 1
        });
        self.latest.insert((wanted.other, wanted.tokens), id);
        self.stays[id].uses.push((step, wanted.role));
        id
    }
}

/// A prompt as a step needs it.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    tokens: &'a [i64],
    role: Role,
    /// Whether it runs on another model than the edited one.
    other: bool,
}

impl<'a> Runs<'a> {
    /// Plans the runs of those steps that are `Some`. Runs of one model say nothing of another's.
    pub(super) fn plan(models: Models<'_>, steps: impl Iterator<Item = Option<(&'a Sweep, &'a Trial)>>) -> Self {
        let mut plan = Plan { models, stays: Vec::new(), latest: HashMap::new() };
        let of_step =
            steps.enumerate().map(|(step, planned)| planned.map(|(sweep, trial)| plan.pair(step, sweep, trial)));
        let of_step = of_step.collect();
        Self { stays: plan.stays, of_step, held: HashMap::new(), made: 0 }
    }

    /// The runs of a step, made now if no earlier step left them. `needs` says what a step needs.
    pub(super) fn of(
        &mut self,
        step: usize,
        models: Models<'_>,
        needs: &dyn Fn(usize) -> Result<Needs>,
    ) -> Result<Pair> {
        let (base, source) = self.of_step[step].expect("only planned steps run");
        let base = self.run(base, models, needs)?;
        Ok(Pair { base, source: source.map(|source| self.run(source, models, needs)).transpose()? })
    }

    /// Lets go of the runs that no step after this one needs.
    pub(super) fn release(&mut self, step: usize) {
        self.held.retain(|&id, _| self.stays[id].last() > step);
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
        for &(step, role) in uses {
            let needs = needs(step)?;
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
    /// The last step it serves.
    fn last(&self) -> usize {
        self.uses.last().map_or(0, |&(step, _)| step)
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
