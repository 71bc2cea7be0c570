//! Several curves over one axis of numbers, each with a band around it. Layout only.

use super::font;
use super::palette;
use super::scene::{Align, Scene, Shape};
use super::{round_step, tick};

const MARGIN: i32 = 18;
const TITLE: i32 = 16;
const TEXT: i32 = 12;
const SMALL: i32 = 11;
/// Width and height of the frame.
const WIDE: i32 = 600;
const HIGH: i32 = 300;
/// More points than these are drawn as a line alone.
const DOTS: usize = 100;
/// Of the curves in their order; with more they begin again.
const COLORS: [palette::Rgb; 4] = [palette::POSITIVE, palette::NEGATIVE, [110, 110, 110], [27, 120, 55]];

/// Curves that share their axes.
#[derive(Debug, Clone)]
pub struct Curves {
    /// First line.
    pub title: String,
    /// Second line; may be empty.
    pub subtitle: String,
    /// What x counts.
    pub x: String,
    /// What y is, with its unit.
    pub y: String,
    /// The first is drawn on top.
    pub curves: Vec<Curve>,
}

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// As the legend has it.
    pub name: String,
    /// From the smallest x to the largest.
    pub points: Vec<Point>,
}

/// One point of a curve.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Place on the axis; not negative.
    pub x: f64,
    /// Value; a point without a finite one is left out.
    pub y: f64,
    /// What its uncertainty spans.
    pub band: Option<[f64; 2]>,
}

pub fn layout(figure: &Curves) -> Scene {
    let mut scene = Scene::default();
    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let curves: Vec<(&str, palette::Rgb, Vec<Point>)> =
        figure.curves.iter().zip(COLORS.iter().cycle()).map(drawn).collect();
    let all = || curves.iter().flat_map(|(_, _, points)| points);
    let scale = Scale::new(all());

    let top = MARGIN + TITLE + 34;
    let bottom = top + HIGH;
    let ticks = scale.ticks();
    let widest = ticks.iter().map(|&value| font::width(&tick(value, scale.step), SMALL, false)).max().unwrap_or(0);
    let left = MARGIN + 20 + widest + 8;
    let up = |value: f64| {
        let share = (value.clamp(scale.low, scale.high) - scale.low) / (scale.high - scale.low);
        bottom - (share * f64::from(HIGH)).round() as i32
    };
    let last = all().map(|point| point.x).fold(0.0f64, f64::max);
    let (x_step, x_end) = if last > 0.0 { (round_step(last), last) } else { (1.0, 1.0) };
    let across = |value: f64| left + 12 + (value / x_end * f64::from(WIDE - 24)).round() as i32;

    for value in ticks {
        scene.line(vec![(left, up(value)), (left + WIDE, up(value))], [232, 232, 232], 1);
        scene.text(tick(value, scale.step), left - 8, up(value), SMALL, Align::End, palette::INK);
    }
    for i in 0..=(x_end / x_step + 1e-9).floor() as i32 {
        let value = f64::from(i) * x_step;
        scene.line(vec![(across(value), bottom), (across(value), bottom + 4)], palette::FRAME, 1);
        scene.text(tick(value, x_step), across(value), bottom + 14, SMALL, Align::Middle, palette::INK);
    }
    scene.line(vec![(left, up(0.0)), (left + WIDE, up(0.0))], palette::FRAME, 1);
    // All bands lie under all lines, and the first curve is drawn last.
    for (_, color, points) in curves.iter().rev() {
        let band: Vec<(i32, [f64; 2])> = points.iter().filter_map(|p| Some((across(p.x), p.band?))).collect();
        let lower = band.iter().map(|&(x, [low, _])| (x, up(low)));
        let upper = band.iter().rev().map(|&(x, [_, high])| (x, up(high)));
        if band.len() > 1 {
            let fill = palette::mix(*color, palette::BACKGROUND, 0.8);
            scene.shapes.push(Shape::Polygon { points: lower.chain(upper).collect(), fill });
        }
    }
    for (_, color, points) in curves.iter().rev() {
        let places: Vec<(i32, i32)> = points.iter().map(|point| (across(point.x), up(point.y))).collect();
        if places.len() <= DOTS {
            scene.shapes.extend(places.iter().map(|&(x, y)| Shape::Dot { x, y, radius: 3, fill: *color }));
        }
        if places.len() > 1 {
            scene.line(places, *color, 2);
        }
    }
    let names = left + WIDE + 16;
    for (row, (name, color, _)) in (0..).zip(&curves) {
        let y = top + 10 + 20 * row;
        scene.line(vec![(names, y), (names + 22, y)], *color, 2);
        scene.text(*name, names + 30, y, SMALL, Align::Start, palette::INK);
    }
    scene.text(&figure.x, left + WIDE / 2, bottom + 34, TEXT + 1, Align::Middle, palette::INK);
    scene.text(&figure.y, MARGIN + 6, (top + bottom) / 2, TEXT + 1, Align::Middle, palette::INK).upright = true;
    let legend = curves.iter().map(|(name, ..)| font::width(name, SMALL, false)).max().unwrap_or(0);
    let words = font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false)) + 2 * MARGIN;
    (scene.width, scene.height) = ((names + 30 + legend + MARGIN).max(words), bottom + 34 + TEXT / 2 + MARGIN);
    scene
}

/// What of a curve can be drawn.
fn drawn<'a>((curve, color): (&'a Curve, &palette::Rgb)) -> (&'a str, palette::Rgb, Vec<Point>) {
    let finite = |point: &Point| Point { band: point.band.filter(|band| band.iter().all(|x| x.is_finite())), ..*point };
    let points = curve.points.iter().filter(|point| point.y.is_finite()).map(finite).collect();
    (&curve.name, *color, points)
}

/// The values that the vertical axis spans, 0 among them.
struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

impl Scale {
    fn new<'a>(points: impl Iterator<Item = &'a Point>) -> Self {
        let (mut values, mut bands) = ((0.0f64, 0.0f64), (0.0f64, 0.0f64));
        let reach = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        for point in points {
            values = reach(values, point.y);
            bands = point.band.into_iter().flatten().fold(bands, reach);
        }
        // A band that hardly leaves the curves' range does not stretch the axis: probabilities end at 0 and 1.
        let room = (values.1 - values.0) / 20.0;
        let low = if bands.0 < values.0 - room { bands.0 } else { values.0 };
        let high = if bands.1 > values.1 + room { bands.1 } else { values.1 };
        let (low, high) = if low == high { (0.0, 1.0) } else { (low, high) };
        let step = round_step(high - low);
        Self { low: (low / step - 1e-9).floor() * step, high: (high / step + 1e-9).ceil() * step, step }
    }

    fn ticks(&self) -> Vec<f64> {
        let n = ((self.high - self.low) / self.step).round() as i32;
        (0..=n).map(|i| self.low + f64::from(i) * self.step).collect()
    }
}
