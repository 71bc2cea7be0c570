//! Measured points with their straight lines, several panels side by side. Layout only.

use super::font;
use super::palette;
use super::scene::{Align, Scene, Shape};
use super::{round_step, tick};

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;
/// Width and height of a panel's frame, and the room between frames for their words.
const WIDE: i32 = 300;
const HIGH: i32 = 190;
const ACROSS: i32 = 84;
const DOWN: i32 = 82;
const COLUMNS: usize = 2;

/// One panel: points, and the straight line through them. Both axes begin at 0.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What x counts.
    pub x: String,
    /// What y is, with its unit.
    pub y: String,
    /// Measured `(x, y)`; none is negative.
    pub points: Vec<(f64, f64)>,
    /// The line.
    pub line: Option<Line>,
}

/// A straight line in a panel.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its ends, `(x, y)`.
    pub ends: [(f64, f64); 2],
    /// What is said of it above the panel.
    pub said: String,
}

pub fn layout(title: &str, subtitle: &str, panels: &[Panel]) -> Scene {
    let mut scene = Scene::default();
    scene.text(title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let top = MARGIN + TITLE + 52;
    for (i, panel) in panels.iter().enumerate() {
        let (column, row) = ((i % COLUMNS) as i32, (i / COLUMNS) as i32);
        draw(&mut scene, panel, MARGIN + 62 + column * (WIDE + ACROSS), top + row * (HIGH + DOWN));
    }
    let columns = panels.len().min(COLUMNS) as i32;
    let rows = panels.len().div_ceil(COLUMNS) as i32;
    let words = font::width(title, TITLE, true).max(font::width(subtitle, TEXT, false)) + 2 * MARGIN;
    scene.width = (MARGIN + 62 + columns * (WIDE + ACROSS) - ACROSS + 2 * MARGIN).max(words);
    scene.height = top + rows * (HIGH + DOWN) - DOWN + 46 + MARGIN;
    scene
}

fn draw(scene: &mut Scene, panel: &Panel, left: i32, top: i32) {
    let (right, bottom) = (left + WIDE, top + HIGH);
    let ends = panel.line.iter().flat_map(|line| &line.ends);
    let largest = |of: fn(&(f64, f64)) -> f64| {
        let largest = panel.points.iter().chain(ends.clone()).map(of).fold(0.0f64, f64::max);
        if largest > 0.0 { largest } else { 1.0 }
    };
    let (x_step, x_end) = reach(largest(|p| p.0));
    let (y_step, y_end) = reach(largest(|p| p.1));
    let place = |&(x, y): &(f64, f64)| {
        let across = (x / x_end * f64::from(WIDE)).round() as i32;
        let up = (y.max(0.0) / y_end * f64::from(HIGH)).round() as i32;
        (left + across, bottom - up)
    };
    for i in 0..=(y_end / y_step).round() as i32 {
        let value = f64::from(i) * y_step;
        let (_, y) = place(&(0.0, value));
        scene.line(vec![(left, y), (right, y)], [232, 232, 232], 1);
        scene.text(tick(value, y_step), left - 8, y, SMALL, Align::End, palette::INK);
    }
    for i in 0..=(x_end / x_step).round() as i32 {
        let value = f64::from(i) * x_step;
        let (x, _) = place(&(value, 0.0));
        scene.line(vec![(x, bottom), (x, bottom + 4)], palette::FRAME, 1);
        scene.text(tick(value, x_step), x, bottom + 14, SMALL, Align::Middle, palette::INK);
    }
    scene.line(vec![(left, top), (left, bottom), (right, bottom)], palette::FRAME, 1);
    if let Some(Line { ends, said }) = &panel.line {
        scene.line(ends.iter().map(place).collect(), palette::POSITIVE, 2);
        scene.text(said, left, top - 12, SMALL, Align::Start, palette::SOFT);
    }
    for (x, y) in panel.points.iter().map(place) {
        scene.shapes.push(Shape::Dot { x, y, radius: 3, fill: palette::NEGATIVE });
    }
    let middle = (left + right) / 2;
    scene.text(&panel.x, middle, bottom + 33, TEXT, Align::Middle, palette::INK);
    scene.text(&panel.y, left - 52, (top + bottom) / 2, TEXT, Align::Middle, palette::INK).upright = true;
}

/// A round step, and the smallest multiple of it that is not below `largest`.
fn reach(largest: f64) -> (f64, f64) {
    let step = round_step(largest);
    (step, (largest / step - 1e-9).ceil() * step)
}
