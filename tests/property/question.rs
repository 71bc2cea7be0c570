//! Random questions about a model: a trial and a sweep of a given site and edit. Most are lawful; the others may be anything.

use std::ops::Range;
use std::rc::Rc;

use interp_core::config::ModelConfig;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::site::{Axis, HeadAxis, HeadRef, Positions, Site};
use interp_core::sweep::{Grid, HeadSet, Sweep};
use interp_core::trial::{Target, Trial};
use proptest::prelude::*;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::model::VOCAB;
use crate::common::prompt;

/// An edit without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Zero,
    Mean,
    Patch,
    Add,
    Scale,
    Noise,
    Knockout,
    UniformAttention,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Zero,
        Kind::Mean,
        Kind::Patch,
        Kind::Add,
        Kind::Scale,
        Kind::Noise,
        Kind::Knockout,
        Kind::UniformAttention,
    ];

    /// Whether the edit is defined at a site.
    pub fn fits(self, site: Site) -> bool {
        match self {
            Kind::Zero | Kind::Patch | Kind::Scale => true,
            Kind::Mean | Kind::Add | Kind::Noise => !matches!(site, Site::Scores | Site::Pattern),
            Kind::Knockout | Kind::UniformAttention => site == Site::Scores,
        }
    }
}

/// Every site with every edit that is defined there.
pub fn pairs() -> Vec<(Site, Kind)> {
    let all = Site::ALL.into_iter().flat_map(|site| Kind::ALL.map(|kind| (site, kind)));
    all.filter(|(site, kind)| kind.fits(*site)).collect()
}

/// What a question is made from. The plain numbers shrink; what hangs together (spans, selectors, sets) comes from `seed`.
#[derive(Debug, Clone)]
pub struct Knobs {
    lawful: bool,
    len: usize,
    /// `None`: no source, where none is needed.
    source_len: Option<usize>,
    /// Part of the shorter prompt that both begin with.
    alike: f64,
    max_rows: Option<usize>,
    seed: u64,
}

/// Prompts of 1 to 40 tokens, some longer; base and source of one length or of two, alike in any part or in all of it.
pub fn knobs() -> impl Strategy<Value = Knobs> {
    let len = || prop_oneof![12 => 2..=40_usize, 1 => Just(1), 1 => 65..=90_usize];
    let source = prop_oneof![6 => Just(None), 3 => len().prop_map(|len| Some(Some(len))), 1 => Just(Some(None))];
    let alike = prop_oneof![1 => Just(0.0), 6 => 0.0..1.0, 1 => Just(1.0)];
    let max_rows = proptest::option::of(2..=20_usize);
    (proptest::bool::weighted(0.85), len(), source, alike, max_rows, any::<u64>()).prop_map(
        |(lawful, len, source, alike, max_rows, seed)| Knobs {
            lawful,
            len,
            source_len: source.unwrap_or(Some(len)),
            alike,
            max_rows,
            seed,
        },
    )
}

/// A trial, a sweep over it, and the prompts that means and deviations come from.
#[derive(Debug)]
pub struct Question {
    pub trial: Trial,
    pub sweep: Sweep,
    pub others: Vec<Vec<i64>>,
}

/// Draws what the knobs leave open.
struct Draw<'a> {
    rng: ChaCha8Rng,
    config: &'a ModelConfig,
    site: Site,
    kind: Kind,
    lawful: bool,
}

impl Knobs {
    /// The question about a model at a site with an edit of a kind.
    pub fn question(&self, config: &ModelConfig, site: Site, kind: Kind) -> Question {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // Not every unlawful question asks for an edit that does not exist there: other mistakes want to be found too.
        let kind = if self.lawful || rng.random_bool(0.7) { kind } else { *Kind::ALL.choose(&mut rng).expect("some") };
        let mut draw = Draw { rng, config, site, kind, lawful: self.lawful };
        let (trial, others) = draw.trial(self);
        let grid = draw.grid();
        let (positions, keys) = draw.positions(&trial, &grid);
        let mut metrics = Metric::ALL.to_vec();
        metrics.shuffle(&mut draw.rng);
        metrics.truncate(draw.rng.random_range(1..=4));
        let layers = draw.layers();
        let heads = draw.heads(&grid, layers.clone());
        let edit = draw.edit(keys);
        let seed = draw.rng.random_range(0..1000);
        let sweep = Sweep { site, edit, grid, positions, layers, heads, metrics, max_rows: self.max_rows, seed };
        Question { trial, sweep, others }
    }
}

