//! `noise` is a function of seed, trial, cell, hook point, position and head, and of nothing else: not of the wave, its rows,
//! the other cells, or the run that it belongs to.

use std::ops::ControlFlow;

use interp_core::Result;
use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::hooks::Hooks;
use interp_core::intervention::{CellSet, Context, Donors, Edit, Edits, Intervention, Moments};
use interp_core::metric::Metric;
use interp_core::scores::ScoreGrid;
use interp_core::site::{HookPoint, Positions, Site};
use interp_core::sweep::{Grid, Models, Sink, Sweep, TrialReport};
use interp_core::trial::{Target, Trial};
use tch::{Kind, Tensor};

use crate::common::{FAMILIES, all_points, full_pass, load, prompt, tiny};

const LEN: usize = 13;

fn tokens(shift: i64) -> Vec<i64> {
    (0..LEN as i64).map(|i| (i * i * 5 + i + shift) % 120 + 3).collect()
}

fn moments(decoder: &Decoder) -> Moments {
    let points = all_points(decoder.config().n_layers);
    let points: Vec<HookPoint> = points.into_iter().filter(|at| !at.site.is_attention()).collect();
    let mut moments = Moments::default();
    [1, 20, 50].iter().for_each(|&shift| moments.add_run(&points, &full_pass(decoder, &tokens(shift), &points).0));
    moments
}

fn noise(at: HookPoint, head: usize, positions: Vec<i64>) -> [Intervention; 1] {
    [Intervention { at, heads: Some(vec![head]), positions: Positions::Index(positions), edit: Edit::Noise(1.0) }]
}

/// What a seed and a trial make of cells, `[row, pos, head, d_head]`; row 0 is clean.
fn drawn(decoder: &Decoder, moments: &Moments, seed: u64, trial: &str, cells: &[CellSet<'_>]) -> Tensor {
    let donors = Donors { moments: Some(moments), ..Donors::default() };
    let context = Context::of_run(decoder, seed, trial);
    let mut edits = Edits::bind(cells, &prompt(&tokens(0)), &donors, &context).expect("binds");
    let config = decoder.config();
    let at = cells[0].1[0].at;
    let n_heads = if at.site == Site::Z { config.n_heads } else { config.n_kv_heads };
    let size = [1, LEN, n_heads, config.d_head].map(|n| n as i64);
    edits.visit(at, 0, Tensor::zeros(size, (Kind::Double, decoder.devices().first())))
}

#[test]
fn noise_depends_on_what_it_is_for_and_on_nothing_else() {
    let decoder = load(&tiny("qwen2"), Dtype::F64);
    let moments = moments(&decoder);
    let draw = |seed, trial, cells: &[CellSet<'_>]| drawn(&decoder, &moments, seed, trial, cells);
    let at = HookPoint::new(Site::Z, 1);
    let (one, more) = (noise(at, 2, vec![5]), noise(at, 2, vec![3, 5]));
    let (head, other) = (noise(at, 4, vec![5]), noise(HookPoint::new(Site::Z, 0), 2, vec![5]));
    let vector = |drawn: &Tensor, row: i64, pos: i64, head: i64| drawn.get(row).get(pos).get(head);

    let alone = vector(&draw(7, "a", &[(3, &one)]), 1, 5, 2);
    assert!(alone.abs().min().double_value(&[]) > 0.0);
    let among = draw(7, "a", &[(9, &head), (3, &more), (1, &one)]);
    assert!(vector(&among, 2, 5, 2).equal(&alone), "neither row, nor other cells, nor other positions matter");

    let cells: [(&str, Tensor); 6] = [
        ("seed", vector(&draw(8, "a", &[(3, &one)]), 1, 5, 2)),
        ("trial", vector(&draw(7, "b", &[(3, &one)]), 1, 5, 2)),
        ("cell", vector(&draw(7, "a", &[(4, &one)]), 1, 5, 2)),
        ("position", vector(&draw(7, "a", &[(3, &more)]), 1, 3, 2)),
        ("head", vector(&draw(7, "a", &[(3, &head)]), 1, 5, 4)),
        ("layer", vector(&draw(7, "a", &[(3, &other)]), 1, 5, 2)),
    ];
    for (what, different) in cells {
        // Deviations differ between places too: what must differ is the direction.
        let angle = different.dot(&alone) / (different.norm() * alone.norm());
        assert!(angle.double_value(&[]).abs() < 0.99, "{what} makes no difference: {different} {alone}");
    }
}

/// Keeps grids, and stops after each.
#[derive(Default)]
struct Stopping {
    grids: Vec<ScoreGrid>,
    finished: bool,
}

impl Sink for Stopping {
    fn begin(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
    fn has(&self, index: usize) -> bool {
        index < self.grids.len()
    }
    fn trial(&mut self, _: usize, grid: &ScoreGrid, _: &TrialReport) -> Result<ControlFlow<()>> {
        self.grids.push(grid.clone());
        Ok(ControlFlow::Break(()))
    }
    fn skip(&mut self, index: usize, reason: &str) -> Result<ControlFlow<()>> {
        panic!("trial {index} was skipped: {reason}")
    }
    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }
}

#[test]
fn noise_survives_splits_and_stops() {
    for family in FAMILIES {
        let decoder = load(&tiny(family), Dtype::F64);
        let moments = moments(&decoder);
        let models = Models { moments: Some(&moments), ..Models::of(&decoder) };
        let trials = ["x", "y", "z"].map(|id| Trial {
            id: id.into(),
            cluster: None,
            direction: None,
            source_answer: None,
            target: Target { correct: 7, incorrect: Some(11) },
            base: prompt(&tokens(0)),
            source: None,
        });
        for (site, grid) in [(Site::V, Grid::LayerHead), (Site::Z, Grid::LayerHead), (Site::MlpPost, Grid::LayerPos)] {
            let run = |max_rows, order: &[Trial]| {
                let sweep = Sweep {
                    site,
                    edit: Edit::Noise(1.0),
                    grid: grid.clone(),
                    positions: vec![Positions::All],
                    layers: 0..3,
                    heads: None,
                    metrics: vec![Metric::LogitDiff],
                    max_rows,
                    seed: 3,
                };
                let mut sink = Stopping::default();
                while !sink.finished {
                    sweep.run(models, order, &mut sink).expect("runs");
                }
                sink.grids
            };
            let whole = run(None, &trials);
            let deltas = |grid: &ScoreGrid| grid.values[0].clone();
            let largest = whole.iter().flat_map(deltas).fold(0.0_f64, |a, b| a.max(b.abs()));
            assert!(deltas(&whole[0]) != deltas(&whole[1]), "trials of one prompt share their noise");
            let turned = [trials[2].clone(), trials[0].clone(), trials[1].clone()];
            let mut again = run(Some(4), &turned);
            again.rotate_left(1);
            for (a, b) in whole.iter().flat_map(deltas).zip(again.iter().flat_map(deltas)) {
                assert!((a - b).abs() <= 1e-9 * largest, "{family} {site}: {a} and {b}, of {largest}");
            }
        }
    }
}
