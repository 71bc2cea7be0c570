//! Proofs on one model: every site is live, capturing changes no bit, one wave equals plain passes.

use anyhow::Result;
use interp_core::cache::ActivationCache;
use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::guard::catch_torch;
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention};
use interp_core::metric::Metric;
use interp_core::prompt::Prompt;
use interp_core::site::{HookPoint, Positions, Site};
use interp_core::sweep::{Grid, Models, Sweep};
use interp_core::trial::{Target, Trial};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::progress::bar;

/// Tokens of the random prompts: enough for attention to have something to choose from.
const LENGTH: usize = 12;

/// Cells of the wave that are run again by plain passes.
const CELLS: usize = 8;

/// One thing that was checked.
pub struct Check {
    /// `zero z`, `capture`, `wave`.
    pub name: String,
    /// How many hook points or cells.
    pub n: usize,
    /// What was found.
    pub result: String,
    /// The number in it.
    pub value: f64,
    /// What is not as it should be.
    pub wrong: Vec<String>,
}

impl Check {
    /// A row of the table.
    pub fn row(&self) -> Vec<String> {
        let verdict = if self.wrong.is_empty() { "yes" } else { "no" };
        vec![self.name.clone(), self.n.to_string(), self.result.clone(), verdict.into()]
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let value = self.value.is_finite().then_some(self.value);
        json!({ "check": self.name, "points": self.n, "result": self.result, "value": value, "wrong": self.wrong })
    }
}

/// Runs all checks on random prompts.
pub fn run(decoder: &Decoder, dtype: Dtype) -> Result<Vec<Check>> {
    let _no_grad = tch::no_grad_guard();
    let config = decoder.config();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let length = LENGTH.min(config.n_ctx);
    let mut random = || (0..length).map(|_| rng.random_range(0..config.d_vocab as i64)).collect::<Vec<i64>>();
    let (base, source) = (random(), random());
    let bar = bar(Site::ALL.len() + 2, "checks");
    let mut checks = Vec::new();
    for site in Site::ALL {
        checks.push(catch_torch(site.name(), || live(decoder, &base, site))?);
        bar.inc(1);
    }
    checks.push(catch_torch("capture", || Ok(capture(decoder, &base)))?);
    bar.inc(1);
    checks.push(catch_torch("wave", || wave(decoder, base, source, dtype))?);
    bar.finish_and_clear();
    Ok(checks)
}

fn points(decoder: &Decoder, site: Site) -> Vec<HookPoint> {
    let n_layers = if site.is_per_layer() { decoder.config().n_layers } else { 1 };
    (0..n_layers).map(|layer| HookPoint::new(site, layer)).collect()
}

/// Zeroes a site at all positions, layer by layer (each a row of one pass), and looks at the logits of the last position.
fn live(decoder: &Decoder, tokens: &[i64], site: Site) -> interp_core::Result<Check> {
    let prompt = Prompt { tokens: tokens.to_vec(), spans: Default::default() };
    let points = points(decoder, site);
    let zero = |&at: &HookPoint| [Intervention { at, heads: None, positions: Positions::All, edit: Edit::Zero }];
    let sets: Vec<[Intervention; 1]> = points.iter().map(zero).collect();
    let cells: Vec<_> = sets.iter().enumerate().map(|(index, set)| (index, set.as_slice())).collect();
    let context = Context::of_run(decoder, 0, "self-check");
    let mut edits = Edits::bind(&cells, &prompt, &Donors::default(), &context)?;
    let rows: Vec<Option<i64>> = (0..sets.len()).map(|i| edits.row_of(i)).collect();
    let last = tokens.len() - 1;
    let resid = decoder.forward(decoder.embed(tokens), last..last + 1, &mut &mut edits);
    let logits = decoder.unembed(&resid, last, None, &mut edits).squeeze_dim(1).to_kind(Kind::Double);
    edits.finish()?;
    let clean = logits.get(0);
    let change = |row: &Option<i64>| row.map_or(0.0, |row| (logits.get(row) - &clean).abs().max().double_value(&[]));
    let changes: Vec<f64> = rows.iter().map(change).collect();
    // Not `change == 0`, so that NaN is dead too.
    let dead = points.iter().zip(&changes).filter(|(_, change)| change.is_nan() || **change <= 0.0);
    let wrong = dead.map(|(at, change)| format!("zeroing {at} changes the logits by {change}")).collect();
    let (least, at) = changes.iter().zip(&points).fold((f64::INFINITY, points[0]), |least, (&change, &at)| {
        if change < least.0 || change.is_nan() { (change, at) } else { least }
    });
    let result = format!("least change of a logit {least:.3e}, at {at}");
    Ok(Check { name: format!("zero {site}"), n: points.len(), result, value: least, wrong })
}

