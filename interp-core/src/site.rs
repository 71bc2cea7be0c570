//! The vocabulary: sites, hook points, heads and positions. Names and orders only; no tensors, no model.

mod select;

use std::fmt;
use std::str::FromStr;

pub use self::select::{HeadRef, Layers, Positions};
use crate::error::{Error, Result};

/// A kind of activation, in TransformerLens's names. Listed in the order in which a pass reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings, `[batch, pos, d_model]`.
    Embed,
    /// Residual stream entering a block, `[batch, pos, d_model]`.
    ResidPre,
    /// Queries before (q-norm and) rope, `[batch, pos, head, d_head]`.
    Q,
    /// Keys before (k-norm and) rope, `[batch, pos, kv_head, d_head]`.
    K,
    /// Values, `[batch, pos, kv_head, d_head]`.
    V,
    /// Queries after rope, `[batch, pos, head, d_head]`.
    RotQ,
    /// Keys after rope, `[batch, pos, kv_head, d_head]`.
    RotK,
    /// Rotated keys repeated to query heads, `[batch, pos, head, d_head]`: one query head's own copy.
    KCopy,
    /// Values repeated to query heads, `[batch, pos, head, d_head]`: one query head's own copy.
    VCopy,
    /// Scaled attention scores, `[batch, head, dest, src]`; −inf where the mask forbids.
    Scores,
    /// Attention probabilities, `[batch, head, dest, src]`.
    Pattern,
    /// Per-head output before W_O, `[batch, pos, head, d_head]`.
    Z,
    /// Per-head contribution to `attn_out`, z through the head's columns of W_O, `[batch, pos, head, d_model]`.
    Result,
    /// Output of attention, `[batch, pos, d_model]`.
    AttnOut,
    /// Residual stream between attention and MLP, `[batch, pos, d_model]`.
    ResidMid,
    /// Gate projection before its activation, `[batch, pos, d_mlp]`.
    MlpPre,
    /// Input of the down projection, `[batch, pos, d_mlp]`.
    MlpPost,
    /// Output of the MLP, `[batch, pos, d_model]`.
    MlpOut,
    /// Residual stream leaving a block, `[batch, pos, d_model]`.
    ResidPost,
    /// Output of the final norm, weight included: what the unembedding multiplies, `[batch, pos, d_model]`.
    LnFinal,
}

/// Name of one axis of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Rows of a pass: cells of a sweep, samples of one prompt.
    Batch,
    /// Token position.
    Pos,
    /// Query head.
    Head,
    /// Key-value head.
    KvHead,
    /// Position that attends.
    Dest,
    /// Position attended to.
    Src,
    /// Width of one head.
    DHead,
    /// Width of the residual stream.
    DModel,
    /// Width of the MLP.
    DMlp,
}

/// Which heads a site's head axis counts; written as `head_axis` into every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadAxis {
    /// Query heads.
    Query,
    /// Key-value heads, each shared by a group of query heads.
    Kv,
}

impl Site {
    /// Every site, in the order in which a pass reaches them.
    pub const ALL: [Site; 20] = [
        Site::Embed,
        Site::ResidPre,
        Site::Q,
        Site::K,
        Site::V,
        Site::RotQ,
        Site::RotK,
        Site::KCopy,
        Site::VCopy,
        Site::Scores,
        Site::Pattern,
        Site::Z,
        Site::Result,
        Site::AttnOut,
        Site::ResidMid,
        Site::MlpPre,
        Site::MlpPost,
        Site::MlpOut,
        Site::ResidPost,
        Site::LnFinal,
    ];

