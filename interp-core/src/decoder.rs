//! The forward pass, once: for plain runs, resumed runs, generation and sweeps alike. Knows [`Hooks`]; knows nothing of
//! interventions, metrics, prompts or files of results.

mod adapt;
mod attention;
mod blocks;
mod graft;
mod kernel;
mod linear;
mod low_rank;
mod mlp;
mod norm;
mod past;
mod peak;
mod rope;
mod tensors;

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, Tensor};

use self::adapt::Active;
use self::attention::{Attention, Place};
use self::blocks::{by_rows, by_tokens};
pub use self::graft::{Masks, Part, Unit};
use self::kernel::Kernel;
use self::linear::Loading;
use self::mlp::Mlp;
use self::norm::{RmsNorm, wide_kind};
pub use self::past::Past;
pub use self::peak::MatrixPeak;
use self::rope::RopeTable;
pub use self::tensors::expected_tensors;
use crate::adapter::{Adapter, Merges};
use crate::checkpoint::{Checkpoint, Maps, Placement, Scope};
use crate::config::ModelConfig;
use crate::device::{Devices, Dtype, Precision, upload};
use crate::error::{Error, Result};
use crate::hooks::{Hooks, grow, rows, tap};
use crate::site::{HookPoint, Site};

/// Rows of the unembedding converted and multiplied at a time, so that full logits need no second copy of it.
const UNEMBED_ROWS: i64 = 4096;

/// A decoder-only transformer with its weights, and with the adapters that are active beside them. Passes take `&self` and leave
/// nothing behind.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    embed_tokens: Tensor,
    layers: Vec<Block>,
    norm: RmsNorm,
    lm_head: Tensor,
    devices: Devices,
    kind: Kind,
    active: Vec<Active>,
    /// Weights used in place point into the checkpoint's memory map.
    _weights: Arc<Maps>,
}

/// Where a pass begins: layers below `layer` and positions below `pos` are taken as given.
#[derive(Debug)]
pub struct Start<'a> {
    /// First layer to compute.
    pub layer: usize,
    /// Position of the first entry of `resid`.
    pub pos: usize,
    /// `resid_pre` of `layer` (the embeddings, for layer 0), `[batch, pos, d_model]`.
    pub resid: Tensor,
    /// Keys and values of positions before `pos`, for layers from `layer` on.
    pub past: Option<&'a Past>,
}

/// A tensor nobody asked for means that the config describes another model than the weights.
fn refuse_leftovers(checkpoint: &Checkpoint) -> Result<()> {
    let unexpected = checkpoint.unexpected();
    let Some(tensor) = unexpected.first() else { return Ok(()) };
    Err(Error::Tensor {
        path: checkpoint.dir().into(),
        tensor: tensor.clone(),
        expected: "only tensors that config.json implies".into(),
        found: format!("{} that no part of a {} model uses", unexpected.len(), checkpoint.config().family),
        hint: Some("config.json and the weights belong to different models".into()),
    })
}

