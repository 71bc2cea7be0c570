//! One pass that carries many cells: row 0 is the clean run, and every cell enters as an edited copy of it where it is first
//! edited, so that each weight is read once per wave.

use tch::Tensor;

use super::Sweep;
use super::grid::Cell;
use crate::cache::CleanRun;
use crate::decoder::{Decoder, Start};
use crate::device::free_host_memory;
use crate::error::{Error, Result};
use crate::guard::catch_torch;
use crate::intervention::{CellSet, Context, Donors, Edits};
use crate::metric::Readout;
use crate::site::HookPoint;
use crate::trial::Trial;

/// Positions that share a wave: short suffixes must not pay for long ones.
const NEIGHBOURS: usize = 8;

/// Cells that run together.
#[derive(Debug)]
pub(super) struct Wave {
    /// Lowest layer that any of its cells can change.
    pub(super) layer: usize,
    cells: Vec<Cell>,
}

/// Everything the waves of one trial share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) trial: &'a Trial,
    pub(super) base: &'a CleanRun,
    pub(super) donors: &'a Donors<'a>,
    pub(super) readout: &'a Readout,
    pub(super) seed: u64,
}

/// Groups cells of neighbouring positions, then cuts groups into waves of at most `max_rows` rows, by layers.
pub(super) fn split(mut cells: Vec<Cell>, max_rows: usize) -> Vec<Wave> {
    cells.sort_by_key(|cell| (cell.pos / NEIGHBOURS, cell.layer, cell.index));
    let mut waves: Vec<Wave> = Vec::new();
    let mut group = usize::MAX;
    for cell in cells {
        let here = cell.pos / NEIGHBOURS;
        match waves.last_mut() {
            // The clean row takes one.
            Some(wave) if here == group && wave.cells.len() + 1 < max_rows => wave.cells.push(cell),
            _ => waves.push(Wave { layer: cell.layer, cells: vec![cell] }),
        }
        group = here;
    }
    waves
}

/// Hook points that the waves edit, each once.
pub(super) fn points(waves: &[Wave]) -> Vec<HookPoint> {
    let sets = waves.iter().flat_map(|wave| &wave.cells).flat_map(|cell| &cell.set);
    let mut points: Vec<HookPoint> = sets.map(|one| one.at).collect();
    points.sort_by_key(|at| at.order());
    points.dedup();
    points
}

