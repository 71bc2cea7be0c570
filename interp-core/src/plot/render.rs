//! A scene to SVG or PNG bytes through plotters, with the embedded font. Decides nothing about what is shown.

use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::prelude::{
    BitMapBackend, Color as _, DrawingArea, DrawingBackend, IntoDrawingArea as _, RGBColor, SVGBackend,
};
use plotters::style::ShapeStyle;

use super::font;
use super::palette::{BACKGROUND, Rgb};
use super::scene::{Align, Scene, Shape, Text};
use crate::error::{Error, Result};

/// What an SVG asks the viewer for: the embedded font if it is installed there, else any sans-serif.
/// Quoted, because an unquoted name with a digit makes strict viewers drop the whole list.
const FAMILY: &str =
    "'Source Sans Pro', 'Source Sans 3', Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// PNG pixels per scene unit, and the resolution that makes both print at the same size (96 units per inch).
const SCALE: i32 = 3;
const PIXELS_PER_METRE: u32 = (SCALE as u32 * 96 * 10_000) / 254;

/// How text gets onto the page.
#[derive(Clone, Copy)]
enum Words {
    /// Not by the backend: as text elements, for the viewer to set.
    Later,
    /// As pixels of the embedded font.
    Pixels,
}

pub fn svg(scene: &Scene) -> Result<String> {
    let mut text = String::new();
    let size = (scene.width as u32, scene.height as u32);
    draw(scene, SVGBackend::with_string(&mut text, size).into_drawing_area(), 1, Words::Later)?;
    // Words come last, and so on top, in both formats.
    let end = text.rfind("</svg>").ok_or_else(|| Error::Figure { problem: "plotters wrote no </svg>".into() })?;
    text.insert_str(end, &svg_words(scene));
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
            Words::Later => Ok(()),
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

/// Text elements of a scene. plotters cannot say `textLength`, which fits a wider fallback font into the room measured here.
fn svg_words(scene: &Scene) -> String {
    let mut words = format!("<g font-family=\"{FAMILY}\">\n");
    for shape in &scene.shapes {
        let Shape::Text(text) = shape else { continue };
        let anchor = match text.align {
            Align::Start => "start",
            Align::Middle => "middle",
            Align::End => "end",
        };
        let turn =
            if text.upright { format!(" transform=\"rotate(-90 {} {})\"", text.x, text.y) } else { String::new() };
        let weight = if text.bold { " font-weight=\"bold\"" } else { "" };
        let [r, g, b] = text.color;
        let escaped = text.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        words.push_str(&format!(
            "<text x=\"{}\" y=\"{:.1}\" font-size=\"{}\" text-anchor=\"{anchor}\" textLength=\"{}\" \
             lengthAdjust=\"spacingAndGlyphs\" fill=\"#{r:02x}{g:02x}{b:02x}\"{weight}{turn}>{escaped}</text>\n",
            text.x,
            text.y as f32 + text.size as f32 * font::CAP_HEIGHT / 2.0,
            text.size,
            font::width(&text.text, text.size, text.bold),
        ));
    }
    words.push_str("</g>\n");
    words
}

fn color([r, g, b]: Rgb) -> RGBColor {
    RGBColor(r, g, b)
}
