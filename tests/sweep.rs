//! The engine against plain full passes: every site, edit and grid, random positions, chunks and wave sizes.

use std::ops::ControlFlow;
use std::rc::Rc;

use interp_core::Result;
use interp_core::cache::CleanRun;
use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::intervention::{Edit, Moments};
use interp_core::metric::Metric;
use interp_core::prompt::Prompt;
use interp_core::scores::ScoreGrid;
use interp_core::site::{Axis, HeadRef, HookPoint, Positions, Site};
use interp_core::sweep::{Grid, HeadSet, Models, Sink, Sweep, TrialReport};
use interp_core::trial::{Target, Trial};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::common::{FAMILIES, load, load_for_waves, tiny};

/// Cells of a grid that are compared with a plain pass each.
const CELLS: usize = 6;

/// Tokens of a random prompt pair that first differs at `differ`.
fn pair(rng: &mut ChaCha8Rng, len: usize, differ: usize) -> (Vec<i64>, Vec<i64>) {
    let base: Vec<i64> = (0..len).map(|_| rng.random_range(3..131)).collect();
    let mut source = base.clone();
    for token in &mut source[differ..] {
        *token = rng.random_range(3..131);
    }
    source[differ] = (base[differ] - 3 + 1) % 128 + 3;
    (base, source)
}

fn trial(base: Vec<i64>, source: Vec<i64>) -> Trial {
    let span = |tokens: &[i64]| {
        let head = std::iter::once(0..2).collect();
        [("head".to_owned(), head), ("rest".to_owned(), vec![2..3, 4..tokens.len()])].into_iter().collect()
    };
    Trial {
        id: "t0".into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 7, incorrect: Some(11) },
        base: Prompt { spans: span(&base), tokens: base },
        source: Some(Prompt { spans: span(&source), tokens: source }),
    }
}

fn sweep(site: Site, edit: Edit, grid: Grid, positions: Vec<Positions>, n_layers: usize) -> Sweep {
    Sweep {
        site,
        edit,
        grid,
        positions,
        layers: 0..n_layers,
        heads: None,
        metrics: vec![Metric::LogitDiff, Metric::LogProb, Metric::Kl],
        max_rows: None,
        seed: 3,
    }
}

/// Statistics over three prompts, all sites that have a fixed width.
fn moments(decoder: &Decoder, rng: &mut ChaCha8Rng, len: usize) -> Moments {
    let points: Vec<HookPoint> =
        crate::common::all_points(decoder.config().n_layers).into_iter().filter(|at| !at.site.is_attention()).collect();
    let mut moments = Moments::default();
    for _ in 0..3 {
        let tokens = pair(rng, len, 0).0;
        let (cache, _) = crate::common::full_pass(decoder, &tokens, &points);
        moments.add_run(&points, &cache);
    }
    moments
}

fn vector(site: Site, decoder: &Decoder) -> Rc<Tensor> {
    let config = decoder.config();
    let width = match site.axes().last().expect("axes") {
        Axis::DHead => config.d_head,
        Axis::DMlp => config.d_mlp,
        _ => config.d_model,
    };
    Rc::new(Tensor::linspace(-1.0, 1.0, width as i64, (Kind::Double, Device::Cpu)))
}

/// Compares random cells with plain full passes; returns the largest |δ| of the grid and the largest difference.
fn compare(sweep: &Sweep, models: Models<'_>, trial: &Trial, rng: &mut ChaCha8Rng) -> (f64, f64) {
    let axes = sweep.axes(models.base.config(), trial).expect("axes");
    let (grid, _) = sweep.trial(models, &axes, trial).expect("the wave runs");
    let largest = grid.values.iter().flatten().filter(|delta| !delta.is_nan()).fold(0.0f64, |a, b| a.max(b.abs()));
    let mut worst = 0.0f64;
    for _ in 0..CELLS {
        let cell = rng.random_range(0..grid.n_cells());
        let Some(plain) = sweep.plain(models, trial, cell).expect("the plain pass runs") else {
            assert!(grid.values[0][cell].is_nan());
            continue;
        };
        for (metric, plain) in plain.iter().enumerate() {
            worst = worst.max((grid.values[metric][cell] - plain).abs());
        }
    }
    (largest, worst)
}

