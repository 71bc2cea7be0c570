//! Grouped-query attention as an explicit softmax, with every per-head site in view.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::graft::{Masks, Unit};
use super::linear::{Linear, Loading};
use super::norm::{RmsNorm, wide_kind};
use super::past::{Past, Segment};
use super::rope::RopeTable;
use crate::adapter::Adapter;
use crate::checkpoint::Scope;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::hooks::{Hooks, grow, rows, tap};
use crate::site::{HookPoint, Site};

/// Most attention scores formed at once: destination positions are processed in chunks that stay below. A CPU wants a
/// chunk to stay in its caches, a GPU wants few launches.
fn max_scores(device: Device) -> i64 {
    if device == Device::Cpu { 1 << 22 } else { 1 << 28 }
}

/// Sites between the input and z.
pub(crate) const INNER: &[Site] =
    &[Site::Q, Site::K, Site::V, Site::RotQ, Site::RotK, Site::KCopy, Site::VCopy, Site::Scores, Site::Pattern];

#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    n_heads: i64,
    n_kv_heads: i64,
    d_head: i64,
    window: Option<usize>,
}

/// Where a pass stands: what every layer's attention needs besides its input.
pub(crate) struct Place<'a> {
    /// Layer, 0-based.
    pub(crate) layer: usize,
    /// Positions the input covers.
    pub(crate) positions: Range<usize>,
    /// Positions whose output is wanted; within `positions`.
    pub(crate) keep: Range<usize>,
    /// Keys and values of positions before `positions`.
    pub(crate) past: Option<&'a Past>,
    /// Rope table of `positions`.
    pub(crate) rope: &'a RopeTable,
}

impl Place<'_> {
    /// Whether all rows look at the same past, so that any of them can be computed by themselves.
    pub(crate) fn shares_past(&self) -> bool {
        self.past.is_none_or(|past| past.segments(self.layer).iter().all(|segment| rows(&segment.k) == 1))
    }
}