#[derive(Debug)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Block {
    fn load(config: &ModelConfig, layer: usize, scope: &Scope<'_>, loading: &Loading<'_>) -> Result<Self> {
        let norm = |name: &str| RmsNorm::load(&scope.pp(name), config.d_model, config.rms_norm_eps, loading);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(config, layer, &scope.pp("self_attn"), loading)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(config, &scope.pp("mlp"), loading)?,
        })
    }

    /// The same block, sharing its weights.
    fn share(&self) -> Self {
        Self {
            input_layernorm: self.input_layernorm.share(),
            self_attn: self.self_attn.share(),
            post_attention_layernorm: self.post_attention_layernorm.share(),
            mlp: self.mlp.share(),
        }
    }

    /// The same block, sharing its weights, with what `adapter` changes of the module `name`.
    fn with(&self, name: &str, adapter: &Adapter, kind: Kind) -> Self {
        let norm = |norm: &RmsNorm, part: &str| norm.with(&format!("{name}.{part}"), adapter);
        Self {
            input_layernorm: norm(&self.input_layernorm, "input_layernorm"),
            self_attn: self.self_attn.with(&format!("{name}.self_attn"), adapter, kind),
            post_attention_layernorm: norm(&self.post_attention_layernorm, "post_attention_layernorm"),
            mlp: self.mlp.with(&format!("{name}.mlp"), adapter, kind),
        }
    }

    /// The same block, where the adapter that came last counts for some rows and parts only.
    fn masked(&self, layer: usize, masks: &Masks) -> Self {
        Self {
            input_layernorm: self.input_layernorm.share(),
            self_attn: self.self_attn.masked(layer, masks),
            post_attention_layernorm: self.post_attention_layernorm.share(),
            mlp: self.mlp.masked(layer, masks),
        }
    }

    /// `resid_pre` over `place.positions` to `resid_post` over `place.keep`. Each half runs in blocks, unless a hook wants to
    /// see one of its activations, which then has to exist as a whole, or weights are converted for every product.
    fn forward<H: Hooks>(&self, resid: Tensor, place: &Place<'_>, hooks: &mut H) -> Tensor {
        let (keep, layer) = (&place.keep, place.layer);
        let at = |site| HookPoint::new(site, layer);
        let watched = |hooks: &H, sites: &[Site]| sites.iter().any(|&site| hooks.wants(at(site)));

        let resid = tap(hooks, at(Site::ResidPre), place.positions.start, resid);
        let kind = resid.kind();
        let whole = watched(hooks, attention::INNER)
            || !place.shares_past()
            || self.self_attn.converts(kind)
            || self.self_attn.is_masked();
        let mut attend = |resid: &Tensor| self.self_attn.attend(&self.input_layernorm.forward(resid), place, hooks);
        let z = if whole { attend(&resid) } else { by_rows(&resid, attend) };
        let z = tap(hooks, at(Site::Z), keep.start, z);
        let attn_out = self.self_attn.project(&z, at(Site::Result), keep.start, hooks);
        let attn_out = tap(hooks, at(Site::AttnOut), keep.start, attn_out);
        let resid = resid.narrow(1, (keep.start - place.positions.start) as i64, keep.len() as i64);
        let resid = tap(hooks, at(Site::ResidMid), keep.start, grow(resid, rows(&attn_out)) + attn_out);

        let whole = watched(hooks, mlp::INNER)
            || hooks.wants(at(Site::MlpOut))
            || self.mlp.converts(kind)
            || self.mlp.is_masked();
        let mut mlp = |resid: &Tensor| {
            let normed = self.post_attention_layernorm.forward(resid);
            let mlp_out = self.mlp.forward(&normed, layer, keep.start, hooks);
            let mlp_out = tap(hooks, at(Site::MlpOut), keep.start, mlp_out);
            grow(resid.shallow_clone(), rows(&mlp_out)) + mlp_out
        };
        let resid = if whole { mlp(&resid) } else { by_tokens(&resid, mlp) };
        tap(hooks, at(Site::ResidPost), keep.start, resid)
    }
}

impl Decoder {
    /// Reads the weights, used in place where nothing has to be converted. Errors name the tensor that is missing,
    /// misshapen or not finite, and tensors that no part of the model has a use for.
    pub fn load(checkpoint: &Checkpoint, devices: impl Into<Devices>, precision: Precision) -> Result<Self> {
        Self::load_merged(checkpoint, Merges(&[]), devices, precision, false)
    }

    /// [`Decoder::load`] with adapters merged into the weights, in order: a second copy of what they change, not of the rest.
    /// Sums are rounded to the dtype of the file.
    pub fn load_merged(
        checkpoint: &Checkpoint,
        merges: Merges<'_>,
        devices: impl Into<Devices>,
        precision: Precision,
        waves: bool,
    ) -> Result<Self> {
        Self::load_on(checkpoint, merges, devices.into(), precision, waves)
    }

    /// [`Decoder::load`], for many passes of many rows: matrices are laid out for the kernel that is fastest on this machine,
    /// which costs one copy of each at the start and holds none twice.
    pub fn load_for_waves(checkpoint: &Checkpoint, devices: impl Into<Devices>, precision: Precision) -> Result<Self> {
        Self::load_merged(checkpoint, Merges(&[]), devices, precision, true)
    }

