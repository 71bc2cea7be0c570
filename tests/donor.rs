//! Patches from another model: the same weights given twice change nothing, whole models are replaced part by part, and
//! models of other sizes donate through maps.

use std::fs;
use std::path::Path;

use interp_core::cache::{ActivationCache, CleanRun};
use interp_core::checkpoint::Checkpoint;
use interp_core::config::ModelConfig;
use interp_core::decoder::{Decoder, expected_tensors};
use interp_core::device::{Dtype, Precision, Weights};
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention};
use interp_core::metric::Metric;
use interp_core::scores::ScoreGrid;
use interp_core::site::{HookPoint, Positions, Site};
use interp_core::sweep::{Donor, Grid, KeptSources, Models, Sweep};
use interp_core::transfer::{Correspondence, HeadMap, LayerMap, Maps, Method, Samples};
use interp_core::trial::{Target, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::common::{copy_model, full_pass, load, load_for_waves, max_diff, prompt, tiny};

const LEN: usize = 18;

/// Base and source first differ here.
const DIFFER: usize = 6;

fn tokens(rng: &mut ChaCha8Rng) -> Vec<i64> {
    (0..LEN).map(|_| rng.random_range(3..131)).collect()
}

fn trial(rng: &mut ChaCha8Rng, id: &str) -> Trial {
    let (base, mut source) = (tokens(rng), tokens(rng));
    source[..DIFFER].copy_from_slice(&base[..DIFFER]);
    source[DIFFER] = (base[DIFFER] - 3 + 1) % 128 + 3;
    Trial {
        id: id.into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 7, incorrect: Some(11) },
        base: prompt(&base),
        source: Some(prompt(&source)),
    }
}

fn sweep(site: Site, positions: &[i64], n_layers: usize) -> Sweep {
    let heads = site.head_axis().is_some();
    Sweep {
        site,
        edit: Edit::Patch,
        grid: if heads { Grid::LayerHead } else { Grid::LayerPos },
        positions: vec![Positions::Index(positions.to_vec())],
        layers: 0..n_layers,
        heads: None,
        metrics: vec![Metric::LogitDiff, Metric::LogProb, Metric::Kl],
        max_rows: None,
        seed: 5,
    }
}

fn models<'a>(base: &'a Decoder, donor: Option<Donor<'a>>) -> Models<'a> {
    Models { donor, ..Models::of(base) }
}

fn run(sweep: &Sweep, models: Models<'_>, trial: &Trial) -> ScoreGrid {
    let axes = sweep.axes(models.base.config(), trial).expect("axes");
    sweep.trial(models, &axes, trial).expect("runs").0
}

/// The donor's part, through the same layers and heads.
fn kept(sweep: &Sweep, donor: &Decoder, base: &Decoder, trials: &[Trial]) -> KeptSources {
    let via = Correspondence::new(sweep.site, base.config(), donor.config(), None, None).expect("one geometry");
    KeptSources::keep(sweep, donor, base.config(), &via, trials, || ()).expect("kept")
}

fn largest(grid: &ScoreGrid) -> f64 {
    grid.values.iter().flatten().fold(0.0, |a, b| a.max(b.abs()))
}

fn distance(a: &ScoreGrid, b: &ScoreGrid) -> f64 {
    a.values.iter().flatten().zip(b.values.iter().flatten()).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// A tiny model's folder with other numbers in the tensors that `change` names.
pub fn perturbed(from: &Path, to: &Path, change: impl Fn(&str) -> bool) {
    copy_model(from, to);
    let file = to.join("model.safetensors");
    tch::manual_seed(9);
    let tensors = Tensor::read_safetensors(&file).expect("the fixture's weights");
    let other = |(name, tensor): (String, Tensor)| {
        let noise = tensor.randn_like() * tensor.std(true);
        let tensor = if change(&name) { (&tensor + noise * 0.5).to_kind(tensor.kind()) } else { tensor };
        (name, tensor)
    };
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(other).collect();
    fs::remove_file(&file).expect("removed");
    Tensor::write_safetensors(&tensors, &file).expect("written");
}

pub fn in_layers(name: &str) -> bool {
    name.starts_with("model.layers.")
}

#[test]
fn the_same_weights_as_a_separate_donor_change_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for family in ["qwen2", "qwen2-window", "qwen3", "llama"] {
        let (base, donor) = (load_for_waves(&tiny(family), Dtype::F64), load(&tiny(family), Dtype::F64));
        for site in [Site::Embed, Site::ResidPre, Site::Q, Site::V, Site::Pattern, Site::Z, Site::Result, Site::MlpOut]
        {
            let sweep = sweep(site, &[2, 8, -3, -1], base.config().n_layers);
            let trial = trial(&mut rng, "t");
            let within = run(&sweep, models(&base, None), &trial);
            let trials = std::slice::from_ref(&trial);
            let kept = kept(&sweep, &donor, &base, trials);
            for donor in [Donor::Model(&donor), Donor::Kept(&kept)] {
                let across = run(&sweep, models(&base, Some(donor)), &trial);
                let (off, largest) = (distance(&within, &across), largest(&within));
                assert!(largest > 1e-6 && off <= 1e-9 * largest, "{family} {site}: {off:e} of {largest:e}");
                let (ours, theirs) = (within.source.as_ref().expect("some"), across.source.as_ref().expect("some"));
                // The third metric is `kl`, which another model's run has against itself.
                assert!((0..2).all(|i| (ours[i] - theirs[i]).abs() <= 1e-9 * ours[i].abs()), "{ours:?} {theirs:?}");
                assert_eq!(theirs[2], 0.0);
            }
        }
    }
}

