//! What is in a corpus, counted.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::clean::leakage;
use super::corpus::{Attempts, Corpus};
use super::record::{Gold, Pair, PairKind, Perturbation, Record};

/// Cases of one cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Part of the corpus.
    pub cohort: String,
    /// How they were made.
    pub perturbation: Perturbation,
    /// Those that are compliant.
    pub compliant: usize,
    /// Those that are not.
    pub non_compliant: usize,
}

/// Cases per cohort and perturbation, in the order of both.
pub fn cells<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Cell> {
    let mut counts: BTreeMap<(String, Perturbation), [usize; 2]> = BTreeMap::new();
    for record in records {
        counts.entry((record.cohort.clone(), record.perturbation)).or_default()[record.gold as usize] += 1;
    }
    let cells = counts.into_iter().map(|((cohort, perturbation), n)| {
        let [compliant, non_compliant] = n;
        Cell { cohort, perturbation, compliant, non_compliant }
    });
    cells.collect()
}

/// Share of attempts that were admitted, where something could be edited at all.
pub fn acceptance(attempts: &Attempts) -> Option<f64> {
    let rejected: usize = attempts.rejected.values().sum();
    (attempts.admitted + rejected > 0).then(|| attempts.admitted as f64 / (attempts.admitted + rejected) as f64)
}

/// Pairs by kind; swaps apart by whether they flip the label. Pairs of unknown cases are not counted.
pub fn pair_counts(records: &[Record], pairs: &[Pair]) -> BTreeMap<String, usize> {
    let gold: BTreeMap<&str, Gold> = records.iter().map(|record| (record.id.as_str(), record.gold)).collect();
    let mut counts = BTreeMap::new();
    for pair in pairs {
        let (Some(a), Some(b)) = (gold.get(pair.a.as_str()), gold.get(pair.b.as_str())) else { continue };
        let name = match pair.kind {
            PairKind::Flip => "flip",
            PairKind::Anchor => "anchor",
            PairKind::Swap if a == b => "swap that keeps the label",
            PairKind::Swap => "swap that flips the label",
        };
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// What each held-out cohort shares with training, counted.
pub fn leaks(train: &[Record], held_out: &[Record]) -> Value {
    let mut cohorts: Vec<&str> = held_out.iter().map(|record| record.cohort.as_str()).collect();
    cohorts.sort_unstable();
    cohorts.dedup();
    let one = |cohort: &&str| {
        let leakage = leakage(train, held_out.iter().filter(|record| record.cohort == *cohort));
        json!({
            "cohort": cohort,
            "cases": leakage.test,
            "same_instance": leakage.instances.len(),
            "near_duplicate": leakage.near.len(),
            "known_process": leakage.of_known_process,
        })
    };
    cohorts.iter().map(one).collect()
}

/// Everything of the above, as `report.json` has it.
pub fn report(corpus: &Corpus) -> Value {
    let attempts: BTreeMap<&str, Value> = corpus
        .attempts
        .iter()
        .map(|(perturbation, one)| {
            let mut value = json!(one);
            value["acceptance"] = json!(acceptance(one));
            (perturbation.name(), value)
        })
        .collect();
    json!({
        "n_train": corpus.train.len(),
        "n_test": corpus.test.len(),
        "cells": cells(corpus.train.iter().chain(&corpus.test)),
        "pairs": pair_counts(&corpus.test, &corpus.pairs),
        "attempts": attempts,
        "leakage": leaks(&corpus.train, &corpus.test),
    })
}
