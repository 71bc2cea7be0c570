//! Where replacement values come from: the source run, and statistics over many prompts.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::cache::ActivationCache;
use crate::prompt::Prompt;
use crate::site::HookPoint;

/// What a binding may draw from. Everything is optional; an edit that needs what is not there is refused.
#[derive(Debug, Default, Clone, Copy)]
pub struct Donors<'a> {
    /// The source prompt and what was recorded of its unedited run: the patched hook points, at the positions that patches
    /// take from.
    pub source: Option<(&'a Prompt, &'a ActivationCache)>,
    /// Whether the source run used the same weights as the edited one. Only then is a patch before the first differing token
    /// known to change nothing.
    pub same_weights: bool,
    /// Means and standard deviations over prompts.
    pub moments: Option<&'a Moments>,
}

/// Mean and variance of hook points over prompts, by distance from the end of the prompt.
#[derive(Debug, Default)]
pub struct Moments {
    sums: HashMap<HookPoint, Sums>,
}

/// Sums over prompts; index 0 of the first axis is the last position, 1 the one before it, and so on.
#[derive(Debug)]
struct Sums {
    /// Σx, `[distance, (head,) width]`, f64.
    first: Tensor,
    /// Σx².
    second: Tensor,
    /// Prompts that reach each distance.
    count: Vec<f64>,
}

impl Moments {
    /// Adds one prompt's recorded activations, `[1, pos, (head,) width]`.
    pub fn add(&mut self, at: HookPoint, act: &Tensor) {
        let act = act.get(0).flip([0]).to_kind(Kind::Double);
        let n = act.size()[0];
        let square = &act * &act;
        match self.sums.get_mut(&at) {
            None => {
                self.sums.insert(at, Sums { first: act, second: square, count: vec![1.0; n as usize] });
            }
            Some(sums) => {
                sums.first = added(&sums.first, &act);
                sums.second = added(&sums.second, &square);
                sums.count.resize(sums.count.len().max(n as usize), 0.0);
                sums.count[..n as usize].iter_mut().for_each(|count| *count += 1.0);
            }
        }
    }

    /// Adds every hook point of a recorder that covers a whole prompt.
    pub fn add_run(&mut self, points: &[HookPoint], cache: &ActivationCache) {
        for &at in points {
            if let Some(act) = cache.get(at) {
                self.add(at, act);
            }
        }
    }

    /// Sets what is known of one hook point: Σx and Σx² `[distance, (head,) width]` in f64, and the number of prompts that
    /// reach each distance from the end.
    pub fn set(&mut self, at: HookPoint, first: Tensor, second: Tensor, count: Vec<f64>) {
        self.sums.insert(at, Sums { first, second, count });
    }

    /// Number of prompts that have a position this far from the end (0 is the last).
    pub(crate) fn count(&self, at: HookPoint, distance: usize) -> usize {
        self.sums.get(&at).and_then(|sums| sums.count.get(distance)).map_or(0, |&count| count as usize)
    }

    /// Mean at a distance from the end, `[(head,) width]`, f64.
    pub(crate) fn mean(&self, at: HookPoint, distance: usize) -> Tensor {
        let sums = &self.sums[&at];
        sums.first.get(distance as i64) / sums.count[distance]
    }

    /// Population standard deviation at a distance from the end, `[(head,) width]`, f64.
    pub(crate) fn sd(&self, at: HookPoint, distance: usize) -> Tensor {
        let sums = &self.sums[&at];
        let mean = self.mean(at, distance);
        let variance = sums.second.get(distance as i64) / sums.count[distance] - &mean * &mean;
        variance.clamp_min(0.0).sqrt()
    }
}

/// Sum of two tensors whose first axes may differ in length.
fn added(a: &Tensor, b: &Tensor) -> Tensor {
    let (long, short) = if a.size()[0] >= b.size()[0] { (a, b) } else { (b, a) };
    let n = short.size()[0];
    let head = long.narrow(0, 0, n) + short;
    if n == long.size()[0] { head } else { Tensor::cat(&[head, long.narrow(0, n, long.size()[0] - n)], 0) }
}