#[test]
fn a_wave_equals_plain_passes_for_every_site_and_edit() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for family in FAMILIES {
        let decoder = load(&tiny(family), Dtype::F64);
        let n_layers = decoder.config().n_layers;
        let len = 22;
        let moments = moments(&decoder, &mut rng, len);
        let models = Models { moments: Some(&moments), ..Models::of(&decoder) };
        for site in Site::ALL {
            let mut edits = vec![Edit::Zero, Edit::Patch, Edit::Scale(-0.5)];
            if site.is_attention() {
                edits.push(Edit::UniformAttention);
                edits.push(Edit::Knockout { keys: Positions::Span("head".into()) });
            } else {
                edits.extend([Edit::Mean, Edit::Noise(0.5), Edit::Add { vector: vector(site, &decoder), factor: 2.0 }]);
            }
            for edit in edits {
                if matches!(edit, Edit::UniformAttention | Edit::Knockout { .. }) && site != Site::Scores {
                    continue;
                }
                let differ = rng.random_range(0..len);
                let (base, source) = pair(&mut rng, len, differ);
                let positions =
                    [Positions::Index(vec![-1]), Positions::Span("rest".into()), Positions::Index(vec![3, -2, -1])];
                let positions = positions.choose(&mut rng).expect("some").clone();
                let grid = if site.head_axis().is_some() { Grid::LayerHead } else { Grid::LayerPos };
                let columns = if grid == Grid::LayerPos { vec![Positions::All] } else { vec![positions] };
                let mut sweep = sweep(site, edit.clone(), grid, columns, n_layers);
                sweep.max_rows = *[None, Some(2), Some(5), Some(9)].choose(&mut rng).expect("some");
                let (largest, worst) = compare(&sweep, models, &trial(base, source), &mut rng);
                let what = format!("{family} {site} {edit:?} {:?} max_rows {:?}", sweep.positions, sweep.max_rows);
                assert!(worst <= 1e-9 * largest, "{what}: {worst:e} of {largest:e}");
                if !matches!(edit, Edit::Patch) {
                    assert!(largest > 1e-3, "{what}: no effect at all, {largest:e}");
                }
            }
        }
    }
}

#[test]
fn sets_and_repeated_entries_equal_plain_passes() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for family in FAMILIES {
        let decoder = load(&tiny(family), Dtype::F64);
        let config = decoder.config();
        let models = Models::of(&decoder);
        for site in [Site::Z, Site::Result, Site::Q, Site::KCopy, Site::VCopy, Site::Pattern] {
            let all: Vec<HeadRef> = (0..config.n_layers)
                .flat_map(|layer| (0..config.n_heads).map(move |head| HeadRef { layer, head }))
                .collect();
            // Cumulative sets, as an ablation curve has them, the empty set included.
            let sets: Vec<HeadSet> = (0..=all.len())
                .step_by(3)
                .map(|k| HeadSet {
                    name: format!("top-{k}"),
                    heads: all.choose_multiple(&mut rng, k).copied().collect(),
                })
                .collect();
            let (base, source) = pair(&mut rng, 19, 4);
            for edit in [Edit::Zero, Edit::Patch] {
                let grid = Grid::Sets(sets.clone());
                let sweep = sweep(site, edit.clone(), grid, vec![Positions::Index(vec![5, -1])], config.n_layers);
                let (largest, worst) = compare(&sweep, models, &trial(base.clone(), source.clone()), &mut rng);
                assert!(worst <= 1e-9 * largest, "{family} {site} {edit:?}: {worst:e} of {largest:e}");
            }
        }
    }
}

#[test]
fn prompts_beyond_the_window_and_position_256_resume_exactly() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for family in ["qwen2-window", "mistral", "llama"] {
        let decoder = load(&tiny(family), Dtype::F64);
        let models = Models::of(&decoder);
        let (base, source) = pair(&mut rng, 280, 250);
        let trial = trial(base, source);
        for (site, positions) in [(Site::Z, vec![-1]), (Site::V, vec![-20, -3]), (Site::K, vec![255, 256, 257])] {
            let mut sweep = sweep(site, Edit::Patch, Grid::LayerHead, vec![Positions::Index(positions)], 3);
            sweep.heads = Some([(0, 0), (1, 1), (2, 0)].map(|(layer, head)| HeadRef { layer, head }).to_vec());
            let (largest, worst) = compare(&sweep, models, &trial, &mut rng);
            assert!(worst <= 1e-9 * largest, "{family} {site}: {worst:e} of {largest:e}");
        }
    }
}

#[test]
fn single_precision_waves_stay_within_a_thousandth_of_the_largest_effect() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for family in FAMILIES {
        for decoder in [load(&tiny(family), Dtype::F32), load_for_waves(&tiny(family), Dtype::F32)] {
            let models = Models::of(&decoder);
            let (base, source) = pair(&mut rng, 30, 10);
            let sweep = sweep(Site::Z, Edit::Patch, Grid::LayerHead, vec![Positions::All], 3);
            let (largest, worst) = compare(&sweep, models, &trial(base, source), &mut rng);
            assert!(worst <= 1e-3 * largest, "{family}: {worst:e} of {largest:e}");
        }
    }
}

