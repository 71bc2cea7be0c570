//! A figure as shapes in units of one SVG pixel, before any backend. Knows nothing of effects.

use super::palette::Rgb;

/// Shapes in drawing order on a white page.
#[derive(Debug, Default)]
pub struct Scene {
    pub width: i32,
    pub height: i32,
    pub shapes: Vec<Shape>,
}

#[derive(Debug)]
pub enum Shape {
    /// Filled, without a border.
    Rect {
        x: i32,
        y: i32,
        w: i32,
        h: i32,
        fill: Rgb,
    },
    /// A border of `width` drawn inwards.
    Frame {
        x: i32,
        y: i32,
        w: i32,
        h: i32,
        color: Rgb,
        width: i32,
    },
    Line {
        points: Vec<(i32, i32)>,
        color: Rgb,
        width: i32,
    },
    /// Filled, without a border.
    Polygon {
        points: Vec<(i32, i32)>,
        fill: Rgb,
    },
    Dot {
        x: i32,
        y: i32,
        radius: i32,
        fill: Rgb,
    },
    Text(Text),
}

/// One line of text at an anchor point.
#[derive(Debug)]
pub struct Text {
    pub text: String,
    pub x: i32,
    pub y: i32,
    pub size: i32,
    pub align: Align,
    pub color: Rgb,
    pub bold: bool,
    /// Turned a quarter left, to be read from the bottom up.
    pub upright: bool,
}

/// Which point of a line of text its anchor is, along the line; across the line it is always the middle.
#[derive(Debug, Clone, Copy)]
pub enum Align {
    Start,
    Middle,
    End,
}

impl Scene {
    pub fn rect(&mut self, x: i32, y: i32, w: i32, h: i32, fill: Rgb) {
        self.shapes.push(Shape::Rect { x, y, w, h, fill });
    }

    pub fn frame(&mut self, x: i32, y: i32, w: i32, h: i32, color: Rgb, width: i32) {
        self.shapes.push(Shape::Frame { x, y, w, h, color, width });
    }

    pub fn line(&mut self, points: Vec<(i32, i32)>, color: Rgb, width: i32) {
        self.shapes.push(Shape::Line { points, color, width });
    }

    /// Text whose anchor is at (x, y); the rest is set on what is returned.
    pub fn text(&mut self, text: impl Into<String>, x: i32, y: i32, size: i32, align: Align, color: Rgb) -> &mut Text {
        let text = Text { text: text.into(), x, y, size, align, color, bold: false, upright: false };
        self.shapes.push(Shape::Text(text));
        match self.shapes.last_mut() {
            Some(Shape::Text(text)) => text,
            _ => unreachable!("it was just pushed"),
        }
    }
}
