//! Written span ranges to ranges of token positions. Knows no tokenizer: it is given each token's characters.

use std::ops::Range;

/// Which characters of a text its tokens stand for.
pub(super) struct TokenChars {
    /// Characters in the text.
    pub(super) n_chars: usize,
    /// Half-open range of each token; empty for a token that stands for none.
    pub(super) of_token: Vec<(usize, usize)>,
}

/// Checks half-open token ranges of a prompt of `n_tokens` and merges them into sorted, disjoint ranges.
pub(super) fn from_tokens(ranges: &[[usize; 2]], n_tokens: usize) -> Result<Vec<Range<usize>>, String> {
    Ok(merge(check(ranges, n_tokens, "tokens")?))
}

/// The tokens that overlap half-open character ranges.
pub(super) fn from_chars(ranges: &[[usize; 2]], chars: &TokenChars) -> Result<Vec<Range<usize>>, String> {
    let mut found = Vec::new();
    for range in check(ranges, chars.n_chars, "characters")? {
        let before = found.len();
        let overlaps = |&(start, end): &(usize, usize)| start < end && start < range.end && range.start < end;
        found.extend(chars.of_token.iter().zip(0..).filter(|(chars, _)| overlaps(chars)).map(|(_, at)| at..at + 1));
        if found.len() == before {
            return Err(format!("characters [{}, {}] belong to no token", range.start, range.end));
        }
    }
    Ok(merge(found))
}

fn check(ranges: &[[usize; 2]], len: usize, unit: &str) -> Result<Vec<Range<usize>>, String> {
    if ranges.is_empty() {
        return Err("it has no ranges".into());
    }
    ranges
        .iter()
        .map(|&[start, end]| match (start < end, end <= len) {
            (true, true) => Ok(start..end),
            (false, _) => Err(format!("[{start}, {end}] is empty (ranges are half-open)")),
            (true, false) => Err(format!("[{start}, {end}] ends beyond the prompt's {len} {unit}")),
        })
        .collect()
}

/// Sorted and disjoint; touching ranges become one, since only their union has a meaning.
fn merge(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a span is a list of ranges, often of one")]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_merged() {
        assert_eq!(from_tokens(&[[4, 5], [0, 2], [1, 3], [3, 4]], 5).unwrap(), [0..5]);
        assert_eq!(from_tokens(&[[10, 11], [4, 5]], 11).unwrap(), [4..5, 10..11]);
        assert_eq!(from_tokens(&[[1, 1]], 5).unwrap_err(), "[1, 1] is empty (ranges are half-open)");
        assert_eq!(from_tokens(&[[1, 6]], 5).unwrap_err(), "[1, 6] ends beyond the prompt's 5 tokens");
        assert_eq!(from_tokens(&[], 5).unwrap_err(), "it has no ranges");
    }

    #[test]
    fn a_token_that_overlaps_the_characters_belongs_to_them() {
        // A special token, "ab", two halves of "c", a gap, "d".
        let tokens = TokenChars { n_chars: 5, of_token: vec![(0, 0), (0, 2), (2, 3), (2, 3), (4, 5)] };
        assert_eq!(from_chars(&[[1, 3]], &tokens).unwrap(), [1..4]);
        assert_eq!(from_chars(&[[4, 5], [0, 1]], &tokens).unwrap(), [1..2, 4..5]);
        assert_eq!(from_chars(&[[3, 4]], &tokens).unwrap_err(), "characters [3, 4] belong to no token");
        assert_eq!(from_chars(&[[3, 6]], &tokens).unwrap_err(), "[3, 6] ends beyond the prompt's 5 characters");
    }
}
