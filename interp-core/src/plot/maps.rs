//! Heat maps beside and below each other, some of them on one colour scale. Layout only.

use super::font;
use super::heatmap::{Cells, MARGIN, SMALL, TEXT, TITLE, draw_color_bar, draw_legend};
use super::palette;
use super::scene::{Align, Scene};
use super::{Muted, can_draw, largest};
use crate::error::{Error, Result};
use crate::scores::{GridAxis, n_cells};

/// Width that a row of maps may take before cells shrink, height that one map may, and the smallest and largest cell.
const WIDE: i32 = 900;
const HIGH: i32 = 460;
const CELL: (i32, i32) = (4, 26);
/// The least height of a colour bar.
const BAR: i32 = 110;
/// Room between maps, right of a map and below a row.
const ACROSS: i32 = 26;
const DOWN: i32 = 34;

/// Several heat maps in one figure.
#[derive(Debug, Clone)]
pub struct Maps {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// What the colours of each scale mean, with the unit.
    pub scales: Vec<String>,
    /// Rows of maps, from the top. Maps of one scale that follow each other in a row share a colour bar.
    pub rows: Vec<Vec<Map>>,
}

/// One heat map.
#[derive(Debug, Clone)]
pub struct Map {
    /// What stands above it.
    pub title: String,
    /// Two axes.
    pub axes: Vec<GridAxis>,
    /// One per cell, row-major; NaN where there is none.
    pub values: Vec<f64>,
    /// Cells whose value cannot be told from noise; drawn grey.
    pub below_floor: Option<Vec<bool>>,
    /// Cells that are not significant.
    pub muted: Option<Muted>,
    /// Cells with a frame.
    pub outlined: Vec<usize>,
    /// Which of the figure's scales its colours are on: the strongest is the largest |value| of all maps of the scale.
    pub scale: usize,
}

/// The figure as shapes. Errs for a map without two axes of cells, or whose numbers do not match them.
pub fn layout(maps: &Maps) -> Result<Scene> {
    for map in maps.rows.iter().flatten() {
        check(map, maps.scales.len())?;
    }
    let of_scale = |scale: usize| maps.rows.iter().flatten().filter(move |map| map.scale == scale);
    let strongest: Vec<f64> = (0..maps.scales.len())
        .map(|scale| largest(&of_scale(scale).flat_map(|map| map.values.iter().copied()).collect::<Vec<_>>()))
        .collect();
    let mut scene = Scene::default();
    scene.text(&maps.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&maps.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let words = font::width(&maps.title, TITLE, true).max(font::width(&maps.subtitle, TEXT, false));
    let (mut right, mut bottom) = (MARGIN + words, MARGIN + TITLE + if maps.subtitle.is_empty() { 0 } else { 18 });
    for row in &maps.rows {
        let top = bottom + DOWN;
        let cell = cell_size(row);
        let high = row.iter().map(|map| map.axes[0].labels.len() as i32 * cell).max().unwrap_or(0);
        let mut x = MARGIN;
        for (i, map) in row.iter().enumerate() {
            let grid = cells(map, &strongest);
            let left = x + grid.room_left();
            let width = map.axes[1].labels.len() as i32 * cell;
            scene.text(&map.title, left, top - 14, TEXT, Align::Start, palette::INK).bold = true;
            bottom = bottom.max(grid.draw(&mut scene, (left, top), cell) + SMALL);
            x = left + width.max(font::width(&map.title, TEXT, true)) + ACROSS;
            if row.get(i + 1).is_none_or(|next| next.scale != map.scale) {
                let bar = (left + width + 16, top);
                let end = draw_color_bar(&mut scene, &maps.scales[map.scale], strongest[map.scale], bar, high.max(BAR));
                bottom = bottom.max(top + high.max(BAR));
                x = x.max(end + ACROSS);
            }
        }
        right = right.max(x - ACROSS);
    }
    let all: Vec<Cells<'_>> = maps.rows.iter().flatten().map(|map| cells(map, &strongest)).collect();
    let (legend_right, legend_bottom) = draw_legend(&mut scene, &all.iter().collect::<Vec<_>>(), (MARGIN, bottom + 14));
    scene.width = right.max(legend_right) + MARGIN;
    scene.height = bottom.max(legend_bottom) + MARGIN;
    Ok(scene)
}

fn cells<'a>(map: &'a Map, strongest: &[f64]) -> Cells<'a> {
    Cells {
        axes: &map.axes,
        values: &map.values,
        below_floor: map.below_floor.as_deref(),
        muted: map.muted.as_ref(),
        outlined: map.outlined.clone(),
        largest: strongest[map.scale],
    }
}

