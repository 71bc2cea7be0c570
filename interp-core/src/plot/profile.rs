//! One axis: bars for names (sets, spans), a line for numbers (layers, positions), both with intervals. Layout only.

use super::font;
use super::palette;
use super::scene::{Align, Scene, Shape};
use super::{Figure, axis_title, fixed, largest, round_step, tick, tick_labels};
use crate::scores::Coordinate;

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;

pub fn layout(figure: &Figure) -> Scene {
    let numeric = matches!(figure.axes[0].coordinate(0), Coordinate::Number(_));
    let mut scene = Scene::default();
    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let top = MARGIN + TITLE + if figure.subtitle.is_empty() { 16 } else { 34 };
    if numeric {
        line(&mut scene, figure, top)
    } else {
        bars(&mut scene, figure, top)
    }
    let title_right =
        MARGIN + font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false)) + MARGIN;
    scene.width = scene.width.max(title_right);
    let is_faint = |i: usize| figure.is_muted(i) && !figure.is_below_floor(i) && !figure.values[i].is_nan();
    if let (Some(muted), true) = (&figure.muted, (0..figure.values.len()).any(is_faint)) {
        let said = format!("faint: {}", muted.said);
        scene.width = scene.width.max(font::width(&said, SMALL, false) + 2 * MARGIN);
        scene.text(said, MARGIN, scene.height - 4, SMALL, Align::Start, palette::SOFT);
        scene.height += MARGIN;
    }
    scene
}

/// Values to pixels, over everything drawn, 0 included.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
    from: i32,
    to: i32,
}

