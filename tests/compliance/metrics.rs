//! Scripted predictors whose metrics can be worked out by hand, and what must not change them.

use interp_core::compliance::metrics::{
    By, EndpointRow, Judged, PairMetric, PairRow, bootstrap, endpoints, gaps, pair_metrics, reasoning,
};
use interp_core::compliance::{Gold, Pair, PairKind, Perturbation, Record};
use proptest::prelude::*;

use super::{always_compliant, answer, corpus, judged, keyword, pairs, perfect};

fn row<'a>(rows: &'a [EndpointRow], by: By, value: &str) -> &'a EndpointRow {
    rows.iter().find(|row| row.by == by && row.value == value).expect("a row")
}

fn hits(rows: &[EndpointRow], by: By, value: &str) -> (usize, usize) {
    let accuracy = row(rows, by, value).endpoint.accuracy;
    (accuracy.hits, accuracy.n)
}

fn of_pairs(rows: &[PairRow]) -> Vec<(usize, usize)> {
    rows.iter().map(|row| (row.share.hits, row.share.n)).collect()
}

#[test]
fn a_perfect_predictor() {
    let records = corpus(4);
    let judged = judged(&records, perfect);
    let rows = endpoints(&judged, &bootstrap(0)).unwrap();
    for row in &rows {
        assert_eq!((row.endpoint.accuracy.share, row.endpoint.unparsed.hits), (Some(1.0), 0), "{row:?}");
        assert_eq!(row.endpoint.accuracy.clustered, Some([1.0, 1.0]), "{row:?}");
    }
    let all = row(&rows, By::All, "all").endpoint;
    assert_eq!((all.positive.hits, all.balanced.value, all.majority), (20, Some(1.0), Some(24.0 / 44.0)));
    // Wilson's lower end of 44 of 44 is n/(n + z²).
    let above = all.above_majority().unwrap();
    assert!((above - (44.0 / (44.0 + 1.959963984540054f64.powi(2)) - 24.0 / 44.0)).abs() < 1e-12, "{above}");
    // A row of all, ten perturbations, two cohorts, one domain, two labels.
    assert_eq!(rows.len(), 1 + 10 + 2 + 1 + 2);
    assert!(rows[1..11].iter().map(|row| &*row.value).eq(Perturbation::ALL.map(Perturbation::name)));
    let gaps = gaps(&judged, &bootstrap(0)).unwrap();
    assert_eq!((gaps.surface.value, gaps.order.value), (Some(0.0), Some(0.0)));
    let rows = pair_metrics(&pairs(4), &judged, &bootstrap(0)).unwrap();
    assert_eq!(of_pairs(&rows), [(8, 8), (8, 8), (32, 32), (4, 4), (4, 4), (4, 4), (4, 4), (4, 4)]);
    assert!(rows.iter().map(|row| row.metric).eq(PairMetric::ALL));
}

#[test]
fn a_constant_predictor() {
    let records = corpus(4);
    let judged = judged(&records, always_compliant);
    let rows = endpoints(&judged, &bootstrap(0)).unwrap();
    let all = row(&rows, By::All, "all").endpoint;
    assert_eq!((all.accuracy.hits, all.accuracy.n, all.positive.share), (20, 44, Some(1.0)));
    assert_eq!((all.balanced.value, all.balanced.ci), (Some(0.5), Some([0.5, 0.5])), "whatever is drawn");
    assert_eq!((hits(&rows, By::Gold, "compliant"), hits(&rows, By::Gold, "non-compliant")), ((20, 20), (0, 24)));
    assert_eq!(row(&rows, By::Gold, "compliant").endpoint.balanced.value, None, "one label has no balance");
    assert_eq!(hits(&rows, By::Perturbation, "exception_trigger"), (4, 8));
    // Both gaps compare what it gets right, and wrong, by label alone.
    let gaps = gaps(&judged, &bootstrap(0)).unwrap();
    assert_eq!((gaps.surface.value, gaps.order.value, gaps.order.ci), (Some(0.0), Some(1.0), Some([1.0, 1.0])));
    // No flip pair, one anchor pair of two, half of the halves, originals only, and it never follows.
    let rows = pair_metrics(&pairs(4), &judged, &bootstrap(0)).unwrap();
    assert_eq!(of_pairs(&rows), [(0, 8), (4, 8), (16, 32), (0, 4), (4, 4), (0, 4), (0, 4), (4, 4)]);
    assert_eq!((rows[0].share.share, rows[0].share.clustered), (Some(0.0), Some([0.0, 0.0])));
}

