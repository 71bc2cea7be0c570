//! What must hold whatever the samples are.

use interp_core::eval::socrates::{Prediction, metrics};
use interp_core::eval::{Composer, Verifier, WEIGHTS, calibration, direction, total, wasserstein};
use proptest::prelude::*;

use super::sample;

/// Words that say up, and the word that says down instead, of the same length: a negation is looked for within characters.
const PAIRS: [(&str, &str); 8] = [
    ("upregulated", "suppressing"),
    ("activated", "inhibited"),
    ("increases", "decreases"),
    ("higher", "lowers"),
    ("induced", "reduced"),
    ("elevated", "impaired"),
    ("stimulated", "diminished"),
    ("promotes", "inhibits"),
];
const FILLERS: [&str; 12] =
    ["hypoxia", "hypoxia pathway", "the", "not", "is", "does not", ".", "muscle", "isn't", "fails to", "!", "without"];

/// A text of fillers and direction words; `swapped` has the other word of each pair.
fn text(words: &[(bool, usize)], swapped: bool) -> String {
    let word = |&(way, i): &(bool, usize)| match i.checked_sub(FILLERS.len()) {
        None => FILLERS[i],
        Some(i) if way != swapped => PAIRS[i].0,
        Some(i) => PAIRS[i].1,
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn row(study: u8, condition: u8, truth: u8, predicted: u8) -> Prediction {
    Prediction {
        id: None,
        study: study.to_string(),
        condition: condition.to_string(),
        input: String::new(),
        answer: truth.to_string(),
        predicted: predicted.to_string(),
        true_number: Some(f64::from(truth)),
        predicted_number: Some(f64::from(predicted)),
    }
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
        (a, b) => a == b,
    }
}

proptest! {
    #[test]
    fn v1_is_symmetric_under_swapping_up_and_down(
        words in prop::collection::vec((any::<bool>(), 0..FILLERS.len() + PAIRS.len()), 0..40),
    ) {
        let score = |text: &str, way: &str| direction(text, &sample("", way).truth, "direction").unwrap();
        let (plain, swapped) = (text(&words, false), text(&words, true));
        prop_assert_eq!(score(&plain, "UP"), score(&swapped, "DOWN"));
        prop_assert_eq!(score(&plain, "DOWN"), score(&swapped, "UP"));
        prop_assert!((0.0..=1.0).contains(&score(&plain, "UP")));
    }

    #[test]
    fn calibration_lies_in_its_bounds_and_forgets_the_order(
        (samples, shuffled) in prop::collection::vec(
            (prop_oneof![0.0..=1.0, (0..=10u8).prop_map(|tenth| f64::from(tenth) * 0.1)], any::<bool>()), 1..60,
        ).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (one, other) = (calibration(&samples), calibration(&shuffled));
        for x in [one.ece, one.mce, one.brier, one.overconfidence, one.underconfidence, one.confidence, one.accuracy] {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&x));
        }
        prop_assert!(one.ece <= one.mce + 1e-12);
        prop_assert!(near(Some(one.ece), Some(other.ece)) && near(Some(one.brier), Some(other.brier)));
        prop_assert_eq!(one.bins.iter().map(|bin| bin.count).sum::<usize>(), samples.len(), "every sample has a bin");
        prop_assert_eq!(
            one.bins.iter().map(|bin| bin.count).collect::<Vec<_>>(),
            other.bins.iter().map(|bin| bin.count).collect::<Vec<_>>()
        );
        // The gap of the means is the error that no binning can hide.
        prop_assert!(one.ece + 1e-12 >= (one.confidence - one.accuracy).abs());
    }

    #[test]
    fn weights_renormalise_over_what_applies(
        scores in prop::array::uniform4(prop::option::of(0.0..=1.0)),
        weights in prop::array::uniform4(0.01..1.0f64),
    ) {
        let (sum, shares) = total(&scores, &weights);
        let there = scores.iter().flatten().count();
        let whole = f64::from(u8::from(there > 0));
        prop_assert!((shares.iter().sum::<f64>() - whole).abs() < 1e-12);
        let (low, high) = scores.iter().flatten().fold((1.0f64, 0.0f64), |(l, h), &x| (l.min(x), h.max(x)));
        prop_assert!(there == 0 && sum == 0.0 || (low - 1e-12..=high + 1e-12).contains(&sum));
        prop_assert!(scores.iter().zip(shares).all(|(score, share)| score.is_some() || share == 0.0));
        // Scaling all weights changes nothing.
        let (scaled, _) = total(&scores, &weights.map(|weight| 3.0 * weight));
        prop_assert!((scaled - sum).abs() < 1e-12);
    }

    #[test]
    fn rewards_of_any_text_are_shares(text in ".{0,200}", way in prop_oneof![Just("UP"), Just("DOWN"), Just("?")]) {
        let reward = Composer::default().reward(&sample(&text, way));
        prop_assert!((0.0..=1.0).contains(&reward.total) && (0.0..=1.0).contains(&reward.confidence.value));
        prop_assert!(reward.scores[Verifier::V1 as usize].is_some() && reward.scores[Verifier::V2 as usize].is_none());
        let again = total(&reward.scores, &WEIGHTS).0;
        prop_assert_eq!(again, reward.total);
    }

    #[test]
    fn w1_is_a_metric(
        a in prop::collection::vec(-5.0..5.0f64, 1..12),
        b in prop::collection::vec(-5.0..5.0f64, 1..12),
        c in prop::collection::vec(-5.0..5.0f64, 1..12),
        shift in -3.0..3.0f64,
    ) {
        let d = |a: &[f64], b: &[f64]| wasserstein(a, b).unwrap();
        prop_assert!(d(&a, &b) >= 0.0 && d(&a, &a) == 0.0);
        prop_assert!((d(&a, &b) - d(&b, &a)).abs() < 1e-12);
        prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c) + 1e-12);
        let moved: Vec<f64> = a.iter().map(|x| x + shift).collect();
        prop_assert!((d(&a, &moved) - shift.abs()).abs() < 1e-9);
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        prop_assert!(d(&a, &b) + 1e-12 >= (mean(&a) - mean(&b)).abs());
        let twice: Vec<f64> = a.iter().chain(&a).copied().collect();
        prop_assert!(d(&a, &twice) < 1e-12, "a sample and its double are one distribution");
    }

    #[test]
    fn behavioural_metrics_forget_the_order(
        (rows, shuffled) in prop::collection::vec((0..3u8, 0..2u8, 1..7u8, 1..7u8), 1..40)
            .prop_map(|all| all.into_iter().map(|(s, c, t, p)| row(s, c, t, p)).collect::<Vec<_>>())
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let (one, other) = (metrics(&rows), metrics(&shuffled));
        prop_assert_eq!((one.n, one.conditions, one.single), (other.n, other.conditions, other.single));
        for (a, b) in [
            (one.mae, other.mae),
            (one.rmse, other.rmse),
            (one.correlation, other.correlation),
            (one.exact, other.exact),
            (one.self_minmax, other.self_minmax),
            (one.ref_range, other.ref_range),
            (one.uniform, other.uniform),
        ] {
            prop_assert!(near(a, b), "{:?} {:?}", a, b);
        }
        for w1 in [one.self_minmax, one.ref_range, one.uniform].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&w1));
        }
        prop_assert!(one.mae <= one.rmse.map(|rmse| rmse + 1e-12));
    }
}