fn check(map: &Map, n_scales: usize) -> Result<()> {
    let cells = n_cells(&map.axes);
    let fits = map.values.len() == cells
        && map.below_floor.as_ref().is_none_or(|below| below.len() == cells)
        && map.muted.as_ref().is_none_or(|muted| muted.cells.len() == cells);
    if map.axes.len() == 2 && can_draw(&map.axes) && fits && map.scale < n_scales {
        return Ok(());
    }
    let axes: Vec<&str> = map.axes.iter().map(|axis| axis.name.as_str()).collect();
    let problem = format!("`{}` has {} values over ({})", map.title, map.values.len(), axes.join(", "));
    Err(Error::Figure { problem })
}

/// Cells of a row are of one size, so that its maps can be compared.
fn cell_size(row: &[Map]) -> i32 {
    let columns: i32 = row.iter().map(|map| map.axes[1].labels.len() as i32).sum();
    let rows = row.iter().map(|map| map.axes[0].labels.len() as i32).max().unwrap_or(1);
    (WIDE / columns.max(1)).min(HIGH / rows).clamp(CELL.0, CELL.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{maps_png, maps_svg};

    fn map(title: &str, heads: usize, size: f64, scale: usize) -> Map {
        let axes = vec![GridAxis::layers(0..6), GridAxis::heads(0..heads)];
        let values = (0..6 * heads).map(|i| if i == 4 { f64::NAN } else { size * (i as f64).sin() }).collect();
        let below_floor = Some((0..6 * heads).map(|i| i % 9 == 0).collect());
        Map { title: title.into(), axes, values, below_floor, muted: None, outlined: vec![2], scale }
    }

    fn figure() -> Maps {
        Maps {
            title: "T".into(),
            subtitle: "S".into(),
            scales: vec!["δ & more".into(), "Δδ".into()],
            rows: vec![vec![map("a <1>", 8, 1.0, 0), map("b", 8, 3.0, 0), map("b − a", 8, 0.5, 1)]],
        }
    }

    #[test]
    fn maps_of_one_scale_share_a_bar_and_its_colours() {
        let figure = figure();
        let text = maps_svg(&figure).unwrap();
        assert_eq!((text.matches("δ &amp; more").count(), text.matches(">Δδ<").count()), (1, 1));
        assert!(text.contains("a &lt;1&gt;") && text.contains("below the noise floor") && !text.contains("NaN"));
        assert_eq!((maps_svg(&figure).unwrap(), maps_png(&figure).unwrap().starts_with(b"\x89PNG")), (text, true));
        // A larger neighbour on the same scale makes the first map paler; one on another scale does not.
        let rects = |figure: &Maps| {
            let scene = layout(figure).unwrap();
            let rect = |shape: &super::super::scene::Shape| match *shape {
                super::super::scene::Shape::Rect { fill, .. } => Some(fill),
                _ => None,
            };
            scene.shapes.iter().filter_map(rect).take(8).collect::<Vec<_>>()
        };
        let [mut same, mut other] = [figure.clone(), figure.clone()];
        same.rows[0][1] = map("b", 8, 6.0, 0);
        other.rows[0][2] = map("b − a", 8, 6.0, 1);
        assert!(rects(&same) != rects(&figure) && rects(&other) == rects(&figure));
    }

    #[test]
    fn maps_that_are_none_are_refused() {
        let mut figure = figure();
        figure.rows[0][1].values.pop();
        let error = maps_svg(&figure).unwrap_err().to_string();
        assert_eq!(error, "cannot draw the figure: `b` has 47 values over (layer, head)");
        figure.rows.clear();
        maps_svg(&figure).unwrap();
    }
}
