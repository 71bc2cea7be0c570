//! The figure of a contrast: the checkpoints' heat maps on one colour scale, and Δδ on another.

use super::{Change, Contrast, Contrasted, Effect, Judge};
use crate::plot::{Map, Maps, quantity};
use crate::scores::GridAxis;

/// δ and Δδ, as the figure's scales.
const EFFECT: usize = 0;
const CHANGE: usize = 1;

/// Two checkpoints stand in one row with their Δδ; of more, the Δδ have a row of their own. A grid of one axis is a row per
/// checkpoint. Cells that changed are outlined.
pub fn figure(contrast: &Contrast, judge: &Judge, contrasted: &Contrasted) -> Maps {
    let layout = contrast.layout();
    let (names, metric) = (names(contrast), &layout.metrics[contrasted.metric]);
    let rows = if layout.axes.len() == 1 {
        let (effects, changes) = stacked(contrast, contrasted, &names);
        vec![vec![effects], vec![changes]]
    } else {
        let effects = contrasted.effects.iter().zip(&names);
        let effects: Vec<Map> =
            effects.map(|(cells, name)| effect_map(name.clone(), layout.axes.clone(), cells)).collect();
        let changes = contrasted.changes.iter().zip(&names[1..]);
        let changes: Vec<Map> = changes
            .map(|(cells, name)| change_map(format!("{name} − {}", names[0]), layout.axes.clone(), cells))
            .collect();
        if names.len() == 2 { vec![[effects, changes].concat()] } else { vec![effects, changes] }
    };
    let trials = match contrast.n_trials() {
        1 => "1 trial".to_owned(),
        n => format!("mean over {n} trials"),
    };
    Maps {
        title: "Effect per checkpoint, and change".into(),
        subtitle: format!("{trials} that ran in all; outlined: q < {} and above both noise floors", judge.level),
        scales: vec![quantity("δ", metric), quantity("Δδ", metric)],
        rows,
    }
}

fn names(contrast: &Contrast) -> Vec<String> {
    contrast.arms().iter().map(|arm| arm.name.clone()).collect()
}

fn effect_map(title: String, axes: Vec<GridAxis>, cells: &[Effect]) -> Map {
    Map {
        title,
        axes,
        values: cells.iter().map(|cell| cell.stats.mean).collect(),
        below_floor: Some(cells.iter().map(|cell| cell.below_floor == Some(true)).collect()),
        muted: None,
        outlined: Vec::new(),
        scale: EFFECT,
    }
}

fn change_map(title: String, axes: Vec<GridAxis>, cells: &[Change]) -> Map {
    Map {
        title,
        axes,
        values: cells.iter().map(|cell| cell.stats.mean).collect(),
        below_floor: None,
        muted: None,
        outlined: (0..cells.len()).filter(|&cell| cells[cell].changed).collect(),
        scale: CHANGE,
    }
}

/// A grid of one axis: checkpoints below each other.
fn stacked(contrast: &Contrast, contrasted: &Contrasted, names: &[String]) -> (Map, Map) {
    let axes =
        |names: &[String]| vec![GridAxis::named("checkpoint", names.to_vec()), contrast.layout().axes[0].clone()];
    let effects = effect_map("δ".into(), axes(names), &contrasted.effects.concat());
    let changes = change_map(format!("less {}", names[0]), axes(&names[1..]), &contrasted.changes.concat());
    (effects, changes)
}
