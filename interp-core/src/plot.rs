//! Figures of effects, as SVG and PNG. Sees numbers and labels only; needs no model, no tensors and no system font.
//!
//! Two axes make a heatmap, one axis of names (sets, spans) makes bars, one axis of numbers (layers, positions) a line.
//! Layout (`heatmap`, `profile`) is a pure function from a [`Figure`] to a scene of shapes; `render` turns a scene into bytes.

mod curves;
mod font;
mod heatmap;
mod maps;
mod palette;
mod panels;
mod profile;
mod render;
mod scene;

use crate::error::{Error, Result};
use crate::scores::GridAxis;

pub use curves::{Curve, Curves, Point};
pub use maps::{Map, Maps};
pub use panels::{Line, Panel};
use scene::Scene;

/// Cells outlined and listed in a figure unless asked otherwise.
pub const TOP: usize = 10;

/// Sets of heads that a figure has room for, a bar each: a cumulative ablation of a large model has thousands.
const MOST_BARS: usize = 400;

/// What a figure shows. All numbers in the metric's unit, one per cell, row-major over `axes`.
#[derive(Debug, Clone)]
pub struct Figure {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// Metric name, e.g. `logit-diff`.
    pub metric: String,
    /// One or two axes.
    pub axes: Vec<GridAxis>,
    /// Mean δ; NaN where a cell was not asked for.
    pub values: Vec<f64>,
    /// Intervals of the means; drawn on bars and lines.
    pub intervals: Vec<Option<[f64; 2]>>,
    /// Cells whose effect cannot be told from noise; drawn grey.
    pub below_floor: Option<Vec<bool>>,
    /// How many of the cells of largest |δ| a heatmap outlines and lists.
    pub top: usize,
}

/// Whether there is a figure for such a grid: one or two axes with at least one cell, and no more bars than can be read.
pub fn can_draw(axes: &[GridAxis]) -> bool {
    let too_many = |axis: &GridAxis| axis.name == "set" && axis.labels.len() > MOST_BARS;
    matches!(axes.len(), 1 | 2) && axes.iter().all(|axis| !axis.labels.is_empty() && !too_many(axis))
}

/// The figure as SVG text. Text stays text; fonts fall back to whatever sans-serif the viewer has.
pub fn svg(figure: &Figure) -> Result<String> {
    render::svg(&scene(figure)?)
}

/// The figure as PNG bytes, three pixels per SVG unit.
pub fn png(figure: &Figure) -> Result<Vec<u8>> {
    render::png(&scene(figure)?)
}

/// Panels of measured points, two beside each other, as SVG text; drawn as a [`Figure`] is.
pub fn panels_svg(title: &str, subtitle: &str, panels: &[Panel]) -> Result<String> {
    render::svg(&panels::layout(title, subtitle, panels))
}

/// Heat maps beside and below each other, as SVG text; drawn as a [`Figure`] is.
pub fn maps_svg(maps: &Maps) -> Result<String> {
    render::svg(&maps::layout(maps)?)
}

/// Heat maps beside and below each other, as PNG bytes.
pub fn maps_png(maps: &Maps) -> Result<Vec<u8>> {
    render::png(&maps::layout(maps)?)
}

/// Curves over one axis of numbers, as SVG text; drawn as a [`Figure`] is.
pub fn curves_svg(curves: &Curves) -> Result<String> {
    render::svg(&curves::layout(curves))
}

/// Curves over one axis of numbers, as PNG bytes.
pub fn curves_png(curves: &Curves) -> Result<Vec<u8>> {
    render::png(&curves::layout(curves))
}

fn scene(figure: &Figure) -> Result<Scene> {
    let refuse = |problem: String| Err(Error::Figure { problem });
    let cells = crate::scores::n_cells(&figure.axes);
    if !can_draw(&figure.axes) {
        if let [axis] = figure.axes.as_slice()
            && axis.labels.len() > MOST_BARS
        {
            return refuse(format!("{} sets are more than {MOST_BARS} bars", axis.labels.len()));
        }
        let names: Vec<&str> = figure.axes.iter().map(|axis| axis.name.as_str()).collect();
        return refuse(format!("a grid over ({}) is neither one nor two axes of cells", names.join(", ")));
    }
    if figure.values.len() != cells || figure.intervals.len() != cells {
        return refuse(format!(
            "{} values and {} intervals for {cells} cells",
            figure.values.len(),
            figure.intervals.len()
        ));
    }
    Ok(if figure.axes.len() == 2 { heatmap::layout(figure) } else { profile::layout(figure) })
}

