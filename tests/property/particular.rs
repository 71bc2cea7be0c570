//! Questions that chance seldom asks: attention in chunks, cells beyond each other's window in one wave, patches within an
//! equal beginning.

use interp_core::cache::CleanRun;
use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::hooks::Hooks;
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention};
use interp_core::metric::Metric;
use interp_core::site::{HeadRef, HookPoint, Positions, Site};
use interp_core::sweep::{Grid, HeadSet, Models, Sweep};
use interp_core::trial::{Target, Trial};
use tch::Tensor;

use super::check::{Check, Tally, answer};
use super::model::{Folder, Geometry, Scaling, VOCAB};
use super::question::Question;
use crate::common::{load, prompt, tiny};

/// Tokens that repeat late.
fn tokens(n: usize, shift: i64) -> Vec<i64> {
    (0..n as i64).map(|i| (i * i * 7 + i * 3 + shift) % VOCAB).collect()
}

fn question(site: Site, edit: Edit, grid: Grid, positions: Vec<Positions>, n_layers: usize) -> Question {
    let trial = Trial {
        id: "t0".into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 7, incorrect: Some(11) },
        base: prompt(&tokens(24, 0)),
        source: Some(prompt(&tokens(24, 5))),
    };
    let metrics = vec![Metric::LogitDiff, Metric::LogProb, Metric::Kl];
    let sweep =
        Sweep { site, edit, grid, positions, layers: 0..n_layers, heads: None, metrics, max_rows: None, seed: 3 };
    Question { trial, sweep, others: Vec::new() }
}

/// Holds the engine to the reference in f64.
fn hold(question: &Question, decoder: &Decoder) {
    let tally = Tally::default();
    let check = Check { question, reference: decoder, tolerance: 1e-9, tally: &tally };
    check.of(decoder).unwrap_or_else(|error| panic!("{} {:?}: {error}", question.sweep.site, question.sweep.edit));
    tally.require(&["answered"]);
}

/// A model whose every layer sees the last three positions only.
fn short_sighted() -> Folder {
    let geometry = Geometry {
        family: "mistral",
        n_layers: 4,
        n_kv_heads: 2,
        group: 3,
        d_head: 6,
        d_model: 22,
        d_mlp: 31,
        tied: false,
        biases: [false; 2],
        window: Some(3),
        slides: vec![true; 4],
        theta: 1e4,
        scaling: Scaling::None,
        seed: 9,
    };
    geometry.write()
}

/// Counts the chunks in which attention is visited at one point.
struct Chunks {
    at: HookPoint,
    first_positions: Vec<usize>,
}

impl Hooks for Chunks {
    fn wants(&self, at: HookPoint) -> bool {
        at == self.at
    }

    fn visit(&mut self, _: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        self.first_positions.push(first_pos);
        act
    }
}

/// Chunks of layer 1's destinations when all heads of layer 0 are edited in one wave, or none. Watching makes that layer's
/// attention run whole, as an edit inside it does.
fn chunks(question: &Question, decoder: &Decoder, edited: bool) -> usize {
    let _no_grad = tch::no_grad_guard();
    let prompt = &question.trial.base;
    let n_heads = if edited { decoder.config().n_heads } else { 0 };
    let one = |head| Intervention {
        at: HookPoint::new(question.sweep.site, 0),
        heads: Some(vec![head]),
        positions: Positions::All,
        edit: question.sweep.edit.clone(),
    };
    let sets: Vec<[Intervention; 1]> = (0..n_heads).map(|head| [one(head)]).collect();
    let cells: Vec<(usize, &[Intervention])> = sets.iter().enumerate().map(|(i, set)| (i, &set[..])).collect();
    let context = Context::of_run(decoder, 0, "t0");
    let edits = Edits::bind(&cells, prompt, &Donors::default(), &context).expect("binds");
    let clean = CleanRun::new(decoder, &prompt.tokens, [], [], 0);
    let past = clean.past().before(0);
    let start = clean.resume(decoder, 0, 0, &past);
    let last = prompt.tokens.len() - 1;
    let mut hooks = (edits, Chunks { at: HookPoint::new(Site::Scores, 1), first_positions: Vec::new() });
    let _ = decoder.forward(start, last..last + 1, &mut hooks);
    hooks.0.finish().expect("every edit fired");
    let first = hooks.1.first_positions;
    assert!(first.first() == Some(&0) && first.is_sorted_by(|a, b| a < b), "{first:?}");
    first.len()
}

