//! Position selectors resolved in prompts. Nothing here edits or runs anything.

use super::Prompt;
use crate::error::{Error, Result};
use crate::site::Positions;

impl Prompt {
    /// The positions a selector means here, sorted and distinct. `place` names the prompt in errors.
    pub fn positions(&self, selector: &Positions, place: &str) -> Result<Vec<usize>> {
        let mut positions = self.as_written(selector, place)?;
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    /// The positions in the selector's own order, perhaps repeated.
    fn as_written(&self, selector: &Positions, place: &str) -> Result<Vec<usize>> {
        let len = self.tokens.len();
        let refuse = |problem: String, hint: String| Error::Selector {
            what: "positions",
            value: selector.to_string(),
            problem,
            hint: Some(hint),
        };
        match selector {
            Positions::All => Ok((0..len).collect()),
            Positions::Index(list) => list
                .iter()
                .map(|&index| {
                    let position = if index < 0 { index.checked_add_unsigned(len as u64) } else { Some(index) };
                    position.and_then(|p| usize::try_from(p).ok()).filter(|&p| p < len).ok_or_else(|| {
                        refuse(
                            format!("{index} is out of range: {place} has {len} tokens"),
                            format!("positions are 0 to {}, or -{len} to -1 from the end", len.saturating_sub(1)),
                        )
                    })
                })
                .collect(),
            Positions::Span(name) => match self.spans.get(name) {
                Some(ranges) => Ok(ranges.iter().cloned().flatten().collect()),
                None if self.spans.is_empty() => Err(refuse(
                    format!("{place} has no spans"),
                    "name them in the prompt: \"spans\": {\"NAME\": [[start, end]]}".into(),
                )),
                None => {
                    let names: Vec<&str> = self.spans.keys().map(String::as_str).collect();
                    Err(refuse(format!("{place} has no such span"), format!("its spans are {}", names.join(", "))))
                }
            },
        }
    }
}

/// Positions of a selector in two prompts, as sorted lists of which entry i of one belongs to entry i of the other.
/// Errs if the selector means different numbers of positions, or if sorting would pair them otherwise than written
/// (`2,-3` may come first in one prompt and last in the other). Each prompt comes with its name for errors.
pub fn paired_positions(
    (base, base_name): (&Prompt, &str),
    (source, source_name): (&Prompt, &str),
    selector: &Positions,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let refuse = |problem: String, hint: &str| Error::Selector {
        what: "positions",
        value: selector.to_string(),
        problem,
        hint: Some(hint.into()),
    };
    let (in_base, in_source) = (base.positions(selector, base_name)?, source.positions(selector, source_name)?);
    if in_base.len() != in_source.len() {
        return Err(refuse(
            format!("{} positions in {base_name} but {} in {source_name}", in_base.len(), in_source.len()),
            "base and source must give the same number: use last, a list, or spans of equal length",
        ));
    }
    let written = base.as_written(selector, base_name)?.into_iter().zip(source.as_written(selector, source_name)?);
    let sorted_together = written.into_iter().all(|(b, s)| in_base.binary_search(&b) == in_source.binary_search(&s));
    if !sorted_together {
        return Err(refuse(
            format!("its positions come in one order in {base_name} and in another in {source_name}"),
            "count all positions from the same end",
        ));
    }
    Ok((in_base, in_source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(len: i64) -> Prompt {
        let ranges = vec![1..2, 3..5];
        Prompt { tokens: (0..len).collect(), spans: [("a".into(), ranges), ("b".into(), vec![])].into() }
    }

    #[test]
    fn selectors_resolve_to_sorted_distinct_positions() {
        let prompt = prompt(6);
        let resolve = |text: &str| prompt.positions(&text.parse().unwrap(), "t1").unwrap();
        assert_eq!(resolve("all"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(resolve("last"), [5]);
        assert_eq!(resolve("3,-1,0,-3"), [0, 3, 5]);
        assert_eq!(resolve("span:a"), [1, 3, 4]);
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let refused = |prompt: &Prompt, text: &str| {
            let error = prompt.positions(&text.parse().unwrap(), "t1").unwrap_err();
            format!("{error}; {}", error.hint().unwrap())
        };
        let range = "positions are 0 to 5, or -6 to -1 from the end";
        assert_eq!(refused(&prompt(6), "0,6"), format!("positions `0,6`: 6 is out of range: t1 has 6 tokens; {range}"));
        assert_eq!(refused(&prompt(6), "-7"), format!("positions `-7`: -7 is out of range: t1 has 6 tokens; {range}"));
        assert!(refused(&prompt(6), &i64::MIN.to_string()).contains("is out of range"));
        assert_eq!(refused(&prompt(6), "span:c"), "positions `span:c`: t1 has no such span; its spans are a, b");
        let bare = Prompt { tokens: vec![1], spans: [].into() };
        assert!(refused(&bare, "span:c").starts_with("positions `span:c`: t1 has no spans; "));
    }

    #[test]
    fn pairs_must_agree_in_number_and_order() {
        let (long, short) = (prompt(8), prompt(5));
        let pair = |text: &str| paired_positions((&long, "t1 (base)"), (&short, "t1 (source)"), &text.parse().unwrap());
        assert_eq!(pair("1,-1").unwrap(), (vec![1, 7], vec![1, 4]));
        assert_eq!(pair("-1,1,-1").unwrap(), (vec![1, 7], vec![1, 4]));
        assert_eq!(
            pair("all").unwrap_err().to_string(),
            "positions `all`: 8 positions in t1 (base) but 5 in t1 (source)"
        );
        assert_eq!(
            pair("4,-1").unwrap_err().to_string(),
            "positions `4,-1`: 2 positions in t1 (base) but 1 in t1 (source)"
        );
        assert_eq!(
            pair("3,-3").unwrap_err().to_string(),
            "positions `3,-3`: its positions come in one order in t1 (base) and in another in t1 (source)"
        );
    }
}
