//! Colours. A diverging map whose middle is exactly 0, readable with red-green colour blindness (ColorBrewer RdBu).

/// Red, green, blue.
pub type Rgb = [u8; 3];

pub const INK: Rgb = [33, 33, 33];
pub const SOFT: Rgb = [110, 110, 110];
pub const FRAME: Rgb = [150, 150, 150];
pub const BACKGROUND: Rgb = [255, 255, 255];
/// A cell whose effect cannot be told from noise.
pub const BELOW_FLOOR: Rgb = [222, 222, 222];
/// What the colours of cells that are not significant are mixed with.
const MUTED: Rgb = [236, 236, 236];
/// The strokes over a cell that was not asked for.
pub const HATCH: Rgb = [190, 190, 190];
pub const POSITIVE: Rgb = [178, 24, 43];
pub const NEGATIVE: Rgb = [33, 102, 172];

/// ColorBrewer's 11-class RdBu, from most negative (blue) to most positive (red).
const RD_BU: [Rgb; 11] = [
    [5, 48, 97],
    [33, 102, 172],
    [67, 147, 195],
    [146, 197, 222],
    [209, 229, 240],
    [250, 250, 250],
    [253, 219, 199],
    [244, 165, 130],
    [214, 96, 77],
    [178, 24, 43],
    [103, 0, 31],
];

/// Colour of a value as a share of the largest |value|, −1 to 1.
pub fn diverging(share: f64) -> Rgb {
    let at = (share.clamp(-1.0, 1.0) + 1.0) / 2.0 * (RD_BU.len() - 1) as f64;
    let below = (at.floor() as usize).min(RD_BU.len() - 2);
    mix(RD_BU[below], RD_BU[below + 1], at - below as f64)
}

/// `a` turned into `b` by `share`, 0 to 1.
pub fn mix(a: Rgb, b: Rgb, share: f64) -> Rgb {
    std::array::from_fn(|i| (f64::from(a[i]) + share * (f64::from(b[i]) - f64::from(a[i]))).round() as u8)
}

/// A colour that can be told from the full ones and keeps its sign.
pub fn muted(color: Rgb) -> Rgb {
    mix(color, MUTED, 0.65)
}

/// Ink that reads on `fill`.
pub fn ink_on(fill: Rgb) -> Rgb {
    let [r, g, b] = fill.map(f64::from);
    if 0.299 * r + 0.587 * g + 0.114 * b > 140.0 { INK } else { BACKGROUND }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_middle_and_signs_are_told_apart() {
        assert_eq!(diverging(0.0), RD_BU[5]);
        assert_eq!((diverging(-1.0), diverging(1.0)), (RD_BU[0], RD_BU[10]));
        assert_eq!(diverging(7.0), diverging(1.0));
        assert_eq!((ink_on(diverging(0.0)), ink_on(diverging(1.0))), (INK, BACKGROUND));
        let [r, _, b] = muted(diverging(0.5));
        assert!(r > b + 10 && muted(diverging(0.5)) != diverging(0.1));
    }
}