    fn load_on(
        checkpoint: &Checkpoint,
        merges: Merges<'_>,
        devices: Devices,
        precision: Precision,
        waves: bool,
    ) -> Result<Self> {
        let config = checkpoint.config().clone();
        merges.check(checkpoint)?;
        let kind = precision.dtype.kind();
        let kernel = |device| if waves { Kernel::fastest(kind, device) } else { Kernel::Plain };
        let stored = precision.storage(&checkpoint.stored_dtypes(), devices.first());
        let weights = precision.weights;
        let on = |device| Loading {
            place: Placement { device, kind: stored },
            kind,
            weights,
            kernel: kernel(device),
            merges,
        };
        let scope = checkpoint.scope();
        let model = scope.pp("model");
        let embedding = [config.d_vocab as i64, config.d_model as i64];
        let embed_tokens = on(devices.first()).tensor(&model.pp("embed_tokens"), "weight", &embedding)?;
        let layers = (0..config.n_layers)
            .map(|layer| {
                let loading = on(devices.of_layer(layer, config.n_layers));
                Block::load(&config, layer, &model.pp("layers").pp(layer), &loading)
            })
            .collect::<Result<_>>()?;
        let norm = RmsNorm::load(&model.pp("norm"), config.d_model, config.rms_norm_eps, &on(devices.last()))?;
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.to_device(devices.last()),
            false => on(devices.last()).tensor(&scope.pp("lm_head"), "weight", &embedding)?,
        };
        refuse_leftovers(checkpoint)?;
        let _weights = checkpoint.keep_alive();
        Ok(Self { config, embed_tokens, layers, norm, lm_head, devices, kind, active: Vec::new(), _weights })
    }

    /// The same weights, which it shares, computed with in another dtype. For weights that are held as stored or in 4 bits
    /// this is what loading them again would give; of others it would repeat what converting them once has lost.
    pub fn in_dtype(&self, dtype: Dtype) -> Self {
        Self { kind: dtype.kind(), ..self.share() }
    }

    /// Geometry of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// dtype of activations.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The beginning of a pass over a whole prompt: `resid` is `[1, pos, d_model]`.
    pub fn embed(&self, tokens: &[i64]) -> Start<'static> {
        Start { layer: 0, pos: 0, resid: self.embed_rows(&[tokens]), past: None }
    }

    /// Embeddings of several rows of tokens, `[batch, pos, d_model]`.
    pub fn embed_rows(&self, tokens: &[&[i64]]) -> Tensor {
        let flat: Vec<i64> = tokens.iter().flat_map(|row| row.iter().copied()).collect();
        let ids = upload(&flat, self.devices.first());
        let embedded = self.embed_tokens.index_select(0, &ids).to_kind(self.kind);
        embedded.view([tokens.len() as i64, -1, self.config.d_model as i64])
    }

    /// Final `resid_post` at positions `read`, `[batch, pos, d_model]`; `batch` is the start's rows and those that hooks
    /// appended. In the last layer nothing past keys and values is computed, or shown to hooks, at other positions.
    pub fn forward<H: Hooks>(&self, start: Start<'_>, read: Range<usize>, hooks: &mut H) -> Tensor {
        let positions = start.pos..start.pos + start.resid.size()[1] as usize;
        let table =
            |device| RopeTable::new(&self.config.rope, self.config.d_head, positions.clone(), self.kind, device);
        let last = self.config.n_layers - 1;
        let mut resid = start.resid;
        let mut rope = table(resid.device());
        if start.layer == 0 {
            resid = tap(hooks, HookPoint::new(Site::Embed, 0), start.pos, resid);
        }
        let mut covered = positions.clone();
        for (layer, block) in self.layers.iter().enumerate().skip(start.layer) {
            if layer == last {
                covered = read.clone();
            }
            let device = self.devices.of_layer(layer, self.config.n_layers);
            if resid.device() != device {
                (resid, rope) = (resid.to_device(device), table(device));
            }
            let place =
                Place { layer, positions: positions.clone(), keep: covered.clone(), past: start.past, rope: &rope };
            resid = block.forward(resid, &place, hooks);
        }
        resid.narrow(1, (read.start - covered.start) as i64, read.len() as i64)
    }

    /// Final norm and unembedding of `resid [batch, pos, d_model]` at positions from `first_pos`, on the rows passed:
    /// logits `[batch, pos, vocab]`, or `[batch, pos, token]` for the given tokens. Computed in f32 (f64 in f64 mode), since
    /// a bf16 logit near 20 is spaced 0.125.
    pub fn unembed<H: Hooks>(&self, resid: &Tensor, first_pos: usize, tokens: Option<&[i64]>, hooks: &mut H) -> Tensor {
        let wide = wide_kind(self.kind);
        let normed = self.norm.forward(&resid.to_device(self.devices.last()).to_kind(wide));
        let normed = tap(hooks, HookPoint::new(Site::LnFinal, 0), first_pos, normed);
        if let Some(tokens) = tokens {
            let ids = upload(tokens, self.devices.last());
            return normed.matmul(&self.lm_head.index_select(0, &ids).to_kind(wide).transpose(0, 1));
        }
        if self.lm_head.kind() == wide {
            return normed.matmul(&self.lm_head.transpose(0, 1));
        }
        // One buffer for all blocks: freed and asked for again, each would take new memory, for what is freed between two
        // small tensors is just too short for the next one, which must be aligned.
        let size = self.lm_head.size();
        let buffer = Tensor::empty([UNEMBED_ROWS.min(size[0]), size[1]], (wide, self.lm_head.device()));
        let product = |part: &Tensor| {
            let mut converted = buffer.narrow(0, 0, part.size()[0]);
            converted.copy_(part);
            normed.matmul(&converted.transpose(0, 1))
        };
        let parts: Vec<Tensor> = self.lm_head.split(UNEMBED_ROWS, 0).iter().map(product).collect();
        Tensor::cat(&parts, -1)
    }
}
