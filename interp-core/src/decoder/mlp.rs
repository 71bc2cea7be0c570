//! The SiLU-gated MLP.

use tch::{Kind, Tensor};

use super::linear::{Linear, Loading};
use crate::checkpoint::Scope;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::hooks::{Hooks, grow, rows, tap};
use crate::site::{HookPoint, Site};

/// Sites inside the MLP.
pub(crate) const INNER: &[Site] = &[Site::MlpPre, Site::MlpPost];

#[derive(Debug)]
pub(crate) struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    pub(crate) fn load(config: &ModelConfig, scope: &Scope<'_>, loading: &Loading) -> Result<Self> {
        let (wide, narrow, bias) = (config.d_mlp, config.d_model, config.mlp_bias);
        Ok(Self {
            gate_proj: Linear::load(&scope.pp("gate_proj"), wide, narrow, bias, loading)?,
            up_proj: Linear::load(&scope.pp("up_proj"), wide, narrow, bias, loading)?,
            down_proj: Linear::load(&scope.pp("down_proj"), narrow, wide, bias, loading)?,
        })
    }

    /// Whether a pass in `kind` converts weights, which it had better do once for all tokens.
    pub(crate) fn converts(&self, kind: Kind) -> bool {
        self.gate_proj.converts(kind)
    }

    /// `[batch, pos, d_model]` to `[batch, pos, d_model]`, positions from `first_pos`. Where no hook looks inside, `x` may as
    /// well be `[token, d_model]`.
    pub(crate) fn forward<H: Hooks>(&self, x: &Tensor, layer: usize, first_pos: usize, hooks: &mut H) -> Tensor {
        let pre = tap(hooks, HookPoint::new(Site::MlpPre, layer), first_pos, self.gate_proj.forward(x));
        let up = grow(self.up_proj.forward(x), rows(&pre));
        let post = tap(hooks, HookPoint::new(Site::MlpPost, layer), first_pos, pre.silu() * up);
        self.down_proj.forward(&post)
    }
}
