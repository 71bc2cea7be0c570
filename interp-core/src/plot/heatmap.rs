//! Two axes: cells in a diverging colour, the strongest outlined and listed. Layout only. Its pieces serve `maps` too.

use super::font;
use super::palette::{self, Rgb};
use super::scene::{Align, Scene};
use super::{Figure, Muted, axis_title, fixed, largest, round_step, tick, tick_labels};
use crate::scores::{Coordinate, GridAxis, cell_label};

pub const MARGIN: i32 = 18;
pub const TITLE: i32 = 16;
pub const TEXT: i32 = 12;
pub const SMALL: i32 = 11;
/// Room the grid may take before cells shrink, and the smallest and largest cell.
const ROOM: (i32, i32) = (760, 640);
const CELL: (i32, i32) = (4, 44);
/// From this size on a cell can carry its own value.
const CELL_WITH_VALUE: i32 = 36;
const BAR_WIDTH: i32 = 14;

pub fn layout(figure: &Figure) -> Scene {
    let (rows, columns) = (figure.axes[0].labels.len() as i32, figure.axes[1].labels.len() as i32);
    let cell = (ROOM.0 / columns).min(ROOM.1 / rows).clamp(CELL.0, CELL.1);
    let largest = largest(&figure.values);
    let cells = Cells {
        axes: &figure.axes,
        values: &figure.values,
        below_floor: figure.below_floor.as_deref(),
        muted: figure.muted.as_ref(),
        // On a small grid ten outlines would say nothing.
        outlined: strongest(figure).into_iter().take((figure.values.len() / 8).max(1)).collect(),
        largest,
    };
    let mut scene = Scene::default();
    let x0 = MARGIN + cells.room_left();
    let y0 = MARGIN + TITLE + if figure.subtitle.is_empty() { 16 } else { 34 };
    let (grid_w, grid_h) = (columns * cell, rows * cell);
    let axis_y = cells.draw(&mut scene, (x0, y0), cell);

    // Short grids keep a bar and a list that can be read.
    let side_h = grid_h.max(176);
    let bar_x = x0 + grid_w + 24;
    let list_x = draw_color_bar(&mut scene, &figure.quantity(), largest, (bar_x, y0), side_h);
    let (right, list_bottom) = draw_list(&mut scene, figure, (list_x + 22, y0), side_h);
    let (legend_right, legend_y) = draw_legend(&mut scene, &[&cells], (x0, axis_y.max(list_bottom) + 24));

    scene.text(&figure.title, MARGIN, MARGIN + TITLE / 2, TITLE, Align::Start, palette::INK).bold = true;
    scene.text(&figure.subtitle, MARGIN, MARGIN + TITLE + 12, TEXT, Align::Start, palette::SOFT);
    let title_right = MARGIN + font::width(&figure.title, TITLE, true).max(font::width(&figure.subtitle, TEXT, false));
    scene.width = right.max(title_right).max(legend_right) + MARGIN;
    scene.height = axis_y.max(y0 + side_h).max(list_bottom).max(legend_y) + MARGIN;
    scene
}

/// A grid of coloured cells with its ticks.
pub struct Cells<'a> {
    /// Two axes.
    pub axes: &'a [GridAxis],
    /// One per cell, row-major; NaN where there is none.
    pub values: &'a [f64],
    /// Cells drawn grey.
    pub below_floor: Option<&'a [bool]>,
    /// Cells drawn in muted colours.
    pub muted: Option<&'a Muted>,
    /// Cells with a frame.
    pub outlined: Vec<usize>,
    /// The |value| of the strongest colour.
    pub largest: f64,
}