    /// The name users type: `resid_pre`, `z`, ….
    pub fn name(self) -> &'static str {
        match self {
            Site::Embed => "embed",
            Site::ResidPre => "resid_pre",
            Site::Q => "q",
            Site::K => "k",
            Site::V => "v",
            Site::RotQ => "rot_q",
            Site::RotK => "rot_k",
            Site::KCopy => "k_copy",
            Site::VCopy => "v_copy",
            Site::Scores => "scores",
            Site::Pattern => "pattern",
            Site::Z => "z",
            Site::Result => "result",
            Site::AttnOut => "attn_out",
            Site::ResidMid => "resid_mid",
            Site::MlpPre => "mlp_pre",
            Site::MlpPost => "mlp_post",
            Site::MlpOut => "mlp_out",
            Site::ResidPost => "resid_post",
            Site::LnFinal => "ln_final",
        }
    }

    /// The part of a hook point's name after `blocks.{layer}.`, or the whole name for sites outside the blocks.
    fn hook_name(self) -> &'static str {
        match self {
            Site::Embed => "hook_embed",
            Site::ResidPre => "hook_resid_pre",
            Site::Q => "attn.hook_q",
            Site::K => "attn.hook_k",
            Site::V => "attn.hook_v",
            Site::RotQ => "attn.hook_rot_q",
            Site::RotK => "attn.hook_rot_k",
            Site::KCopy => "attn.hook_k_copy",
            Site::VCopy => "attn.hook_v_copy",
            Site::Scores => "attn.hook_attn_scores",
            Site::Pattern => "attn.hook_pattern",
            Site::Z => "attn.hook_z",
            Site::Result => "attn.hook_result",
            Site::AttnOut => "hook_attn_out",
            Site::ResidMid => "hook_resid_mid",
            Site::MlpPre => "mlp.hook_pre",
            Site::MlpPost => "mlp.hook_post",
            Site::MlpOut => "hook_mlp_out",
            Site::ResidPost => "hook_resid_post",
            Site::LnFinal => "ln_final.hook_out",
        }
    }

    /// Axes of the activation, outermost first.
    pub fn axes(self) -> &'static [Axis] {
        use Axis::{Batch, DHead, DMlp, DModel, Dest, Head, KvHead, Pos, Src};
        match self {
            Site::Embed
            | Site::ResidPre
            | Site::AttnOut
            | Site::ResidMid
            | Site::MlpOut
            | Site::ResidPost
            | Site::LnFinal => &[Batch, Pos, DModel],
            Site::Q | Site::RotQ | Site::KCopy | Site::VCopy | Site::Z => &[Batch, Pos, Head, DHead],
            Site::K | Site::V | Site::RotK => &[Batch, Pos, KvHead, DHead],
            Site::Scores | Site::Pattern => &[Batch, Head, Dest, Src],
            Site::Result => &[Batch, Pos, Head, DModel],
            Site::MlpPre | Site::MlpPost => &[Batch, Pos, DMlp],
        }
    }

    /// Which heads the site has, if any.
    pub fn head_axis(self) -> Option<HeadAxis> {
        self.axes().iter().find_map(|axis| match axis {
            Axis::Head => Some(HeadAxis::Query),
            Axis::KvHead => Some(HeadAxis::Kv),
            _ => None,
        })
    }

    /// Whether the site exists once per layer (`embed` and `ln_final` exist once per model).
    pub fn is_per_layer(self) -> bool {
        !matches!(self, Site::Embed | Site::LnFinal)
    }

    /// Whether positions before the one that is read still matter in the last layer: they do up to its keys and values.
    pub fn feeds_keys(self) -> bool {
        use Site::{Embed, K, KCopy, ResidPre, RotK, V, VCopy};
        matches!(self, Embed | ResidPre | K | V | RotK | KCopy | VCopy)
    }

    /// Whether entries are attention from a destination to a source position.
    pub fn is_attention(self) -> bool {
        matches!(self, Site::Scores | Site::Pattern)
    }
}

impl Axis {
    /// The word written into files.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Batch => "batch",
            Axis::Pos => "pos",
            Axis::Head => "head",
            Axis::KvHead => "kv_head",
            Axis::Dest => "dest",
            Axis::Src => "src",
            Axis::DHead => "d_head",
            Axis::DModel => "d_model",
            Axis::DMlp => "d_mlp",
        }
    }
}

impl HeadAxis {
    /// The word written into files.
    pub fn name(self) -> &'static str {
        match self {
            HeadAxis::Query => "query",
            HeadAxis::Kv => "kv",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Site::ALL.into_iter().find(|site| site.name() == text).ok_or_else(|| Error::Selector {
            what: "site",
            value: text.into(),
            problem: "no such site".into(),
            hint: Some(format!("sites are {}", Site::ALL.map(Site::name).join(", "))),
        })
    }
}

/// A site at a layer. Prints and parses as TransformerLens's name, e.g. `blocks.19.attn.hook_z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookPoint {
    /// Layer, 0-based; 0 for `embed`, and the number of layers does not matter for `ln_final` (kept 0).
    pub layer: usize,
    /// Kind of activation.
    pub site: Site,
}

impl HookPoint {
    /// `site` at `layer`; sites outside the blocks ignore the layer.
    pub fn new(site: Site, layer: usize) -> Self {
        Self { layer: if site.is_per_layer() { layer } else { 0 }, site }
    }

    /// Sorts hook points in the order in which a pass reaches them.
    pub fn order(self) -> (usize, Site) {
        match self.site {
            Site::LnFinal => (usize::MAX, self.site),
            site => (self.layer, site),
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.site.is_per_layer() {
            write!(f, "blocks.{}.", self.layer)?;
        }
        f.write_str(self.site.hook_name())
    }
}

impl FromStr for HookPoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (layer, rest) = match text.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((layer, rest)) => (layer.parse::<usize>().ok(), rest),
            None => (None, text),
        };
        Site::ALL
            .into_iter()
            .find(|site| site.hook_name() == rest && site.is_per_layer() == layer.is_some())
            .map(|site| HookPoint::new(site, layer.unwrap_or(0)))
            .ok_or_else(|| Error::Selector {
                what: "hook point",
                value: text.into(),
                problem: "no such hook point".into(),
                hint: Some("hook points look like blocks.19.attn.hook_z".into()),
            })
    }
}

#[cfg(test)]
mod tests;