#[test]
fn a_predictor_of_keywords_fails_where_surfaces_lie() {
    let records = corpus(4);
    let judged = judged(&records, keyword);
    let rows = endpoints(&judged, &bootstrap(0)).unwrap();
    // Right: base, plain, para, honoured, filler. It takes two scenarios of eleven for violations.
    assert_eq!(hits(&rows, By::All, "all"), (20, 44));
    assert_eq!(row(&rows, By::All, "all").endpoint.positive.hits, 36);
    for (name, right) in [
        ("baseline_compliant", 4),
        ("baseline_noncompliant", 4),
        ("step_reorder_invalid", 0),
        ("adversarial_surface_compliant", 0),
        ("adversarial_surface_noncompliant", 0),
        ("exception_trigger", 4),
    ] {
        assert_eq!(hits(&rows, By::Perturbation, name).0, right, "{name}");
    }
    // (1 + 1) / 2 - 0, and 1 - 0. Of compliant cases 4/5 are right, of the others 1/6.
    let gaps = gaps(&judged, &bootstrap(0)).unwrap();
    assert_eq!((gaps.surface.value, gaps.order.value), (Some(1.0), Some(1.0)));
    let balanced = row(&rows, By::All, "all").endpoint.balanced.value.unwrap();
    assert!((balanced - (0.8 + 1.0 / 6.0) / 2.0).abs() < 1e-15, "{balanced}");
    // base/plain flips, honoured/ignored does not; base/para is right, plain/omit is not; it does not see order.
    let rows = pair_metrics(&pairs(4), &judged, &bootstrap(0)).unwrap();
    assert_eq!(of_pairs(&rows), [(4, 8), (4, 8), (24, 32), (0, 4), (4, 4), (0, 4), (0, 4), (4, 4)]);
}

#[test]
fn unparsed_answers_are_wrong_and_neither_follow_nor_stay() {
    let records = corpus(4);
    let judged = judged(&records, |record| Some(record.gold).filter(|_| record.process_id != "p0"));
    let rows = endpoints(&judged, &bootstrap(0)).unwrap();
    let all = row(&rows, By::All, "all").endpoint;
    assert_eq!((all.accuracy.hits, all.unparsed.hits, all.truncated.hits, all.positive.hits), (33, 11, 11, 15));
    // One process of four is wrong throughout: resamples are right in 0, 1/4, 1/2, 3/4 or 1, 0 in 1 of 256 of them.
    assert_eq!(all.accuracy.clustered, Some([0.25, 1.0]));
    let rows = pair_metrics(&pairs(4), &judged, &bootstrap(0)).unwrap();
    assert_eq!(of_pairs(&rows), [(6, 8), (6, 8), (24, 32), (3, 4), (3, 4), (3, 4), (3, 4), (3, 4)]);
    let lengths = reasoning(&judged, &bootstrap(0)).unwrap();
    assert_eq!((lengths.without, lengths.mean.n, lengths.mean.processes), (11, 33, 3));
}

#[test]
fn a_coin_has_both_halves_right_in_a_quarter() {
    let n = 500;
    let few = interp_core::stats::Bootstrap { resamples: 500, ..bootstrap(0) };
    let records = corpus(n);
    let judged = judged(&records, coin);
    let rows = pair_metrics(&pairs(n), &judged, &few).unwrap();
    // Exactly what it said, counted once more.
    let says = |name: String| coin(records.iter().find(|one| one.id == name).expect("a case")) == Some(Gold::Compliant);
    let flips =
        (0..50).map(|p| says(format!("p{p}-base")) && !says(format!("p{p}-plain"))).filter(|both| *both).count();
    let some: Vec<Pair> =
        pairs(50).into_iter().filter(|pair| pair.a.ends_with("base") && pair.b.ends_with("plain")).collect();
    assert_eq!(pair_metrics(&some, &judged, &few).unwrap()[0].share.hits, flips);
    // And near what a coin does, to four standard errors.
    let chances = [0.25, 0.25, 0.5, 0.5, 0.5, 0.25, 0.5, 0.5];
    for (row, chance) in rows.iter().zip(chances) {
        let far = 4.0 * (chance * (1.0 - chance) / row.share.n as f64).sqrt();
        assert!((row.share.share.unwrap() - chance).abs() < far, "{row:?}");
    }
    let all = endpoints(&judged, &few).unwrap()[0].endpoint;
    assert!(all.balanced.ci.is_some_and(|[low, high]| low < 0.5 && 0.5 < high && high - low < 0.06), "{all:?}");
}

