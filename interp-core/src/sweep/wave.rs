//! One pass that carries many cells: row 0 is the clean run, and every cell enters as an edited copy of it where it is first
//! edited, so that each weight is read once per wave.

use tch::Tensor;

use super::Sweep;
use super::grid::Cell;
use super::kept::{Kept, own_values};
use super::split::Wave;
use crate::cache::{ActivationCache, CleanRun};
use crate::decoder::{Decoder, Part, Start};
use crate::error::Result;
use crate::intervention::{CellSet, Context, Donors, Edit, Edits, Intervention};
use crate::metric::Readout;
use crate::site::{Positions, Site};
use crate::trial::Trial;

/// Everything the waves of one trial share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) sweep: &'a Sweep,
    pub(super) decoder: &'a Decoder,
    /// With the adapter that is grafted.
    pub(super) adapted: Option<&'a Decoder>,
    pub(super) trial: &'a Trial,
    pub(super) base: &'a CleanRun,
    pub(super) source: Option<Source<'a>>,
    pub(super) donors: Donors<'a>,
    pub(super) readout: &'a Readout,
}

/// Where the donated activations come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A run of the edited model.
    Same(&'a CleanRun),
    /// A run of another model.
    Other(&'a Decoder, &'a CleanRun),
    /// What was kept of one.
    Kept(&'a Kept),
}

impl<'a> Source<'a> {
    pub(super) fn cache(self) -> &'a ActivationCache {
        match self {
            Source::Same(run) | Source::Other(_, run) => run.cache(),
            Source::Kept(kept) => &kept.cache,
        }
    }
}

/// What a wave ran, with the numbers still where it ran.
pub(super) struct Found {
    /// Cells and the rows that carried them; `None` for a cell that causality makes null.
    pub(super) cells: Vec<(usize, Option<usize>)>,
    /// Rows of the controls.
    pub(super) controls: Vec<usize>,
    /// `[metric, row]`; row 0 is clean. `None` when all cells are null and nothing had to run.
    pub(super) values: Option<Tensor>,
}

impl Wave {
    /// Rows that carry unedited copies of row 0 among the edited ones, to see what it does to a row to be one of many. Each
    /// comes with the cell before which it enters; at most 1 % of the cells, or two.
    fn controls(&self) -> Vec<(usize, Intervention)> {
        let n = self.cells.len();
        let wanted = (n / 100).max(2).min(n.div_ceil(8));
        let before = (0..wanted).map(|i| (2 * i + 1) * n / (2 * wanted));
        let control = |cell: usize| {
            let at = self.cells[cell].set.first()?.at;
            // A product with 1 is the value itself, and the last position is never before the wave's own first.
            Some((
                cell,
                Intervention { at, heads: None, positions: Positions::Index(vec![-1]), edit: Edit::Scale(1.0) },
            ))
        };
        before.filter_map(control).collect()
    }
}