impl Figure {
    fn is_below_floor(&self, cell: usize) -> bool {
        self.below_floor.as_ref().is_some_and(|below| below[cell])
    }

    /// What the colour or length means, with its unit.
    fn quantity(&self) -> String {
        quantity("δ", &self.metric)
    }
}

/// A sign for what is measured, the metric and its unit: `δ logit-diff (logits)`.
pub fn quantity(sign: &str, metric: &str) -> String {
    let unit = match metric {
        "logit-diff" | "logit" => " (logits)",
        "log-prob" | "kl" => " (nats)",
        "prob" => " (probability)",
        "acc" => " (share of trials)",
        "rank" => " (ranks)",
        _ => "",
    };
    format!("{sign} {metric}{unit}")
}

/// Largest finite |value|, or 1 if there is none above 0.
fn largest(values: &[f64]) -> f64 {
    let largest = values.iter().filter(|v| v.is_finite()).fold(0.0f64, |a, v| a.max(v.abs()));
    if largest > 0.0 { largest } else { 1.0 }
}

/// What an axis is called in a figure.
fn axis_title(axis: &GridAxis) -> String {
    match axis.name.as_str() {
        "layer" => "Layer".into(),
        "head" => "Head".into(),
        "pos" => "Position".into(),
        "span" => "Span".into(),
        "set" => "Set of heads".into(),
        "kv_head" => "KV head".into(),
        "module" => "Module".into(),
        "checkpoint" => "Checkpoint".into(),
        other => other.into(),
    }
}

/// Labels at the axis: bare numbers where the axis title already says what is counted, long names shortened.
fn tick_labels(axis: &GridAxis) -> Vec<String> {
    (0..axis.labels.len())
        .map(|i| match axis.coordinate(i) {
            crate::scores::Coordinate::Number(number) => minus(number.to_string()),
            crate::scores::Coordinate::Name(name) if name.chars().count() > 28 => {
                name.chars().take(27).chain(['…']).collect()
            }
            crate::scores::Coordinate::Name(name) => name,
        })
        .collect()
}

/// A typographic minus sign.
fn minus(text: String) -> String {
    text.replace('-', "−")
}

/// A value in three significant digits, without an exponent where it stays short.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor() as i32;
    match magnitude {
        -3..=4 => minus(format!("{value:.*}", (2 - magnitude).clamp(0, 5) as usize)),
        _ => minus(format!("{value:.2e}")),
    }
}

/// A value with a fixed number of decimals, so that a column of them can be compared: `digits` significant ones in `largest`.
fn fixed(value: f64, largest: f64, digits: i32) -> String {
    match largest.log10().floor() as i32 {
        magnitude @ -3..=4 => {
            let text = format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize);
            let is_zero = text.chars().all(|c| "-0.".contains(c));
            minus(if is_zero { text.replace('-', "") } else { text })
        }
        _ => number(value),
    }
}

/// Round steps that cut 0..=`to` into two to five parts.
fn round_step(to: f64) -> f64 {
    let base = 10f64.powf(to.log10().floor());
    [0.2, 0.25, 0.5, 1.0].into_iter().map(|step| step * base).find(|step| to / step < 4.99).unwrap_or(2.0 * base)
}