#[test]
fn what_nobody_reads_is_exactly_null_from_another_model_too_and_equal_prefixes_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    perturbed(&tiny("qwen2"), folder.path(), in_layers);
    let (base, donor) = (load(&tiny("qwen2"), Dtype::F64), load(folder.path(), Dtype::F64));
    let trial = trial(&mut ChaCha8Rng::seed_from_u64(2), "t");
    let sweep = sweep(Site::MlpOut, &[2, -1], 3);
    let within = run(&sweep, models(&base, None), &trial);
    let across = run(&sweep, models(&base, Some(Donor::Model(&donor))), &trial);
    let cell = |grid: &ScoreGrid, layer: usize, column: usize| grid.values[0][layer * 2 + column];
    assert_eq!((cell(&within, 2, 0), cell(&across, 2, 0)), (0.0, 0.0), "the last layer is read at the last position");
    assert_eq!(cell(&within, 0, 0), 0.0, "before the prompts differ, the same weights make the same");
    assert!(cell(&across, 0, 0).abs() > 1e-6, "other weights do not");
}

#[test]
fn waves_from_another_model_equal_plain_passes_with_and_without_source_prompts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for family in ["qwen2", "mistral"] {
        let dir = folder.path().join(family);
        perturbed(&tiny(family), &dir, |_| true);
        let (base, donor) = (load_for_waves(&tiny(family), Dtype::F64), load(&dir, Dtype::F64));
        let mut trials: Vec<Trial> = ["a", "b", "c"].map(|id| trial(&mut rng, id)).into();
        trials[1].source = None;
        // Prompts of an earlier trial: runs of one model must not serve as runs of the other.
        trials[2].base = trials[0].source.clone().expect("some");
        trials[2].source = Some(trials[0].base.clone());
        for site in [Site::Z, Site::K, Site::ResidPost, Site::Scores] {
            let sweep = sweep(site, &[1, 9, -1], base.config().n_layers);
            let kept = kept(&sweep, &donor, &base, &trials);
            let mut grids = Vec::new();
            for from in [Donor::Model(&donor), Donor::Kept(&kept)] {
                let models = models(&base, Some(from));
                let mut collected = Collected::default();
                sweep.run(models, &trials, &mut collected).expect("runs");
                assert_eq!(collected.0.len(), 3);
                for (trial, grid) in trials.iter().zip(&collected.0) {
                    let largest = largest(grid);
                    for cell in [0, 4, grid.n_cells() - 1] {
                        let plain = sweep.plain(models, trial, cell).expect("runs").expect("a cell");
                        let off =
                            (0..3).fold(0.0f64, |a, metric| a.max((grid.values[metric][cell] - plain[metric]).abs()));
                        assert!(off <= 1e-9 * largest, "{family} {site} {}: {off:e} of {largest:e}", trial.id);
                    }
                    let (_, logits) = full_pass(&donor, &trial.donating(true).expect("some").tokens, &[]);
                    let last = logits.get(-1);
                    let own = last.double_value(&[7]) - last.double_value(&[11]);
                    let source = grid.source.as_ref().expect("the donor's metric")[0];
                    assert!((own - source).abs() < 1e-9, "{own} {source}");
                }
                let samples = sweep.sample(models, &trials, &[0, 1, 2]).expect("a sample");
                assert_eq!(samples.iter().map(|sample| sample.cells.len()).sum::<usize>(), 16);
                grids.push(collected.0);
            }
            let (beside, kept) = (&grids[0], &grids[1]);
            for (beside, kept) in beside.iter().zip(kept) {
                assert!(distance(beside, kept) <= 1e-9 * largest(beside), "{family} {site}");
            }
        }
        let sweep = sweep(Site::Z, &[-1], base.config().n_layers);
        assert!(sweep.run(models(&base, None), &trials[1..2], &mut Collected::default()).is_err(), "no source prompt");
    }
}

#[derive(Default)]
struct Collected(Vec<ScoreGrid>);

