//! What a question means, spelled out: the places that each cell changes, which of them are null, and what must be refused.
//! Written from the documentation, not from the engine.

use std::collections::BTreeMap;

use interp_core::config::ModelConfig;
use interp_core::intervention::Edit;
use interp_core::prompt::Prompt;
use interp_core::site::{HeadAxis, HeadRef, HookPoint, Positions, Site};
use interp_core::sweep::{Grid, Sweep};
use interp_core::trial::Trial;

use super::question::{Question, width};

/// Why a question must be refused.
pub type Refusal = &'static str;

/// One change of one hook point.
#[derive(Debug, Clone)]
pub struct Change {
    pub at: HookPoint,
    /// Heads, or the single 0 at sites without heads; each once.
    pub heads: Vec<usize>,
    /// Positions in the base prompt, each once, and the source's that belong to them.
    pub places: Vec<(usize, Option<usize>)>,
}

/// The grid of a question.
#[derive(Debug)]
pub struct Meaning {
    pub n_cells: usize,
    /// What each cell that is asked for changes, by its index.
    pub cells: BTreeMap<usize, Vec<Change>>,
}

impl Question {
    /// The grid, or why there is none.
    pub fn meaning(&self, config: &ModelConfig) -> Result<Meaning, Refusal> {
        let meaning = self.grid(config)?;
        let prompt = &self.trial.base;
        for change in meaning.cells.values().flatten() {
            self.lawful_change(change, config)?;
        }
        let live = meaning.cells.values().flatten().flat_map(|change| {
            let places = change.places.iter().filter(|&&place| !self.is_null(change.at, place, config));
            places.map(|&(pos, _)| prompt.tokens.len() - 1 - pos)
        });
        let live: Vec<usize> = live.collect();
        match &self.sweep.edit {
            Edit::Mean | Edit::Noise(_) => {
                let reach = self.others.iter().map(Vec::len).max().unwrap_or(0);
                if live.iter().any(|&distance| distance >= reach) {
                    return Err("no prompt to average over reaches a position");
                }
            }
            Edit::Add { vector, .. }
                if vector.size().last() != Some(&width(self.sweep.site, config)) && !live.is_empty() =>
            {
                return Err("the vector is not of the site's width");
            }
            _ => {}
        }
        let needs_incorrect = self.sweep.metrics.iter().any(|metric| metric.name() == "logit-diff");
        if needs_incorrect && self.trial.target.incorrect.is_none() {
            return Err("the metric needs the incorrect token");
        }
        Ok(meaning)
    }

    fn grid(&self, config: &ModelConfig) -> Result<Meaning, Refusal> {
        let Sweep { site, grid, positions, heads, .. } = &self.sweep;
        let n_heads = n_heads(*site, config);
        if *grid != Grid::LayerPos && n_heads.is_none() {
            return Err("the grid counts heads and the site has none");
        }
        let n_heads = n_heads.unwrap_or(1);
        let layers: Vec<usize> = if site.is_per_layer() { self.sweep.layers.clone().collect() } else { vec![0] };
        let at = |layer| HookPoint::new(*site, layer);
        let mut cells = BTreeMap::new();
        let n_cells = match grid {
            Grid::LayerPart => return Err("the grid has parts of an adapter, and there is none"),
            Grid::LayerHead => {
                let places = self.places(&positions[0])?;
                for (row, &layer) in layers.iter().enumerate() {
                    for head in 0..n_heads {
                        let asked =
                            |heads: &Vec<HeadRef>| heads.iter().any(|one| (one.layer, one.head) == (layer, head));
                        if heads.as_ref().is_none_or(asked) {
                            let change = Change { at: at(layer), heads: vec![head], places: places.clone() };
                            cells.insert(row * n_heads + head, vec![change]);
                        }
                    }
                }
                layers.len() * n_heads
            }
            Grid::LayerPos => {
                let columns: Vec<_> = columns(&self.trial, positions)
                    .iter()
                    .map(|column| self.places(column))
                    .collect::<Result<_, _>>()?;
                for (row, &layer) in layers.iter().enumerate() {
                    for (column, places) in columns.iter().enumerate() {
                        let change = Change { at: at(layer), heads: (0..n_heads).collect(), places: places.clone() };
                        cells.insert(row * columns.len() + column, vec![change]);
                    }
                }
                layers.len() * columns.len()
            }
            Grid::Sets(sets) => {
                let places = self.places(&positions[0])?;
                for (index, set) in sets.iter().enumerate() {
                    let mut by_layer: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                    set.heads.iter().for_each(|one| by_layer.entry(one.layer).or_default().push(one.head));
                    let change = |(layer, heads)| Change { at: at(layer), heads, places: places.clone() };
                    cells.insert(index, by_layer.into_iter().map(change).collect());
                }
                sets.len()
            }
        };
        Ok(Meaning { n_cells, cells })
    }