#[test]
fn attention_in_chunks_of_destinations_is_attention() {
    for (family, site, edit) in [
        ("qwen2-window", Site::Q, Edit::Zero),
        ("llama", Site::Pattern, Edit::Scale(0.25)),
        ("mistral", Site::Scores, Edit::UniformAttention),
    ] {
        let decoder = load(&tiny(family), Dtype::F64);
        let mut question = question(site, edit, Grid::LayerHead, vec![Positions::All], 3);
        question.trial.base = prompt(&tokens(400, 0));
        question.trial.source = None;
        // 7 rows of 6 heads over 400 keys are more scores than one chunk holds; 1 row, as the reference has, is less.
        assert!(chunks(&question, &decoder, true) > 1, "{family}: the wave is not chunked");
        assert_eq!(chunks(&question, &decoder, false), 1, "{family}: the reference is chunked");
        hold(&question, &decoder);
    }
}

#[test]
fn positions_beyond_each_others_window_share_a_wave() {
    let decoder = short_sighted().load(Dtype::F64);
    let heads = (0..4).map(|layer| HeadRef { layer, head: layer % 2 }).collect();
    let set = Grid::Sets(vec![HeadSet { name: "one per layer".into(), heads }]);
    for edit in [Edit::Zero, Edit::Patch] {
        for site in [Site::ResidPre, Site::K, Site::V, Site::Scores, Site::ResidPost] {
            hold(&question(site, edit.clone(), Grid::LayerPos, vec![Positions::All], 4), &decoder);
        }
        // The first position is out of sight of the last, but for the layers between.
        for site in [Site::K, Site::V, Site::KCopy, Site::Z] {
            hold(&question(site, edit.clone(), set.clone(), vec![Positions::Index(vec![16, 20, 23])], 4), &decoder);
        }
    }
}

/// Prompts that are equal throughout, with a span at some positions in base and at others in the source.
fn shifted(question: &mut Question, base: &[usize], source: &[usize]) {
    let ranges = |positions: &[usize]| positions.iter().map(|&pos| pos..pos + 1).collect();
    let donor = question.trial.source.as_mut().expect("a source");
    donor.tokens.clone_from(&question.trial.base.tokens);
    donor.spans.insert("s".into(), ranges(source));
    question.trial.base.spans.insert("s".into(), ranges(base));
}

#[test]
fn a_patch_of_equal_activations_takes_back_what_its_set_changed_before() {
    let decoder = load(&tiny("qwen2"), Dtype::F64);
    let heads = |list: &[(usize, usize)]| list.iter().map(|&(layer, head)| HeadRef { layer, head }).collect();
    // Position 3 gets what position 2 of the source has; position 20 gets its own clean value back, in layers above too.
    let sets = [("below", heads(&[(0, 1)])), ("both", heads(&[(0, 1), (1, 0), (1, 4)]))];
    let sets = sets.map(|(name, heads)| HeadSet { name: name.into(), heads });
    let span = vec![Positions::Span("s".into())];
    let mut question = question(Site::Z, Edit::Patch, Grid::Sets(sets.to_vec()), span, 3);
    let both = |question: &Question| answer(question, Models::of(&decoder)).expect("runs").values[0][1];
    shifted(&mut question, &[3], &[2]);
    let without = both(&question);
    shifted(&mut question, &[3, 20], &[2, 20]);
    let with = both(&question);
    assert!((with - without).abs() > 1e-3 * with.abs(), "position 20 makes no difference: {with:e}, {without:e}");
    hold(&question, &decoder);
}

#[test]
fn scores_of_keys_that_a_position_does_not_see_are_refused() {
    let decoder = short_sighted().load(Dtype::F64);
    let mut question = question(Site::Scores, Edit::Patch, Grid::LayerHead, vec![Positions::Span("s".into())], 4);
    shifted(&mut question, &[3, 20], &[2, 20]);
    hold(&question, &decoder);
    shifted(&mut question, &[5, 20], &[2, 20]);
    let error = answer(&question, Models::of(&decoder)).expect_err("nothing to attend to");
    assert_eq!(error.to_string(), "edit `patch`: t0: position 5 sees nothing that position 2 of the source does");
}
