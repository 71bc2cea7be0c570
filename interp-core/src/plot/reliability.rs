//! A reliability diagram: how often answers are right, by how confident they say they are. Layout only.

use super::font;
use super::palette;
use super::scene::{Align, Scene, Shape};

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;
/// Side of the diagram, and height of the counts below it.
const SIDE: i32 = 380;
const COUNTS: i32 = 64;

/// One bin of confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityBin {
    /// Edges, 0 to 1.
    pub edges: [f64; 2],
    /// Mean confidence of its samples.
    pub confidence: f64,
    /// Share of them that are right.
    pub accuracy: f64,
    /// How many there are.
    pub count: usize,
}

/// What a reliability diagram shows.
#[derive(Debug, Clone)]
pub struct Reliability {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// Bins from low to high; empty ones are left blank.
    pub bins: Vec<ReliabilityBin>,
}

pub fn layout(figure: &Reliability) -> Scene {
    let mut scene = Scene::default();
    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let (left, top) = (MARGIN + 52, MARGIN + TITLE + 40);
    let bottom = top + SIDE;
    let along = |x: f64| left + (x * f64::from(SIDE)).round() as i32;
    let up = |y: f64| bottom - (y * f64::from(SIDE)).round() as i32;
    for fifth in 0..=5 {
        let at = f64::from(fifth) / 5.0;
        let word = if fifth == 0 { "0".into() } else { format!("{at:.1}") };
        scene.line(vec![(left, up(at)), (left + SIDE, up(at))], [232, 232, 232], 1);
        scene.text(&word, left - 8, up(at), SMALL, Align::End, palette::INK);
        scene.text(&word, along(at), bottom + COUNTS + 32, SMALL, Align::Middle, palette::INK);
    }
    let most = figure.bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let base = bottom + COUNTS + 20;
    let bar = palette::mix(palette::NEGATIVE, palette::BACKGROUND, 0.45);
    let gap = palette::mix(palette::POSITIVE, palette::BACKGROUND, 0.65);
    for bin in figure.bins.iter().filter(|bin| bin.count > 0) {
        let (from, wide) = (along(bin.edges[0]) + 1, along(bin.edges[1]) - along(bin.edges[0]) - 2);
        let (right, said) = (up(bin.accuracy), up(bin.confidence));
        scene.rect(from, right, wide, bottom - right, bar);
        scene.rect(from, right.min(said), wide, (right - said).abs(), gap);
        let high = (bin.count as f64 / most as f64 * f64::from(COUNTS - 18)).round().max(1.0) as i32;
        scene.rect(from, base - high, wide, high, palette::FRAME);
        scene.text(bin.count.to_string(), from + wide / 2, base - high - 8, SMALL, Align::Middle, palette::INK);
    }
    scene.line(vec![(left, bottom), (left + SIDE, top)], palette::SOFT, 1);
    for bin in figure.bins.iter().filter(|bin| bin.count > 0) {
        let (x, y) = (along(bin.confidence), up(bin.accuracy));
        scene.shapes.push(Shape::Dot { x, y, radius: 3, fill: palette::INK });
    }
    scene.frame(left, top, SIDE, SIDE, palette::FRAME, 1);
    scene.line(vec![(left, base), (left + SIDE, base)], palette::FRAME, 1);
    scene.text("Stated confidence", left + SIDE / 2, base + 32, TEXT + 1, Align::Middle, palette::INK);
    scene.text("Share right", MARGIN + 6, top + SIDE / 2, TEXT + 1, Align::Middle, palette::INK).upright = true;
    scene.text("Samples", MARGIN + 6, base - COUNTS / 2, TEXT, Align::Middle, palette::SOFT).upright = true;
    let words = font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false));
    scene.width = (left + SIDE + 2 * MARGIN).max(words + 2 * MARGIN);
    scene.height = base + 32 + TEXT + MARGIN;
    scene
}
