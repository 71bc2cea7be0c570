//! Published results files come out of their own samples again: BioRLHF to the last digit, SOCRATES too, runaway number and all.

use interp_core::eval::bio::{Evaluation, V4Check, V4Rule, summary};
use interp_core::eval::read::json;
use interp_core::eval::socrates::{check, cleaned, from_json, metrics};
use interp_core::eval::{Check, WEIGHTS};

use super::shared;
use crate::common::interp;

const FILES: [(&str, usize, [f64; 8]); 2] = [
    (
        "biorlhf/grpo_mve_eval_20260321_063358.json",
        25,
        [0.650250895983472, 0.07799999999999996, 0.07799999999999996, 0.2371, 0.0, 0.0, 0.522, 0.6],
    ),
    (
        "biorlhf/grpo_phase4_ablation_legacy_eval_20260403.json",
        107,
        [
            0.5655271037138011,
            0.18347150815784122,
            0.5126315789473684,
            0.2805868453423091,
            0.40816326530612246,
            0.3333333333333333,
            0.7146865646183084,
            0.616822429906542,
        ],
    ),
];

#[test]
fn biorlhf_files_recompute_with_difference_0() {
    for (name, n, numbers) in FILES {
        let Some(path) = shared(name) else { return };
        let value = json(&path).unwrap();
        let evaluation = Evaluation::from_json(&path, &value).unwrap();
        let found = summary(&evaluation.samples);
        let c = &found.calibration;
        let ours =
            [found.mean_reward, c.ece, c.mce, c.brier, c.overconfidence, c.underconfidence, c.confidence, c.accuracy];
        assert_eq!((evaluation.samples.len(), ours), (n, numbers), "{name}");
        let Check { compared, equal, rounding, differences } = evaluation.check(&path, &value, &WEIGHTS).unwrap();
        println!("{name}: {compared} fields, {equal} equal, rewards to {rounding:.1e}");
        assert!(differences.is_empty() && rounding <= 2.3e-16, "{differences:?}");
        // Only rewards may differ, and they by their last bit: everything else is compared to the last digit.
        let worst =
            evaluation.samples.iter().map(|one| (one.total - one.recomposed(&WEIGHTS)).abs()).fold(0.0, f64::max);
        assert_eq!(worst, rounding);
        let inexact = evaluation.samples.iter().filter(|one| one.total != one.recomposed(&WEIGHTS)).count();
        assert_eq!(compared - equal, inexact, "{name}");
        // What is read and written again says the same.
        let mut again = evaluation.json();
        again["per_sample"] = value["per_sample"].clone();
        assert_eq!(again, value, "{name}");
    }
}

#[test]
fn v4_recomputes_from_confidence_and_v1_where_the_released_rule_made_it() {
    let Some(path) = shared(FILES[1].0) else { return };
    let samples = Evaluation::from_json(&path, &json(&path).unwrap()).unwrap().samples;
    let found = V4Check::of(&samples);
    assert_eq!((found.rule, found.aware, found.behaviour), (V4Rule::Current, (96, 96), (9, 9)));
    assert!(found.exceptions.is_empty());
    let Some(path) = shared(FILES[0].0) else { return };
    let samples = Evaluation::from_json(&path, &json(&path).unwrap()).unwrap().samples;
    assert_eq!(V4Check::of(&samples).rule, V4Rule::Unknown, "an older V4 made this one");
}

#[test]
fn socrates_metrics_recompute_to_the_last_digit() {
    let Some(path) = shared("socrates/evaluation_predictions_proper_100.json") else { return };
    let Some(claims) = shared("socrates/evaluation_metrics_proper_100.json") else { return };
    let rows = from_json(&path, &json(&path).unwrap()).unwrap();
    let found = metrics(&rows);
    assert_eq!((found.n, found.conditions, found.studies.len(), found.groups.len()), (100, 26, 11, 50));
    assert_eq!(found.mae, Some(1.9999999999999998e97));
    assert_eq!(found.rmse, Some(2e98));
    assert_eq!(found.self_minmax, Some(0.08108940492446408));
    assert_eq!(found.correlation, Some(0.24727189953672804));
    assert_eq!(found.exact, Some(0.25));
    let Check { compared, equal, rounding, differences } = check(&rows, Some(&json(&claims).unwrap()));
    println!("socrates: {compared} fields, {equal} equal, others to {rounding:.1e}");
    assert!(differences.is_empty() && rounding <= 2.8e-17, "{differences:?}");
    assert_eq!(compared, 200 + 8 + 11);

    assert_eq!((found.ref_conditions, (found.ref_range.unwrap() * 1e6).round()), (22, 281_436.0));
    println!("w1_ref_range {:?}, uniform guessing {:?}", found.ref_range, found.uniform);
    let clean = metrics(&cleaned(&rows));
    assert_eq!(clean.n, 86);
    // The report has ten digits, some rounded and some cut off.
    for (found, published) in [(clean.mae, 1.4883720930), (clean.rmse, 2.2874785549), (clean.correlation, 0.2732474915)]
    {
        assert!((found.unwrap() - published).abs() < 1e-10, "{found:?} {published}");
    }
}

#[test]
fn the_command_prints_the_cards_headline_and_ends_with_yes() {
    let Some(path) = shared(FILES[1].0) else { return };
    let said = interp("eval score {}", &[&path]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for line in [
        "mean reward                  0.566",
        "ECE                          0.183",
        "Brier score                  0.281",
        "overconfidence               40.8%",
        "accuracy                     61.7%",
        "reward against the baseline  +32.1% (from 0.428)",
        "ECE against the baseline     -61.6% (from 0.477)",
        "V4 again from confidence and V1: 96 of 96 by V1 (rule: current), 9 of 9 by behaviour",
        "no difference",
    ] {
        // However wide the columns are.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&said.out).contains(&words(line)), "{line}\n{}", said.out);
    }
    assert!(said.err.contains("note: the card exchanges V1 and V2"), "{}", said.err);
    let Some(path) = shared("socrates/evaluation_predictions_proper_100.json") else { return };
    let said = interp("eval score {}", &[&path]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let line = said.out.lines().find(|line| line.trim_start().starts_with("w1_self_minmax")).expect("the distance");
    assert!(line.contains("0.081089"), "{}", said.out);
    assert!(said.err.contains("compared with the metrics in "), "{}", said.err);
}
