//! Where a needle goes in a text, and where it is found in a prompt. Token ids only.

use std::collections::HashSet;
use std::ops::Range;

/// Share of the needle's distinct tokens that a window of the prompt must hold to be taken for it.
const OVERLAP: f64 = 0.9;

/// `context`, cut so that it and `needle` take no more than `room` tokens, with the needle put in at `depth` per cent: behind the
/// last full stop before that place (at the very beginning, if there is none); at 100 at the end, wherever that is.
pub fn insert(
    context: &[i64],
    needle: &[i64],
    room: usize,
    depth: f64,
    is_full_stop: impl Fn(i64) -> bool,
) -> Vec<i64> {
    let context = &context[..context.len().min(room.saturating_sub(needle.len()))];
    let at = if depth >= 100.0 {
        context.len()
    } else {
        let place = (context.len() as f64 * depth / 100.0) as usize;
        context[..place].iter().rposition(|&token| is_full_stop(token)).map_or(0, |stop| stop + 1)
    };
    [&context[..at], needle, &context[at..]].concat()
}

/// The first window of the prompt, as long as `needle`, whose set of tokens holds more than nine tenths of the needle's. Sets
/// are not order: a window may be found that begins early, as in the original.
pub fn needle_span(prompt: &[i64], needle: &[i64]) -> Option<Range<usize>> {
    let wanted: HashSet<i64> = needle.iter().copied().collect();
    let holds = |start: usize| {
        let window: HashSet<i64> = prompt[start..start + needle.len()].iter().copied().collect();
        window.intersection(&wanted).count() as f64 / wanted.len() as f64 > OVERLAP
    };
    let starts = (prompt.len() + 1).checked_sub(needle.len()).filter(|_| !needle.is_empty())?;
    (0..starts).find(|&start| holds(start)).map(|start| start..start + needle.len())
}

/// `n` whole numbers from `from` to `to`, evenly spaced, halves rounded to even as numpy does.
pub fn linspace(from: usize, to: usize, n: usize) -> Vec<usize> {
    let step = (to as f64 - from as f64) / (n.max(2) - 1) as f64;
    (0..n).map(|i| (from as f64 + step * i as f64).round_ties_even() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: i64 = 9;

    fn put(context: &[i64], room: usize, depth: f64) -> Vec<i64> {
        insert(context, &[1, 2], room, depth, |token| token == STOP)
    }

    #[test]
    fn needles_go_behind_the_full_stop_before() {
        let context = [5, 5, STOP, 6, 6, 6, STOP, 7, 7, 7];
        assert_eq!(put(&context, 99, 50.0), [5, 5, STOP, 1, 2, 6, 6, 6, STOP, 7, 7, 7]);
        assert_eq!(put(&context, 99, 70.0), [5, 5, STOP, 6, 6, 6, STOP, 1, 2, 7, 7, 7], "right behind it");
        assert_eq!(put(&context, 99, 20.0), [1, 2, 5, 5, STOP, 6, 6, 6, STOP, 7, 7, 7], "no full stop before");
        assert_eq!(put(&context, 99, 100.0), [5, 5, STOP, 6, 6, 6, STOP, 7, 7, 7, 1, 2], "the end needs none");
        assert_eq!(put(&context, 7, 100.0), [5, 5, STOP, 6, 6, 1, 2], "what has no room is cut");
        assert_eq!(put(&context, 1, 50.0), [1, 2]);
    }

    #[test]
    fn needles_are_found_by_their_tokens() {
        assert_eq!(needle_span(&[5, 1, 2, 3, 4, 8], &[1, 2, 3, 4]), Some(1..5));
        // The needle begins at 1, but the window before holds the same set of tokens, and the first one counts.
        let prompt = [5, 1, 2, 3, 1, 4, 8];
        assert_eq!(needle_span(&prompt, &[1, 2, 3, 1]), Some(0..4));
        assert_eq!(needle_span(&prompt, &[1, 2, 3, 7]), None, "three of four are too few");
        assert_eq!(needle_span(&prompt, &[4, 8]), Some(5..7));
        assert_eq!((needle_span(&prompt, &[]), needle_span(&[1], &[1, 2])), (None, None));
    }

    #[test]
    fn lengths_and_depths_are_numpys() {
        assert_eq!(linspace(0, 100, 10), [0, 11, 22, 33, 44, 56, 67, 78, 89, 100]);
        let lengths = linspace(1000, 50_000, 20);
        assert_eq!((lengths.len(), lengths[0], lengths[1], lengths[19]), (20, 1000, 3579, 50_000));
        assert_eq!((linspace(5, 8, 1), linspace(5, 6, 3)), (vec![5], vec![5, 6, 6]));
    }
}