impl Draw<'_> {
    fn tokens(&mut self, n: usize) -> Vec<i64> {
        (0..n).map(|_| self.rng.random_range(0..VOCAB)).collect()
    }

    fn trial(&mut self, knobs: &Knobs) -> (Trial, Vec<Vec<i64>>) {
        let attention = matches!(self.site, Site::Scores | Site::Pattern);
        let source_len = match knobs.source_len {
            _ if self.lawful && self.kind == Kind::Patch && attention => Some(knobs.len),
            None if self.lawful && self.kind == Kind::Patch => Some(knobs.len),
            as_given => as_given,
        };
        let base = self.tokens(knobs.len);
        let source = source_len.map(|len| {
            let alike = (knobs.alike * (len.min(base.len()) + 1) as f64) as usize;
            let alike = alike.min(len.min(base.len()));
            [&base[..alike], &self.tokens(len - alike)].concat()
        });
        let shorter = source.as_ref().map_or(knobs.len, |source| source.len().min(knobs.len));
        let (mut base, mut source) = (prompt(&base), source.map(|tokens| prompt(&tokens)));
        for name in ["a", "b", "c"] {
            let n = self.rng.random_range(1..=shorter.min(5));
            base.spans.insert(name.into(), self.span(base.tokens.len(), n));
            if let Some(source) = &mut source {
                let n = if self.lawful { n } else { self.rng.random_range(1..=source.tokens.len().min(5)) };
                source.spans.insert(name.into(), self.span(source.tokens.len(), n));
            }
        }
        let correct = self.rng.random_range(0..VOCAB);
        let incorrect = (self.lawful || self.rng.random_bool(0.7)).then_some((correct + 5) % VOCAB);
        // One is long enough for every position; unlawfully, perhaps none.
        let longest = if self.lawful { knobs.len + 2 } else { self.rng.random_range(1..=knobs.len + 2) };
        let others = [longest, knobs.len.min(longest), (knobs.len / 2).clamp(1, longest)].map(|len| self.tokens(len));
        let trial = Trial {
            id: "t0".into(),
            cluster: None,
            direction: None,
            source_answer: None,
            target: Target { correct, incorrect },
            base,
            source,
        };
        (trial, others.to_vec())
    }

    /// `n` positions of a prompt, as a span has them.
    fn span(&mut self, len: usize, n: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for pos in self.some_of(&(0..len).collect::<Vec<_>>(), n) {
            match ranges.last_mut() {
                Some(range) if range.end == pos => range.end += 1,
                _ => ranges.push(pos..pos + 1),
            }
        }
        ranges
    }

    /// `n` of the given, in their order.
    fn some_of<T: Copy + Ord>(&mut self, all: &[T], n: usize) -> Vec<T> {
        let mut some: Vec<T> = all.choose_multiple(&mut self.rng, n).copied().collect();
        some.sort_unstable();
        some
    }

    fn grid(&mut self) -> Grid {
        let has_heads = self.site.head_axis().is_some() || !self.lawful;
        match if has_heads { self.rng.random_range(0..3) } else { 2 } {
            0 => Grid::LayerHead,
            1 => Grid::Sets(self.sets()),
            _ => Grid::LayerPos,
        }
    }

    fn all_heads(&self, layers: Range<usize>) -> Vec<HeadRef> {
        let kv = self.site.head_axis() == Some(HeadAxis::Kv);
        let n_heads = if kv { self.config.n_kv_heads } else { self.config.n_heads };
        layers.flat_map(|layer| (0..n_heads).map(move |head| HeadRef { layer, head })).collect()
    }

    /// A cumulative ablation (the empty set included), or sets of any heads.
    fn sets(&mut self) -> Vec<HeadSet> {
        let mut all = self.all_heads(0..self.config.n_layers);
        all.shuffle(&mut self.rng);
        if !self.lawful && self.rng.random_bool(0.3) {
            all[0].head += 100;
        }
        let sizes: Vec<usize> = match self.rng.random_bool(0.5) {
            true => (0..=all.len()).step_by(1 + all.len() / 6).collect(),
            false => (0..self.rng.random_range(1..6)).map(|_| self.rng.random_range(0..=all.len())).collect(),
        };
        let cumulative = self.rng.random_bool(0.5);
        let heads = |n| match cumulative {
            true => all[..n].to_vec(),
            false => all.choose_multiple(&mut self.rng, n).copied().collect(),
        };
        let named = |(i, heads)| HeadSet { name: format!("set-{i}"), heads };
        sizes.into_iter().map(heads).enumerate().map(named).collect()
    }

    fn layers(&mut self) -> Range<usize> {
        let n = self.config.n_layers;
        if !self.lawful && self.rng.random_bool(0.1) {
            return 0..n + 1;
        }
        if self.rng.random_bool(0.6) {
            return 0..n;
        }
        let first = self.rng.random_range(0..n);
        first..self.rng.random_range(first + 1..=n)
    }

    fn heads(&mut self, grid: &Grid, layers: Range<usize>) -> Option<Vec<HeadRef>> {
        if *grid != Grid::LayerHead || self.rng.random_bool(0.6) {
            return None;
        }
        let all = self.all_heads(layers);
        let n = self.rng.random_range(1..=all.len());
        Some(self.some_of(&all, n))
    }

    /// Selectors, and the keys of a knockout.
    fn positions(&mut self, trial: &Trial, grid: &Grid) -> (Vec<Positions>, Positions) {
        let len = trial.base.tokens.len();
        if self.kind == Kind::Knockout && self.lawful && len > 1 {
            let dest = self.rng.random_range(1..len);
            let mut keys: Vec<usize> = (0..len).filter(|_| self.rng.random_bool(0.2)).filter(|&p| p != dest).collect();
            keys.push(dest - 1);
            let keys = Positions::Index(keys.into_iter().map(|key| key as i64).collect());
            return (vec![Positions::Index(vec![dest as i64])], keys);
        }
        let keys = self.selector(trial);
        if *grid == Grid::LayerPos {
            let n = self.rng.random_range(1..=3);
            return ((0..n).map(|_| self.selector(trial)).collect(), keys);
        }
        (vec![self.selector(trial)], keys)
    }

    fn selector(&mut self, trial: &Trial) -> Positions {
        let len = trial.base.tokens.len();
        let source = trial.source.as_ref().filter(|_| self.kind == Kind::Patch);
        let shorter = source.map_or(len, |source| source.tokens.len().min(len));
        let same = source.is_none_or(|source| source.tokens.len() == len);
        let n = self.rng.random_range(1..=shorter.min(4));
        let mut from_start: Vec<usize> = self.span(shorter, n).into_iter().flatten().collect();
        from_start.shuffle(&mut self.rng);
        let any = |draw: &mut Self| draw.rng.random_range(-(len as i64) - 2..len as i64 + 2);
        match self.rng.random_range(0..if self.lawful { 6 } else { 8 }) {
            0 => Positions::Index(vec![-1]),
            1 if same => Positions::All,
            2 => Positions::Index(from_start.into_iter().map(|pos| -1 - pos as i64).collect()),
            3 | 4 => Positions::Span(["a", "b", "c"].choose(&mut self.rng).expect("some").to_string()),
            6 => Positions::Index((0..n).map(|_| any(self)).collect()),
            7 => Positions::Span("nowhere".into()),
            _ => Positions::Index(from_start.into_iter().map(|pos| pos as i64).collect()),
        }
    }

    fn edit(&mut self, keys: Positions) -> Edit {
        match self.kind {
            Kind::Zero => Edit::Zero,
            Kind::Mean => Edit::Mean,
            Kind::Patch => Edit::Patch,
            Kind::Add => Edit::Add { vector: Rc::new(self.vector()), factor: self.rng.random_range(-2.0..2.0) },
            Kind::Scale => Edit::Scale(*[-1.5, 0.0, 0.25, 3.0].choose(&mut self.rng).expect("some")),
            Kind::Noise => Edit::Noise(self.rng.random_range(0.5..2.0)),
            Kind::Knockout => Edit::Knockout { keys },
            Kind::UniformAttention => Edit::UniformAttention,
        }
    }

    /// One vector for all heads, or one per head.
    fn vector(&mut self) -> Tensor {
        let width = width(self.site, self.config) + i64::from(!self.lawful && self.rng.random_bool(0.2));
        let n_heads = self.all_heads(0..1).len() as i64;
        let by_head = self.site.head_axis().is_some() && self.rng.random_bool(0.5);
        let shape = if by_head { vec![n_heads, width] } else { vec![width] };
        let numbers: Vec<f64> = (0..shape.iter().product()).map(|_: i64| self.rng.random_range(-2.0..2.0)).collect();
        Tensor::from_slice(&numbers).view(&shape[..])
    }
}

/// Width of a site's vectors.
pub fn width(site: Site, config: &ModelConfig) -> i64 {
    let width = match site.axes().last().expect("every site has axes") {
        Axis::DHead => config.d_head,
        Axis::DMlp => config.d_mlp,
        _ => config.d_model,
    };
    width as i64
}
