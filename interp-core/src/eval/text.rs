//! Words, gaps and sentences of a text, as the verifiers' patterns see them.

/// A run of letters, digits and underscores, with its place in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    pub text: &'a str,
    pub start: usize,
    pub end: usize,
}

/// All words of `text`, in order.
pub fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    for (at, c) in text.char_indices() {
        match (start, inside(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push(Word { text: &text[from..at], start: from, end: at });
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.map(|from| Word { text: &text[from..], start: from, end: text.len() }));
    words
}

/// Whether only white space, and some of it, stands between two words.
pub fn apart(text: &str, one: Word<'_>, next: Word<'_>) -> bool {
    let gap = &text[one.end..next.start];
    !gap.is_empty() && gap.chars().all(char::is_whitespace)
}

/// Whether `don't` (or the like) is spelled by these two words and a plain apostrophe.
pub fn elided(text: &str, one: Word<'_>, next: Word<'_>) -> bool {
    next.text == "t" && &text[one.end..next.start] == "'"
}

/// Sentences: what stands between runs of `.`, `!`, `?` and line ends, trimmed. A decimal point cuts too.
pub fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', '!', '?', '\n']).map(str::trim).filter(|sentence| !sentence.is_empty())
}

/// Whether any of `phrases` occurs in a text that is in lower case.
pub fn has_any(lower: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| lower.contains(phrase))
}

/// Words of letters, digits and hyphens with at least four characters that are not in `stop`.
pub fn key_terms<'a>(text: &'a str, stop: &[&str]) -> Vec<&'a str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut terms = Vec::new();
    let mut rest = 0;
    while let Some(from) = text[rest..].find(inside) {
        let from = rest + from;
        let to = text[from..].find(|c| !inside(c)).map_or(text.len(), |to| from + to);
        rest = to;
        // A word that goes on with another letter (é, _) is not one of these.
        let joined = text[..from].chars().next_back().is_some_and(word) || text[to..].chars().next().is_some_and(word);
        let term = text[from..to].trim_matches('-');
        if !joined && term.len() >= 4 && !stop.contains(&term.to_ascii_lowercase().as_str()) {
            terms.push(term);
        }
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_sentences_and_terms() {
        let text = "isn't  up-regulated (NES = 1.5)! naïve";
        let found: Vec<&str> = words(text).iter().map(|word| word.text).collect();
        assert_eq!(found, ["isn", "t", "up", "regulated", "NES", "1", "5", "naïve"]);
        let all = words(text);
        assert!(elided(text, all[0], all[1]) && apart(text, all[1], all[2]) && !apart(text, all[2], all[3]));
        assert_eq!(sentences("a 1.5\n\nb?! c.").collect::<Vec<_>>(), ["a 1", "5", "b", "c"]);
        assert_eq!(
            key_terms("The NF-kB pathway, naïvely with -DNA-repair- x_long", &["with"]),
            ["NF-kB", "pathway", "DNA-repair"]
        );
    }
}
