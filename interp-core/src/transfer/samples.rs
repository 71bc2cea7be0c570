//! Activations of one model at chosen positions of many prompts, to fit maps to.

use std::collections::BTreeMap;

use tch::Tensor;

use super::layers::Correspondence;
use crate::cache::Picked;
use crate::decoder::Decoder;
use crate::site::{HookPoint, Site};

/// Activations by the edited model's hook points, `[sample, head, width]`; sites without heads have one.
#[derive(Debug)]
pub struct Samples {
    points: BTreeMap<(usize, Site), Tensor>,
}

impl Samples {
    /// Activations that exist already.
    pub fn of(points: impl IntoIterator<Item = (HookPoint, Tensor)>) -> Self {
        Self { points: points.into_iter().map(|(at, act)| (at.order(), act)).collect() }
    }

    /// Runs the prompts, each with the positions to take, sorted. `via` says what of this model stands for each of `points`,
    /// where it is the donor; attention sites have no samples. A sample is one position of one prompt, in the order given.
    pub fn collect<'a>(
        decoder: &Decoder,
        prompts: impl IntoIterator<Item = (&'a [i64], Vec<usize>)>,
        points: &[HookPoint],
        via: Option<&Correspondence>,
    ) -> Self {
        let theirs = |at: HookPoint| via.map_or(at, |via| via.point(at));
        let mut parts: BTreeMap<(usize, Site), Vec<Tensor>> = BTreeMap::new();
        for (tokens, positions) in prompts {
            let wanted = points.iter().map(|&at| (theirs(at), None));
            let picked = Picked::run(decoder, tokens, positions, wanted);
            for &at in points {
                let Some(act) = picked.get(theirs(at)) else { continue };
                let act = via.map_or_else(|| act.shallow_clone(), |via| via.take(at, &act)).squeeze_dim(0);
                let act = if at.site.head_axis().is_some() { act } else { act.unsqueeze(1) };
                parts.entry(at.order()).or_default().push(act);
            }
        }
        let points = parts.into_iter().map(|(at, parts)| (at, Tensor::cat(&parts, 0))).collect();
        Self { points }
    }

    /// The samples of a hook point.
    pub fn get(&self, at: HookPoint) -> Option<&Tensor> {
        self.points.get(&at.order())
    }

    /// Every hook point with its samples, in the order of a pass.
    pub fn points(&self) -> impl Iterator<Item = (HookPoint, &Tensor)> {
        self.points.iter().map(|(&(layer, site), act)| (HookPoint::new(site, layer), act))
    }
}
