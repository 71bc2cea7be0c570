//! The sweeps that are measured, and the prompts they run on.

use std::fmt;
use std::str::FromStr;

use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::prompt::Prompt;
use interp_core::site::{HeadRef, Positions, Site};
use interp_core::sweep::{Grid, HeadSet, Sweep};
use interp_core::trial::{Target, Trial};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Sets of a cumulative ablation, or as many as there are heads.
const STEPS: usize = 168;

/// A sweep by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Patch z of every head at the last position.
    PatchLast,
    /// Patch z of every head at all positions.
    PatchAll,
    /// Zero z of every head at all positions.
    ZeroAll,
    /// Zero z of growing sets of heads at the last position.
    Cumulative,
    /// Patch resid_pre at every layer and position.
    LayerPos,
}

impl Case {
    const ALL: [Case; 5] = [Case::PatchLast, Case::PatchAll, Case::ZeroAll, Case::Cumulative, Case::LayerPos];

    fn name(self) -> &'static str {
        match self {
            Case::PatchLast => "patch-last",
            Case::PatchAll => "patch-all",
            Case::ZeroAll => "zero-all",
            Case::Cumulative => "cumulative",
            Case::LayerPos => "layer-pos",
        }
    }

    /// The sweep on a model of that geometry. The order in which heads are added up is drawn from the seed.
    pub fn sweep(self, config: &ModelConfig, seed: u64, max_rows: Option<usize>) -> Sweep {
        let last = || vec![Positions::Index(vec![-1])];
        let (site, edit, grid, positions) = match self {
            Case::PatchLast => (Site::Z, Edit::Patch, Grid::LayerHead, last()),
            Case::PatchAll => (Site::Z, Edit::Patch, Grid::LayerHead, vec![Positions::All]),
            Case::ZeroAll => (Site::Z, Edit::Zero, Grid::LayerHead, vec![Positions::All]),
            Case::Cumulative => (Site::Z, Edit::Zero, Grid::Sets(growing(config, seed)), last()),
            Case::LayerPos => (Site::ResidPre, Edit::Patch, Grid::LayerPos, vec![Positions::All]),
        };
        let layers = 0..config.n_layers;
        let metrics = vec![Metric::LogitDiff];
        Sweep { site, edit, grid, positions, layers, heads: None, metrics, max_rows, seed }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Case {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Case::ALL.into_iter().find(|case| case.name() == text).ok_or_else(|| Error::Selector {
            what: "sweep",
            value: text.into(),
            problem: "no such sweep".into(),
            hint: Some(format!("sweeps are {}", Case::ALL.map(Case::name).join(", "))),
        })
    }
}

/// Sets of heads, each the one before it and the same number of further heads, up to all of them.
fn growing(config: &ModelConfig, seed: u64) -> Vec<HeadSet> {
    let mut heads: Vec<HeadRef> =
        (0..config.n_layers).flat_map(|layer| (0..config.n_heads).map(move |head| HeadRef { layer, head })).collect();
    heads.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let step = heads.len().div_ceil(STEPS);
    let sizes = (step..=heads.len()).step_by(step);
    sizes.map(|size| HeadSet { name: format!("top-{size}"), heads: heads[..size].to_vec() }).collect()
}

/// Trial `index` of a seed: random tokens, base and source differing in the middle token only.
pub fn trial(config: &ModelConfig, n_tokens: usize, seed: u64, index: u64) -> Trial {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    let d_vocab = config.d_vocab as i64;
    let base: Vec<i64> = (0..n_tokens).map(|_| rng.random_range(0..d_vocab)).collect();
    let mut other = |token: i64| (token + rng.random_range(1..d_vocab)) % d_vocab;
    let mut source = base.clone();
    source[n_tokens / 2] = other(base[n_tokens / 2]);
    let correct = other(0);
    let prompt = |tokens| Prompt { tokens, spans: Default::default() };
    Trial {
        id: format!("random-{index}"),
        cluster: None,
        direction: None,
        base: prompt(base),
        source: Some(prompt(source)),
        source_answer: None,
        target: Target { correct, incorrect: Some(other(correct)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_differ_in_the_middle_and_follow_from_the_seed() {
        let config = ModelConfig::named("small").unwrap();
        let one = trial(&config, 9, 3, 1);
        let (base, source) = (&one.base.tokens, &one.source.as_ref().unwrap().tokens);
        let differing: Vec<usize> = (0..9).filter(|&i| base[i] != source[i]).collect();
        assert_eq!(differing, [4]);
        assert!(one.target.incorrect.is_some_and(|incorrect| incorrect != one.target.correct));
        assert_eq!(one, trial(&config, 9, 3, 1));
        assert_ne!(one.base, trial(&config, 9, 3, 2).base);
        assert_ne!(one.base, trial(&config, 9, 4, 1).base);
    }

    #[test]
    fn sets_grow_to_all_heads() {
        let sizes = |name: &str| -> Vec<usize> {
            growing(&ModelConfig::named(name).unwrap(), 0).iter().map(|set| set.heads.len()).collect()
        };
        assert_eq!(sizes("small"), (1..=144).collect::<Vec<_>>());
        assert_eq!(sizes("qwen2.5-0.5b"), (2..=336).step_by(2).collect::<Vec<_>>());
        assert_eq!(sizes("qwen2.5-7b"), (5..=784).step_by(5).collect::<Vec<_>>());
    }
}
