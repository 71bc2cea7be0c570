//! Runs of unedited prompts and what is kept of them: [`ActivationCache`] (a recorder) and [`CleanRun`].

mod picked;

use std::collections::{BTreeMap, HashMap};

use tch::Tensor;

pub use self::picked::Picked;
use crate::decoder::{Decoder, Past, Start};
use crate::hooks::Hooks;
use crate::site::{HookPoint, Site};

/// Records activations at the hook points asked for, as the pass made them. Pure observation: it returns what it was given.
#[derive(Debug, Default)]
pub struct ActivationCache {
    acts: HashMap<HookPoint, Option<Tensor>>,
    first_pos: HashMap<HookPoint, usize>,
    /// The positions of every record, where they do not follow on each other.
    positions: Option<Vec<usize>>,
}

impl ActivationCache {
    /// A recorder of these hook points.
    pub fn new(points: impl IntoIterator<Item = HookPoint>) -> Self {
        Self { acts: points.into_iter().map(|at| (at, None)).collect(), ..Self::default() }
    }

    /// Records that exist already, on the sites' axes, of these `positions` (destinations), sorted.
    pub fn of_positions(positions: Vec<usize>, acts: impl IntoIterator<Item = (HookPoint, Tensor)>) -> Self {
        let acts = acts.into_iter().map(|(at, act)| (at, Some(act))).collect();
        Self { acts, first_pos: HashMap::new(), positions: Some(positions) }
    }

    /// What was recorded, on the site's axes (see [`Site::axes`]), over all positions of the pass.
    pub fn get(&self, at: HookPoint) -> Option<&Tensor> {
        self.acts.get(&at)?.as_ref()
    }

    /// First position (destination) that the record of `at` covers.
    pub fn first_pos(&self, at: HookPoint) -> usize {
        self.first_pos.get(&at).copied().unwrap_or(0)
    }

    /// A copy in which `f` has replaced every record.
    #[must_use]
    pub fn map(&self, f: impl Fn(HookPoint, &Tensor) -> Tensor) -> Self {
        let acts = self.acts.iter().map(|(&at, act)| (at, act.as_ref().map(|act| f(at, act)))).collect();
        Self { acts, first_pos: self.first_pos.clone(), positions: self.positions.clone() }
    }

    /// Where on its position (destination) axis the record of `at` has a position of the prompt; `None` if it has not.
    pub fn index_of(&self, at: HookPoint, pos: usize) -> Option<usize> {
        let size = self.get(at)?.size();
        let len = size[if at.site.is_attention() { 2 } else { 1 }] as usize;
        let index = match &self.positions {
            Some(positions) => positions.binary_search(&pos).ok(),
            None => pos.checked_sub(self.first_pos(at)),
        };
        index.filter(|&index| index < len)
    }
}

impl Hooks for ActivationCache {
    fn wants(&self, at: HookPoint) -> bool {
        self.acts.contains_key(&at)
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        let slot = self.acts.entry(at).or_default();
        *slot = Some(match slot.take() {
            // A further chunk of destination positions of an attention site.
            Some(earlier) => Tensor::cat(&[&earlier, &act], 2),
            None => {
                self.first_pos.insert(at, first_pos);
                act.shallow_clone()
            }
        });
        act
    }
}

/// Records rotated keys and values of every layer, to resume from.
#[derive(Debug, Default)]
pub struct PastRecorder {
    keys: BTreeMap<usize, Tensor>,
    values: BTreeMap<usize, Tensor>,
}

impl PastRecorder {
    /// Appends what was recorded to `past`.
    pub fn append_to(self, past: &mut Past) {
        for ((layer, k), (_, v)) in self.keys.iter().zip(&self.values) {
            past.push(*layer, k, v);
        }
    }
}

impl Hooks for PastRecorder {
    fn wants(&self, at: HookPoint) -> bool {
        matches!(at.site, Site::RotK | Site::V)
    }

    fn visit(&mut self, at: HookPoint, _: usize, act: Tensor) -> Tensor {
        let side = if at.site == Site::V { &mut self.values } else { &mut self.keys };
        side.insert(at.layer, act.shallow_clone());
        act
    }
}

