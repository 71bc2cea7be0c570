//! The single seam between model and experiment: whoever wants to see or change an activation implements [`Hooks`].

use tch::Tensor;

use crate::site::HookPoint;

/// Sees activations as a pass computes them, and may replace them.
///
/// Implementations never write into the tensor they are given (tch tensors are shared handles): an edit copies, then writes.
pub trait Hooks {
    /// Whether [`Hooks::visit`] is to be called at this point. Activations that nobody wants may not even be formed.
    fn wants(&self, at: HookPoint) -> bool;

    /// `act` has the site's axes and covers positions `first_pos..` (destinations, for attention sites). The result has at
    /// least as many rows; rows beyond those of `act` enter the pass here. Attention sites of a long prompt are visited once
    /// per chunk of destination positions, and every chunk must append the same rows.
    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor;
}

/// No hooks: inlines to nothing.
impl Hooks for () {
    #[inline]
    fn wants(&self, _: HookPoint) -> bool {
        false
    }

    #[inline]
    fn visit(&mut self, _: HookPoint, _: usize, act: Tensor) -> Tensor {
        act
    }
}

/// A borrowed hook is a hook, so that its owner can look at it after the pass.
impl<H: Hooks> Hooks for &mut H {
    fn wants(&self, at: HookPoint) -> bool {
        (**self).wants(at)
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        (**self).visit(at, first_pos, act)
    }
}

/// First one, then the other, each asked for its own `wants`: edit first, then record what the edit made.
impl<A: Hooks, B: Hooks> Hooks for (A, B) {
    fn wants(&self, at: HookPoint) -> bool {
        self.0.wants(at) || self.1.wants(at)
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        let act = tap(&mut self.0, at, first_pos, act);
        tap(&mut self.1, at, first_pos, act)
    }
}

/// Offers an activation to the hooks, if they want it.
#[inline]
pub(crate) fn tap<H: Hooks>(hooks: &mut H, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
    if hooks.wants(at) { hooks.visit(at, first_pos, act) } else { act }
}

/// Appends copies of row 0 (the clean row) until there are `n` rows. Every operation on two activations grows the shorter
/// one first, because rows may have entered on one side only.
pub(crate) fn grow(act: Tensor, n: i64) -> Tensor {
    let have = act.size()[0];
    if have >= n {
        return act;
    }
    let mut shape = act.size();
    shape[0] = n - have;
    Tensor::cat(&[&act, &act.narrow(0, 0, 1).expand(shape, false)], 0)
}

/// Number of rows of an activation.
pub(crate) fn rows(act: &Tensor) -> i64 {
    act.size()[0]
}
