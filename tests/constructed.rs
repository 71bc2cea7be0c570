//! A checkpoint whose weights are set by hand (`fixtures/constructed`): patching finds the head that copies the answer with
//! the δ that its weights imply, and nothing at any other head, all of which are live.

use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::site::{Positions, Site};
use interp_core::sweep::{Grid, Models, Sweep};
use interp_core::trial::Trial;

use serde_json::{Value, json};

use crate::common::{fixture, interp, load, trials};

const N_HEADS: usize = 4;
/// `rms_norm_eps` and the width that its mean is over.
const EPS: f64 = 1e-6;
const D_MODEL: f64 = 64.0;
/// Size of the unembedding's codes.
const UNEMBED: f64 = 0.25;

/// The cell of a head.
fn cell(layer: usize, head: usize) -> usize {
    layer * N_HEADS + head
}

fn model(name: &str, pairs: &str) -> (Decoder, Vec<Trial>) {
    let dir = fixture("constructed").join(name);
    let trials = trials(&dir, &fixture("constructed").join(pairs));
    assert_eq!(trials.len(), 40);
    (load(&dir, Dtype::F64), trials)
}

fn sweep(edit: Edit, metrics: Vec<Metric>) -> Sweep {
    Sweep {
        site: Site::Z,
        edit,
        grid: Grid::LayerHead,
        positions: vec![Positions::Index(vec![-1])],
        layers: 0..3,
        heads: None,
        metrics,
        max_rows: None,
        seed: 0,
    }
}

/// δ of every head, `[metric][cell]`, and the metrics of the unedited run.
fn effects(decoder: &Decoder, sweep: &Sweep, trial: &Trial) -> (Vec<Vec<f64>>, Vec<f64>) {
    let axes = sweep.axes(decoder.config(), trial).unwrap();
    let (grid, _) = sweep.trial(Models::of(decoder), &axes, trial).unwrap();
    (grid.values, grid.clean)
}

/// A word's code: a row of the Hadamard matrix of order 16, or its negative.
fn code(token: i64) -> [f64; 16] {
    let word = usize::try_from(token - 4).unwrap();
    let sign = |i: usize| if (i & (word % 16)).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    std::array::from_fn(|i| if word < 16 { sign(i) } else { -sign(i) })
}

/// The factor of a norm over numbers whose squares sum to `squares`.
fn factor(squares: f64) -> f64 {
    (squares / D_MODEL + EPS).powf(-0.5)
}

/// What the formulas of `generate.py` say of one prompt, when its copying heads write `writes`, words times factors, into
/// OUT, and `others` heads of the last layer write half their norm's factor each.
fn logit_diff(writes: &[(f64, i64)], others: f64, correct: i64, incorrect: i64) -> f64 {
    let r0 = factor(32.0);
    let s1 = 32.0 + r0.powi(2) + 3.0 * (r0 / 2.0).powi(2);
    let r1 = factor(s1);
    let s2 = s1 + (r0 * r1).powi(2) + 3.0 * (r1 / 2.0).powi(2);
    let r2 = factor(s2);
    let mut out = [0.0; 16];
    for (size, word) in writes {
        out.iter_mut().zip(code(*word)).for_each(|(out, x)| *out += r2 * size * x);
    }
    let dot = |a: &[f64; 16], b: &[f64; 16]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let rf = factor(s2 + dot(&out, &out) + others * (r2 / 2.0).powi(2));
    rf * UNEMBED * (dot(&out, &code(correct)) - dot(&out, &code(incorrect)))
}

/// The words of the query as the prompt has them.
fn query(trial: &Trial) -> [i64; 2] {
    let tokens = &trial.base.tokens;
    [tokens[tokens.len() - 4], tokens[tokens.len() - 2]]
}

fn rule(trial: &Trial) -> &str {
    trial.direction.as_deref().unwrap()
}

/// Errs are relative: δ is between 3 and 30 here.
fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{what}: {found} instead of {expected}");
}

#[test]
fn patching_finds_the_copying_head_and_nothing_else() {
    let (decoder, trials) = model("symmetric", "token-pairs.jsonl");
    let sweep = sweep(Edit::Patch, vec![Metric::LogitDiff, Metric::Acc]);
    let mut sizes = Vec::new();
    for trial in &trials {
        let (delta, clean) = effects(&decoder, &sweep, trial);
        let (correct, incorrect) = (trial.target.correct, trial.target.incorrect.unwrap());
        // The rule decides which of the two words is right, and the model knows.
        assert_eq!((query(trial)[usize::from(rule(trial) == "ABB")], clean[1]), (correct, 1.0), "{}", trial.id);
        let analytic = |copied| logit_diff(&[(1.0, copied)], 3.0, correct, incorrect);
        close(clean[0], analytic(correct), "unedited");
        let expected = analytic(correct) - analytic(incorrect);
        close(expected, 2.0 * analytic(correct), "the closed form of generate.py");
        close(delta[0][cell(2, 2)], expected, &trial.id);
        sizes.push(expected);
        for (other, delta) in delta[0].iter().enumerate().filter(|(other, _)| *other != cell(2, 2)) {
            assert!(delta.abs() <= 1e-12, "{}: δ of cell {other} is {delta}", trial.id);
        }
    }
    let (least, most) = (sizes.iter().copied().fold(f64::MAX, f64::min), sizes.iter().copied().fold(0.0, f64::max));
    println!("constructed: δ of L2.H2 {least:.6} to {most:.6}, as computed; |δ| of all others at most 1e-12");
}