impl Run<'_> {
    /// Runs the cells of a wave in one pass.
    pub(super) fn wave(&self, wave: &Wave) -> Result<Found> {
        let controls = wave.controls();
        let mut sets: Vec<CellSet<'_>> = Vec::with_capacity(wave.cells.len() + controls.len());
        let mut is_control = Vec::with_capacity(sets.capacity());
        let mut parts: Vec<&[Part]> = Vec::with_capacity(sets.capacity());
        for (i, cell) in wave.cells.iter().enumerate() {
            let here = controls.iter().filter(|(before, _)| *before == i);
            sets.extend(here.map(|(_, control)| (usize::MAX, std::slice::from_ref(control))));
            is_control.resize(sets.len(), true);
            parts.resize(sets.len(), &[]);
            sets.push((cell.index, cell.set.as_slice()));
            is_control.push(false);
            parts.push(&cell.parts);
        }
        let mut edits = Edits::bind(&sets, &self.trial.base, &self.donors, &self.context())?;
        let rows: Vec<Option<usize>> = (0..sets.len()).map(|i| edits.row_of(i).map(|row| row as usize)).collect();
        let frontier =
            edits.frontier().filter(|_| rows.iter().zip(&is_control).any(|(row, control)| row.is_some() && !control));
        let mut cells = Vec::with_capacity(wave.cells.len());
        let mut controls = Vec::new();
        let mut of_rows: Vec<&[Part]> = vec![&[]; 1 + rows.iter().flatten().count()];
        for ((((index, _), row), is_control), parts) in sets.iter().zip(rows).zip(is_control).zip(parts) {
            row.into_iter().for_each(|row| of_rows[row] = parts);
            if is_control { controls.extend(row) } else { cells.push((*index, row)) }
        }
        let Some(frontier) = frontier else { return Ok(Found { cells, controls, values: None }) };

        let grafted = self.adapted.map(|adapted| self.sweep.grafted(adapted, &of_rows));
        let decoder = grafted.as_ref().unwrap_or(self.decoder);
        let past = self.base.past().before(frontier.pos);
        let start = self.base.resume(decoder, wave.layer, frontier.pos, &past);
        let values = self.measure(decoder, start, &mut edits);
        edits.finish()?;
        Ok(Found { cells, controls, values: Some(values) })
    }

    /// Runs to the logits and measures: `[metric, row]`.
    fn measure(&self, decoder: &Decoder, start: Start<'_>, edits: &mut Edits) -> Tensor {
        let last = self.trial.base.tokens.len() - 1;
        let resid = decoder.forward(start, last..last + 1, &mut &mut *edits);
        let logits = decoder.unembed(&resid, last, self.readout.tokens().as_deref(), edits);
        self.readout.measure(&logits.squeeze_dim(1))
    }

    /// Metrics of the unedited runs of base and source, from their final residual streams. `kl` is against the base run; of
    /// another model's source run it is against that run itself.
    pub(super) fn unedited(&self) -> (Vec<f64>, Option<Vec<f64>>) {
        let (source, other) = match self.source {
            Some(Source::Same(run)) => (Some(run), None),
            Some(Source::Other(donor, run)) => (None, Some(own_values(donor, run.resid(), self.readout))),
            Some(Source::Kept(kept)) => (None, Some(kept.values.clone())),
            None => (None, None),
        };
        let resids: Vec<&Tensor> = std::iter::once(self.base).chain(source).map(CleanRun::resid).collect();
        let logits = self.decoder.unembed(&Tensor::cat(&resids, 0), 0, self.readout.tokens().as_deref(), &mut ());
        let values = self.readout.measure(&logits.squeeze_dim(1));
        let values: Vec<Vec<f64>> = Vec::try_from(values).expect("metrics are a matrix of f64");
        let of_run = |run: usize| values.iter().map(|values| values[run]).collect();
        (of_run(0), source.map(|_| of_run(1)).or(other))
    }

    /// δ of one cell by a plain full pass: no resume, no growth, nothing shared but the decoder itself.
    pub(super) fn plain(&self, cell: &Cell) -> Result<Vec<f64>> {
        let grafted = self.adapted.map(|adapted| self.sweep.grafted(adapted, &[cell.parts.as_slice()]));
        let decoder = grafted.as_ref().unwrap_or(self.decoder);
        let tokens = &self.trial.base.tokens;
        let last = tokens.len() - 1;
        let mut edits =
            Edits::bind_in_place((cell.index, &cell.set), 1, &self.trial.base, &self.donors, &self.context())?;
        let edited = decoder.forward(decoder.embed(tokens), last..last + 1, &mut &mut edits);
        let edited = decoder.unembed(&edited, last, self.readout.tokens().as_deref(), &mut edits);
        edits.finish()?;
        let clean = self.decoder.forward(self.decoder.embed(tokens), last..last + 1, &mut ());
        let clean = self.decoder.unembed(&clean, last, self.readout.tokens().as_deref(), &mut ());
        let values = self.readout.measure(&Tensor::cat(&[clean, edited], 0).squeeze_dim(1));
        let values: Vec<Vec<f64>> = Vec::try_from(values).expect("metrics are a matrix of f64");
        Ok(values.iter().map(|row| row[0] - row[1]).collect())
    }

    fn context(&self) -> Context<'_> {
        Context::of_run(self.decoder, self.sweep.seed, &self.trial.id)
    }
}

impl Sweep {
    /// Rows that a wave from a position on may have: as told, or as many as a quarter of the `free` bytes holds.
    pub(super) fn wave_rows(&self, decoder: &Decoder, trial: &Trial, pos: usize, free: Option<u64>) -> usize {
        let config = decoder.config();
        let n_src = trial.base.tokens.len();
        let z = config.n_heads * config.d_head;
        // What a layer holds at once, in numbers per row and position: z, and a few copies of the residual stream …
        let edited = match self.site {
            // … and what is only formed whole, and twice, where it is edited.
            _ if self.edit.is_graft() => 8 * config.d_mlp,
            Site::MlpPre | Site::MlpPost => 4 * config.d_mlp,
            Site::Result => 3 * config.n_heads * config.d_model,
            site if site.is_attention() || site.head_axis().is_some() => 6 * z,
            _ => 0,
        };
        let width = edited + 2 * z + 8 * config.d_model;
        // … and in numbers per row: scores and pattern of at least one destination, in two precisions.
        let fixed = 4 * config.n_heads * n_src;
        let bytes = decoder.kind().elt_size_in_bytes();
        let row = ((width * (n_src - pos) + fixed) * bytes).max(1);
        let fits = free.map_or(usize::MAX, |free| (free as usize / 4) / row);
        self.max_rows.unwrap_or(fits).max(2)
    }
}