impl Cells<'_> {
    /// What stands left of the cells: the axis title and labels.
    pub fn room_left(&self) -> i32 {
        20 + widest(&tick_labels(&self.axes[0])) + 8
    }

    /// Draws cells, ticks and axis titles, the upper left cell at (x0, y0). Returns the middle of the lowest line of text.
    pub fn draw(&self, scene: &mut Scene, (x0, y0): (i32, i32), cell: i32) -> i32 {
        let (rows, columns) = (self.axes[0].labels.len() as i32, self.axes[1].labels.len() as i32);
        let (row_ticks, column_ticks) = (tick_labels(&self.axes[0]), tick_labels(&self.axes[1]));
        // Numbers are thinned where they do not fit, names are turned: a missing name cannot be guessed.
        let named = matches!(self.axes[1].coordinate(0), Coordinate::Name(_));
        let upright = named && widest(&column_ticks) + 4 > cell;
        let ticks_height = if upright { widest(&column_ticks) + 6 } else { 16 };
        let (grid_w, grid_h) = (columns * cell, rows * cell);
        self.draw_cells(scene, (x0, y0), cell);
        draw_row_ticks(scene, &row_ticks, (x0, y0), cell);
        draw_column_ticks(scene, &column_ticks, (x0, y0 + grid_h), cell, upright);
        let title_x = x0 - self.room_left() + 6;
        let title = axis_title(&self.axes[0]);
        scene.text(title, title_x, y0 + grid_h / 2, TEXT + 1, Align::Middle, palette::INK).upright = true;
        let axis_y = y0 + grid_h + ticks_height + 14;
        scene.text(axis_title(&self.axes[1]), x0 + grid_w / 2, axis_y, TEXT + 1, Align::Middle, palette::INK);
        axis_y
    }

    fn draw_cells(&self, scene: &mut Scene, (x0, y0): (i32, i32), cell: i32) {
        let (rows, columns) = (self.axes[0].labels.len() as i32, self.axes[1].labels.len() as i32);
        // A hairline between cells helps to count them, but would eat small ones.
        let gap = i32::from(cell >= 12);
        for (index, &value) in self.values.iter().enumerate() {
            let (x, y) = (x0 + index as i32 % columns * cell, y0 + index as i32 / columns * cell);
            if value.is_nan() {
                hatch(scene, (x, y), cell);
                continue;
            }
            let fill = self.fill(index);
            scene.rect(x, y, cell - gap, cell - gap, fill);
            if cell >= CELL_WITH_VALUE {
                let (x, y) = (x + (cell - gap) / 2, y + (cell - gap) / 2);
                scene.text(fixed(value, self.largest, 3), x, y, SMALL, Align::Middle, palette::ink_on(fill));
            }
        }
        scene.frame(x0 - 1, y0 - 1, columns * cell + 2 - gap, rows * cell + 2 - gap, palette::FRAME, 1);
        for &index in &self.outlined {
            let (x, y) = (x0 + index as i32 % columns * cell, y0 + index as i32 / columns * cell);
            scene.frame(x - 1, y - 1, cell + 2 - gap, cell + 2 - gap, palette::INK, if cell >= 14 { 2 } else { 1 });
        }
    }

    fn is_below_floor(&self, cell: usize) -> bool {
        self.below_floor.is_some_and(|below| below[cell])
    }

    fn is_muted(&self, cell: usize) -> bool {
        self.muted.is_some_and(|muted| muted.cells[cell])
    }

    /// Whether any cell is drawn so.
    fn has_muted(&self) -> bool {
        (0..self.values.len())
            .any(|cell| self.is_muted(cell) && !self.is_below_floor(cell) && !self.values[cell].is_nan())
    }

    fn fill(&self, cell: usize) -> Rgb {
        let color = palette::diverging(self.values[cell] / self.largest);
        match (self.is_below_floor(cell), self.is_muted(cell)) {
            (true, _) => palette::BELOW_FLOOR,
            (_, true) => palette::muted(color),
            _ => color,
        }
    }
}

fn widest(labels: &[String]) -> i32 {
    labels.iter().map(|label| font::width(label, SMALL, false)).max().unwrap_or(0)
}

fn hatch(scene: &mut Scene, (x, y): (i32, i32), size: i32) {
    scene.line(vec![(x, y + size), (x + size, y)], palette::HATCH, 1);
    if size >= 16 {
        let half = size / 2;
        scene.line(vec![(x, y + half), (x + half, y)], palette::HATCH, 1);
        scene.line(vec![(x + half, y + size), (x + size, y + half)], palette::HATCH, 1);
    }
}

