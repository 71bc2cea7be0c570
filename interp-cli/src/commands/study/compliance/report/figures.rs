//! Figures of the study: accuracies with intervals per perturbation and checkpoint, and maps of mediation over all heads.

use anyhow::Result;
use interp_core::compliance::Perturbation;
use interp_core::compliance::metrics::By;
use interp_core::export::Study;
use interp_core::plot::{self, Bar, BarGroup, Bars, Map, Maps, quantity};

use super::Report;
use crate::commands::study::compliance::answers::Regime;
use crate::commands::study::compliance::place::Place;

/// Writes `accuracy.svg`, `heads.svg` and their PNG.
pub fn write(report: &Report<'_>, place: &Place) -> Result<()> {
    for regime in Regime::ALL {
        let (svg, png) = plot::bars(&accuracy(report, regime))?;
        let name = format!("accuracy-{}", regime.name());
        place.put(&format!("{name}.svg"), svg.as_bytes())?;
        place.put(&format!("{name}.png"), &png)?;
    }
    let maps = heads(report)?;
    if !maps.rows.is_empty() {
        place.put("heads.svg", plot::maps_svg(&maps)?.as_bytes())?;
        place.put("heads.png", &plot::maps_png(&maps)?)?;
    }
    Ok(())
}

/// A group per perturbation, a bar per checkpoint.
fn accuracy(report: &Report<'_>, regime: Regime) -> Bars {
    let group = |by: By, value: &str| -> Option<BarGroup> {
        let bar = |name: String| {
            let share = report.endpoints.row(&name, regime, by, value)?.accuracy;
            Some(Bar { label: name, value: share.share?, interval: share.wilson })
        };
        let bars: Vec<Bar> = report.names().into_iter().filter_map(bar).collect();
        let n = report.endpoints.row(&report.names()[0], regime, by, value)?.accuracy.n;
        Some(BarGroup { title: format!("{value} ({n})"), bars })
    };
    let perturbations = Perturbation::ALL.into_iter().filter_map(|one| group(By::Perturbation, one.name()));
    Bars {
        title: "Accuracy by perturbation".into(),
        subtitle: format!("{} answers, unparsed ones are wrong; Wilson's 95 % intervals", regime.name()),
        quantity: "accuracy".into(),
        groups: group(By::All, "all").into_iter().chain(perturbations).collect(),
    }
}

/// A map per checkpoint on one scale, and below them Δδ of every two on another.
fn heads(report: &Report<'_>) -> Result<Maps> {
    let mut effects = Vec::new();
    for arm in &report.heads.arms {
        if let Some(study) = &arm.study {
            effects.push(effect(&arm.name, arm.used.len(), study)?);
        }
    }
    let change = |one: &crate::commands::study::compliance::heads::Changes| {
        let (arms, cells) = (one.contrast.arms(), &one.contrasted.changes[0]);
        Map {
            title: format!("{} − {} ({} trials)", arms[1].name, arms[0].name, one.contrast.n_trials()),
            axes: one.contrast.layout().axes.clone(),
            values: cells.iter().map(|cell| cell.stats.mean).collect(),
            below_floor: None,
            muted: None,
            outlined: (0..cells.len()).filter(|&cell| cells[cell].changed).collect(),
            scale: 1,
        }
    };
    let changes: Vec<Map> = report.heads.changes.iter().map(change).collect();
    Ok(Maps {
        title: "Procedural causal mediation per layer and head".into(),
        subtitle: "each checkpoint over the pairs it gets right; Δδ over pairs that both get right, outlined: changed (q < 0.05)".into(),
        scales: vec![quantity("δ", "logit-diff"), quantity("Δδ", "logit-diff")],
        rows: [effects, changes].into_iter().filter(|row| !row.is_empty()).collect(),
    })
}

fn effect(name: &str, pairs: usize, study: &Study) -> Result<Map> {
    let summary = study.summary(0, &study.bootstrap)?;
    let significant = summary.test.significant.clone().unwrap_or_default();
    Ok(Map {
        title: format!("{name} ({pairs} pairs)"),
        axes: study.layout.axes.clone(),
        values: summary.cells.iter().map(|cell| cell.mean).collect(),
        below_floor: summary.below_floor.clone(),
        muted: summary.muted(),
        outlined: (0..significant.len()).filter(|&cell| significant[cell]).collect(),
        scale: 0,
    })
}
