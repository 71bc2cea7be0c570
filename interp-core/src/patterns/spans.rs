//! Where the attention of one position goes: to named spans, to the first token, to the rest. Plain numbers.

use std::ops::Range;

/// How the attention `row` (a number per key) of one destination falls on `spans`, then on the first token where that is in none of
/// them (a BOS, say, on which heads rest that have nothing to do), then on everything else. Spans that overlap count twice;
/// where they do not, the numbers add up to the row's sum.
pub fn attention_to(row: &[f64], spans: &[&[Range<usize>]]) -> Vec<f64> {
    let within = |range: &Range<usize>| range.start.min(row.len())..range.end.min(row.len());
    let mass = |ranges: &[Range<usize>]| ranges.iter().map(|range| row[within(range)].iter().sum::<f64>()).sum::<f64>();
    let is_named = |position: usize| spans.iter().copied().flatten().any(|range| range.contains(&position));
    let rest = (1..row.len()).filter(|&position| !is_named(position)).map(|position| row[position]).sum();
    let first = if is_named(0) { 0.0 } else { row.first().copied().unwrap_or(0.0) };
    spans.iter().map(|ranges| mass(ranges)).chain([first, rest]).collect()
}

/// Whether any position is in two of the spans.
pub fn overlap(spans: &[&[Range<usize>]]) -> bool {
    let mut all: Vec<&Range<usize>> = spans.iter().copied().flatten().collect();
    all.sort_by_key(|range| range.start);
    all.windows(2).any(|pair| pair[1].start < pair[0].end)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a span is a list of ranges, often of one")]
mod tests {
    use super::*;

    #[test]
    fn masses_add_up() {
        let row = [0.125, 0.25, 0.0625, 0.5, 0.0625];
        let (a, b): (&[Range<usize>], &[Range<usize>]) = (&[1..2, 4..6], &[2..3]);
        assert_eq!(attention_to(&row, &[a, b]), [0.3125, 0.0625, 0.125, 0.5], "a span may end behind the destination");
        assert_eq!(attention_to(&row, &[a, b]).iter().sum::<f64>(), 1.0);
        assert_eq!(attention_to(&row, &[&[0..1]]), [0.125, 0.0, 0.875], "the first token belongs to its span");
        assert_eq!(attention_to(&row, &[]), [0.125, 0.875]);
        assert!(!overlap(&[a, b]) && overlap(&[a, &[5..7]]) && overlap(&[&[0..9], b]));
    }
}