/// The `top` cells of largest |δ| that stand above the noise, strongest first, ties in axes order.
fn strongest(figure: &Figure) -> Vec<usize> {
    let cells = (0..figure.values.len()).filter(|&i| figure.values[i].abs() > 0.0 && !figure.is_below_floor(i));
    let mut cells: Vec<usize> = cells.collect();
    cells.sort_by(|&a, &b| figure.values[b].abs().total_cmp(&figure.values[a].abs()));
    cells.truncate(figure.top);
    cells
}

/// Every how many cells a label fits, `room` being what one label takes.
fn thinning(cell: i32, room: i32) -> usize {
    [1, 2, 4, 8, 16, 32, 64, 128].into_iter().find(|&step| step * cell >= room).unwrap_or(256) as usize
}

fn draw_row_ticks(scene: &mut Scene, labels: &[String], (x0, y0): (i32, i32), cell: i32) {
    for (i, label) in labels.iter().enumerate().step_by(thinning(cell, SMALL + 2)) {
        let y = y0 + i as i32 * cell + cell / 2;
        scene.line(vec![(x0 - 4, y), (x0 - 1, y)], palette::FRAME, 1);
        scene.text(label, x0 - 8, y, SMALL, Align::End, palette::INK);
    }
}

fn draw_column_ticks(scene: &mut Scene, labels: &[String], (x0, y1): (i32, i32), cell: i32, upright: bool) {
    let room = if upright { SMALL + 2 } else { widest(labels) + 4 };
    for (i, label) in labels.iter().enumerate().step_by(thinning(cell, room)) {
        let x = x0 + i as i32 * cell + cell / 2;
        scene.line(vec![(x, y1 + 1), (x, y1 + 4)], palette::FRAME, 1);
        match upright {
            true => scene.text(label, x, y1 + 8, SMALL, Align::End, palette::INK).upright = true,
            false => _ = scene.text(label, x, y1 + 12, SMALL, Align::Middle, palette::INK),
        }
    }
}

/// A bar that says what the colours mean. Returns where its labels end.
pub fn draw_color_bar(scene: &mut Scene, quantity: &str, largest: f64, (x, y): (i32, i32), height: i32) -> i32 {
    for i in 0..height {
        let share = 1.0 - 2.0 * f64::from(i) / f64::from(height - 1);
        scene.rect(x, y + i, BAR_WIDTH, 1, palette::diverging(share));
    }
    scene.frame(x - 1, y - 1, BAR_WIDTH + 2, height + 2, palette::FRAME, 1);
    let step = round_step(largest);
    let n = (largest / step + 1e-9).floor() as i32;
    let mut right = 0;
    for i in -n..=n {
        let value = f64::from(i) * step;
        let at = y + ((1.0 - value / largest) / 2.0 * f64::from(height - 1)).round() as i32;
        scene.line(vec![(x + BAR_WIDTH, at), (x + BAR_WIDTH + 4, at)], palette::FRAME, 1);
        let label = tick(value, step);
        right = right.max(font::width(&label, SMALL, false));
        scene.text(label, x + BAR_WIDTH + 7, at, SMALL, Align::Start, palette::INK);
    }
    let label_x = x + BAR_WIDTH + 7 + right + 14;
    scene.text(quantity, label_x, y + height / 2, TEXT, Align::Middle, palette::INK).upright = true;
    label_x + TEXT / 2
}

/// The strongest cells with their values. Returns where the list ends, right and below.
fn draw_list(scene: &mut Scene, figure: &Figure, (x, y): (i32, i32), height: i32) -> (i32, i32) {
    let line = 16;
    let cells = strongest(figure);
    let shown = cells.len().min(((height - 24) / line).max(0) as usize);
    if shown == 0 {
        return (x, y);
    }
    scene.text("Largest |δ|", x, y + 6, TEXT, Align::Start, palette::INK).bold = true;
    let value = |cell: &usize| fixed(figure.values[*cell], largest(&figure.values), 4);
    let label = |cell: &usize| cell_label(&figure.axes, *cell);
    let names = cells[..shown].iter().map(|cell| font::width(&label(cell), TEXT, false)).max().unwrap_or(0);
    let values = cells[..shown].iter().map(|cell| font::width(&value(cell), TEXT, false)).max().unwrap_or(0);
    let right = x + (names + 16 + values).max(font::width("Largest |δ|", TEXT, true));
    for (i, cell) in cells[..shown].iter().enumerate() {
        let y = y + 26 + i as i32 * line;
        scene.text(label(cell), x, y, TEXT, Align::Start, palette::INK);
        scene.text(value(cell), right, y, TEXT, Align::End, palette::INK);
    }
    (right, y + 26 + shown as i32 * line)
}

