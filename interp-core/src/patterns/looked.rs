//! Which key every head attends to most from the last position of a pass.

use tch::{Kind, Tensor};

use crate::hooks::Hooks;
use crate::site::{HookPoint, Site};

/// Records, per layer and head, the position of largest attention from the last position that the pass computes. Pure observation.
#[derive(Debug, Default)]
pub struct LookedAt {
    layers: Vec<Tensor>,
}

impl LookedAt {
    /// `[layer][head]`, positions of the prompt. Of equal attention the position that libtorch's `argmax` names.
    pub fn positions(&self) -> Vec<Vec<usize>> {
        let of_layer = |layer: &Tensor| -> Vec<usize> {
            let positions = Vec::<i64>::try_from(layer.to_kind(Kind::Int64)).expect("a vector of positions");
            positions.into_iter().map(|position| position as usize).collect()
        };
        self.layers.iter().map(of_layer).collect()
    }
}

impl Hooks for LookedAt {
    fn wants(&self, at: HookPoint) -> bool {
        at.site == Site::Pattern
    }

    fn visit(&mut self, at: HookPoint, _: usize, act: Tensor) -> Tensor {
        // A further chunk of destinations replaces the one before; layers are visited from the lowest.
        self.layers.truncate(at.layer);
        let pattern = act.get(0);
        self.layers.push(pattern.select(1, pattern.size()[1] - 1).argmax(-1, false));
        act
    }
}