/// One head per stage of Yang et al. (ICML 2025), by the same δ.
#[test]
fn abstract_pairs_find_the_heads_that_match_and_that_carry_the_rule() {
    let (decoder, trials) = model("symmetric", "abstract-pairs.jsonl");
    for (positions, head) in [("span:third", cell(0, 2)), ("last", cell(1, 0))] {
        let mut sweep = sweep(Edit::Patch, vec![Metric::LogitDiff, Metric::Acc]);
        sweep.positions = vec![positions.parse().unwrap()];
        for trial in &trials {
            let (delta, clean) = effects(&decoder, &sweep, trial);
            let (correct, incorrect) = (trial.target.correct, trial.target.incorrect.unwrap());
            assert_eq!((trial.source_answer, clean[1]), (Some(correct), 1.0), "{}", trial.id);
            let analytic = |copied| logit_diff(&[(1.0, copied)], 3.0, correct, incorrect);
            close(delta[0][head], analytic(correct) - analytic(incorrect), &format!("{} {positions}", trial.id));
            for (other, delta) in delta[0].iter().enumerate().filter(|(other, _)| *other != head) {
                assert!(delta.abs() <= 1e-12, "{} {positions}: δ of cell {other} is {delta}", trial.id);
            }
        }
    }
}

#[test]
fn every_head_is_live() {
    for (name, least) in [("symmetric", 1e-3), ("asymmetric", 1e-3)] {
        let (decoder, trials) = model(name, "token-pairs.jsonl");
        let sweep = sweep(Edit::Zero, vec![Metric::Logit, Metric::LogProb]);
        for trial in &trials[..4] {
            let (delta, _) = effects(&decoder, &sweep, trial);
            for (cell, delta) in delta[0].iter().enumerate() {
                assert!(delta.abs() > least, "{name} {}: zeroing cell {cell} changes the logit by {delta}", trial.id);
            }
        }
    }
}

#[test]
fn signs_and_directions_are_those_of_the_weights() {
    let (decoder, trials) = model("asymmetric", "token-pairs.jsonl");
    let sweep = sweep(Edit::Patch, vec![Metric::LogitDiff]);
    for trial in &trials {
        let (delta, clean) = effects(&decoder, &sweep, trial);
        let (correct, incorrect) = (trial.target.correct, trial.target.incorrect.unwrap());
        let [first, second] = query(trial);
        // What L2.H2, L2.H3 and L2.H1 write, each from the base prompt or, patched, from the source with swapped words.
        let analytic = |patched: usize| {
            let copied = |head: usize| if head == patched { incorrect } else { correct };
            let always = if patched == 1 { second } else { first };
            logit_diff(&[(1.0, copied(2)), (-0.5, copied(3)), (0.25, always)], 1.0, correct, incorrect)
        };
        close(clean[0], analytic(0), "unedited");
        for head in [1, 2, 3] {
            close(delta[0][cell(2, head)], analytic(0) - analytic(head), &format!("{} L2.H{head}", trial.id));
        }
        for (other, delta) in delta[0].iter().enumerate().filter(|(other, _)| *other <= cell(2, 0)) {
            assert!(delta.abs() <= 1e-12, "{}: δ of cell {other} is {delta}", trial.id);
        }
        let [always, copies, against] = [1, 2, 3].map(|head| delta[0][cell(2, head)]);
        assert!(copies > 0.0 && against < 0.0, "{}: {copies} {against}", trial.id);
        assert_eq!(always > 0.0, rule(trial) == "ABA", "{}: {always}", trial.id);
    }
    // The two directions of one draw differ in every head that carries a word.
    for pair in trials.chunks(2) {
        let [aba, abb] = [0, 1].map(|i| effects(&decoder, &sweep, &pair[i]).0.swap_remove(0));
        assert_eq!((rule(&pair[0]), rule(&pair[1])), ("ABA", "ABB"));
        for head in [1, 2, 3] {
            assert!((aba[cell(2, head)] - abb[cell(2, head)]).abs() > 0.1, "{} L2.H{head}", pair[0].id);
        }
    }
}

#[test]
fn the_study_names_the_head_of_each_stage_and_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let words = "study symbolic --threads 1 --no-floor --dtype f64 --shots 4 --draws 20 --json --model {} --out {}";
    let said = interp(words, &[&fixture("constructed/symmetric"), &temp.path().join("study")]);
    assert_eq!(said.code, 0, "{}", said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    for (stage, head) in [("symbol-abstraction", "L0.H2"), ("symbolic-induction", "L1.H0"), ("retrieval", "L2.H2")] {
        let stage = &found["stages"][stage];
        assert_eq!((&stage["n_significant"], &stage["heads"][0]["label"]), (&json!(1), &json!(head)), "{stage:#}");
        assert_eq!(stage["heads"][0]["significant"], json!(true));
    }
}
