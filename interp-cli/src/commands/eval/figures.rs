//! Figures and tables of evaluations. Decides what is shown; `plot` decides how.

use std::fs;
use std::path::Path;

use anyhow::Result;
use interp_core::Error;
use interp_core::eval::Bin;
use interp_core::eval::socrates::{Group, Metrics};
use interp_core::export::write_atomic;
use interp_core::plot::{self, Bar, BarGroup, Bars, Reliability, ReliabilityBin, SharePanel, Shares};

/// Most panels of one figure of distributions.
const PANELS: usize = 24;
/// Most answers that get a bar each, and ranges that more are gathered in.
const ANSWERS: usize = 11;
const RANGES: usize = 10;

/// A folder that is there, or is made now.
pub fn folder(out: &Path) -> Result<()> {
    Ok(fs::create_dir_all(out).map_err(Error::io("create", out))?)
}

/// `name.svg` and `name.png`.
pub fn put(out: &Path, name: &str, (svg, png): (String, Vec<u8>)) -> Result<()> {
    write_atomic(&out.join(format!("{name}.svg")), svg.as_bytes())?;
    write_atomic(&out.join(format!("{name}.png")), &png)?;
    Ok(())
}

/// The reliability diagram of calibration bins.
pub fn reliability(out: &Path, title: &str, subtitle: &str, bins: &[Bin]) -> Result<()> {
    let bin = |bin: &Bin| ReliabilityBin {
        edges: [bin.lower, bin.upper],
        confidence: bin.confidence,
        accuracy: bin.accuracy,
        count: bin.count,
    };
    let bins = bins.iter().map(bin).collect();
    put(out, "reliability", plot::reliability(&Reliability { title: title.into(), subtitle: subtitle.into(), bins })?)
}

/// Groups of bars; no figure where there is no bar.
pub fn bars(out: &Path, name: &str, figure: &Bars) -> Result<()> {
    match figure.groups.iter().all(|group| group.bars.is_empty()) {
        true => Ok(()),
        false => put(out, name, plot::bars(figure)?),
    }
}

/// A bar without an interval.
pub fn bar(label: impl Into<String>, value: f64) -> Bar {
    Bar { label: label.into(), value, interval: None }
}

/// Distances by study, and true beside predicted answers of the largest conditions.
pub fn socrates(out: &Path, name: &str, found: &Metrics) -> Result<()> {
    let distance = |label: &str, value: Option<f64>| bar(label, value.unwrap_or(f64::NAN));
    let groups = found.studies.iter().map(|study| BarGroup {
        title: format!("{} ({} rows)", study.study, study.rows),
        bars: vec![
            distance("w1_self_minmax", Some(study.self_minmax)),
            distance("w1_ref_range", study.ref_range),
            distance("uniform guessing (on the range)", study.uniform),
        ],
    });
    bars(
        out,
        "studies",
        &Bars {
            title: "Distance between predicted and true answers, by study".into(),
            subtitle: format!("{name}: means over conditions; shorter is better"),
            quantity: "Wasserstein distance".into(),
            groups: groups.collect(),
        },
    )?;
    let mut groups: Vec<&(Group, _)> = found.groups.iter().filter(|(_, distances)| distances.is_some()).collect();
    groups.sort_by_key(|(group, _)| std::cmp::Reverse(group.truth.len()));
    groups.truncate(PANELS);
    let panel = |(group, distances): &(Group, Option<interp_core::eval::socrates::Distances>)| {
        let number = |x: Option<f64>| x.map_or("–".into(), |x| format!("{x:.3}"));
        let w1 = distances.and_then(|d| d.ref_range);
        let (labels, shares) = histograms(group);
        SharePanel {
            title: format!("{}, condition {}", group.study, group.condition),
            said: format!("{} rows, w1_ref_range {}", group.truth.len(), number(w1)),
            labels,
            shares,
        }
    };
    if groups.is_empty() {
        return Ok(());
    }
    put(
        out,
        "distributions",
        plot::shares(&Shares {
            title: "True and predicted answers".into(),
            subtitle: format!("{name}: conditions with most rows; predictions beyond the human range at its ends"),
            series: ["true".into(), "predicted".into()],
            panels: groups.into_iter().map(panel).collect(),
        })?,
    )
}

/// Answers on the range of the human ones, and the shares of both samples.
fn histograms(group: &Group) -> (Vec<String>, [Vec<f64>; 2]) {
    let low = group.truth.iter().copied().fold(f64::INFINITY, f64::min);
    let high = group.truth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let whole = group.truth.iter().all(|x| x.fract() == 0.0);
    let each = whole && high - low < ANSWERS as f64;
    let n = if each { (high - low) as usize + 1 } else { RANGES };
    let width = if each { 1.0 } else { (high - low) / n as f64 };
    let place = |x: f64| match each {
        true => (x.clamp(low, high) - low).round() as usize,
        false => (((x.clamp(low, high) - low) / width) as usize).min(n - 1),
    };
    let shares = |values: &[f64]| {
        let mut shares = vec![0.0; n];
        values.iter().for_each(|&x| shares[place(x)] += 1.0 / values.len() as f64);
        shares
    };
    let label = |i: usize| match each {
        true => format!("{}", low + i as f64),
        false if width >= 1.0 => format!("{:.0}", low + i as f64 * width),
        false => format!("{:.2}", low + i as f64 * width),
    };
    ((0..n).map(label).collect(), [shares(&group.truth), shares(&group.predicted)])
}