/// Runs with and without recording everything, and compares every bit of all logits.
fn capture(decoder: &Decoder, tokens: &[i64]) -> Check {
    let points: Vec<HookPoint> = Site::ALL.into_iter().flat_map(|site| points(decoder, site)).collect();
    let mut cache = ActivationCache::new(points.iter().copied());
    let watched = decoder.forward(decoder.embed(tokens), 0..tokens.len(), &mut cache);
    let watched = decoder.unembed(&watched, 0, None, &mut cache);
    let plain = decoder.forward(decoder.embed(tokens), 0..tokens.len(), &mut ());
    let plain = decoder.unembed(&plain, 0, None, &mut ());
    let unseen = points.iter().filter(|&&at| cache.get(at).is_none());
    let mut wrong: Vec<String> = unseen.map(|at| format!("{at} was not seen")).collect();
    let differing = bits(&watched).not_equal_tensor(&bits(&plain)).sum(Kind::Int64).int64_value(&[]);
    if differing != 0 {
        wrong.push(format!("capturing changes {differing} of {} logits", plain.numel()));
    }
    let result = format!("{differing} of {} logits differ in any bit", plain.numel());
    Check { name: "capture".into(), n: points.len(), result, value: differing as f64, wrong }
}

fn bits(logits: &Tensor) -> Tensor {
    logits.contiguous().view_dtype(if logits.kind() == Kind::Double { Kind::Int64 } else { Kind::Int })
}

/// Patches every head from another random prompt in one wave, and random cells of it again by plain full passes.
fn wave(decoder: &Decoder, base: Vec<i64>, source: Vec<i64>, dtype: Dtype) -> interp_core::Result<Check> {
    let config = decoder.config();
    let prompt = |tokens: Vec<i64>| Prompt { tokens, spans: Default::default() };
    let trial = Trial {
        id: "self-check".into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 0, incorrect: Some(1) },
        base: prompt(base),
        source: Some(prompt(source)),
    };
    let sweep = Sweep {
        site: Site::Z,
        edit: Edit::Patch,
        grid: Grid::LayerHead,
        positions: vec![Positions::All],
        layers: 0..config.n_layers,
        heads: None,
        metrics: vec![Metric::LogitDiff],
        max_rows: None,
        seed: 0,
    };
    let models = Models::of(decoder);
    let (grid, _) = sweep.trial(models, &sweep.axes(config, &trial)?, &trial)?;
    let deltas = &grid.values[0];
    let largest = deltas.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let size = grid.clean[0].abs().max(largest);
    let bound = match dtype {
        Dtype::F64 => 1e-9 * largest,
        Dtype::F32 => (1e-3 * largest).max(1e-6 * size),
        // A number near the metric's size is itself rounded to 2^-8 of it, several times over.
        Dtype::Bf16 => 4.0 / 256.0 * size,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut worst, mut wrong) = (0.0f64, Vec::new());
    for _ in 0..CELLS {
        let cell = rng.random_range(0..deltas.len());
        let plain = sweep.plain(models, &trial, cell)?.map_or(f64::NAN, |plain| plain[0]);
        let off = (deltas[cell] - plain).abs();
        if off.is_nan() || off > bound {
            let label = interp_core::scores::cell_label(&grid.axes, cell);
            wrong.push(format!("patching {label} gives {} in a wave and {plain} in a plain pass", deltas[cell]));
        }
        worst = if off.is_nan() { off } else { worst.max(off) };
    }
    let result = format!("largest difference {worst:.3e} of {largest:.3e}, allowed {bound:.3e}");
    Ok(Check { name: "wave".into(), n: CELLS, result, value: worst, wrong })
}