impl Attention {
    pub(crate) fn load(config: &ModelConfig, layer: usize, scope: &Scope<'_>, loading: &Loading<'_>) -> Result<Self> {
        let (d_model, d_head) = (config.d_model, config.d_head);
        let (q_width, kv_width) = (config.n_heads * d_head, config.n_kv_heads * d_head);
        let norm = |name: &str| match config.qk_norm {
            true => RmsNorm::load(&scope.pp(name), d_head, config.rms_norm_eps, loading).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            q_proj: Linear::load(&scope.pp("q_proj"), q_width, d_model, config.qkv_bias, loading)?,
            k_proj: Linear::load(&scope.pp("k_proj"), kv_width, d_model, config.qkv_bias, loading)?,
            v_proj: Linear::load(&scope.pp("v_proj"), kv_width, d_model, config.qkv_bias, loading)?,
            o_proj: Linear::load(&scope.pp("o_proj"), d_model, q_width, config.o_bias, loading)?,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            n_heads: config.n_heads as i64,
            n_kv_heads: config.n_kv_heads as i64,
            d_head: d_head as i64,
            window: config.windows[layer],
        })
    }

    /// The same attention, sharing its weights.
    pub(crate) fn share(&self) -> Self {
        let [q_proj, k_proj, v_proj, o_proj] =
            [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj].map(Linear::share);
        let [q_norm, k_norm] = [&self.q_norm, &self.k_norm].map(|norm| norm.as_ref().map(RmsNorm::share));
        Self { q_proj, k_proj, v_proj, o_proj, q_norm, k_norm, ..*self }
    }

    /// The same attention, sharing its weights, with what `adapter` changes of the module `name`.
    pub(crate) fn with(&self, name: &str, adapter: &Adapter, kind: Kind) -> Self {
        let with = |linear: &Linear, part: &str| linear.with(&format!("{name}.{part}"), adapter, kind);
        let norm =
            |norm: &Option<RmsNorm>, part| norm.as_ref().map(|norm| norm.with(&format!("{name}.{part}"), adapter));
        Self {
            q_proj: with(&self.q_proj, "q_proj"),
            k_proj: with(&self.k_proj, "k_proj"),
            v_proj: with(&self.v_proj, "v_proj"),
            o_proj: with(&self.o_proj, "o_proj"),
            q_norm: norm(&self.q_norm, "q_norm"),
            k_norm: norm(&self.k_norm, "k_norm"),
            ..*self
        }
    }

    /// The same attention, where the adapter that came last counts for some rows and heads only.
    pub(crate) fn masked(&self, layer: usize, masks: &Masks) -> Self {
        let masked = |linear: &Linear, unit, part| linear.masked(masks.of(layer, unit, part));
        Self {
            q_proj: masked(&self.q_proj, Unit::Head, "q_proj"),
            k_proj: masked(&self.k_proj, Unit::KvHead, "k_proj"),
            v_proj: masked(&self.v_proj, Unit::KvHead, "v_proj"),
            o_proj: masked(&self.o_proj, Unit::Head, "o_proj"),
            ..self.share()
        }
    }

    /// Whether rows must not be cut apart.
    pub(crate) fn is_masked(&self) -> bool {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj].into_iter().any(Linear::is_masked)
    }

    /// Whether a pass in `kind` converts weights, which it had better do once for all rows.
    pub(crate) fn converts(&self, kind: Kind) -> bool {
        self.q_proj.converts(kind)
    }

    /// `[batch, pos, d_model]` over `place.positions` to z, `[batch, pos, head, d_head]` over `place.keep`.
    pub(crate) fn attend<H: Hooks>(&self, x: &Tensor, place: &Place<'_>, hooks: &mut H) -> Tensor {
        let (layer, first, keep) = (place.layer, place.positions.start, &place.keep);
        let at = |site| HookPoint::new(site, layer);
        let (from, len) = ((keep.start - first) as i64, keep.len() as i64);
        let narrowed = x.narrow(1, from, len);

        let q = tap(hooks, at(Site::Q), keep.start, self.heads(self.q_proj.forward(&narrowed), self.n_heads));
        let k = tap(hooks, at(Site::K), first, self.heads(self.k_proj.forward(x), self.n_kv_heads));
        let v = tap(hooks, at(Site::V), first, self.heads(self.v_proj.forward(x), self.n_kv_heads));
        let q = self.q_norm.as_ref().map_or_else(|| q.shallow_clone(), |norm| norm.forward(&q));
        let k = self.k_norm.as_ref().map_or_else(|| k.shallow_clone(), |norm| norm.forward(&k));
        let q = tap(hooks, at(Site::RotQ), keep.start, place.rope.narrow(from, len).rotate(&q));
        let k = tap(hooks, at(Site::RotK), first, place.rope.rotate(&k));
        let k = self.copies(at(Site::KCopy), first, k, hooks);
        let v = self.copies(at(Site::VCopy), first, v, hooks);

        self.mix(q, k, v, place, hooks)
    }

    /// `[batch, pos, heads * d_head]` to `[batch, pos, heads, d_head]`.
    fn heads(&self, x: Tensor, heads: i64) -> Tensor {
        let size = x.size();
        x.view([size[0], size[1], heads, self.d_head])
    }

    /// Repeats KV heads to query heads, only when somebody wants to see or edit a query head's own copy. Copies that were
    /// only looked at are dropped again, so that looking changes no bit.
    fn copies<H: Hooks>(&self, at: HookPoint, first_pos: usize, x: Tensor, hooks: &mut H) -> Tensor {
        if !hooks.wants(at) {
            return x;
        }
        let copies = x.repeat_interleave_self_int(self.n_heads / self.n_kv_heads, 2, None);
        let edited = hooks.visit(at, first_pos, copies.shallow_clone());
        if edited.data_ptr() == copies.data_ptr() { x } else { edited }
    }

    /// Softmax attention of `q` over the past and over `k`, `v` of this pass. Result `[batch, pos, head, d_head]` over
    /// `place.keep`.
    fn mix<H: Hooks>(&self, q: Tensor, k: Tensor, v: Tensor, place: &Place<'_>, hooks: &mut H) -> Tensor {
        let kind = q.kind();
        let n = rows(&q).max(rows(&k));
        let fold = |t: Tensor| t.transpose(1, 2).contiguous();
        let (q, own_k, mut own_v) = (fold(grow(q, n)), fold(grow(k, n)), fold(v));
        let past = place.past.map_or(&[][..], |past| past.segments(place.layer));

        let n_src = place.positions.end as i64;
        let chunk = (max_scores(q.device()) / (n * self.n_heads * n_src)).max(1) as usize;
        let mut out = Vec::new();
        for start in place.keep.clone().step_by(chunk) {
            let dest = start..place.keep.end.min(start + chunk);
            let q = q.narrow(2, (dest.start - place.keep.start) as i64, dest.len() as i64);
            let mut parts: Vec<Tensor> = past.iter().map(|Segment { k, .. }| scores(&q, k)).collect();
            parts.push(scores(&q, &own_k));
            let scores = join(parts) * (self.d_head as f64).powf(-0.5);
            let scores = match forbidden(&dest, n_src as usize, self.window, scores.device()) {
                Some(mask) => scores.masked_fill(&mask, f64::NEG_INFINITY),
                None => scores,
            };
            let scores = tap(hooks, HookPoint::new(Site::Scores, place.layer), dest.start, scores);
            let pattern = scores.softmax(-1, wide_kind(kind)).to_kind(kind);
            let pattern = tap(hooks, HookPoint::new(Site::Pattern, place.layer), dest.start, pattern);

            let n = rows(&pattern).max(rows(&own_v));
            let pattern = grow(pattern, n);
            own_v = grow(own_v, n);
            let mut src = 0;
            let mut z: Option<Tensor> = None;
            for v in past.iter().map(|Segment { v, .. }| v).chain([&own_v]) {
                let len = v.size()[2];
                let part = weighted(&pattern.narrow(3, src, len), v);
                z = Some(z.map_or_else(|| part.shallow_clone(), |z| z + &part));
                src += len;
            }
            out.extend(z);
        }
        join_positions(out).transpose(1, 2).contiguous()
    }

    /// z `[batch, pos, head, d_head]` through W_O, `[batch, pos, d_model]`. When `result` is wanted its edits are added as new − old, so that clean rows keep the plain product.
    pub(crate) fn project<H: Hooks>(&self, z: &Tensor, at: HookPoint, first_pos: usize, hooks: &mut H) -> Tensor {
        let size = z.size();
        let attn_out = self.o_proj.forward(&z.view([size[0], size[1], self.n_heads * self.d_head]));
        if !hooks.wants(at) {
            return attn_out;
        }
        let w_o = self.o_proj.weight(z.kind()).view([-1, self.n_heads, self.d_head]).permute([1, 2, 0]);
        let result = z.permute([2, 0, 1, 3]).reshape([self.n_heads, -1, self.d_head]).bmm(&w_o);
        let result = result.view([self.n_heads, size[0], size[1], -1]).permute([1, 2, 0, 3]).contiguous();
        let edited = hooks.visit(at, first_pos, result.shallow_clone());
        if edited.data_ptr() == result.data_ptr() {
            return attn_out;
        }
        let n = rows(&edited);
        let change = (edited - grow(result, n)).sum_dim_intlist(2, false, None::<Kind>);
        grow(attn_out, n) + change
    }
}