/// A tick's text: as many decimals as `step` has.
fn tick(value: f64, step: f64) -> String {
    if !(1e-4..1e5).contains(&step) {
        return number(value);
    }
    let decimals = (0..6).find(|&d| ((step * 10f64.powi(d)).round() - step * 10f64.powi(d)).abs() < 1e-6).unwrap_or(6);
    let value = if value.abs() < step / 2.0 { 0.0 } else { value };
    minus(format!("{value:.*}", decimals as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(axes: Vec<GridAxis>) -> Figure {
        let n = crate::scores::n_cells(&axes);
        Figure {
            title: "T".into(),
            subtitle: String::new(),
            metric: "prob".into(),
            values: (0..n).map(|i| if i % 7 == 3 { f64::NAN } else { (i as f64).sin() }).collect(),
            intervals: vec![Some([-0.1, 0.1]); n],
            below_floor: Some((0..n).map(|i| i % 5 == 0).collect()),
            axes,
            top: 3,
        }
    }

    #[test]
    fn every_grid_that_can_be_swept_draws_the_same_bytes_twice() {
        let names = |n: usize| (0..n).map(|i| format!("set <{i}> & more")).collect();
        for axes in [
            vec![GridAxis::layers(0..80), GridAxis::heads(0..64)],
            vec![GridAxis::layers(0..1), GridAxis::heads(0..1)],
            vec![GridAxis::layers(0..4), GridAxis::positions(-300..0)],
            vec![GridAxis::layers(0..4), GridAxis::named("span", names(3))],
            vec![GridAxis::named("set", names(12))],
            vec![GridAxis::layers(0..28)],
            vec![GridAxis::layers(0..1)],
        ] {
            let figure = figure(axes);
            let (text, bytes) = (svg(&figure).unwrap(), png(&figure).unwrap());
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
            assert!(text.contains("sans-serif") && !text.contains("set <0>") && !text.contains("NaN"));
            assert!(bytes.starts_with(b"\x89PNG"));
            assert_eq!((svg(&figure).unwrap(), png(&figure).unwrap()), (text, bytes));
        }
    }

    #[test]
    fn empty_values_still_draw_and_impossible_grids_are_refused() {
        let mut empty = figure(vec![GridAxis::layers(0..2), GridAxis::heads(0..2)]);
        empty.values = vec![f64::NAN; 4];
        empty.below_floor = None;
        svg(&empty).unwrap();
        let three = figure(vec![GridAxis::layers(0..2), GridAxis::heads(0..2), GridAxis::positions(0..2)]);
        assert_eq!(
            svg(&three).unwrap_err().to_string(),
            "cannot draw the figure: a grid over (layer, head, pos) is neither one nor two axes of cells"
        );
    }

    #[test]
    fn panels_show_every_point_and_line() {
        let panel = |n: usize| Panel {
            x: "heads <all>".into(),
            y: "seconds".into(),
            points: (1..=n).map(|i| (i as f64, 0.1 * i as f64)).collect(),
            line: (n > 1).then(|| Line { ends: [(0.0, 0.0), (n as f64, 0.1 * n as f64)], said: "R² = 1".into() }),
        };
        let text = panels_svg("T & U", "", &[panel(4), panel(6), panel(1)]).unwrap();
        assert_eq!(text.matches("<circle").count(), 4 + 6 + 1);
        assert_eq!(text.matches("R² = 1").count(), 2);
        assert!(text.contains("T &amp; U") && text.contains("heads &lt;all&gt;"));
        assert!(!text.contains("NaN") && !text.contains("inf"));
        panels_svg("T", "", &[]).unwrap();
    }

    #[test]
    fn curves_keep_their_points_their_bands_and_their_names() {
        let curve = |name: &str, n: usize, at: f64| Curve {
            name: name.into(),
            points: (0..n).map(|i| Point { x: 2.0 * i as f64, y: at - i as f64, band: Some([at, at + 1.0]) }).collect(),
        };
        let figure =
            |curves| Curves { title: "T & U".into(), subtitle: String::new(), x: "k".into(), y: "p".into(), curves };
        let full = figure(vec![curve("a < b", 4, 3.0), curve("c", 3, 1.0), curve("d", 1, -2.0)]);
        let text = curves_svg(&full).unwrap();
        assert_eq!((text.matches("<circle").count(), text.matches("<polygon").count()), (4 + 3 + 1, 2));
        assert!(text.contains("a &lt; b") && text.contains("T &amp; U") && !text.contains("NaN"));
        assert!(curves_png(&full).unwrap().starts_with(b"\x89PNG"));
        // A point without a number is left out, and so is a curve without any.
        let mut gap = full.clone();
        gap.curves[0].points[1].y = f64::NAN;
        gap.curves[1].points.clear();
        assert_eq!(curves_svg(&gap).unwrap().matches("<circle").count(), 3 + 1);
        curves_svg(&figure(vec![])).unwrap();
    }

    #[test]
    fn thousands_of_sets_have_no_bars() {
        let sets = |n: usize| vec![GridAxis::named("set", (0..n).map(|i| i.to_string()).collect())];
        assert!(can_draw(&sets(400)) && !can_draw(&sets(401)));
        let said = svg(&figure(sets(401))).unwrap_err().to_string();
        assert_eq!(said, "cannot draw the figure: 401 sets are more than 400 bars");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(-0.88643), "−0.886");
        assert_eq!((fixed(-1e-9, 0.5, 3), fixed(-0.25, 1.3, 3)), ("0.000".into(), "−0.25".into()));
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(0.0012345), "0.00123");
        assert_eq!((tick(0.25, 0.25), tick(-1.0, 0.5), tick(3.0, 1.0)), ("0.25".into(), "−1.0".into(), "3".into()));
        for to in [0.013, 0.5, 0.99, 1.0, 1.31, 4.9, 700.0] {
            let parts = to / round_step(to);
            assert!((1.9..5.1).contains(&parts), "{to}: {parts}");
        }
    }
}
