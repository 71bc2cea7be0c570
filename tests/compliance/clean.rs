//! Cleaning and leakage on cases made for it.

use interp_core::compliance::clean::{Dropped, Instance, cleaned, key, leakage};
use interp_core::compliance::{Perturbation, Record};

use super::corpus;

fn ids(records: &[Record], kept: &[usize]) -> Vec<String> {
    kept.iter().map(|&place| records[place].id.clone()).collect()
}

#[test]
fn the_same_case_has_one_key() {
    let one = &corpus(1)[0];
    let with = |procedure: &str| key(&Record { procedure: procedure.into(), ..one.clone() });
    let plain = with("1. Find 5 files.");
    // Case, white space of any kind, a ligature, a full-width digit, another id.
    assert_eq!(plain, with("1. FIND\u{a0}\u{ff15}\n\n \u{fb01}les. "));
    assert_eq!(key(one), key(&Record { id: "other".into(), gold: one.gold.other(), ..one.clone() }));
    assert_ne!(plain, with("1. Find 6 files."));
    // A word that moves over the border makes another case.
    let moved = |procedure: &str, scenario: &str| {
        key(&Record { procedure: procedure.into(), scenario: scenario.into(), ..one.clone() })
    };
    assert_ne!(moved("a b", "c"), moved("a", "b c"));
    // `printf 'a ␞ b ␞ c' | sha256sum`
    let short = Record { procedure: "A".into(), scenario: " b".into(), question: "C ".into(), ..one.clone() };
    let hex: String = key(&short).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba2d791ed79724f95b1c48f1192f794ee9b3df1532193893dea229f51aa83680");
}

#[test]
fn the_first_of_equals_is_kept_and_reasons_are_counted() {
    let base = corpus(1)[0].clone();
    let case = |id: &str, cohort: &str, scenario: &str, admit: bool| Record {
        id: id.into(),
        cohort: cohort.into(),
        scenario: scenario.into(),
        admit,
        ..base.clone()
    };
    let mut records = vec![
        case("a", "late", "one", true),
        case("z", "early", "ONE", true),
        case("y", "early", "one ", true),
        case("m", "nowhere", "one", true),
        case("b", "early", "two", false),
        case("c", "late", "two", true),
        case("d", "late", "three", true),
    ];
    records[6].perturbation = Perturbation::PrerequisiteOmission;
    let omitted = |record: &Record| record.perturbation == Perturbation::PrerequisiteOmission;
    let found = cleaned(&records, &["early", "late"], omitted);
    // y is before z; b was not admitted, so that it cannot stand for c.
    assert_eq!(ids(&records, &found.kept), ["y", "c"]);
    assert_eq!(found.dropped, Dropped { not_admitted: 1, unobservable: 1, duplicate: 3 });
    let other = cleaned(&records, &["late"], |_| false);
    assert_eq!(ids(&records, &other.kept), ["a", "c", "d"]);
    let none = cleaned(&[], &[], |_| false);
    assert_eq!((none.kept.len(), none.dropped), (0, Dropped::default()));
}

#[test]
fn leakage_at_three_levels() {
    let train = corpus(3);
    let words = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<String>>().join(" ");
    let mut train = train[..].to_vec();
    train[0].scenario = words(24);
    let new = |id: &str, process: &str, procedure: &str, scenario: &str| Record {
        id: id.into(),
        process_id: process.into(),
        procedure: procedure.into(),
        scenario: scenario.into(),
        ..train[0].clone()
    };
    let test = [
        Record { id: "same".into(), scenario: train[5].scenario.to_uppercase(), ..train[5].clone() },
        // 22 words have 18 shingles of the 20 of 24 words.
        new("near", "q0", "New.", &words(22)),
        new("known", "p1", "New.", "nothing like it"),
        new("copied", "q1", &train[30].procedure, "nothing like that"),
        new("new", "q2", "Quite new.", "nothing like this"),
    ];
    let found = leakage(&train, &test);
    assert_eq!((found.train, found.test), (33, 5));
    assert_eq!(found.instances, [Instance { test: "same".into(), train: train[5].id.clone() }]);
    let near: Vec<(&str, &str, f64)> = found.near.iter().map(|one| (&*one.test, &*one.train, one.jaccard)).collect();
    assert_eq!(near, [("same", "p0-rank", 1.0), ("near", "p0-base", 0.9)]);
    // same, known, and copied by its procedure alone.
    assert_eq!((found.of_known_process, found.processes), (3, vec!["p0".into(), "p1".into()]));
    let nothing = leakage(&train, &test[4..]);
    assert_eq!((nothing.instances.len(), nothing.near.len(), nothing.of_known_process), (0, 0, 0));
}
