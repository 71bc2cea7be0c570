//! The embedded font: how wide a line of text is, and its pixels. Knows no figures and no backend.
//!
//! plotters could draw text through the same rasterizer, but drops every glyph's left bearing and rounds its place, which
//! shows as uneven gaps; and it would need a registered font to do so.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, GlyphId, PxScale, ScaleFont as _, point};

static REGULAR: LazyLock<FontRef<'static>> =
    LazyLock::new(|| parse(include_bytes!("../../assets/SourceSansPro-Regular.ttf")));
static SEMIBOLD: LazyLock<FontRef<'static>> =
    LazyLock::new(|| parse(include_bytes!("../../assets/SourceSansPro-Semibold.ttf")));

/// Height of capitals and digits, in em.
pub const CAP_HEIGHT: f32 = 0.656;

fn parse(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font was parsed by a test")
}

fn font(bold: bool) -> &'static FontRef<'static> {
    if bold { &SEMIBOLD } else { &REGULAR }
}

/// The font's own scale for an em of `size` pixels.
fn scale(font: &FontRef<'_>, size: f32) -> PxScale {
    PxScale::from(size * font.height_unscaled() / font.units_per_em().unwrap_or(1000.0))
}

/// Glyphs with their places along the line, and the line's width, in pixels.
fn set(text: &str, size: f32, bold: bool) -> (Vec<(GlyphId, f32)>, f32) {
    let font = font(bold);
    let font = font.as_scaled(scale(font, size));
    let (mut glyphs, mut at) = (Vec::new(), 0.0);
    for c in text.chars() {
        let glyph = font.glyph_id(c);
        if let Some(&(last, _)) = glyphs.last() {
            at += font.kern(last, glyph);
        }
        glyphs.push((glyph, at));
        at += font.h_advance(glyph);
    }
    (glyphs, at)
}

/// Width of a line of text whose em is `size` units.
pub fn width(text: &str, size: i32, bold: bool) -> i32 {
    set(text, size as f32, bold).1.ceil() as i32
}

/// Calls `paint` with every covered pixel of a line: its place along the line from the anchor (`shift` widths before the
/// start: 0, ½ or 1), its place below the middle of the capitals, and its coverage 0 to 1.
pub fn draw(text: &str, size: i32, bold: bool, shift: f32, mut paint: impl FnMut(i32, i32, f32)) {
    let font = font(bold);
    let (glyphs, width) = set(text, size as f32, bold);
    let (start, baseline) = (-shift * width, size as f32 * CAP_HEIGHT / 2.0);
    for (glyph, at) in glyphs {
        let glyph = glyph.with_scale_and_position(scale(font, size as f32), point(start + at, baseline));
        if let Some(outline) = font.outline_glyph(glyph) {
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, coverage| paint(x as i32 + corner.x as i32, y as i32 + corner.y as i32, coverage));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_every_letter_we_write() {
        for bold in [false, true] {
            for c in "Largest |δ| L19.H17 −0.886 (…) µ".chars() {
                assert_ne!(font(bold).glyph_id(c), GlyphId(0), "{c}");
            }
        }
        assert!(width("mmm", 12, false) > width("iii", 12, false));
        let (mut low, mut high) = (i32::MAX, i32::MIN);
        draw("H", 100, false, 0.0, |_, y, _| (low, high) = (low.min(y), high.max(y)));
        assert!((low + high).abs() <= 2, "capitals are centred: {low} to {high}");
    }
}
