//! A scene to SVG or PNG bytes through plotters, with the embedded font. Decides nothing about what is shown.

use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text as PlottersText};
use plotters::prelude::{BitMapBackend, Color as _, DrawingArea, DrawingBackend, IntoDrawingArea as _, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, IntoFont as _, ShapeStyle, TextStyle, register_font};

use super::palette::{BACKGROUND, Rgb};
use super::scene::{Align, Scene, Shape, Text};
use crate::error::{Error, Result};

/// Family name of the embedded font. It doubles as the SVG's `font-family`, hence the list of fallbacks.
const FAMILY: &str = "Source Sans Pro, Source Sans 3, Helvetica, Arial, sans-serif";
static REGULAR: &[u8] = include_bytes!("../../assets/SourceSansPro-Regular.ttf");
static SEMIBOLD: &[u8] = include_bytes!("../../assets/SourceSansPro-Semibold.ttf");

/// PNG pixels per scene unit, and the resolution that makes both print at the same size (96 units per inch).
const SCALE: i32 = 3;
const PIXELS_PER_METRE: u32 = (SCALE as u32 * 96 * 10_000) / 254;

/// plotters sizes fonts by line height; this is its own ratio to the em.
const LINE_HEIGHT: f64 = 1.24;

/// Makes the embedded font known to plotters. Cheap to repeat.
pub fn register_fonts() -> Result<()> {
    for (style, bytes) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, SEMIBOLD)] {
        let fail = |_| Error::Figure { problem: "the embedded font does not parse".into() };
        register_font(FAMILY, style, bytes).map_err(fail)?;
    }
    Ok(())
}

/// Width of a line of text in scene units; [`register_fonts`] comes first.
pub fn text_width(text: &str, size: i32) -> i32 {
    let font = (FAMILY, f64::from(size) * LINE_HEIGHT).into_font();
    // Without the font, drawing fails anyway; a guess keeps layout total.
    font.box_size(text).map_or(size * text.chars().count() as i32 / 2, |(width, _)| width as i32)
}

pub fn svg(scene: &Scene) -> Result<String> {
    let mut text = String::new();
    let size = (scene.width as u32, scene.height as u32);
    draw(scene, SVGBackend::with_string(&mut text, size).into_drawing_area(), 1)?;
    Ok(text)
}

pub fn png(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = ((scene.width * SCALE) as u32, (scene.height * SCALE) as u32);
    let mut pixels = vec![0; 3 * (width * height) as usize];
    draw(scene, BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area(), SCALE)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let unit = png::Unit::Meter;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: PIXELS_PER_METRE, yppu: PIXELS_PER_METRE, unit }));
    let fail = |e: png::EncodingError| Error::Figure { problem: e.to_string() };
    let mut writer = encoder.write_header().map_err(fail)?;
    writer.write_image_data(&pixels).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(bytes)
}

fn draw<B: DrawingBackend>(scene: &Scene, area: DrawingArea<B, Shift>, scale: i32) -> Result<()> {
    let paint = || {
        area.fill(&color(BACKGROUND))?;
        scene.shapes.iter().try_for_each(|shape| draw_shape(&area, shape, scale))?;
        area.present()
    };
    paint().map_err(|e| Error::Figure { problem: e.to_string() })
}

fn draw_shape<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    shape: &Shape,
    k: i32,
) -> std::result::Result<(), plotters::drawing::DrawingAreaErrorKind<B::ErrorType>> {
    let scaled = |points: &[(i32, i32)]| points.iter().map(|&(x, y)| (x * k, y * k)).collect::<Vec<_>>();
    match shape {
        Shape::Rect { x, y, w, h, fill } => {
            area.draw(&Rectangle::new([(x * k, y * k), ((x + w) * k, (y + h) * k)], color(*fill).filled()))
        }
        // Four bars, because a stroked rectangle is centred on its edge in one backend and not in the other.
        &Shape::Frame { x, y, w, h, color: stroke, width } => {
            let bars = [
                (x, y, w, width),
                (x, y + h - width, w, width),
                (x, y, width, h),
                (x + w - width, y, width, h),
            ];
            bars.into_iter().try_for_each(|(x, y, w, h)| draw_shape(area, &Shape::Rect { x, y, w, h, fill: stroke }, k))
        }
        Shape::Line { points, color: stroke, width } => {
            area.draw(&PathElement::new(scaled(points), ShapeStyle::from(&color(*stroke)).stroke_width((width * k) as u32)))
        }
        Shape::Polygon { points, fill } => area.draw(&Polygon::new(scaled(points), color(*fill).filled())),
        Shape::Dot { x, y, radius, fill } => area.draw(&Circle::new((x * k, y * k), radius * k, color(*fill).filled())),
        Shape::Text(text) => area.draw(&PlottersText::new(text.text.as_str(), (text.x * k, text.y * k), text_style(text, k))),
    }
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
