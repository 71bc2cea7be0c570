//! Two distributions over the same answers, one small panel per group. Layout only.

use super::font;
use super::palette;
use super::scene::{Align, Scene};

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;
const WIDE: i32 = 190;
const HIGH: i32 = 84;
const ACROSS: i32 = 34;
const DOWN: i32 = 62;
const COLUMNS: usize = 4;

/// One panel: shares of two samples over the same answers.
#[derive(Debug, Clone)]
pub struct SharePanel {
    /// What the group is.
    pub title: String,
    /// What is said of it, such as a distance.
    pub said: String,
    /// Answers, from low to high.
    pub labels: Vec<String>,
    /// Share of each answer in the first and in the second sample.
    pub shares: [Vec<f64>; 2],
}

/// What such a figure shows.
#[derive(Debug, Clone)]
pub struct Shares {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// Names of the two samples.
    pub series: [String; 2],
    /// Panels, four in a row.
    pub panels: Vec<SharePanel>,
}

pub fn layout(figure: &Shares) -> Scene {
    let mut scene = Scene::default();
    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let colors = [palette::NEGATIVE, palette::POSITIVE].map(|color| palette::mix(color, palette::BACKGROUND, 0.3));
    let legend = MARGIN + TITLE + 32;
    let mut x = MARGIN;
    for (name, color) in figure.series.iter().zip(colors) {
        scene.rect(x, legend, 10, 10, color);
        scene.text(name, x + 15, legend + 5, SMALL, Align::Start, palette::INK);
        x += 15 + font::width(name, SMALL, false) + 18;
    }
    let first = legend + 48;
    for (i, panel) in figure.panels.iter().enumerate() {
        let left = MARGIN + (i % COLUMNS) as i32 * (WIDE + ACROSS);
        let top = first + (i / COLUMNS) as i32 * (HIGH + DOWN);
        scene.text(&panel.title, left, top - 22, SMALL, Align::Start, palette::INK).bold = true;
        scene.text(&panel.said, left, top - 9, SMALL, Align::Start, palette::SOFT);
        draw(&mut scene, panel, left, top, colors);
    }
    let rows = figure.panels.len().div_ceil(COLUMNS) as i32;
    let columns = figure.panels.len().clamp(1, COLUMNS) as i32;
    let words = font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false)).max(x);
    scene.width = (2 * MARGIN + columns * (WIDE + ACROSS)).max(words + 2 * MARGIN);
    scene.height = first + rows * (HIGH + DOWN) + MARGIN - 20;
    scene
}

fn draw(scene: &mut Scene, panel: &SharePanel, left: i32, top: i32, colors: [palette::Rgb; 2]) {
    let bottom = top + HIGH;
    let n = panel.labels.len().max(1) as i32;
    let slot = (WIDE / n).max(4);
    let bar = ((slot - 2) / 2).max(1);
    scene.line(vec![(left, bottom), (left + WIDE, bottom)], palette::FRAME, 1);
    let room = panel.labels.iter().map(|label| font::width(label, SMALL, false)).max().unwrap_or(0) + 4;
    let every = (room / slot + 1).max(1) as usize;
    for (k, label) in panel.labels.iter().enumerate() {
        let from = left + k as i32 * slot;
        for (s, color) in colors.into_iter().enumerate() {
            let share = panel.shares[s].get(k).copied().unwrap_or(0.0).clamp(0.0, 1.0);
            let high = (share * f64::from(HIGH)).round() as i32;
            scene.rect(from + 1 + s as i32 * bar, bottom - high, bar, high, color);
        }
        if k % every == 0 {
            scene.text(label, from + slot / 2, bottom + 10, SMALL, Align::Middle, palette::INK);
        }
    }
}