    /// Positions of a selector, with the source's for a patch.
    fn places(&self, selector: &Positions) -> Result<Vec<(usize, Option<usize>)>, Refusal> {
        let base = resolve(selector, &self.trial.base).ok_or("no such position in base")?;
        let mut places: Vec<(usize, Option<usize>)> = match (&self.sweep.edit, &self.trial.source) {
            (Edit::Patch, None) => return Err("a patch without a source"),
            (Edit::Patch, Some(source)) => {
                let source = resolve(selector, source).ok_or("no such position in source")?;
                if base.len() != source.len() {
                    return Err("different numbers of positions in base and source");
                }
                base.into_iter().zip(source.into_iter().map(Some)).collect()
            }
            _ => base.into_iter().map(|pos| (pos, None)).collect(),
        };
        places.sort_unstable();
        places.dedup();
        let rises =
            |pair: &[(usize, Option<usize>)]| pair[0].0 < pair[1].0 && (pair[0].1.is_none() || pair[0].1 < pair[1].1);
        if places.windows(2).all(rises) { Ok(places) } else { Err("positions in another order in base than in source") }
    }

    fn lawful_change(&self, change: &Change, config: &ModelConfig) -> Result<(), Refusal> {
        let Change { at, heads, places } = change;
        if at.site.is_per_layer() && at.layer >= config.n_layers {
            return Err("no such layer");
        }
        if heads.iter().any(|&head| head >= n_heads(at.site, config).unwrap_or(1)) {
            return Err("no such head");
        }
        let attention = matches!(at.site, Site::Scores | Site::Pattern);
        match &self.sweep.edit {
            Edit::Mean | Edit::Noise(_) | Edit::Add { .. } if attention => Err("an edit that attention does not have"),
            Edit::Knockout { .. } | Edit::UniformAttention if at.site != Site::Scores => {
                Err("an edit that only scores have")
            }
            Edit::Patch if attention => {
                let source = self.trial.source.as_ref().expect("a patch has a source");
                if source.tokens.len() != self.trial.base.tokens.len() {
                    return Err("attention of prompts of different lengths");
                }
                // Scores of no key at all make no pattern.
                let sees = |pos: usize, key: usize| visible(pos, at.layer, config).any(|seen| seen == key);
                let blind = |&(pos, source_pos): &(usize, Option<usize>)| {
                    let donor = source_pos.expect("a patch");
                    !visible(pos, at.layer, config).any(|key| sees(donor, key))
                };
                if at.site == Site::Scores && places.iter().any(blind) {
                    return Err("scores of keys that the position does not see");
                }
                Ok(())
            }
            Edit::Knockout { keys } => {
                let keys = resolve(keys, &self.trial.base).ok_or("no such key")?;
                let lost = |pos: usize| visible(pos, at.layer, config).filter(|key| keys.contains(key)).count();
                if places.iter().any(|&(pos, _)| lost(pos) == visible(pos, at.layer, config).count()) {
                    return Err("a query would be left without keys");
                }
                if places.iter().all(|&(pos, _)| lost(pos) == 0) {
                    return Err("no query sees any of the keys");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether causality or equal beginnings make a place null: its effect is exactly 0.
    pub fn is_null(&self, at: HookPoint, (pos, source_pos): (usize, Option<usize>), config: &ModelConfig) -> bool {
        let base = &self.trial.base.tokens;
        let before_keys = matches!(
            at.site,
            Site::Embed | Site::ResidPre | Site::K | Site::V | Site::RotK | Site::KCopy | Site::VCopy
        );
        let last_layer = at.site == Site::LnFinal || (at.site.is_per_layer() && at.layer == config.n_layers - 1);
        let unread = last_layer && !before_keys && pos + 1 != base.len();
        let equal = source_pos == Some(pos)
            && self.trial.source.as_ref().is_some_and(|source| base[..=pos] == source.tokens[..=pos]);
        unread || equal
    }
}

/// Positions that `pos` attends to at a layer.
pub fn visible(pos: usize, layer: usize, config: &ModelConfig) -> impl Iterator<Item = usize> + use<> {
    let window = config.windows[layer];
    (0..=pos).filter(move |key| window.is_none_or(|window| pos - key < window))
}

fn n_heads(site: Site, config: &ModelConfig) -> Option<usize> {
    Some(if site.head_axis()? == HeadAxis::Kv { config.n_kv_heads } else { config.n_heads })
}

/// A position axis: indices each by itself, spans whole.
fn columns(trial: &Trial, positions: &[Positions]) -> Vec<Positions> {
    let mut columns = Vec::new();
    for selector in positions {
        match selector {
            Positions::All => columns.extend((0..trial.base.tokens.len() as i64).map(|p| Positions::Index(vec![p]))),
            Positions::Index(list) => columns.extend(list.iter().map(|&p| Positions::Index(vec![p]))),
            Positions::Span(_) => columns.push(selector.clone()),
        }
    }
    columns
}

/// Positions as written; `None` when one is not in the prompt.
fn resolve(selector: &Positions, prompt: &Prompt) -> Option<Vec<usize>> {
    let len = prompt.tokens.len() as i64;
    match selector {
        Positions::All => Some((0..prompt.tokens.len()).collect()),
        Positions::Index(list) => list
            .iter()
            .map(|&p| if p < 0 { p + len } else { p })
            .map(|p| (0..len).contains(&p).then_some(p as usize))
            .collect(),
        Positions::Span(name) => Some(prompt.spans.get(name)?.iter().flat_map(Clone::clone).collect()),
    }
}
