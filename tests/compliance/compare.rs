//! Two scripted predictors on the same cases, worked out by hand.

use interp_core::compliance::metrics::{
    By, Comparison, Delta, DeltaRow, Judged, PairMetric, bootstrap, ceilings, compare, compare_pairs,
};
use interp_core::compliance::{Gold, Record, other_procedures};

use super::{answer, corpus, judged, keyword, pairs, perfect};

fn row<'a>(compared: &'a Comparison, by: By, value: &str) -> &'a DeltaRow {
    compared.rows.iter().find(|row| row.by == by && row.value == value).expect("a row")
}

#[test]
fn perfect_beside_keywords() {
    let records = corpus(4);
    let (knows, looks) = (judged(&records, perfect), judged(&records, keyword));
    let compared = compare(&knows, &looks, &bootstrap(0)).unwrap();
    let all = row(&compared, By::All, "all").delta;
    assert_eq!((all.n, all.processes, all.only_first, all.only_second), (44, 4, 24, 0));
    assert_eq!((all.shares, all.delta), (Some([1.0, 20.0 / 44.0]), Some(24.0 / 44.0)));
    // Every process has the same 6 of 11, so that resampling changes nothing but the last digit.
    assert!(all.ci.unwrap().iter().all(|end| (end - 24.0 / 44.0).abs() < 1e-15), "{all:?}");
    assert!((all.mcnemar_p - 2.0 * 0.5f64.powi(24)).abs() < 1e-20, "{}", all.mcnemar_p);
    assert!(all.equivalence.is_some_and(|found| !found.holds && (found.level - 0.9).abs() < 1e-12), "{all:?}");
    let order = row(&compared, By::Perturbation, "step_reorder_invalid").delta;
    assert_eq!((order.delta, order.ci, order.mcnemar_p), (Some(1.0), Some([1.0, 1.0]), 0.125));
    assert_eq!(row(&compared, By::Perturbation, "baseline_compliant").delta.delta, Some(0.0));
    // Gaps of 0 and 0 less gaps of 1 and 1.
    assert_eq!((compared.gaps.surface.value, compared.gaps.order.value), (Some(-1.0), Some(-1.0)));
    assert_eq!((compared.reasoning.value, compared.reasoning.n), (Some(0.0), 44));

    let turned = compare(&looks, &knows, &bootstrap(0)).unwrap();
    let back = row(&turned, By::All, "all").delta;
    assert_eq!((back.delta, back.only_first, back.only_second), (Some(-24.0 / 44.0), 0, 24));
    assert_eq!(back.mcnemar_p, all.mcnemar_p);

    let by_pairs = compare_pairs(&pairs(4), &knows, &looks, &bootstrap(0)).unwrap();
    let follow = by_pairs.iter().find(|row| row.metric == PairMetric::FollowRate).expect("a row").delta;
    assert_eq!((follow.n, follow.shares, follow.delta), (4, Some([1.0, 0.0]), Some(1.0)));
    let flips = by_pairs[0].delta;
    assert_eq!((flips.n, flips.delta, flips.only_first), (8, Some(0.5), 4));
}

#[test]
fn processes_are_resampled_whole() {
    // Right throughout in one process of two: resampled differences are 0, 1/2 or 1.
    let records = corpus(2);
    let half = |record: &Record| Some(if record.process_id == "p0" { record.gold } else { record.gold.other() });
    let none = |record: &Record| Some(record.gold.other());
    let delta = Delta::between(&judged(&records, half), &judged(&records, none), &bootstrap(0)).unwrap();
    assert_eq!((delta.delta, delta.ci, delta.only_first), (Some(0.5), Some([0.0, 1.0]), 11));
    assert_eq!(delta.equivalence.unwrap().interval, [0.0, 1.0]);
}

#[test]
fn what_is_the_same_is_equivalent() {
    let records = corpus(40);
    let all = judged(&records, perfect);
    // One case of the first process differs: 1 of 440, and at most a few times that in any resample.
    let but_one = judged(&records, |one| Some(if one.id == "p0-base" { Gold::NonCompliant } else { one.gold }));
    let delta = Delta::between(&all, &but_one, &bootstrap(0)).unwrap();
    let found = delta.equivalence.unwrap();
    assert!(found.holds && found.interval[0] == 0.0 && found.interval[1] <= 4.0 / 440.0, "{found:?}");
    assert_eq!((delta.only_first, delta.mcnemar_p, found.margin), (1, 1.0, 0.05));
    let same = Delta::between(&all, &all, &bootstrap(0)).unwrap();
    assert_eq!((same.delta, same.ci, same.mcnemar_p), (Some(0.0), Some([0.0, 0.0]), 1.0));
    // A difference of exactly the margin is not within it.
    let twentieth = corpus(20);
    let one_less = |record: &Record| {
        let spoiled = record.id.ends_with("base") && record.process_id == "p0";
        Some(if spoiled { record.gold.other() } else { record.gold })
    };
    let bases: Vec<Record> = twentieth.into_iter().filter(|record| record.id.ends_with("base")).collect();
    let wide = Delta::between(&judged(&bases, perfect), &judged(&bases, one_less), &bootstrap(0)).unwrap();
    assert_eq!(wide.delta, Some(0.05));
    assert!(!wide.equivalence.unwrap().holds, "resamples take the one case two and three times");
}

