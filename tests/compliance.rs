//! Procedural compliance without a model: answers read, cases read and cleaned, and metrics of predictors that can be worked out
//! by hand.

mod answer;
mod clean;
mod compare;
mod metrics;
mod read;

use interp_core::compliance::answer::Source;
use interp_core::compliance::metrics::Judged;
use interp_core::compliance::{Answer, Gold, Meta, Pair, PairKind, Perturbation, Record, Verdict};

use Gold::{Compliant as C, NonCompliant as N};
use Perturbation::*;

/// The eleven cases of a process: name, how made, label, what the scenario says. Five are compliant and six are not. `skipped`
/// stands in the plain violation, and in a compliant case that only sounds like one.
pub const CASES: [(&str, Perturbation, Gold, &str); 11] = [
    ("base", BaselineCompliant, C, "showed the badge, then opened the door"),
    ("plain", BaselineNoncompliant, N, "skipped the badge and opened the door"),
    ("para", LexicalParaphrase, C, "presented the badge and afterwards unlocked the door"),
    ("order", StepReorderInvalid, N, "opened the door, then showed the badge"),
    ("omit", PrerequisiteOmission, N, "opened the door"),
    ("rank", HierarchyViolation, N, "had a guest show the badge, then opened the door"),
    ("honoured", ExceptionTrigger, C, "heard the alarm and opened the door at once"),
    ("ignored", ExceptionTrigger, N, "heard the alarm, showed the badge, then opened the door"),
    ("filler", DistractorInjection, C, "hummed, showed the badge, then opened the door"),
    ("alarming", AdversarialSurfaceCompliant, C, "skipped lunch, showed the badge, then opened the door"),
    ("smooth", AdversarialSurfaceNoncompliant, N, "per protocol opened the door, as required"),
];

/// The cases of `n` processes, `p0-base`, `p0-plain`, …
pub fn corpus(n: usize) -> Vec<Record> {
    let process = |p: usize| {
        CASES.map(|(name, perturbation, gold, scenario)| Record {
            id: format!("p{p}-{name}"),
            process_id: format!("p{p}"),
            cohort: if p.is_multiple_of(2) { "fresh" } else { "processes" }.into(),
            source: "here".into(),
            domain: "doors".into(),
            perturbation,
            parent_id: (name != "base").then(|| format!("p{p}-base")),
            procedure: format!("1. Show the badge. 2. Open door {p}. In an alarm open it at once."),
            scenario: format!("At door {p} the guard {scenario}."),
            question: "Was the procedure kept?".into(),
            gold,
            admit: true,
            meta: Meta::default(),
        })
    };
    (0..n).flat_map(process).collect()
}

/// Per process two flip pairs, an anchor pair of either label, a swap that flips and one that does not.
pub fn pairs(n: usize) -> Vec<Pair> {
    let kinds = [
        (PairKind::Flip, "base", "plain"),
        (PairKind::Flip, "honoured", "ignored"),
        (PairKind::Anchor, "base", "para"),
        (PairKind::Anchor, "plain", "omit"),
        (PairKind::Swap, "base", "order"),
        (PairKind::Swap, "base", "filler"),
    ];
    let process = |p: usize| kinds.map(|(kind, a, b)| Pair { kind, a: format!("p{p}-{a}"), b: format!("p{p}-{b}") });
    (0..n).flat_map(process).collect()
}

/// An answer that says this, as it would be read from a text.
pub fn answer(gold: Option<Gold>) -> Answer {
    let verdict = match gold {
        Some(C) => Verdict::Compliant,
        Some(N) => Verdict::NonCompliant,
        None => Verdict::Neither,
    };
    Answer { verdict, source: Source::FinalAnswer, at: gold.map(|_| 0), doubtful: false, truncated: gold.is_none() }
}

/// Every case with what a predictor says of it.
pub fn judged(records: &[Record], predictor: impl Fn(&Record) -> Option<Gold>) -> Vec<Judged<'_>> {
    let judge = |record| {
        let gold = predictor(record);
        Judged { record, answer: answer(gold), reasoning: gold.map(|_| record.scenario.len()) }
    };
    records.iter().map(judge).collect()
}

/// Knows the label.
pub fn perfect(record: &Record) -> Option<Gold> {
    Some(record.gold)
}

/// Says one thing.
pub fn always_compliant(_: &Record) -> Option<Gold> {
    Some(C)
}

/// Looks for a word that sounds like a violation.
pub fn keyword(record: &Record) -> Option<Gold> {
    Some(if record.scenario.contains("skipped") { N } else { C })
}
