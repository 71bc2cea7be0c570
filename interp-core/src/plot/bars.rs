//! Bars side by side: several series over the same rows, with intervals where there are any. Layout only.

use super::font;
use super::palette::{self, Rgb};
use super::scene::{Align, Scene};
use super::{fixed, round_step, tick};

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;
const WIDE: i32 = 420;
/// Height of one bar with the room around it, and room between rows.
const BAR: i32 = 15;
const GAP: i32 = 9;

/// One row of bars.
#[derive(Debug, Clone)]
pub struct BarRow {
    /// What the row is.
    pub label: String,
    /// One value per series; `None` where there is none.
    pub values: Vec<Option<f64>>,
    /// Intervals of the values; empty, or one per series.
    pub intervals: Vec<Option<[f64; 2]>>,
}

/// What such a figure shows.
#[derive(Debug, Clone)]
pub struct Bars {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// What is measured, with its unit.
    pub quantity: String,
    /// Names of the series; a single one needs no legend.
    pub series: Vec<String>,
    /// Rows from top to bottom.
    pub rows: Vec<BarRow>,
}

/// Colours of the series.
const COLORS: [Rgb; 4] = [palette::NEGATIVE, palette::POSITIVE, palette::FRAME, [90, 140, 90]];

pub fn layout(figure: &Bars) -> Scene {
    let mut scene = Scene::default();
    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let several = figure.series.len() > 1;
    let mut top = MARGIN + TITLE + if figure.subtitle.is_empty() { 16 } else { 34 };
    let mut x = MARGIN;
    for (i, name) in figure.series.iter().enumerate().filter(|_| several) {
        scene.rect(x, top, 10, 10, color(i));
        scene.text(name, x + 15, top + 5, SMALL, Align::Start, palette::INK);
        x += 15 + font::width(name, SMALL, false) + 18;
    }
    top += if several { 24 } else { 0 };
    let widest = figure.rows.iter().map(|row| font::width(&row.label, SMALL, false)).max().unwrap_or(0);
    let left = MARGIN + widest + 10;
    let high = BAR * figure.series.len().max(1) as i32 + GAP;
    let bottom = top + high * figure.rows.len() as i32;
    let ends =
        figure.rows.iter().flat_map(|row| row.values.iter().flatten().chain(row.intervals.iter().flatten().flatten()));
    let (low, most) = ends.filter(|x| x.is_finite()).fold((0.0f64, 0.0f64), |(l, h), &x| (l.min(x), h.max(x)));
    let (low, most) = if low == most { (0.0, 1.0) } else { (low, most) };
    let step = round_step(most - low);
    let (low, most) = ((low / step + 1e-9).floor() * step, (most / step - 1e-9).ceil() * step);
    let at = |value: f64| left + ((value - low) / (most - low) * f64::from(WIDE)).round() as i32;
    for i in 0..=((most - low) / step).round() as i32 {
        let value = low + f64::from(i) * step;
        scene.line(vec![(at(value), top), (at(value), bottom)], [232, 232, 232], 1);
        scene.text(tick(value, step), at(value), bottom + 12, SMALL, Align::Middle, palette::INK);
    }
    for (i, row) in figure.rows.iter().enumerate() {
        let from = top + i as i32 * high + GAP / 2;
        scene.text(&row.label, left - 8, from + (high - GAP) / 2, SMALL, Align::End, palette::INK);
        for (k, value) in row.values.iter().enumerate() {
            let y = from + k as i32 * BAR;
            let Some(value) = value.filter(|value| value.is_finite()) else {
                scene.text("–", at(0.0) + 4, y + BAR / 2, SMALL, Align::Start, palette::SOFT);
                continue;
            };
            let (zero, end) = (at(0.0), at(value));
            scene.rect(zero.min(end), y + 2, (end - zero).abs().max(1), BAR - 4, color(k));
            if let Some([lo, hi]) = row.intervals.get(k).copied().flatten() {
                scene.line(vec![(at(lo), y + BAR / 2), (at(hi), y + BAR / 2)], palette::INK, 1);
                for x in [lo, hi] {
                    scene.line(vec![(at(x), y + 4), (at(x), y + BAR - 4)], palette::INK, 1);
                }
            }
            let word = fixed(value, most.max(-low), 3);
            scene.text(word, left + WIDE + 14, y + BAR / 2, SMALL, Align::Start, palette::INK);
        }
    }
    scene.line(vec![(at(0.0), top), (at(0.0), bottom)], palette::INK, 1);
    scene.text(&figure.quantity, left + WIDE / 2, bottom + 34, TEXT + 1, Align::Middle, palette::INK);
    let words = font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false)).max(x);
    scene.width = (left + WIDE + 14 + 56 + MARGIN).max(words + 2 * MARGIN);
    scene.height = bottom + 34 + TEXT / 2 + MARGIN;
    scene
}

fn color(series: usize) -> Rgb {
    palette::mix(COLORS[series % COLORS.len()], palette::BACKGROUND, 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::scene::Shape;

    #[test]
    fn the_axis_begins_at_zero_unless_something_is_below() {
        let figure = |value: f64| Bars {
            title: "T".into(),
            subtitle: String::new(),
            quantity: "q".into(),
            series: vec!["one".into(), "two".into()],
            rows: vec![BarRow {
                label: "r".into(),
                values: vec![Some(value), None],
                intervals: vec![Some([0.1, 0.9])],
            }],
        };
        let words = |value: f64| -> Vec<String> {
            let texts = layout(&figure(value)).shapes.into_iter();
            texts.filter_map(|shape| if let Shape::Text(text) = shape { Some(text.text) } else { None }).collect()
        };
        assert!(words(0.5).iter().all(|word| !word.starts_with('−')), "{:?}", words(0.5));
        assert!(words(1.0).contains(&"1.00".into()) && !words(1.0).contains(&"1.25".into()));
        assert!(words(-0.5).iter().any(|word| word.starts_with('−')));
        assert!(words(f64::NAN).contains(&"–".into()));
    }
}