#[test]
fn ceilings_overlap_or_not() {
    let records = corpus(4);
    let (knows, looks) = (judged(&records, perfect), judged(&records, keyword));
    let same = ceilings(&knows, &knows, &bootstrap(0)).unwrap();
    assert_eq!(same.overlap, same.accuracy[0].wilson);
    // 44 of 44 and 20 of 44.
    let apart = ceilings(&knows, &looks, &bootstrap(0)).unwrap();
    assert_eq!((apart.overlap, apart.accuracy[1].hits), (None, 20));
    let near = judged(&records, |one| Some(if one.id == "p1-base" { one.gold.other() } else { one.gold }));
    let near = ceilings(&near, &knows, &bootstrap(0)).unwrap();
    let [a, b] = near.accuracy.map(|share| share.wilson.unwrap());
    assert_eq!(near.overlap, Some([b[0], a[1]]), "from the better one's lower end to the other one's upper end");
}

#[test]
fn who_ignores_the_procedure_does_not_rely_on_it() {
    let records = corpus(4);
    let other = other_procedures(&records, 7).unwrap();
    for (one, was) in other.iter().zip(&records) {
        let kept = Record { procedure: was.procedure.clone(), ..one.clone() };
        assert_eq!(kept, *was, "nothing but the procedure changes");
        assert!(records.iter().any(|from| from.procedure == one.procedure && from.process_id != one.process_id));
    }
    assert_eq!(other, other_procedures(&records, 7).unwrap());
    assert_ne!(other, other_procedures(&records, 8).unwrap());
    let reliance = |predictor: &dyn Fn(&Record) -> Option<Gold>| {
        Delta::between(&judged(&records, predictor), &judged(&other, predictor), &bootstrap(0)).unwrap()
    };
    let none = reliance(&keyword);
    assert_eq!((none.delta, none.ci, none.only_first), (Some(0.0), Some([0.0, 0.0]), 0));
    // Knows the label as long as the door's number in the procedure is the scenario's, and else says non-compliant.
    let reads = |record: &Record| {
        let door = record.process_id.trim_start_matches('p');
        let is_read = record.procedure.contains(&format!("door {door}."));
        Some(if is_read { record.gold } else { Gold::NonCompliant })
    };
    let all = reliance(&reads);
    assert_eq!((all.shares, all.delta), (Some([1.0, 24.0 / 44.0]), Some(20.0 / 44.0)));
    let error = other_procedures(&records[..3], 0).unwrap_err().to_string();
    assert_eq!(error, "process `p0`: there is no other process to take a procedure from");
}

#[test]
fn only_the_same_cases_are_compared() {
    let records = corpus(2);
    let all = judged(&records, perfect);
    let error = compare(&all, &all[1..], &bootstrap(0)).unwrap_err().to_string();
    assert_eq!(error, "case `p0-base`: only one of the two checkpoints answered it");
    assert!(compare(&all[..5], &all, &bootstrap(0)).is_err());
    let turned: Vec<Judged<'_>> = all.iter().rev().copied().collect();
    assert_eq!(
        compare(&all, &turned, &bootstrap(0)).unwrap().rows[0].delta.only_first,
        0,
        "matched by id, not by place"
    );
}

#[test]
fn lengths_are_compared_where_both_have_one() {
    let records = corpus(2);
    let of = |length: fn(usize) -> Option<usize>| -> Vec<Judged<'_>> {
        let judge = |(i, record)| Judged { record, answer: answer(Some(Gold::Compliant)), reasoning: length(i) };
        records.iter().enumerate().map(judge).collect()
    };
    let (long, some) = (of(|i| Some(10 + i)), of(|i| (i % 2 == 0).then_some(i)));
    let found = compare(&long, &some, &bootstrap(0)).unwrap().reasoning;
    assert_eq!((found.value, found.ci, found.n), (Some(10.0), Some([10.0, 10.0]), 11));
}
