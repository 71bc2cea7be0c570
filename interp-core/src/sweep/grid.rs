//! The axes of a sweep and the cells on them.

use std::fmt;
use std::str::FromStr;

use super::graft::only_grafts;
use crate::config::ModelConfig;
use crate::decoder::Part;
use crate::error::{Error, Result};
use crate::intervention::Intervention;
use crate::scores::GridAxis;
use crate::site::{HeadAxis, HeadRef, HookPoint, Positions};
use crate::sweep::Sweep;
use crate::trial::Trial;

/// Which cells a sweep has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grid {
    /// Every head of every layer, each alone.
    LayerHead,
    /// Every layer at every position (or span), all heads together.
    LayerPos,
    /// Given sets of heads, each set edited together.
    Sets(Vec<HeadSet>),
    /// Every part of an adapter: per layer its query heads, KV heads and MLP. For grafts only.
    LayerPart,
}

/// Heads edited together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSet {
    /// Label of the cell.
    pub name: String,
    /// The heads; may be empty (an unedited control).
    pub heads: Vec<HeadRef>,
}

/// One cell: its index on the grid (row-major) and what it does.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) index: usize,
    pub(crate) set: Vec<Intervention>,
    /// Parts of the adapter that a graft is about; empty for other edits.
    pub(crate) parts: Vec<Part>,
    /// Lowest layer and smallest position it can change, for grouping cells into waves.
    pub(crate) layer: usize,
    pub(crate) pos: usize,
}

/// The grid's kind as typed: `layer-head`, `layer-pos` or `sets:FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GridSpec {
    /// `layer-head`
    LayerHead,
    /// `layer-pos`
    LayerPos,
    /// `sets:FILE`
    Sets(String),
    /// `layer-part`
    LayerPart,
}

impl fmt::Display for GridSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GridSpec::LayerHead => f.write_str("layer-head"),
            GridSpec::LayerPos => f.write_str("layer-pos"),
            GridSpec::Sets(file) => write!(f, "sets:{file}"),
            GridSpec::LayerPart => f.write_str("layer-part"),
        }
    }
}

impl FromStr for GridSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("sets:")) {
            ("layer-head", _) => Ok(GridSpec::LayerHead),
            ("layer-pos", _) => Ok(GridSpec::LayerPos),
            ("layer-part", _) => Ok(GridSpec::LayerPart),
            (_, Some(file)) if !file.is_empty() => Ok(GridSpec::Sets(file.into())),
            _ => Err(Error::Selector {
                what: "grid",
                value: text.into(),
                problem: "no such grid".into(),
                hint: Some("grids are layer-head, layer-pos, layer-part and sets:FILE".into()),
            }),
        }
    }
}

impl Sweep {
    /// Heads per layer on the site's head axis, or an error naming the site.
    fn n_heads(&self, config: &ModelConfig) -> Result<usize> {
        match self.site.head_axis() {
            Some(HeadAxis::Query) => Ok(config.n_heads),
            Some(HeadAxis::Kv) => Ok(config.n_kv_heads),
            None => Err(Error::Selector {
                what: "site",
                value: self.site.to_string(),
                problem: "has no heads, and this grid counts heads".into(),
                hint: Some("use --grid layer-pos, or a site with heads such as z".into()),
            }),
        }
    }

    fn layer_axis(&self) -> GridAxis {
        match self.site.is_per_layer() {
            true => GridAxis::layers(self.layers.clone()),
            false => GridAxis::named("layer", vec![self.site.to_string()]),
        }
    }

    /// Layers of the grid's layer axis.
    fn layer_list(&self) -> Vec<usize> {
        if self.site.is_per_layer() { self.layers.clone().collect() } else { vec![0] }
    }

    /// The selectors on a position axis: every position of the prompt for `all`, else each as given.
    fn columns(&self, trial: &Trial) -> Vec<Positions> {
        self.positions
            .iter()
            .flat_map(|selector| match selector {
                Positions::All => (0..trial.base.tokens.len() as i64).map(|p| Positions::Index(vec![p])).collect(),
                Positions::Index(list) => list.iter().map(|&p| Positions::Index(vec![p])).collect(),
                span => vec![span.clone()],
            })
            .collect()
    }

