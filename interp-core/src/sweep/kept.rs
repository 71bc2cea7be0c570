//! What patches will take from another model, kept on the host, so that the two models need not be in memory together.
//! Edits nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::{Sweep, split};
use crate::cache::{ActivationCache, Picked};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::guard::catch_torch;
use crate::intervention::{Context, Edits};
use crate::metric::Readout;
use crate::site::{Axis, HookPoint};
use crate::transfer::{Correspondence, Maps, extent};
use crate::trial::Trial;

/// The donor's part of a sweep's trials: activations at the edited model's hook points and heads, at the positions that
/// patches take from, and what the donor's own logits measure.
#[derive(Debug, Default)]
pub struct KeptSources {
    of_trial: HashMap<String, Kept>,
}

/// The donor's part of one trial.
#[derive(Debug)]
pub(super) struct Kept {
    /// Shared by trials that take the same from the same prompt.
    pub(super) cache: Rc<ActivationCache>,
    /// The donor's metrics of its own run.
    pub(super) values: Vec<f64>,
}

/// What one run of the donor keeps. Two trials that want the same share a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wanted<'a> {
    tokens: &'a [i64],
    positions: Vec<usize>,
    points: Vec<HookPoint>,
}

impl<'a> Wanted<'a> {
    /// `config` is the edited model's: its cells decide.
    fn of(sweep: &Sweep, config: &ModelConfig, trial: &'a Trial) -> Result<Self> {
        let context = Context::of_prompt(config, &trial.id);
        let source = trial.donating(true).expect("another model runs base or source");
        let cells = sweep.cells(config, trial)?;
        let mut positions = BTreeSet::new();
        for cell in &cells {
            positions.extend(Edits::taken(&cell.set, &trial.base, source, &context)?);
        }
        let points = split::points(cells.iter().flat_map(|cell| &cell.set));
        Ok(Self { tokens: &source.tokens, positions: positions.into_iter().collect(), points })
    }
}

impl KeptSources {
    /// Bytes that keeping these trials takes, held as f32, or as f64 in f64. `config` is the edited model's; of each vector's
    /// two widths, before and after a map, the larger counts.
    pub fn bytes<'a>(
        sweep: &Sweep,
        config: &ModelConfig,
        donor: &ModelConfig,
        trials: impl IntoIterator<Item = &'a Trial>,
        kind: Kind,
    ) -> Result<u64> {
        let width = if kind == Kind::Double { 8 } else { 4 };
        let mut seen = BTreeSet::new();
        let mut total = 0;
        for trial in trials {
            let wanted = Wanted::of(sweep, config, trial)?;
            let of_point = |at: &HookPoint| {
                let per_position = at.site.axes().iter().map(|axis| match axis {
                    Axis::Src => wanted.tokens.len(),
                    // Heads are those of the edited model, which they will be patched into.
                    Axis::Head | Axis::KvHead => extent(*axis, config),
                    axis => extent(*axis, config).max(extent(*axis, donor)),
                });
                per_position.product::<usize>()
            };
            let each: usize = wanted.points.iter().map(of_point).sum();
            if seen.insert((wanted.tokens, wanted.positions.clone())) {
                total += (each * wanted.positions.len()) as u64 * width;
            }
        }
        Ok(total)
    }

    /// Runs the donor on the source prompts (or the base prompts, where there is no source) of these trials, which must be
    /// such as `sweep` can run; `config` is the edited model's, and `via` says what of the donor stands for what of it.
    /// `step` is called after each trial.
    pub fn keep<'a>(
        sweep: &Sweep,
        donor: &Decoder,
        config: &ModelConfig,
        via: &Correspondence,
        trials: impl IntoIterator<Item = &'a Trial>,
        mut step: impl FnMut(),
    ) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let mut runs: HashMap<Wanted<'a>, (Rc<ActivationCache>, Tensor)> = HashMap::new();
        let mut of_trial = HashMap::new();
        for trial in trials {
            let wanted = Wanted::of(sweep, config, trial)?;
            let readout = Readout::new(&sweep.metrics, trial.target, &trial.id)?;
            let kept = catch_torch(&trial.id, || {
                let (cache, resid) = runs.entry(wanted).or_insert_with_key(|wanted| wanted.run(donor, via));
                Ok(Kept { cache: cache.clone(), values: own_values(donor, resid, &readout) })
            })?;
            of_trial.insert(trial.id.clone(), kept);
            step();
        }
        Ok(Self { of_trial })
    }

    /// The same through linear maps, from the donor's space into the edited model's.
    pub fn carried(self, maps: &Maps) -> Self {
        let mut done: HashMap<*const ActivationCache, Rc<ActivationCache>> = HashMap::new();
        let carry = |(trial, kept): (String, Kept)| {
            let cache = done
                .entry(Rc::as_ptr(&kept.cache))
                .or_insert_with(|| Rc::new(kept.cache.map(|at, act| maps.carry(at, act))));
            (trial, Kept { cache: cache.clone(), values: kept.values })
        };
        Self { of_trial: self.of_trial.into_iter().map(carry).collect() }
    }

    /// What was kept for a trial.
    pub(super) fn of(&self, trial: &Trial) -> Result<&Kept> {
        self.of_trial.get(&trial.id).ok_or_else(|| Error::Prompt {
            place: trial.id.clone(),
            problem: "the donor was not run on this trial".into(),
            hint: Some("keep the sources of every trial that is to run".into()),
        })
    }
}

impl Wanted<'_> {
    /// What patches take, at the edited model's hook points, and the donor's last residual stream.
    fn run(&self, donor: &Decoder, via: &Correspondence) -> (Rc<ActivationCache>, Tensor) {
        let theirs: HashSet<HookPoint> = self.points.iter().map(|&at| via.point(at)).collect();
        let picked = Picked::run(donor, self.tokens, self.positions.clone(), theirs.iter().map(|&at| (at, None)));
        let theirs: HashMap<HookPoint, Tensor> =
            theirs.into_iter().filter_map(|at| Some((at, picked.get(at)?))).collect();
        let acts = self.points.iter().filter_map(|&at| Some((at, via.take(at, theirs.get(&via.point(at))?))));
        (Rc::new(ActivationCache::of_positions(self.positions.clone(), acts)), picked.resid().shallow_clone())
    }
}

/// Metrics of a donor's run by its own unembedding; `kl` is against itself, for vocabularies may be padded differently.
pub(super) fn own_values(donor: &Decoder, resid: &Tensor, readout: &Readout) -> Vec<f64> {
    let logits = donor.unembed(resid, 0, readout.tokens().as_deref(), &mut ());
    let values = readout.measure(&logits.squeeze_dim(1));
    Vec::<Vec<f64>>::try_from(values).expect("metrics are a matrix of f64").into_iter().map(|row| row[0]).collect()
}
