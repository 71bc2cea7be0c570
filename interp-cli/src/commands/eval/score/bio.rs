//! A BioRLHF evaluation: headline numbers as its card gives them, tables by verifier, type and bin, and V4 once more.

use std::path::Path;

use anyhow::Result;
use interp_core::eval::bio::{Evaluation, NOTES, Summary, V4Check, V4Rule, summary};
use interp_core::eval::{Bin, Calibration};
use interp_core::export::write_atomic;
use interp_core::plot::{BarGroup, Bars};
use serde_json::{Value, json};

use super::super::{figures, weights};
use super::Scored;
use crate::cli::ScoreArgs;
use crate::folder::Folder;
use crate::output::{columns, number};

/// Reads, computes and compares.
pub fn score(args: &ScoreArgs, value: &Value) -> Result<Scored> {
    let weights = weights(&args.verifier_weights)?;
    let evaluation = Evaluation::from_json(&args.file, value)?;
    let check = evaluation.check(&args.file, value, &weights)?;
    let (summary, v4) = (summary(&evaluation.samples), V4Check::of(&evaluation.samples));
    if let Some(out) = &args.out {
        let folder = Folder::check(out)?.begin()?;
        let name = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        write(folder.dir(), &name, &evaluation)?;
        folder.finish()?;
    }
    let mut values = evaluation.json();
    values.as_object_mut().expect("an object").remove("per_sample");
    values["headline"] =
        headline(&evaluation, &summary).into_iter().map(|(name, value)| json!([name, value])).collect();
    values["v4"] = json!({
        "rule": rule(&v4),
        "calibration_aware": { "equal": v4.aware.0, "of": v4.aware.1 },
        "behaviour": { "equal": v4.behaviour.0, "of": v4.behaviour.1 },
    });
    let tables = format!("{}\n{}", tables(&evaluation, &summary), v4_line(&v4));
    Ok(Scored { kind: "biorlhf", tables, notes: NOTES.map(String::from).to_vec(), values, check })
}

/// Figures and tables of an evaluation, into `out`.
pub fn write(out: &Path, name: &str, evaluation: &Evaluation) -> Result<()> {
    figures::folder(out)?;
    let summary = summary(&evaluation.samples);
    let Calibration { ece, accuracy, confidence, n, bins, .. } = &summary.calibration;
    let said = format!("{name}: {n} samples, ECE {ece:.3}, confidence {confidence:.3}, share right {accuracy:.3}");
    figures::reliability(out, "Reliability of stated confidence", &said, bins)?;
    let types = summary.by_type.iter().map(|(name, mean, n)| figures::bar(format!("{name} ({n})"), *mean));
    let verifiers = summary.verifier_means.iter().map(|(verifier, mean)| figures::bar(verifier.to_string(), *mean));
    figures::bars(
        out,
        "types",
        &Bars {
            title: "Mean reward by type of question, and mean score by verifier".into(),
            subtitle: format!("{name}: {n} samples, mean reward {:.3}", summary.mean_reward),
            quantity: "Mean".into(),
            groups: vec![
                BarGroup { title: "Reward by type of question".into(), bars: types.collect() },
                BarGroup { title: "Score by verifier".into(), bars: verifiers.collect() },
            ],
        },
    )?;
    let line = |bin: &Bin| {
        format!("{},{},{},{},{},{}\n", bin.lower, bin.upper, bin.count, bin.confidence, bin.accuracy, bin.error)
    };
    let lines: String = bins.iter().map(line).collect();
    let csv = format!("bin_lower,bin_upper,count,mean_confidence,mean_accuracy,calibration_error\n{lines}");
    write_atomic(&out.join("bins.csv"), csv.as_bytes())?;
    Ok(())
}

/// The numbers that the public card leads with, rounded as there.
pub fn headline(evaluation: &Evaluation, summary: &Summary) -> Vec<(String, String)> {
    let Calibration { ece, brier, overconfidence, accuracy, .. } = &summary.calibration;
    let mut lines = vec![
        ("mean reward", format!("{:.3}", summary.mean_reward)),
        ("ECE", format!("{ece:.3}")),
        ("Brier score", format!("{brier:.3}")),
        ("overconfidence", format!("{:.1}%", 100.0 * overconfidence)),
        ("accuracy", format!("{:.1}%", 100.0 * accuracy)),
    ];
    if let Some(base) = evaluation.baseline {
        let against = |found: f64, base: f64| format!("{:+.1}% (from {base:.3})", 100.0 * (found - base) / base);
        lines.push(("reward against the baseline", against(summary.mean_reward, base.reward)));
        lines.push(("ECE against the baseline", against(*ece, base.ece)));
    }
    lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Headline, means and bins to read.
pub fn tables(evaluation: &Evaluation, summary: &Summary) -> String {
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
    let Calibration { mce, underconfidence, confidence, n, bins, .. } = &summary.calibration;
    let lines = headline(evaluation, summary).into_iter().map(|(name, value)| vec![name, value]);
    let more = [("MCE", *mce), ("underconfidence", *underconfidence), ("mean confidence", *confidence)];
    let lines = lines.chain(more.map(|(name, x)| vec![name.to_owned(), number(x)]));
    let mut text = columns(&row(&["headline", "value"]), &lines.collect::<Vec<_>>());
    let verifiers = summary.verifier_means.iter().map(|(verifier, mean)| {
        let n = evaluation.samples.iter().filter(|sample| sample.scores[*verifier as usize].is_some()).count();
        vec![format!("{verifier}"), n.to_string(), number(*mean)]
    });
    text += &format!("\n{}", columns(&row(&["verifier", "samples", "mean"]), &verifiers.collect::<Vec<_>>()));
    let types = summary.by_type.iter().map(|(name, mean, n)| vec![name.clone(), n.to_string(), number(*mean)]);
    let all = vec!["all".to_owned(), n.to_string(), number(summary.mean_reward)];
    let types: Vec<Vec<String>> = types.chain([all]).collect();
    text += &format!("\n{}", columns(&row(&["type", "samples", "reward"]), &types));
    let filled = bins.iter().filter(|bin| bin.count > 0).map(|bin| {
        let edges = format!("{:.1}-{:.1}", bin.lower, bin.upper);
        vec![edges, bin.count.to_string(), number(bin.confidence), number(bin.accuracy), number(bin.error)]
    });
    let head = row(&["bin", "samples", "confidence", "accuracy", "error"]);
    text += &format!("\n{}", columns(&head, &filled.collect::<Vec<_>>()));
    text
}

fn rule(v4: &V4Check) -> &'static str {
    match v4.rule {
        V4Rule::Current => "current",
        V4Rule::Older => "of 30 March 2026",
        V4Rule::Unknown => "unknown",
    }
}

fn v4_line(v4: &V4Check) -> String {
    let V4Check { aware, behaviour, .. } = v4;
    let counts = format!(
        "{} of {} by V1 (rule: {}), {} of {} by behaviour",
        aware.0,
        aware.1,
        rule(v4),
        behaviour.0,
        behaviour.1
    );
    let other = v4.rule == V4Rule::Unknown && aware.1 > 0;
    let why = if other { "; another V4 made this file" } else { "" };
    format!("V4 again from confidence and V1: {counts}{why}\n")
}