    /// Axes of the result. `first` is any trial: a grid over all positions needs trials of equal length.
    pub fn axes(&self, config: &ModelConfig, first: &Trial) -> Result<Vec<GridAxis>> {
        Ok(match &self.grid {
            Grid::LayerHead => vec![self.layer_axis(), GridAxis::heads(0..self.n_heads(config)?)],
            Grid::LayerPos => {
                let columns = self.columns(first);
                let label = |column: &Positions| match column {
                    Positions::Span(name) => name.clone(),
                    single => single.to_string(),
                };
                let numbers: Option<Vec<i64>> = columns.iter().map(Positions::single).collect();
                let columns = match numbers {
                    Some(numbers) => GridAxis::positions(numbers),
                    None => GridAxis::named("span", columns.iter().map(label).collect()),
                };
                vec![self.layer_axis(), columns]
            }
            Grid::LayerPart => {
                let names = Part::all(config).filter(|part| part.layer == 0).map(|part| part.name());
                vec![self.layer_axis(), GridAxis::named("part", names.collect())]
            }
            Grid::Sets(sets) => {
                self.n_heads(config)?;
                vec![GridAxis::named("set", sets.iter().map(|set| set.name.clone()).collect())]
            }
        })
    }

    /// Refuses a trial whose prompts do not fit the axes of the first one.
    pub(crate) fn check_columns(&self, trial: &Trial, axes: &[GridAxis]) -> Result<()> {
        let n = axes.last().map_or(0, |axis| axis.labels.len());
        if self.grid != Grid::LayerPos || self.columns(trial).len() == n {
            return Ok(());
        }
        let problem =
            format!("has {} tokens, the first trial {n}: this grid needs equal lengths", trial.base.tokens.len());
        let hint = Some("use --positions span:NAME,… to put spans on the axis".into());
        Err(Error::Prompt { place: trial.id.clone(), problem, hint })
    }

    /// The cells asked for. Cells outside `heads` are left out and stay NaN in the result.
    pub(crate) fn cells(&self, config: &ModelConfig, trial: &Trial) -> Result<Vec<Cell>> {
        if self.edit.is_graft() {
            return self.grafts(config);
        }
        let one = |layer: usize, heads: Option<Vec<usize>>, positions: &Positions| Intervention {
            at: HookPoint::new(self.site, layer),
            heads,
            positions: positions.clone(),
            edit: self.edit.clone(),
        };
        let first = |positions: &Positions| trial.base.positions(positions, &trial.id).map(|list| list[0]);
        let layers = self.layer_list();
        let mut cells = Vec::new();
        match &self.grid {
            Grid::LayerHead => {
                let (n_heads, positions) = (self.n_heads(config)?, &self.positions[0]);
                let pos = first(positions)?;
                for (row, &layer) in layers.iter().enumerate() {
                    for head in 0..n_heads {
                        if self.heads.as_ref().is_none_or(|heads| heads.contains(&HeadRef { layer, head })) {
                            let set = vec![one(layer, Some(vec![head]), positions)];
                            let index = row * n_heads + head;
                            cells.push(Cell { index, set, parts: Vec::new(), layer, pos });
                        }
                    }
                }
            }
            Grid::LayerPos => {
                let columns = self.columns(trial);
                for (row, &layer) in layers.iter().enumerate() {
                    for (column, positions) in columns.iter().enumerate() {
                        let (set, pos) = (vec![one(layer, None, positions)], first(positions)?);
                        let index = row * columns.len() + column;
                        cells.push(Cell { index, set, parts: Vec::new(), layer, pos });
                    }
                }
            }
            Grid::Sets(sets) => {
                let positions = &self.positions[0];
                let pos = first(positions)?;
                for (index, HeadSet { heads, .. }) in sets.iter().enumerate() {
                    let mut by_layer: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
                    for head in heads {
                        by_layer.entry(head.layer).or_default().push(head.head);
                    }
                    let layer = by_layer.keys().next().copied().unwrap_or(0);
                    let set = by_layer.into_iter().map(|(layer, heads)| one(layer, Some(heads), positions)).collect();
                    cells.push(Cell { index, set, parts: Vec::new(), layer, pos });
                }
            }
            Grid::LayerPart => return Err(only_grafts(&self.edit)),
        }
        Ok(cells)
    }
}