/// Heads or tails by a hash (FNV-1a) of the id.
fn coin(record: &Record) -> Option<Gold> {
    let hash = record
        .id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Some(if (hash >> 40) & 1 == 1 { Gold::Compliant } else { Gold::NonCompliant })
}

#[test]
fn reasoning_lengths_by_hand() {
    let records = corpus(2);
    let lengths = [4, 1, 3, 2, 10];
    let judged: Vec<Judged<'_>> = records
        .iter()
        .take(6)
        .enumerate()
        .map(|(i, record)| Judged { record, answer: answer(Some(record.gold)), reasoning: lengths.get(i).copied() })
        .collect();
    let found = reasoning(&judged, &bootstrap(0)).unwrap();
    assert_eq!((found.mean.value, found.mean.n, found.without), (Some(4.0), 5, 1));
    assert_eq!((found.mean.ci, found.quartiles), (None, Some([2.0, 3.0, 4.0])), "one process has no interval");
}

#[test]
fn nothing_at_all() {
    let rows = endpoints(&[], &bootstrap(0)).unwrap();
    assert!(rows.is_empty());
    let gaps = gaps(&[], &bootstrap(0)).unwrap();
    assert_eq!((gaps.surface.value, gaps.surface.ci, gaps.order.n), (None, None, 0));
    let rows = pair_metrics(&[], &[], &bootstrap(0)).unwrap();
    assert!(rows.iter().all(|row| row.share.share.is_none() && row.share.wilson.is_none()));
    assert_eq!(reasoning(&[], &bootstrap(0)).unwrap().quartiles, None);
}

#[test]
fn a_pair_needs_answers_to_both() {
    let records = corpus(1);
    let judged = judged(&records[..1], perfect);
    let pair = Pair { kind: PairKind::Flip, a: "p0-base".into(), b: "p0-plain".into() };
    let error = pair_metrics(&[pair], &judged, &bootstrap(0)).unwrap_err();
    assert_eq!(error.to_string(), "pair `p0-base, p0-plain`: there is no answer to \"p0-plain\"");
}

#[test]
fn tables_serialize_flat() {
    let records = corpus(2);
    let judged = judged(&records, perfect);
    let row = serde_json::to_value(&endpoints(&judged, &bootstrap(0)).unwrap()[1]).unwrap();
    assert_eq!((&row["by"], &row["value"]), (&"perturbation".into(), &"baseline_compliant".into()));
    assert_eq!((&row["accuracy"]["hits"], &row["accuracy"]["share"]), (&2.into(), &1.0.into()));
    let row = serde_json::to_value(pair_metrics(&pairs(2), &judged, &bootstrap(0)).unwrap()[0]).unwrap();
    assert_eq!((&row["metric"], &row["n"]), (&"flip_rate".into(), &4.into()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_changes_nothing(
        places in Just((0..55).collect::<Vec<usize>>()).prop_shuffle(),
        pair_places in Just((0..30).collect::<Vec<usize>>()).prop_shuffle(),
        said in prop::collection::vec(prop::option::of(any::<bool>()), 55),
    ) {
        let records = corpus(5);
        let say = |said: bool| if said { Gold::Compliant } else { Gold::NonCompliant };
        let one: Vec<Judged<'_>> = records
            .iter()
            .zip(&said)
            .map(|(record, said)| Judged { record, answer: answer(said.map(say)), reasoning: said.map(|_| record.id.len()) })
            .collect();
        let other: Vec<Judged<'_>> = places.iter().map(|&place| one[place]).collect();
        let (pairs, few) = (pairs(5), interp_core::stats::Bootstrap { resamples: 200, ..bootstrap(1) });
        let shuffled: Vec<Pair> = pair_places.iter().map(|&place| pairs[place].clone()).collect();
        prop_assert_eq!(endpoints(&one, &few).unwrap(), endpoints(&other, &few).unwrap());
        prop_assert_eq!(gaps(&one, &few).unwrap(), gaps(&other, &few).unwrap());
        prop_assert_eq!(reasoning(&one, &few).unwrap(), reasoning(&other, &few).unwrap());
        prop_assert_eq!(pair_metrics(&pairs, &one, &few).unwrap(), pair_metrics(&shuffled, &other, &few).unwrap());
    }
}