impl interp_core::sweep::Sink for Collected {
    fn begin(&mut self, _: usize) -> interp_core::Result<()> {
        Ok(())
    }
    fn has(&self, _: usize) -> bool {
        false
    }
    fn trial(
        &mut self,
        _: usize,
        grid: &ScoreGrid,
        _: &interp_core::sweep::TrialReport,
    ) -> interp_core::Result<std::ops::ControlFlow<()>> {
        self.0.push(grid.clone());
        Ok(std::ops::ControlFlow::Continue(()))
    }
    fn skip(&mut self, _: usize, reason: &str) -> interp_core::Result<std::ops::ControlFlow<()>> {
        panic!("{reason}");
    }
    fn finish(&mut self) -> interp_core::Result<()> {
        Ok(())
    }
}

/// Logits at the last position of `base`'s run with `sites` of all layers taken from `donor` at all positions.
fn replaced(base: &Decoder, donor: &Decoder, tokens: &[i64], sites: &[Site]) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let points: Vec<HookPoint> = (0..base.config().n_layers)
        .flat_map(|layer| sites.iter().map(move |&site| HookPoint::new(site, layer)))
        .collect();
    let run = CleanRun::new(donor, tokens, [], points.iter().copied(), 0);
    let one = |&at: &HookPoint| Intervention { at, heads: None, positions: Positions::All, edit: Edit::Patch };
    let set: Vec<Intervention> = points.iter().map(one).collect();
    let prompt = prompt(tokens);
    let donors = Donors { source: Some((&prompt, run.cache())), same_weights: false, moments: None };
    let context = Context::of_run(base, 0, "t");
    let mut edits = Edits::bind_in_place((0, &set), 1, &prompt, &donors, &context).expect("binds");
    let last = tokens.len() - 1;
    let resid = base.forward(base.embed(tokens), last..last + 1, &mut &mut edits);
    let logits = base.unembed(&resid, last, None, &mut edits);
    edits.finish().expect("every place was reached");
    logits.view([-1])
}

#[test]
fn replacing_all_that_layers_add_gives_the_other_models_logits() {
    let folder = tempfile::tempdir().expect("a folder");
    for family in ["qwen2", "qwen3", "llama"] {
        let (all, but_o) = (folder.path().join(family), folder.path().join(format!("{family}-o")));
        perturbed(&tiny(family), &all, in_layers);
        perturbed(&tiny(family), &but_o, |name| in_layers(name) && !name.contains("o_proj"));
        let base = load(&tiny(family), Dtype::F64);
        let tokens = tokens(&mut ChaCha8Rng::seed_from_u64(4));
        let off = |dir: &Path, sites: &[Site]| {
            let donor = load(dir, Dtype::F64);
            let wanted = full_pass(&donor, &tokens, &[]).1.get(-1);
            max_diff(&replaced(&base, &donor, &tokens, sites), &wanted)
        };
        assert!(off(&all, &[]) > 1e-2, "{family}: the two models differ");
        assert!(off(&all, &[Site::AttnOut, Site::MlpOut]) < 1e-9, "{family}");
        assert!(
            off(&but_o, &[Site::Z, Site::MlpOut]) < 1e-9,
            "{family}: z is all of attention where o_proj is the same"
        );
        assert!(off(&all, &[Site::Z, Site::MlpOut]) > 1e-2, "{family}: and is not where it differs");
    }
}

/// A random model of another size over the fixtures' vocabulary.
fn random(n_layers: usize, n_heads: usize, d_head: usize, seed: u64) -> Decoder {
    let json: Value = json!({
        "model_type": "qwen2", "num_hidden_layers": n_layers, "num_attention_heads": n_heads, "num_key_value_heads": 2,
        "hidden_size": n_heads * d_head, "intermediate_size": 64, "vocab_size": 131, "torch_dtype": "float32",
    });
    let config = ModelConfig::from_json(Path::new("config.json"), &json).expect("a config");
    let tensors = expected_tensors(&config);
    let checkpoint = Checkpoint::random("random", config, tensors, seed);
    let precision = Precision { dtype: Dtype::F64, weights: Weights::Auto };
    Decoder::load(&checkpoint, Device::Cpu, precision).expect("random weights load")
}

