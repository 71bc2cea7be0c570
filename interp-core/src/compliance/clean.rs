//! Which cases count: the same case once, none that failed its test, and none that a model has met in training.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::record::Record;
use super::shingles;

static NFKC: LazyLock<ComposingNormalizerBorrowed<'static>> = LazyLock::new(|| ComposingNormalizer::new_nfkc());

/// The cleaned part of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// Places of the cases that are kept, in the corpus's order.
    pub kept: Vec<usize>,
    /// How many are not, and why.
    pub dropped: Dropped,
}

/// Cases that are left out, each by the first reason that applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// `admit` is false: an acceptance test, or a guard, refused them.
    pub not_admitted: usize,
    /// What they omit cannot be observed, as the caller says.
    pub unobservable: usize,
    /// The same as another case that is kept.
    pub duplicate: usize,
}

/// What a test set shares with a training set, at three levels. Each test case counts once per level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leakage {
    /// Number of training cases.
    pub train: usize,
    /// Number of test cases.
    pub test: usize,
    /// Test cases that are training cases, by [`key`].
    pub instances: Vec<Instance>,
    /// Test cases with a scenario that is nearly one of training: Jaccard similarity of word 5-grams at least 0.8.
    pub near: Vec<Near>,
    /// Test cases of a process, or with a procedure, that training has.
    pub of_known_process: usize,
    /// The processes that both have by name.
    pub processes: Vec<String>,
}

/// A test case and the training case that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Id of the test case.
    pub test: String,
    /// Id of the first such training case.
    pub train: String,
}

/// A test case and the training case with the most similar scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Near {
    /// Id of the test case.
    pub test: String,
    /// Id of the training case; the first of equals.
    pub train: String,
    /// Jaccard similarity of their scenarios' word 5-grams.
    pub jaccard: f64,
}

/// SHA-256 of `procedure ␞ scenario ␞ question` with NFKC, lower case and single spaces: two cases with one key are the same case.
pub fn key(record: &Record) -> [u8; 32] {
    digest(&format!("{} ␞ {} ␞ {}", record.procedure, record.scenario, record.question))
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(normal(text)).into()
}

fn normal(text: &str) -> String {
    NFKC.normalize(text).to_lowercase().split_whitespace().collect::<Vec<&str>>().join(" ")
}

/// Leaves out what was not admitted, what `unobservable` says omits something that nobody could have seen, and all but the first of
/// cases with one key. The first is that of the cohort that comes first in `cohorts` (others follow), then by id.
pub fn cleaned(records: &[Record], cohorts: &[&str], unobservable: impl Fn(&Record) -> bool) -> Cleaned {
    let mut dropped = Dropped::default();
    let mut order = Vec::with_capacity(records.len());
    for (place, record) in records.iter().enumerate() {
        if !record.admit {
            dropped.not_admitted += 1;
        } else if unobservable(record) {
            dropped.unobservable += 1;
        } else {
            order.push(place);
        }
    }
    let priority = |record: &Record| {
        let rank = cohorts.iter().position(|cohort| *cohort == record.cohort);
        (rank.unwrap_or(cohorts.len()), record.id.clone())
    };
    order.sort_by_cached_key(|&place| priority(&records[place]));
    let mut seen = HashSet::new();
    let mut kept: Vec<usize> = order.into_iter().filter(|&place| seen.insert(key(&records[place]))).collect();
    kept.sort_unstable();
    dropped.duplicate = records.len() - kept.len() - dropped.not_admitted - dropped.unobservable;
    Cleaned { kept, dropped }
}

/// What `test` shares with `train`. Only the first level must be empty: whether processes may be shared depends on what the
/// test cases are for.
pub fn leakage<'a>(train: impl IntoIterator<Item = &'a Record>, test: impl IntoIterator<Item = &'a Record>) -> Leakage {
    let (train, test): (Vec<&Record>, Vec<&Record>) = (train.into_iter().collect(), test.into_iter().collect());
    let mut keys: HashMap<[u8; 32], &str> = HashMap::new();
    train.iter().for_each(|one| {
        keys.entry(key(one)).or_insert(&one.id);
    });
    let same = |one: &&Record| keys.get(&key(one)).map(|id| Instance { test: one.id.clone(), train: (*id).into() });
    let scenarios = |records: &[&Record]| records.iter().map(|one| normal(&one.scenario)).collect::<Vec<String>>();
    let nearest = shingles::nearest(&scenarios(&train), &scenarios(&test));
    let near = nearest.into_iter().zip(&test).filter_map(|(nearest, one)| {
        let (place, jaccard) = nearest?;
        Some(Near { test: one.id.clone(), train: train[place].id.clone(), jaccard })
    });
    let known: HashSet<&str> = train.iter().map(|one| &*one.process_id).collect();
    let procedures: HashSet<[u8; 32]> = train.iter().map(|one| digest(&one.procedure)).collect();
    let is_known = |one: &&&Record| known.contains(&*one.process_id) || procedures.contains(&digest(&one.procedure));
    let mut processes: Vec<String> =
        test.iter().map(|one| &one.process_id).filter(|id| known.contains(&***id)).cloned().collect();
    processes.sort_unstable();
    processes.dedup();
    Leakage {
        train: train.len(),
        test: test.len(),
        instances: test.iter().filter_map(same).collect(),
        near: near.collect(),
        of_known_process: test.iter().filter(is_known).count(),
        processes,
    }
}
