//! Keys and values of positions a pass does not recompute.

use tch::Tensor;

use crate::device::upload;

/// Rotated keys and values of earlier positions, per layer, in segments of consecutive positions. A segment of one row is
/// shared by all rows of a pass and never copied per row (the prompt); others have a row each (generated tokens).
#[derive(Debug, Default)]
pub struct Past {
    layers: Vec<Vec<Segment>>,
}

/// Consecutive positions of one layer: `k` and `v` are `[1 or batch, kv_head, pos, d_head]`.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
}

impl Past {
    /// No positions, for `n_layers` layers.
    pub fn new(n_layers: usize) -> Self {
        Self { layers: (0..n_layers).map(|_| Vec::new()).collect() }
    }

    /// Appends positions to a layer: rotated keys and values, `[1 or batch, pos, kv_head, d_head]` as a pass records them.
    /// The first segment (the prompt) stays as it is; later ones grow together.
    pub fn push(&mut self, layer: usize, rot_k: &Tensor, v: &Tensor) {
        let fold = |t: &Tensor| t.transpose(1, 2).contiguous();
        let (k, v) = (fold(rot_k), fold(v));
        match &mut self.layers[layer][..] {
            [_, .., last] => {
                last.k = Tensor::cat(&[&last.k, &k], 2);
                last.v = Tensor::cat(&[&last.v, &v], 2);
            }
            _ => self.layers[layer].push(Segment { k, v }),
        }
    }

    /// The first `pos` positions, sharing memory with `self`.
    pub fn before(&self, pos: usize) -> Self {
        let cut = |segments: &Vec<Segment>| {
            let mut left = pos as i64;
            let mut kept = Vec::new();
            for segment in segments {
                let len = left.min(segment.k.size()[2]);
                if len > 0 {
                    kept.push(Segment { k: segment.k.narrow(2, 0, len), v: segment.v.narrow(2, 0, len) });
                }
                left -= len;
            }
            kept
        };
        Self { layers: self.layers.iter().map(cut).collect() }
    }

    /// Goes on with these rows only, in this order. What all rows share stays shared.
    pub fn keep_rows(&mut self, rows: &[i64]) {
        for Segment { k, v } in self.layers.iter_mut().flatten().filter(|segment| segment.k.size()[0] > 1) {
            let index = upload(rows, k.device());
            (*k, *v) = (k.index_select(0, &index), v.index_select(0, &index));
        }
    }

    /// Number of positions held at a layer.
    pub fn len(&self, layer: usize) -> usize {
        self.layers[layer].iter().map(|segment| segment.k.size()[2] as usize).sum()
    }

    pub(crate) fn segments(&self, layer: usize) -> &[Segment] {
        &self.layers[layer]
    }
}