#[test]
fn another_size_donates_by_maps_of_layers_and_heads() {
    let (base, donor) = (random(3, 4, 8, 1), random(5, 8, 8, 2));
    let trial = trial(&mut ChaCha8Rng::seed_from_u64(5), "t");
    let sweep = sweep(Site::Z, &[-1], 3);
    let (layers, heads) = (LayerMap::Relative, HeadMap::Relative);
    let error = Correspondence::new(Site::Z, base.config(), donor.config(), None, None).expect_err("another size");
    assert!(error.hint().expect("a hint").contains("--layer-map"), "{error}");
    let error =
        sweep.run(models(&base, Some(Donor::Model(&donor))), std::slice::from_ref(&trial), &mut Collected::default());
    assert!(error.expect_err("another size").to_string().contains("3 layers, the donor 5"));

    let via = Correspondence::new(Site::Z, base.config(), donor.config(), Some(&layers), Some(&heads)).expect("maps");
    let kept = KeptSources::keep(&sweep, &donor, base.config(), &via, [&trial], || ()).expect("kept");
    let grid = run(&sweep, models(&base, Some(Donor::Kept(&kept))), &trial);
    // By hand: layer 1 takes from layer 2, head 3 from head 6.
    let source = trial.source.as_ref().expect("some");
    let (theirs, _) = full_pass(&donor, &source.tokens, &[HookPoint::new(Site::Z, 2)]);
    let z = theirs.get(HookPoint::new(Site::Z, 2)).expect("recorded").get(0).get(-1).get(6);
    let at = HookPoint::new(Site::Z, 1);
    let mut by_hand = Tensor::zeros([1, 1, 4, 8], (Kind::Double, Device::Cpu));
    by_hand.get(0).get(0).get(3).copy_(&z);
    by_hand = by_hand.contiguous();
    let cache = ActivationCache::of_positions(vec![LEN - 1], [(at, by_hand)]);
    let donors = Donors { source: Some((source, &cache)), same_weights: false, moments: None };
    let one = Intervention { at, heads: Some(vec![3]), positions: Positions::Index(vec![-1]), edit: Edit::Patch };
    let context = Context::of_run(&base, 0, "t");
    let mut edits = Edits::bind_in_place((0, &[one]), 1, &trial.base, &donors, &context).expect("binds");
    let _no_grad = tch::no_grad_guard();
    let resid = base.forward(base.embed(&trial.base.tokens), LEN - 1..LEN, &mut &mut edits);
    let logits = base.unembed(&resid, LEN - 1, Some(&[7, 11]), &mut edits).view([-1]);
    edits.finish().expect("reached");
    let edited = logits.double_value(&[0]) - logits.double_value(&[1]);
    let delta = grid.clean[0] - edited;
    assert!((grid.values[0][7] - delta).abs() <= 1e-9 * largest(&grid), "{} {delta}", grid.values[0][7]);
    assert!(delta.abs() > 1e-6);
}

#[test]
fn a_map_fitted_between_equal_models_is_no_map_and_one_between_sizes_is_tested_on_other_prompts() {
    let (base, twin, donor) = (random(3, 4, 8, 1), random(3, 4, 8, 1), random(4, 4, 12, 2));
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let trial = trial(&mut rng, "t");
    let sweep = sweep(Site::Z, &[-1], 3);
    let prompts: Vec<Vec<i64>> = (0..20).map(|_| tokens(&mut rng)).collect();
    let fit = |donor: &Decoder, layers: Option<&LayerMap>, method: Method| {
        let via = Correspondence::new(Site::Z, base.config(), donor.config(), layers, None).expect("a map");
        let all = || prompts.iter().map(|tokens| (tokens.as_slice(), (0..LEN).collect()));
        let theirs = Samples::collect(donor, all(), &sweep.points(), Some(&via));
        let ours = Samples::collect(&base, all(), &sweep.points(), None);
        let held: Vec<bool> = (0..20 * LEN).map(|i| (i / LEN).is_multiple_of(5)).collect();
        let maps = Maps::fit(method, &theirs, &ours, &held).expect("fits");
        let kept = KeptSources::keep(&sweep, donor, base.config(), &via, [&trial], || ()).expect("kept");
        (kept.carried(&maps), maps)
    };
    let within = run(&sweep, models(&base, None), &trial);
    for method in [Method::Procrustes, Method::Ridge(1e-12)] {
        let (kept, maps) = fit(&twin, None, method);
        assert!(maps.r2().all(|(_, r2)| r2.iter().all(|&r2| r2 > 1.0 - 1e-9)), "{method}");
        let across = run(&sweep, models(&base, Some(Donor::Kept(&kept))), &trial);
        assert!(distance(&within, &across) <= 1e-6 * largest(&within), "{method}");
    }
    let (kept, maps) = fit(&donor, Some(&LayerMap::Relative), Method::Ridge(1e-2));
    assert_eq!(maps.n_samples(), (16 * LEN, 4 * LEN));
    let r2: Vec<f64> = maps.r2().flat_map(|(_, r2)| r2).collect();
    // Two random models have nothing in common, which the fitted prompts would not have shown.
    assert!(r2.len() == 12 && r2.iter().all(|r2| *r2 < 0.2), "{r2:?}");
    let across = run(&sweep, models(&base, Some(Donor::Kept(&kept))), &trial);
    assert!(largest(&across) > 1e-6);
}
