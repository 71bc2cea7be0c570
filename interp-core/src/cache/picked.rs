//! A recorder that keeps chosen positions and heads only, so that a long prompt costs what is asked of it and no more.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::decoder::Decoder;
use crate::device::{download, upload};
use crate::hooks::Hooks;
use crate::site::{HookPoint, Site};

/// Copies of what was asked for, on the host. Pure observation.
#[derive(Debug)]
pub struct Picked {
    positions: Vec<usize>,
    points: HashMap<HookPoint, (Option<Vec<i64>>, Vec<Tensor>)>,
    resid: Option<Tensor>,
}

impl Picked {
    /// Runs `tokens` once and keeps each of `points`, with the heads named there (all, if `None`), at `positions`
    /// (destinations), which are sorted.
    pub fn run(
        decoder: &Decoder,
        tokens: &[i64],
        positions: Vec<usize>,
        points: impl IntoIterator<Item = (HookPoint, Option<Vec<usize>>)>,
    ) -> Self {
        let _no_grad = tch::no_grad_guard();
        let from = positions.first().copied().unwrap_or(tokens.len() - 1);
        let heads = |heads: Vec<usize>| heads.into_iter().map(|head| head as i64).collect();
        let points = points.into_iter().map(|(at, wanted)| (at, (wanted.map(heads), Vec::new()))).collect();
        let mut picked = Self { positions, points, resid: None };
        let resid = decoder.forward(decoder.embed(tokens), from..tokens.len(), &mut picked);
        if picked.wants(HookPoint::new(Site::LnFinal, 0)) {
            let _ = decoder.unembed(&resid, from, Some(&[]), &mut picked);
        }
        decoder.devices().synchronize();
        picked.resid = Some(resid.narrow(1, resid.size()[1] - 1, 1).copy());
        picked
    }

    /// `resid_post` of the last layer at the prompt's last position, `[1, 1, d_model]`, where it was computed.
    pub fn resid(&self) -> &Tensor {
        self.resid.as_ref().expect("set when the run ends")
    }

    /// What was kept of a hook point, on the site's axes: `[1, pos, (head,) width]`, or `[1, head, dest, src]`.
    pub fn get(&self, at: HookPoint) -> Option<Tensor> {
        let (_, parts) = self.points.get(&at)?;
        (!parts.is_empty()).then(|| Tensor::cat(parts, if at.site.is_attention() { 2 } else { 1 }))
    }

    /// As [`get`](Self::get), one row per position: `[pos, (head,) width]`, or `[dest, head, src]`.
    pub fn rows(&self, at: HookPoint) -> Option<Tensor> {
        let act = self.get(at)?.get(0);
        Some(if at.site.is_attention() { act.transpose(0, 1) } else { act })
    }
}

impl Hooks for Picked {
    fn wants(&self, at: HookPoint) -> bool {
        self.points.contains_key(&at)
    }

    fn visit(&mut self, at: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        let Some((heads, parts)) = self.points.get_mut(&at) else { return act };
        let (pos_axis, head_axis) = if at.site.is_attention() { (2, 1) } else { (1, 2) };
        let covered = first_pos..first_pos + act.size()[pos_axis as usize] as usize;
        let inside: Vec<i64> =
            self.positions.iter().filter(|pos| covered.contains(pos)).map(|&pos| (pos - first_pos) as i64).collect();
        if inside.is_empty() {
            return act;
        }
        let index = |list: &[i64]| upload(list, act.device());
        // Selecting copies, so what is kept does not hold the whole activation.
        let mut kept = act.index_select(pos_axis, &index(&inside));
        if let Some(heads) = heads {
            kept = kept.index_select(head_axis, &index(heads));
        }
        let kind = if kept.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        parts.push(download(&kept.to_kind(kind)));
        act
    }
}