/// Dot products `[batch, head, dest, src]` of `q [batch, head, dest, d_head]` with `k [1 or batch, kv_head, src, d_head]`.
fn scores(q: &Tensor, k: &Tensor) -> Tensor {
    grouped(q, k, |q, k| q.matmul(&k.transpose(-2, -1)))
}

/// Mixtures `[batch, head, dest, d_head]` of `v [1 or batch, kv_head, src, d_head]` under `pattern [batch, head, dest, src]`.
fn weighted(pattern: &Tensor, v: &Tensor) -> Tensor {
    grouped(pattern, v, |pattern, v| pattern.matmul(v))
}

/// Multiplies per KV head, the query heads of its group (and, where keys and values are shared by all rows, the rows too)
/// folded into one matrix: nothing is copied per query head or row.
fn grouped(x: &Tensor, kv: &Tensor, product: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let (batch, heads, dest, width) = x.size4().expect("four axes");
    let n_kv = kv.size()[1];
    let group = heads / n_kv;
    if rows(kv) == 1 && batch > 1 {
        let folded = x.reshape([batch, n_kv, group * dest, width]).transpose(0, 1).reshape([n_kv, -1, width]);
        let out = product(&folded, &kv.squeeze_dim(0));
        let out = out.view([n_kv, batch, group * dest, -1]).transpose(0, 1);
        return out.reshape([batch, heads, dest, -1]);
    }
    product(&x.reshape([batch, n_kv, group * dest, width]), kv).view([batch, heads, dest, -1])
}

/// Scores of consecutive source positions side by side.
fn join(mut parts: Vec<Tensor>) -> Tensor {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, -1) }
}

/// Outputs of consecutive destination positions, `[batch, head, dest, d_head]`.
fn join_positions(mut parts: Vec<Tensor>) -> Tensor {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 2) }
}

/// True where `dest` must not see `src`: `[dest, src]`, or `None` when everything may be seen.
fn forbidden(dest: &Range<usize>, n_src: usize, window: Option<usize>, device: Device) -> Option<Tensor> {
    let future = dest.start + 1 < n_src;
    let too_old = window.is_some_and(|window| dest.end > window);
    if !future && !too_old {
        return None;
    }
    let src = Tensor::arange(n_src as i64, (Kind::Int64, device)).unsqueeze(0);
    let dest = Tensor::arange_start(dest.start as i64, dest.end as i64, (Kind::Int64, device)).unsqueeze(1);
    let mask = src.gt_tensor(&dest);
    Some(match window {
        Some(window) => mask.logical_or(&(dest - src).ge(window as i64)),
        None => mask,
    })
}