impl Scale {
    fn new(figure: &Figure, from: i32, to: i32) -> Self {
        let ends = figure.intervals.iter().flatten().flatten().chain(&figure.values);
        let (low, high) = ends.filter(|v| v.is_finite()).fold((0.0f64, 0.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        let (low, high) = if low == high { (0.0, 1.0) } else { (low, high) };
        let step = round_step(high - low);
        Self { low: (low / step - 1e-9).floor() * step, high: (high / step + 1e-9).ceil() * step, step, from, to }
    }

    fn at(&self, value: f64) -> i32 {
        self.from + ((value - self.low) / (self.high - self.low) * f64::from(self.to - self.from)).round() as i32
    }

    fn ticks(&self) -> Vec<f64> {
        let n = ((self.high - self.low) / self.step).round() as i32;
        (0..=n).map(|i| self.low + f64::from(i) * self.step).collect()
    }
}

fn bars(scene: &mut Scene, figure: &Figure, top: i32) {
    let labels = tick_labels(&figure.axes[0]);
    let n = labels.len() as i32;
    let row = (640 / n).clamp(13, 28);
    let left = MARGIN + labels.iter().map(|label| font::width(label, SMALL, false)).max().unwrap_or(0) + 10;
    let scale = Scale::new(figure, left, left + 440);
    let bottom = top + n * row;
    for value in scale.ticks() {
        let x = scale.at(value);
        scene.line(vec![(x, top), (x, bottom)], [232, 232, 232], 1);
        scene.text(tick(value, scale.step), x, bottom + 12, SMALL, Align::Middle, palette::INK);
    }
    let value_x = scale.to + 14;
    for (i, label) in labels.iter().enumerate() {
        let (value, y) = (figure.values[i], top + i as i32 * row + row / 2);
        scene.text(label, left - 8, y, SMALL, Align::End, palette::INK);
        if value.is_nan() {
            scene.text("not measured", value_x, y, SMALL, Align::Start, palette::SOFT);
            continue;
        }
        let (zero, end, half) = (scale.at(0.0), scale.at(value), row * 3 / 10);
        scene.rect(zero.min(end), y - half, (end - zero).abs(), 2 * half, bar_color(figure, i));
        if let Some([lo, hi]) = figure.intervals[i] {
            let (lo, hi) = (scale.at(lo), scale.at(hi));
            scene.line(vec![(lo, y), (hi, y)], palette::INK, 1);
            [lo, hi].into_iter().for_each(|x| scene.line(vec![(x, y - 3), (x, y + 3)], palette::INK, 1));
        }
        scene.text(fixed(value, largest(&figure.values), 3), value_x, y, SMALL, Align::Start, palette::INK);
    }
    scene.line(vec![(scale.at(0.0), top), (scale.at(0.0), bottom)], palette::INK, 1);
    scene.text(figure.quantity(), (left + scale.to) / 2, bottom + 34, TEXT + 1, Align::Middle, palette::INK);
    (scene.width, scene.height) = (value_x + 60 + MARGIN, bottom + 34 + TEXT / 2 + MARGIN);
}

fn line(scene: &mut Scene, figure: &Figure, top: i32) {
    let labels = tick_labels(&figure.axes[0]);
    let bottom = top + 280;
    let scale = Scale::new(figure, bottom, top);
    let ticks = scale.ticks();
    let widest = ticks.iter().map(|&value| font::width(&tick(value, scale.step), SMALL, false)).max().unwrap_or(0);
    let (left, width) = (MARGIN + 20 + widest + 8, 600);
    for value in ticks {
        let y = scale.at(value);
        scene.line(vec![(left, y), (left + width, y)], [232, 232, 232], 1);
        scene.text(tick(value, scale.step), left - 8, y, SMALL, Align::End, palette::INK);
    }
    let last = (labels.len() as i32 - 1).max(1);
    let x = |i: usize| left + 12 + (width - 24) * i as i32 / last;
    // A stretch of measured points; a gap in the data is a gap in the line.
    let measured: Vec<usize> = (0..labels.len()).filter(|&i| !figure.values[i].is_nan()).collect();
    for run in measured.chunk_by(|a, b| a + 1 == *b) {
        let band: Vec<(usize, [f64; 2])> = run.iter().filter_map(|&i| Some((i, figure.intervals[i]?))).collect();
        let lower = band.iter().map(|&(i, [lo, _])| (x(i), scale.at(lo)));
        let upper = band.iter().rev().map(|&(i, [_, hi])| (x(i), scale.at(hi)));
        if band.len() > 1 {
            let fill = palette::mix(palette::NEGATIVE, palette::BACKGROUND, 0.8);
            scene.shapes.push(Shape::Polygon { points: lower.chain(upper).collect(), fill });
        }
    }
    scene.line(vec![(left, scale.at(0.0)), (left + width, scale.at(0.0))], palette::FRAME, 1);
    for run in measured.chunk_by(|a, b| a + 1 == *b) {
        let points: Vec<(i32, i32)> = run.iter().map(|&i| (x(i), scale.at(figure.values[i]))).collect();
        scene.line(points.clone(), palette::NEGATIVE, 2);
        if labels.len() <= 100 || points.len() == 1 {
            let is_open = |i: usize| figure.is_below_floor(i) || figure.is_muted(i);
            let color = |i: usize| if is_open(i) { palette::FRAME } else { palette::NEGATIVE };
            let dots = run.iter().zip(&points);
            scene.shapes.extend(dots.map(|(&i, &(x, y))| Shape::Dot { x, y, radius: 3, fill: color(i) }));
        }
    }
    let room = labels.iter().map(|label| font::width(label, SMALL, false)).max().unwrap_or(0) + 8;
    let each = ((width - 24) / last).max(1);
    let step = [1, 2, 4, 8, 16, 32, 64, 128, 256].into_iter().find(|step| step * each >= room).unwrap_or(512);
    for (i, label) in labels.iter().enumerate().step_by(step as usize) {
        scene.line(vec![(x(i), bottom), (x(i), bottom + 4)], palette::FRAME, 1);
        scene.text(label, x(i), bottom + 14, SMALL, Align::Middle, palette::INK);
    }
    scene.text(axis_title(&figure.axes[0]), left + width / 2, bottom + 34, TEXT + 1, Align::Middle, palette::INK);
    scene.text(figure.quantity(), MARGIN + 6, (top + bottom) / 2, TEXT + 1, Align::Middle, palette::INK).upright = true;
    (scene.width, scene.height) = (left + width + MARGIN, bottom + 34 + TEXT / 2 + MARGIN);
}

fn bar_color(figure: &Figure, cell: usize) -> palette::Rgb {
    let hue = if figure.values[cell] < 0.0 { palette::NEGATIVE } else { palette::POSITIVE };
    match (figure.is_below_floor(cell), figure.is_muted(cell)) {
        (true, _) => [200, 200, 200],
        (_, true) => palette::muted(hue),
        _ => palette::mix(hue, palette::BACKGROUND, 0.25),
    }
}