/// Explains hatched, grey and muted cells, if there are any. Returns where it ends, right and below.
pub fn draw_legend(scene: &mut Scene, grids: &[&Cells<'_>], (mut x, y): (i32, i32)) -> (i32, i32) {
    let (start, box_size) = (x, 12);
    let mut entry = |scene: &mut Scene, text: &str| {
        scene.frame(x - 1, y - 1, box_size + 2, box_size + 2, palette::FRAME, 1);
        scene.text(text, x + box_size + 6, y + box_size / 2, SMALL, Align::Start, palette::SOFT);
        x += box_size + 6 + font::width(text, SMALL, false) + 20;
    };
    let is_grey = |cells: &&Cells<'_>| {
        (0..cells.values.len()).any(|cell| cells.is_below_floor(cell) && !cells.values[cell].is_nan())
    };
    if grids.iter().any(is_grey) {
        scene.rect(start, y, box_size, box_size, palette::BELOW_FLOOR);
        entry(scene, "below the noise floor");
    }
    if let Some(muted) = grids.iter().find(|cells| cells.has_muted()).and_then(|cells| cells.muted) {
        let at = scene.shapes.len();
        entry(scene, &muted.said);
        // As below: the frame says where.
        if let super::scene::Shape::Frame { x, y, .. } = scene.shapes[at] {
            for (half, share) in [(0, 0.8), (box_size / 2, -0.8)] {
                let fill = palette::muted(palette::diverging(share));
                scene.rect(x + 1 + half, y + 1, box_size / 2, box_size, fill);
            }
        }
    }
    if grids.iter().any(|cells| cells.values.iter().any(|value| value.is_nan())) {
        let at = scene.shapes.len();
        entry(scene, "not measured");
        // The box's place is known only now; its hatch goes below its frame.
        if let super::scene::Shape::Frame { x, y, .. } = scene.shapes[at] {
            hatch(scene, (x + 1, y + 1), box_size);
        }
    }
    if x == start { (0, 0) } else { (x - 20, y + box_size) }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;

    #[test]
    fn cells_that_are_not_significant_keep_sign_and_size_in_paler_colours() {
        let figure = Figure {
            title: "T".into(),
            subtitle: String::new(),
            metric: "prob".into(),
            axes: vec![GridAxis::layers(0..1), GridAxis::heads(0..5)],
            values: vec![1.0, 0.5, -0.5, 0.25, f64::NAN],
            intervals: vec![None; 5],
            below_floor: Some(vec![false, false, false, true, false]),
            muted: Some(Muted { cells: vec![false, true, true, true, true], said: "not significant".into() }),
            top: 0,
        };
        let scene = layout(&figure);
        let fills: Vec<Rgb> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Rect { fill, .. } => Some(*fill),
                _ => None,
            })
            .take(4)
            .collect();
        let full = |share| palette::diverging(share);
        assert_eq!(fills, [full(1.0), palette::muted(full(0.5)), palette::muted(full(-0.5)), palette::BELOW_FLOOR]);
        let [red, blue] = [fills[1], fills[2]];
        assert!(red[0] > red[2] && blue[0] < blue[2] && red != full(0.5));
        let says = |figure: &Figure, what: &str| {
            layout(figure).shapes.iter().any(|shape| matches!(shape, Shape::Text(text) if text.text == what))
        };
        assert!(says(&figure, "not significant") && says(&figure, "below the noise floor"));
        // Cells that are grey or hatched anyway need no such word.
        let muted = Some(Muted { cells: vec![false, false, false, true, true], said: "not significant".into() });
        assert!(!says(&Figure { muted, ..figure }, "not significant"));
    }
}
