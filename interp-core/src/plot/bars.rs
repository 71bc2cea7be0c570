//! Bars with intervals, in groups that have a title each. Layout only.

use super::font;
use super::palette;
use super::scene::{Align, Scene};
use super::{fixed, round_step, tick};

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;
/// Height of a bar with its room, and of a group's title.
const ROW: i32 = 18;
const HEAD: i32 = 24;
/// Length of the longest bar.
const WIDE: i32 = 440;

/// Groups of bars on one scale, which begins at 0 or below.
#[derive(Debug, Clone)]
pub struct Bars {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// What the length means, with its unit.
    pub quantity: String,
    /// From the top.
    pub groups: Vec<BarGroup>,
}

/// Bars below one title.
#[derive(Debug, Clone)]
pub struct BarGroup {
    /// What they have in common.
    pub title: String,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Its length; NaN where there is none.
    pub value: f64,
    /// The interval of the value.
    pub interval: Option<[f64; 2]>,
}

pub fn layout(figure: &Bars) -> Scene {
    let mut scene = Scene::default();
    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let top = MARGIN + TITLE + if figure.subtitle.is_empty() { 16 } else { 34 };
    let all = || figure.groups.iter().flat_map(|group| &group.bars);
    let left = MARGIN + all().map(|bar| font::width(&bar.label, SMALL, false)).max().unwrap_or(0) + 10;
    let ends = all().flat_map(|bar| bar.interval.into_iter().flatten().chain([bar.value])).filter(|x| x.is_finite());
    let (low, high) = ends.fold((0.0f64, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
    let (low, high) = if low == high { (0.0, 1.0) } else { (low, high) };
    let step = round_step(high - low);
    let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
    let at = |value: f64| left + ((value - low) / (high - low) * f64::from(WIDE)).round() as i32;

    let rows: i32 = figure.groups.iter().map(|group| HEAD + group.bars.len() as i32 * ROW).sum();
    let bottom = top + rows;
    for i in 0..=((high - low) / step).round() as i32 {
        let value = low + f64::from(i) * step;
        scene.line(vec![(at(value), top), (at(value), bottom)], [232, 232, 232], 1);
        scene.text(tick(value, step), at(value), bottom + 12, SMALL, Align::Middle, palette::INK);
    }
    let mut y = top;
    for group in &figure.groups {
        scene.text(&group.title, MARGIN, y + HEAD / 2 + 2, TEXT, Align::Start, palette::INK).bold = true;
        y += HEAD;
        for bar in &group.bars {
            draw(&mut scene, bar, (left, y + ROW / 2), high.max(-low), &at);
            y += ROW;
        }
    }
    scene.line(vec![(at(0.0), top), (at(0.0), bottom)], palette::INK, 1);
    scene.text(&figure.quantity, left + WIDE / 2, bottom + 34, TEXT + 1, Align::Middle, palette::INK);
    let words = font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false));
    scene.width = (left + WIDE + 80).max(MARGIN + words) + MARGIN;
    scene.height = bottom + 34 + TEXT / 2 + MARGIN;
    scene
}

fn draw(scene: &mut Scene, bar: &Bar, (left, y): (i32, i32), largest: f64, at: &impl Fn(f64) -> i32) {
    let value_x = left + WIDE + 14;
    scene.text(&bar.label, left - 8, y, SMALL, Align::End, palette::INK);
    if bar.value.is_nan() {
        scene.text("not measured", value_x, y, SMALL, Align::Start, palette::SOFT);
        return;
    }
    let (zero, end, half) = (at(0.0), at(bar.value), ROW * 3 / 10);
    let color = if bar.value < 0.0 { palette::NEGATIVE } else { palette::POSITIVE };
    scene.rect(zero.min(end), y - half, (end - zero).abs(), 2 * half, palette::mix(color, palette::BACKGROUND, 0.25));
    if let Some([low, high]) = bar.interval {
        let (low, high) = (at(low), at(high));
        scene.line(vec![(low, y), (high, y)], palette::INK, 1);
        [low, high].into_iter().for_each(|x| scene.line(vec![(x, y - 3), (x, y + 3)], palette::INK, 1));
    }
    scene.text(fixed(bar.value, largest, 3), value_x, y, SMALL, Align::Start, palette::INK);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::bars;

    #[test]
    fn every_bar_has_its_label_and_its_interval() {
        let bar = |label: &str, value: f64| Bar {
            label: label.into(),
            value,
            interval: (value > 0.2).then_some([value - 0.1, value + 0.1]),
        };
        let group = |title: &str| BarGroup {
            title: title.into(),
            bars: vec![bar("a <1>", 0.5), bar("b", 0.125), bar("c", f64::NAN)],
        };
        let figure = Bars {
            title: "T".into(),
            subtitle: "S & more".into(),
            quantity: "share of attention".into(),
            groups: vec![group("L2.H6"), group("L2.H1")],
        };
        let (text, png) = bars(&figure).unwrap();
        assert_eq!((text.matches("a &lt;1&gt;").count(), text.matches("not measured").count()), (2, 2));
        assert!(!text.contains('−'), "what has no negative numbers has a scale that begins at 0");
        assert!(text.contains("L2.H6") && text.contains("S &amp; more") && text.contains("0.125"));
        assert!(!text.contains("NaN") && png.starts_with(b"\x89PNG"));
        bars(&Bars { groups: vec![], ..figure }).unwrap();
    }
}
