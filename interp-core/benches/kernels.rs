//! Criterion benchmarks of what a sweep spends its time in: a block by rows, binding, a small whole wave, statistics.
//!
//! `cargo bench --bench kernels`. The model is one or two blocks of Qwen2.5-0.5B's geometry with random weights, so that
//! matrices have their real shapes and everything together takes less than a minute.

mod blocks;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use interp_core::decoder::Start;
use interp_core::device::Dtype;
use interp_core::intervention::{CellSet, Context, Donors, Edit, Edits, Intervention};
use interp_core::metric::Metric;
use interp_core::prompt::Prompt;
use interp_core::site::{HookPoint, Positions, Site};
use interp_core::stats::{Bootstrap, Clusters, Permutation, max_statistic, summarize};
use interp_core::sweep::{Grid, Models, Sweep};
use interp_core::trial::{Target, Trial};
use tch::{Device, Tensor};

use self::blocks::{D_MODEL, config, load};

/// Rows of one block: a clean pass's single position, one layer's heads, and the width at the top of an all-heads wave.
const ROWS: [i64; 3] = [1, 14, 336];

/// Tokens of a prompt.
const TOKENS: usize = 64;

/// One block, `[rows, 1, d_model]` in and out: every matrix kernel at its real shape, in both dtypes.
fn block_by_rows(c: &mut Criterion) {
    let _no_grad = tch::no_grad_guard();
    let mut group = c.benchmark_group("block");
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let decoder = load(1, dtype);
        for rows in ROWS {
            let resid = Tensor::randn([rows, 1, D_MODEL], (decoder.kind(), Device::Cpu));
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(BenchmarkId::new(dtype.to_string(), rows), |b| {
                b.iter(|| {
                    let start = Start { layer: 0, pos: 0, resid: resid.shallow_clone(), past: None };
                    decoder.forward(black_box(start), 0..1, &mut ())
                });
            });
        }
    }
    group.finish();
}

/// Interventions of an all-heads wave of 24 layers to places, values and rows: what every wave pays before its first product.
fn bind_a_wide_wave(c: &mut Criterion) {
    let config = config(24);
    let trial = trial();
    let context = Context::of_prompt(&config, &trial.id);
    let donors = Donors { source: None, same_weights: true, moments: None };
    let mut group = c.benchmark_group("bind");
    for positions in ["last", "all"] {
        let cells = cells(config.n_layers, config.n_heads, positions);
        let sets: Vec<CellSet<'_>> = cells.iter().enumerate().map(|(i, set)| (i, set.as_slice())).collect();
        group.throughput(Throughput::Elements(sets.len() as u64));
        group.bench_function(BenchmarkId::new("zero z", positions), |b| {
            b.iter(|| Edits::bind(black_box(&sets), &trial.base, &donors, &context).expect("binds"));
        });
    }
    group.finish();
}

/// A whole trial over two blocks: unedited base and source runs, one wave of all heads, metric.
fn small_wave(c: &mut Criterion) {
    let decoder = load(2, Dtype::F32);
    let models = Models::of(&decoder);
    let trial = trial();
    let mut group = c.benchmark_group("trial of 28 heads");
    for (edit, positions) in [(Edit::Patch, "last"), (Edit::Zero, "all")] {
        let sweep = Sweep {
            site: Site::Z,
            edit,
            grid: Grid::LayerHead,
            positions: vec![positions.parse().expect("a selector")],
            layers: 0..decoder.config().n_layers,
            heads: None,
            metrics: vec![Metric::LogitDiff],
            max_rows: None,
            seed: 0,
        };
        let axes = sweep.axes(decoder.config(), &trial).expect("axes");
        group.bench_function(format!("{:?} z, {positions}", sweep.edit), |b| {
            b.iter(|| sweep.trial(models, &axes, black_box(&trial)).expect("runs"));
        });
    }
    group.finish();
}

/// Means and bootstrap intervals of 336 cells over 200 trials in 50 clusters.
fn bootstrap(c: &mut Criterion) {
    let (n_trials, n_cells) = (200, 336);
    let value = |trial: usize, cell: usize| ((trial * 31 + cell * 17) % 101) as f32 / 101.0;
    let trials: Vec<Vec<f32>> = (0..n_trials).map(|t| (0..n_cells).map(|cell| value(t, cell)).collect()).collect();
    let trials: Vec<&[f32]> = trials.iter().map(Vec::as_slice).collect();
    let labels: Vec<Option<String>> = (0..n_trials).map(|t| Some(format!("c{}", t / 4))).collect();
    let clusters = Clusters::new(&labels);
    c.bench_function("bootstrap of 336 cells, 200 trials, 2000 resamples", |b| {
        b.iter(|| summarize(black_box(&trials), &clusters, &Bootstrap::default()).expect("statistics"));
    });
}

/// The test over the whole grid: 5,000 sign vectors of 1,920 cells over 200 trials, each its own cluster or two in one.
fn max_statistic_of_a_grid(c: &mut Criterion) {
    let (n_trials, n_cells) = (200, 1920);
    let value = |trial: usize, cell: usize| ((trial * 37 + cell * 11) % 641) as f32 - 320.0;
    let trials: Vec<Vec<f32>> = (0..n_trials).map(|t| (0..n_cells).map(|cell| value(t, cell)).collect()).collect();
    let trials: Vec<&[f32]> = trials.iter().map(Vec::as_slice).collect();
    for size in [2, 1] {
        let labels: Vec<Option<String>> = (0..n_trials).map(|t| Some(format!("c{}", t / size))).collect();
        let clusters = Clusters::new(&labels);
        c.bench_function(
            format!("max statistic of 1920 cells, {} clusters, 5000 signs", clusters.len()).as_str(),
            |b| {
                b.iter(|| max_statistic(black_box(&trials), &clusters, &Permutation::default()).expect("statistics"));
            },
        );
    }
}

/// One cell per head of every layer.
fn cells(n_layers: usize, n_heads: usize, positions: &str) -> Vec<Vec<Intervention>> {
    let positions: Positions = positions.parse().expect("a selector");
    let cell = |layer, head| {
        let at = HookPoint::new(Site::Z, layer);
        vec![Intervention { at, heads: Some(vec![head]), positions: positions.clone(), edit: Edit::Zero }]
    };
    (0..n_layers).flat_map(|layer| (0..n_heads).map(move |head| (layer, head))).map(|(l, h)| cell(l, h)).collect()
}

fn trial() -> Trial {
    let prompt = |step: i64| {
        let tokens = (0..TOKENS as i64).map(|pos| 1 + (pos * step) % 997).collect();
        Prompt { tokens, spans: Default::default() }
    };
    Trial {
        id: "t0".into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 7, incorrect: Some(11) },
        base: prompt(7),
        source: Some(prompt(13)),
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = block_by_rows, bind_a_wide_wave, small_wave, bootstrap, max_statistic_of_a_grid
}
criterion_main!(benches);