/// The unedited run of a prompt: everything a resumed pass needs.
#[derive(Debug)]
pub struct CleanRun {
    tokens: Vec<i64>,
    past: Past,
    cache: ActivationCache,
    resid: Tensor,
}

impl CleanRun {
    /// Runs `tokens` once, keeping keys and values, `resid_pre` of `layers` (to restart there) and whatever `record` names.
    /// Past the keys and values of the last layer, records begin at position `from`.
    pub fn new(
        decoder: &Decoder,
        tokens: &[i64],
        layers: impl IntoIterator<Item = usize>,
        record: impl IntoIterator<Item = HookPoint>,
        from: usize,
    ) -> Self {
        let past = Past::new(decoder.config().n_layers);
        Self::go_on(decoder, tokens, past, 0, restarts(layers).chain(record), from)
    }

    /// [`CleanRun::new`] for a prompt that shares its first `pos` tokens with an `earlier` one: those are not run again, and
    /// records begin at `pos`.
    pub fn after(
        decoder: &Decoder,
        earlier: &CleanRun,
        pos: usize,
        tokens: &[i64],
        layers: impl IntoIterator<Item = usize>,
        record: impl IntoIterator<Item = HookPoint>,
        from: usize,
    ) -> Self {
        assert_eq!(earlier.tokens[..pos], tokens[..pos], "only an equal beginning can be taken over");
        Self::go_on(decoder, tokens, earlier.past.before(pos), pos, restarts(layers).chain(record), from)
    }

    fn go_on(
        decoder: &Decoder,
        tokens: &[i64],
        mut past: Past,
        pos: usize,
        record: impl IntoIterator<Item = HookPoint>,
        from: usize,
    ) -> Self {
        let mut cache = ActivationCache::new(record);
        let mut recorder = PastRecorder::default();
        let resid = decoder.embed_rows(&[&tokens[pos..]]);
        let start = Start { layer: 0, pos, resid, past: (pos > 0).then_some(&past) };
        let resid = decoder.forward(start, from..tokens.len(), &mut (&mut recorder, &mut cache));
        if cache.wants(HookPoint::new(Site::LnFinal, 0)) {
            let _ = decoder.unembed(&resid, from, Some(&[]), &mut cache);
        }
        recorder.append_to(&mut past);
        let resid = resid.narrow(1, resid.size()[1] - 1, 1);
        Self { tokens: tokens.to_vec(), past, cache, resid }
    }

    /// The prompt.
    pub fn tokens(&self) -> &[i64] {
        &self.tokens
    }

    /// Keys and values of all positions.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Recorded activations.
    pub fn cache(&self) -> &ActivationCache {
        &self.cache
    }

    /// `resid_post` of the last layer at the last position, `[1, 1, d_model]`.
    pub fn resid(&self) -> &Tensor {
        &self.resid
    }

    /// The beginning of a pass that recomputes from `layer` and `pos` on, or from the layer below whose beginning was recorded.
    /// `past` must be this run's past before `pos`.
    pub fn resume<'a>(&self, decoder: &Decoder, layer: usize, pos: usize, past: &'a Past) -> Start<'a> {
        let recorded = |layer: usize| {
            let at = HookPoint::new(Site::ResidPre, layer);
            let skip = pos.checked_sub(self.cache.first_pos(at))?;
            Some((layer, self.cache.get(at)?.narrow(1, skip as i64, (self.tokens.len() - pos) as i64)))
        };
        let (layer, resid) = (1..=layer).rev().find_map(recorded).unwrap_or_else(|| {
            let embedded = decoder.embed_rows(&[&self.tokens[pos..]]);
            (0, embedded)
        });
        Start { layer, pos, resid, past: (pos > 0).then_some(past) }
    }
}

/// Where the passes restart that begin at `layers`. Layer 0 begins with the embeddings, which need no record.
fn restarts(layers: impl IntoIterator<Item = usize>) -> impl Iterator<Item = HookPoint> {
    layers.into_iter().filter(|&layer| layer > 0).map(|layer| HookPoint::new(Site::ResidPre, layer))
}