#[test]
fn weights_laid_out_for_waves_give_the_same_effects() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for family in FAMILIES {
        let (base, source) = pair(&mut rng, 24, 3);
        let trial = trial(base, source);
        let effects = |decoder: &Decoder| {
            let sweep = sweep(Site::Result, Edit::Patch, Grid::LayerHead, vec![Positions::All], 3);
            let axes = sweep.axes(decoder.config(), &trial).expect("axes");
            let (grid, _) = sweep.trial(Models::of(decoder), &axes, &trial).expect("runs");
            grid.values.concat()
        };
        let exact = effects(&load(&tiny(family), Dtype::F64));
        let largest = exact.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let distance = |decoder: &Decoder| {
            effects(decoder).iter().zip(&exact).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs())) / largest
        };
        let packed = distance(&load_for_waves(&tiny(family), Dtype::F32));
        assert!(packed <= 1e-4, "{family}: f32 is {packed:e} off");
        // bf16 rounds differently in every kernel; what counts is that neither kernel is the worse one.
        let (plain, packed) =
            (distance(&load(&tiny(family), Dtype::Bf16)), distance(&load_for_waves(&tiny(family), Dtype::Bf16)));
        assert!(packed <= 3.0 * plain, "{family}: bf16 is {packed:e} off, {plain:e} with plain weights");
    }
}

#[test]
fn results_do_not_depend_on_how_cells_are_split_into_waves() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let decoder = load(&tiny("qwen2"), Dtype::F64);
    let moments = moments(&decoder, &mut rng, 12);
    let models = Models { moments: Some(&moments), ..Models::of(&decoder) };
    let (base, source) = pair(&mut rng, 12, 0);
    let trial = trial(base, source);
    let mut sweep = sweep(Site::Z, Edit::Noise(1.0), Grid::LayerHead, vec![Positions::All], 3);
    let axes = sweep.axes(decoder.config(), &trial).expect("axes");
    let (whole, _) = sweep.trial(models, &axes, &trial).expect("runs");
    sweep.max_rows = Some(3);
    let (split, _) = sweep.trial(models, &axes, &trial).expect("runs");
    for (a, b) in whole.values.iter().flatten().zip(split.values.iter().flatten()) {
        assert!((a - b).abs() <= 1e-11, "noise must be a function of the cell, not of the wave: {a} {b}");
    }
}

#[test]
fn a_patch_of_a_prompt_into_itself_is_exactly_nothing() {
    let decoder = load(&tiny("qwen2"), Dtype::F32);
    let tokens: Vec<i64> = (3..20).collect();
    let trial = trial(tokens.clone(), tokens);
    let sweep = sweep(Site::Z, Edit::Patch, Grid::LayerHead, vec![Positions::All], 3);
    let models = Models::of(&decoder);
    let axes = sweep.axes(decoder.config(), &trial).expect("axes");
    let (grid, _) = sweep.trial(models, &axes, &trial).expect("runs");
    assert!(grid.values.iter().flatten().all(|&delta| delta == 0.0));
    let run = CleanRun::new(&decoder, &trial.base.tokens, [], [], 0);
    assert_eq!(run.tokens(), trial.base.tokens);
}

/// Collects what the engine pushes.
#[derive(Default)]
struct Collected {
    done: Vec<usize>,
    skipped: Vec<(usize, String)>,
    stop_after: Option<usize>,
    finished: bool,
}

impl Sink for Collected {
    fn begin(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
    fn has(&self, index: usize) -> bool {
        self.done.contains(&index)
    }
    fn trial(&mut self, index: usize, _: &ScoreGrid, _: &TrialReport) -> Result<ControlFlow<()>> {
        self.done.push(index);
        Ok(if self.stop_after == Some(self.done.len()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
    fn skip(&mut self, index: usize, reason: &str) -> Result<ControlFlow<()>> {
        self.skipped.push((index, reason.into()));
        Ok(ControlFlow::Continue(()))
    }
    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }
}

#[test]
fn trials_that_cannot_run_are_skipped_and_the_sink_can_stop_the_run() {
    let decoder = load(&tiny("qwen2"), Dtype::F32);
    let models = Models::of(&decoder);
    let good = trial((3..12).collect(), (4..13).collect());
    let mut short = trial((3..12).collect(), (4..13).collect());
    short.source = None;
    let sweep = sweep(Site::Z, Edit::Patch, Grid::LayerHead, vec![Positions::Index(vec![7])], 3);
    let trials = [good.clone(), short.clone(), good.clone()];

    let mut sink = Collected { stop_after: Some(1), ..Default::default() };
    sweep.run(models, &trials, &mut sink).expect("runs");
    assert!(!sink.finished);
    sink.stop_after = None;
    sweep.run(models, &trials, &mut sink).expect("resumes");
    assert_eq!((sink.done, sink.finished), (vec![0, 2], true));
    assert_eq!(sink.skipped.len(), 1);
    assert!(sink.skipped[0].1.contains("has no source prompt"), "{}", sink.skipped[0].1);

    let error = sweep.run(models, &[short], &mut Collected::default()).expect_err("nothing can run");
    assert!(error.to_string().contains("has no source prompt"));
    let mut wrong = sweep.clone();
    wrong.layers = 0..4;
    let error = wrong.run(models, &[good], &mut Collected::default()).expect_err("no such layer");
    assert_eq!(error.to_string(), "layer `3`: the model has layers 0..3");
}
