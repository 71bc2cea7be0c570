//! Which cells run together: waves that are cheap, and that fit into memory.

use std::ops::Range;

use super::grid::Cell;
use crate::intervention::Intervention;
use crate::site::HookPoint;

/// What a wave costs before its first cell, in tokens through all layers: reading every weight once takes as long as
/// multiplying by it this many times. Bytes per number over memory speed, times arithmetic speed over two: 48 in f32 and 45
/// in bf16 on the 2 cores where this was measured; on GPUs of today it is above 100.
const READING_WEIGHTS: f64 = 64.0;

/// Positions that one group of cells spans at most, so that looking for the best groups stays quick for long prompts.
const WIDEST: usize = 256;

/// Cells that run together.
#[derive(Debug)]
pub(super) struct Wave {
    /// Lowest layer that any of its cells can change.
    pub(super) layer: usize,
    pub(super) cells: Vec<Cell>,
}

impl Wave {
    /// All cells in one wave; `None` without any.
    pub(super) fn of(cells: Vec<Cell>) -> Option<Self> {
        let layer = cells.iter().map(|cell| cell.layer).min()?;
        Some(Self { layer, cells })
    }

    /// Number of cells.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The smallest position that any of its cells can change.
    pub(super) fn first_pos(&self) -> usize {
        self.cells.iter().map(|cell| cell.pos).min().unwrap_or(0)
    }

    /// Two waves of half the cells each.
    pub(super) fn halves(self) -> [Self; 2] {
        let Self { layer, cells: mut first } = self;
        let second = first.split_off(first.len() / 2);
        // The second half may begin higher, but only layers recorded by the clean run can be resumed from.
        [Self { layer, cells: first }, Self { layer, cells: second }]
    }
}

/// The model and the prompt that cells run on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) n_layers: usize,
    pub(super) n_pos: usize,
}

/// Groups cells by position, then cuts groups into waves by layers: `max_rows` says how many rows, the clean one included,
/// a wave from a position on may have.
pub(super) fn split(mut cells: Vec<Cell>, extent: Extent, max_rows: impl Fn(usize) -> usize) -> Vec<Wave> {
    cells.sort_by_key(|cell| (cell.pos, cell.layer, cell.index));
    let mut waves = Vec::new();
    for range in groups(&cells, extent).into_iter().rev() {
        let mut group = cells.split_off(range.start);
        let most = max_rows(group[0].pos).max(2) - 1;
        group.sort_by_key(|cell| (cell.layer, cell.index));
        // Evenly: a small last wave would read all weights for little.
        let n_waves = group.len().div_ceil(most);
        for wave in (0..n_waves).rev() {
            let cells = group.split_off(wave * group.len() / (wave + 1));
            waves.push(Wave { layer: cells[0].layer, cells });
        }
    }
    waves
}

/// Ranges of cells, sorted by position, that together cost the least. A wave's rows all begin at its first cell's position,
/// so that cells of many positions in one wave compute tokens that need no computing, and cells of few read the weights for
/// little: the best cut is found exactly, by the cheapest way to reach each position from the first.
fn groups(cells: &[Cell], extent: Extent) -> Vec<Range<usize>> {
    // One column per position: where its cells begin, and the tokens' worth of layers they run through, in whole passes.
    let mut columns: Vec<(usize, usize, f64)> = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        if columns.last().is_none_or(|column| column.0 != cell.pos) {
            columns.push((cell.pos, i, 0.0));
        }
        let above = extent.n_layers.saturating_sub(cell.layer) as f64 / extent.n_layers as f64;
        columns.last_mut().expect("just pushed").2 += above;
    }
    let mut best = vec![(0.0, 0); columns.len() + 1];
    for end in 1..=columns.len() {
        let mut passes = 1.0;
        best[end] = (f64::INFINITY, end - 1);
        for first in (end.saturating_sub(WIDEST)..end).rev() {
            passes += columns[first].2;
            let suffix = extent.n_pos.saturating_sub(columns[first].0).max(1) as f64;
            let cost = best[first].0 + passes * suffix + READING_WEIGHTS;
            if cost < best[end].0 {
                best[end] = (cost, first);
            }
        }
    }
    let mut ranges = Vec::new();
    let (mut column, mut end) = (columns.len(), cells.len());
    while column > 0 {
        column = best[column].1;
        let start = columns[column].1;
        ranges.push(start..end);
        end = start;
    }
    ranges.reverse();
    ranges
}

/// Hook points of the interventions, each once.
pub(super) fn points<'a>(all: impl Iterator<Item = &'a Intervention>) -> Vec<HookPoint> {
    let mut points: Vec<HookPoint> = all.map(|one| one.at).collect();
    points.sort_by_key(|at| at.order());
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(positions: impl Iterator<Item = usize>, n_layers: usize) -> Vec<Cell> {
        let cells = positions.flat_map(|pos| (0..n_layers).map(move |layer| (layer, pos)));
        cells
            .enumerate()
            .map(|(index, (layer, pos))| Cell { index, set: Vec::new(), parts: Vec::new(), layer, pos })
            .collect()
    }

    fn indices(waves: &[Wave]) -> Vec<usize> {
        let mut indices: Vec<usize> = waves.iter().flat_map(|wave| &wave.cells).map(|cell| cell.index).collect();
        indices.sort_unstable();
        indices
    }

    #[test]
    fn every_cell_runs_once_within_the_bound() {
        let extent = Extent { n_layers: 5, n_pos: 300 };
        for most in [2, 3, 7, 100, usize::MAX] {
            let waves = split(cells(0..300, 5), extent, |_| most);
            assert_eq!(indices(&waves), (0..1500).collect::<Vec<_>>());
            for wave in &waves {
                assert!(wave.cells.len() < most);
                assert_eq!(wave.cells.iter().map(|cell| cell.layer).min(), Some(wave.layer));
            }
        }
    }

    #[test]
    fn one_position_is_one_wave_and_distant_ones_are_not() {
        let extent = Extent { n_layers: 24, n_pos: 64 };
        assert_eq!(split(cells(std::iter::repeat_n(63, 14), 24), extent, |_| usize::MAX).len(), 1);
        let waves = split(cells([0, 63].into_iter(), 24), extent, |_| usize::MAX);
        assert_eq!(waves.len(), 2);
        // Nearly all of a layer x position grid's tokens are needed: rows of a wave begin close to each other.
        let waves = split(cells(32..64, 24), extent, |_| usize::MAX);
        let run: usize = waves.iter().map(|wave| wave.len() * (64 - wave.first_pos())).sum();
        let needed: usize = (32..64).map(|pos| 24 * (64 - pos)).sum();
        assert!((run as f64) < 1.15 * needed as f64, "{run} tokens run, {needed} needed");
    }
}