impl Run<'_> {
    /// δ of every metric for every cell of a wave. Out of memory halves the wave and tries again.
    pub(super) fn wave(&self, wave: Wave) -> Result<Vec<(usize, Vec<f64>)>> {
        match catch_torch("a sweep's wave", || self.try_wave(&wave)) {
            Err(Error::Torch { message, .. }) if wave.cells.len() > 1 && is_out_of_memory(&message) => {
                let Wave { layer, cells: mut first } = wave;
                let second = first.split_off(first.len() / 2);
                let mut deltas = self.wave(Wave { layer, cells: first })?;
                // The second half may begin higher, but only layers recorded by the clean run can be resumed from.
                deltas.extend(self.wave(Wave { layer, cells: second })?);
                Ok(deltas)
            }
            other => other,
        }
    }

    fn try_wave(&self, wave: &Wave) -> Result<Vec<(usize, Vec<f64>)>> {
        let decoder = self.decoder;
        let sets: Vec<CellSet<'_>> = wave.cells.iter().map(|cell| (cell.index, cell.set.as_slice())).collect();
        let mut edits = Edits::bind(&sets, &self.trial.base, self.donors, &self.context())?;
        let rows: Vec<Option<i64>> = (0..sets.len()).map(|i| edits.row_of(i)).collect();
        let Some(frontier) = edits.frontier() else {
            return Ok(wave.cells.iter().map(|cell| (cell.index, vec![0.0; self.readout.n_metrics()])).collect());
        };

        let past = self.base.past().before(frontier.pos);
        let start = self.base.resume(decoder, wave.layer, frontier.pos, &past);
        let values = self.measure(start, &mut edits);
        edits.finish()?;
        let values: Vec<Vec<f64>> = Vec::try_from(values).expect("metrics are a matrix of f64");
        Ok(wave
            .cells
            .iter()
            .zip(rows)
            .map(|(cell, row)| {
                // A set that causality makes null never ran: its effect is exactly 0.
                let delta = |values: &Vec<f64>| row.map_or(0.0, |row| values[0] - values[row as usize]);
                (cell.index, values.iter().map(delta).collect())
            })
            .collect())
    }

    /// Runs to the logits and measures: `[metric, row]`.
    fn measure(&self, start: Start<'_>, edits: &mut Edits) -> Tensor {
        let last = self.trial.base.tokens.len() - 1;
        let resid = self.decoder.forward(start, last..last + 1, &mut &mut *edits);
        let logits = self.decoder.unembed(&resid, last, self.readout.tokens().as_deref(), edits);
        self.readout.measure(&logits.squeeze_dim(1))
    }

    /// Metrics of an unedited run, from its final residual stream.
    /// `kl` is against the base run.
    pub(super) fn unedited(&self, run: &CleanRun) -> Vec<f64> {
        let resid = Tensor::cat(&[self.base.resid(), run.resid()], 0);
        let logits = self.decoder.unembed(&resid, 0, self.readout.tokens().as_deref(), &mut ());
        let values = self.readout.measure(&logits.squeeze_dim(1)).select(1, 1);
        Vec::try_from(values).expect("one f64 per metric")
    }

    /// δ of one cell by a plain full pass: no resume, no growth, nothing shared but the decoder itself.
    pub(super) fn plain(&self, set: CellSet<'_>) -> Result<Vec<f64>> {
        let tokens = &self.trial.base.tokens;
        let last = tokens.len() - 1;
        let mut edits = Edits::bind_in_place(set, 1, &self.trial.base, self.donors, &self.context())?;
        let edited = self.decoder.forward(self.decoder.embed(tokens), last..last + 1, &mut &mut edits);
        let edited = self.decoder.unembed(&edited, last, self.readout.tokens().as_deref(), &mut edits);
        edits.finish()?;
        let clean = self.decoder.forward(self.decoder.embed(tokens), last..last + 1, &mut ());
        let clean = self.decoder.unembed(&clean, last, self.readout.tokens().as_deref(), &mut ());
        let values = self.readout.measure(&Tensor::cat(&[clean, edited], 0).squeeze_dim(1));
        let values: Vec<Vec<f64>> = Vec::try_from(values).expect("metrics are a matrix of f64");
        Ok(values.iter().map(|row| row[0] - row[1]).collect())
    }

    fn context(&self) -> Context<'_> {
        Context::of_run(self.decoder, self.seed, &self.trial.id)
    }
}

impl Sweep {
    /// Rows one wave may have: as told, or as many as a quarter of the free memory holds.
    pub(super) fn wave_rows(&self, decoder: &Decoder, trial: &Trial) -> usize {
        let config = decoder.config();
        let (n_pos, n_src) = (trial.base.tokens.len(), trial.base.tokens.len());
        // What a block holds at once, in numbers per position and row: gate, up and their product; queries and outputs;
        // a few copies of the residual stream; scores and pattern in two precisions.
        let width =
            3 * config.d_mlp + 4 * config.n_heads * config.d_head + 8 * config.d_model + 4 * config.n_heads * n_src;
        let bytes = (width * n_pos * decoder.kind().elt_size_in_bytes()).max(1);
        let fits = free_host_memory().map_or(usize::MAX, |free| (free as usize / 4) / bytes);
        self.max_rows.unwrap_or(fits).max(2)
    }
}

fn is_out_of_memory(message: &str) -> bool {
    message.contains("out of memory")
        || message.contains("not enough memory")
        || message.contains("DefaultCPUAllocator")
}
