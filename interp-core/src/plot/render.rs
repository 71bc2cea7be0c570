//! A scene to SVG or PNG bytes through plotters, with the embedded font. Decides nothing about what is shown.

use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text as PlottersText};
use plotters::prelude::{
    BitMapBackend, Color as _, DrawingArea, DrawingBackend, IntoDrawingArea as _, RGBColor, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, IntoFont as _, ShapeStyle, TextStyle};

use super::font;
use super::palette::{BACKGROUND, Rgb};
use super::scene::{Align, Scene, Shape, Text};
use crate::error::{Error, Result};

/// What an SVG asks the viewer for: the embedded font if it is installed there, else any sans-serif.
const FAMILY: &str = "Source Sans Pro, Source Sans 3, Helvetica, Arial, sans-serif";

/// PNG pixels per scene unit, and the resolution that makes both print at the same size (96 units per inch).
const SCALE: i32 = 3;
const PIXELS_PER_METRE: u32 = (SCALE as u32 * 96 * 10_000) / 254;

/// How text gets onto the page.
#[derive(Clone, Copy)]
enum Words {
    /// As text, for the viewer to set.
    Text,
    /// As pixels of the embedded font.
    Pixels,
}

/// plotters sizes fonts by line height; this is its own ratio to the em.
const LINE_HEIGHT: f64 = 1.24;

pub fn svg(scene: &Scene) -> Result<String> {
    let mut text = String::new();
    let size = (scene.width as u32, scene.height as u32);
    draw(scene, SVGBackend::with_string(&mut text, size).into_drawing_area(), 1, Words::Text)?;
    Ok(text)
}

pub fn png(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = ((scene.width * SCALE) as u32, (scene.height * SCALE) as u32);
    let mut pixels = vec![0; 3 * (width * height) as usize];
    draw(scene, BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), SCALE, Words::Pixels)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    // Flat colours: filters would only get in the way of repetition.
    encoder.set_compression(png::Compression::Default);
    encoder.set_filter(png::FilterType::NoFilter);
    let unit = png::Unit::Meter;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: PIXELS_PER_METRE, yppu: PIXELS_PER_METRE, unit }));
    let fail = |e: png::EncodingError| Error::Figure { problem: e.to_string() };
    let mut writer = encoder.write_header().map_err(fail)?;
    writer.write_image_data(&pixels).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(bytes)
}

fn draw<B: DrawingBackend>(scene: &Scene, area: DrawingArea<B, Shift>, scale: i32, words: Words) -> Result<()> {
    let paint = || {
        area.fill(&color(BACKGROUND))?;
        scene.shapes.iter().try_for_each(|shape| draw_shape(&area, shape, scale, words))?;
        area.present()
    };
    paint().map_err(|e| Error::Figure { problem: e.to_string() })
}

fn draw_shape<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    shape: &Shape,
    k: i32,
    words: Words,
) -> std::result::Result<(), plotters::drawing::DrawingAreaErrorKind<B::ErrorType>> {
    let scaled = |points: &[(i32, i32)]| points.iter().map(|&(x, y)| (x * k, y * k)).collect::<Vec<_>>();
    match shape {
        Shape::Rect { x, y, w, h, fill } => {
            area.draw(&Rectangle::new([(x * k, y * k), ((x + w) * k, (y + h) * k)], color(*fill).filled()))
        }
        // Four bars, because a stroked rectangle is centred on its edge in one backend and not in the other.
        &Shape::Frame { x, y, w, h, color: stroke, width } => {
            let bars = [(x, y, w, width), (x, y + h - width, w, width), (x, y, width, h), (x + w - width, y, width, h)];
            bars.into_iter()
                .try_for_each(|(x, y, w, h)| draw_shape(area, &Shape::Rect { x, y, w, h, fill: stroke }, k, words))
        }
        Shape::Line { points, color: stroke, width } => area.draw(&PathElement::new(
            scaled(points),
            ShapeStyle::from(&color(*stroke)).stroke_width((width * k) as u32),
        )),
        Shape::Polygon { points, fill } => area.draw(&Polygon::new(scaled(points), color(*fill).filled())),
        Shape::Dot { x, y, radius, fill } => area.draw(&Circle::new((x * k, y * k), radius * k, color(*fill).filled())),
        Shape::Text(text) => match words {
            Words::Text => {
                // SVG centres on the small letters; this moves the middle of the capitals there.
                let lower = (text.size as f32 * (font::CAP_HEIGHT / 2.0 - 0.24)).round() as i32;
                let (x, y) = if text.upright { (text.x + lower, text.y) } else { (text.x, text.y + lower) };
                area.draw(&PlottersText::new(text.text.as_str(), (x * k, y * k), text_style(text, k)))
            }
            Words::Pixels => draw_pixels(area, text, k),
        },
    }
}

fn draw_pixels<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    text: &Text,
    k: i32,
) -> std::result::Result<(), plotters::drawing::DrawingAreaErrorKind<B::ErrorType>> {
    let (width, height) = area.dim_in_pixel();
    let shift = match text.align {
        Align::Start => 0.0,
        Align::Middle => 0.5,
        Align::End => 1.0,
    };
    let mut result = Ok(());
    font::draw(&text.text, text.size * k, text.bold, shift, |along, below, coverage| {
        let (dx, dy) = if text.upright { (below, -along) } else { (along, below) };
        let (x, y) = (text.x * k + dx, text.y * k + dy);
        let inside = x >= 0 && y >= 0 && x < width as i32 && y < height as i32;
        if inside && result.is_ok() {
            result = area.draw_pixel((x, y), &color(text.color).mix(f64::from(coverage.min(1.0))));
        }
    });
    result
}

fn text_style(text: &Text, scale: i32) -> TextStyle<'static> {
    let style = if text.bold { FontStyle::Bold } else { FontStyle::Normal };
    let mut font = (FAMILY, f64::from(text.size * scale) * LINE_HEIGHT, style).into_font();
    if text.upright {
        font = font.transform(FontTransform::Rotate270);
    }
    let align = match text.align {
        Align::Start => HPos::Left,
        Align::Middle => HPos::Center,
        Align::End => HPos::Right,
    };
    let color = color(text.color).to_backend_color();
    TextStyle { font, color, pos: Pos::new(align, VPos::Center) }
}

fn color([r, g, b]: Rgb) -> RGBColor {
    RGBColor(r, g, b)
}
