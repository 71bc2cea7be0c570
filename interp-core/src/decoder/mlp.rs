//! The SiLU-gated MLP.

use tch::{Kind, Tensor};

use super::graft::{Masks, Unit};
use super::linear::{Linear, Loading};
use crate::adapter::Adapter;
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
    pub(crate) fn load(config: &ModelConfig, scope: &Scope<'_>, loading: &Loading<'_>) -> Result<Self> {
        let (wide, narrow, bias) = (config.d_mlp, config.d_model, config.mlp_bias);
        Ok(Self {
            gate_proj: Linear::load(&scope.pp("gate_proj"), wide, narrow, bias, loading)?,
            up_proj: Linear::load(&scope.pp("up_proj"), wide, narrow, bias, loading)?,
            down_proj: Linear::load(&scope.pp("down_proj"), narrow, wide, bias, loading)?,
        })
    }

    /// The same MLP, sharing its weights.
    pub(crate) fn share(&self) -> Self {
        let [gate_proj, up_proj, down_proj] = [&self.gate_proj, &self.up_proj, &self.down_proj].map(Linear::share);
        Self { gate_proj, up_proj, down_proj }
    }

    /// The same MLP, sharing its weights, with what `adapter` changes of the module `name`.
    pub(crate) fn with(&self, name: &str, adapter: &Adapter, kind: Kind) -> Self {
        let with = |linear: &Linear, part: &str| linear.with(&format!("{name}.{part}"), adapter, kind);
        Self {
            gate_proj: with(&self.gate_proj, "gate_proj"),
            up_proj: with(&self.up_proj, "up_proj"),
            down_proj: with(&self.down_proj, "down_proj"),
        }
    }

    /// The same MLP, where the adapter that came last counts for some rows only.
    pub(crate) fn masked(&self, layer: usize, masks: &Masks) -> Self {
        let masked = |linear: &Linear, part| linear.masked(masks.of(layer, Unit::Mlp, part));
        Self {
            gate_proj: masked(&self.gate_proj, "gate_proj"),
            up_proj: masked(&self.up_proj, "up_proj"),
            down_proj: masked(&self.down_proj, "down_proj"),
        }
    }

    /// Whether rows must not be cut apart.
    pub(crate) fn is_masked(&self) -> bool {
        [&self.gate_proj, &self.up_proj, &self.down_proj].into_iter().any(Linear::is_masked)
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
