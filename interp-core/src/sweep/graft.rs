//! Cells that are parts of an adapter: which there are, and which rows of a wave use which parts.

use super::Sweep;
use super::grid::{Cell, Grid};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Masks, Part, Unit};
use crate::error::{Error, Result};
use crate::intervention::{Edit, Intervention};
use crate::site::{HeadRef, HookPoint, Positions, Site};

impl Sweep {
    /// The cells of a graft. A row enters, as it is, where its lowest layer begins, at all positions: a part acts wherever its
    /// layer computes.
    pub(super) fn grafts(&self, config: &ModelConfig) -> Result<Vec<Cell>> {
        if self.positions != [Positions::All] {
            let hint = "leave --positions out, or give all";
            return Err(refuse("positions", &self.positions[0].to_string(), "an adapter acts at all positions", hint));
        }
        let layers: Vec<usize> = self.layers.clone().collect();
        let mut cells = Vec::new();
        match &self.grid {
            Grid::LayerPart => {
                for part in Part::all(config).filter(|part| layers.contains(&part.layer)) {
                    cells.push(self.graft(cells.len(), vec![part]));
                }
            }
            Grid::LayerHead => {
                let (unit, n) = self.unit(config)?;
                for (row, &layer) in layers.iter().enumerate() {
                    let wanted =
                        |head| self.heads.as_ref().is_none_or(|heads| heads.contains(&HeadRef { layer, head }));
                    let of = |head| self.graft(row * n + head, vec![Part { layer, unit, index: head }]);
                    cells.extend((0..n).filter(|&head| wanted(head)).map(of));
                }
            }
            Grid::Sets(sets) => {
                let (unit, n) = self.unit(config)?;
                for (index, set) in sets.iter().enumerate() {
                    let absent = |head: &&HeadRef| head.layer >= config.n_layers || head.head >= n;
                    if let Some(head) = set.heads.iter().find(absent) {
                        let problem = format!("the model has layers 0..{} of heads 0..{n}", config.n_layers);
                        return Err(refuse("head", &head.to_string(), &problem, "layers and heads count from 0"));
                    }
                    let part = |head: &HeadRef| Part { layer: head.layer, unit, index: head.head };
                    cells.push(self.graft(index, set.heads.iter().map(part).collect()));
                }
            }
            Grid::LayerPos => {
                let hint = "use --grid layer-part, layer-head or sets:FILE";
                return Err(refuse("grid", "layer-pos", "an adapter acts at all positions", hint));
            }
        }
        Ok(cells)
    }

    /// What a head of the site stands for, and how many there are.
    fn unit(&self, config: &ModelConfig) -> Result<(Unit, usize)> {
        match self.site {
            Site::Z => Ok((Unit::Head, config.n_heads)),
            Site::K | Site::V => Ok((Unit::KvHead, config.n_kv_heads)),
            site => {
                let hint = "use --site z for query heads, --site v for KV heads, or --grid layer-part for all";
                Err(refuse("site", &site.to_string(), "is no part of an adapter", hint))
            }
        }
    }

    fn graft(&self, index: usize, parts: Vec<Part>) -> Cell {
        let layer = parts.iter().map(|part| part.layer).min();
        let enter = |layer| Intervention {
            at: HookPoint::new(Site::ResidPre, layer),
            heads: None,
            positions: Positions::All,
            edit: self.edit.clone(),
        };
        Cell { index, set: layer.map(enter).into_iter().collect(), parts, layer: layer.unwrap_or(0), pos: 0 }
    }

    /// `adapted` with a row for each of `rows`, which are the parts of cells, none standing for a clean row.
    pub(super) fn grafted(&self, adapted: &Decoder, rows: &[&[Part]]) -> Decoder {
        let masks = if matches!(self.edit, Edit::Ungraft) { Masks::all_but } else { Masks::only };
        adapted.grafted(&masks(adapted.config(), rows, adapted.kind()))
    }
}

/// Refuses a grid of parts for an edit of activations.
pub(super) fn only_grafts(edit: &Edit) -> Error {
    let hint = "use --edit graft or ungraft, or another grid";
    refuse("grid", "layer-part", &format!("has parts of an adapter, which `{edit:?}` does not edit"), hint)
}

fn refuse(what: &'static str, value: &str, problem: &str, hint: &str) -> Error {
    Error::Selector { what, value: value.into(), problem: problem.into(), hint: Some(hint.into()) }
}
