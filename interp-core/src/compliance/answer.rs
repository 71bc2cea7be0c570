//! The verdict that a generated text gives, by fixed patterns: no model, no guessing. The definition is ours.
//!
//! 1. `[SIG=…]` marks are taken out. Emphasis (`*`, `_`, `` ` ``, `~`) counts as a space, and every dash as a hyphen.
//! 2. Where `final answer` stands, followed by `:` or `-`, the text from its last occurrence to the end of the line is read; if
//!    nothing stands there, the next line that is not blank.
//! 3. Else the last sentence that holds a verdict is read. A sentence ends with `.`, `!` or `?` before white space, or with its line,
//!    but not inside of a verdict (`not\ncompliant`).
//! 4. Else the whole text is read, in which there is then none.
//!
//! What is read is non-compliant where it holds `non-compliant`, `noncompliance`, `not compliant`, `not in compliance`, `violates`,
//! `violated` or `violation`; compliant where it holds `compliant` or `compliance` elsewhere; and unparsed with both or neither.

use std::ops::Range;
use std::sync::LazyLock;

use fancy_regex::Regex;
use serde::Serialize;

use super::record::Gold;
use super::scaffold;

static FINAL: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)final\s+answer\s*[:\-]"));
static NEGATIVE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)non[\s\-]*complian(?:t|ce)|not\s+(?:in\s+)?complian(?:t|ce)|\bviolat(?:es|ed|ion)"));
static POSITIVE: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)\bcomplian(?:t|ce)\b"));
static POLAR: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)^[\s:\-]*(yes|no)\s*(?:[,.;:!\-]|$)"));
static SENTENCE_END: LazyLock<Regex> = LazyLock::new(|| regex(r"[.!?]+(?:\s|$)|\n"));

/// Before a verdict in its clause: words that leave it open, or a negation at most three words away.
static DOUBT_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"(?i)\b(?:if|whether|may|might|could|would|perhaps|maybe|possibly|probably|likely|seems?|appears?|unclear|unsure|",
        r"uncertain|partly|partially|somewhat|mostly)\b",
        r"|(?:\b(?:no|not|never|neither|nor|without|hardly|cannot)\b|n['’]t\b)(?:\s+[\w'’]+){0,3}\s*$",
    ))
});
/// After a verdict in its sentence: a condition or a question mark.
static DOUBT_AFTER: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)^[^.!\n]*?(?:\?|\b(?:if|unless|provided|assuming|depending|except)\b)"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Compliant.
    Compliant,
    /// Not compliant.
    NonCompliant,
    /// Words for both: unparsed.
    Both,
    /// Words for neither: unparsed.
    Neither,
}

/// Where a verdict was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In the last `final answer` line.
    FinalAnswer,
    /// In the last sentence that holds a verdict.
    Sentence,
    /// Nowhere in the whole text.
    Whole,
    /// In the likelihoods of the two words after a forced prefix.
    Forced,
}

/// An answer that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What it says.
    pub verdict: Verdict,
    /// Where that was read.
    pub source: Source,
    /// Byte of the text at which the verdict begins, with its `final answer` where there is one. `None` where there is no verdict
    /// and in forced answers.
    pub at: Option<usize>,
    /// Whether a word of doubt, a condition or a negation that the patterns do not read stands beside the verdict (`hardly compliant`,
    /// `no violation`). The verdict is what the definition says; these are the ones to look at.
    pub doubtful: bool,
    /// Whether the text was cut off at its budget, as the caller says.
    pub truncated: bool,
}

/// How answers are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reader {
    /// What `yes` means, where the question can be answered so; `no` then means the other. It counts at the beginning of what is
    /// read, followed by punctuation or nothing. `None`: both words mean nothing.
    pub yes: Option<Gold>,
}

impl Verdict {
    /// The label; `None` where the answer is unparsed.
    pub fn gold(self) -> Option<Gold> {
        match self {
            Verdict::Compliant => Some(Gold::Compliant),
            Verdict::NonCompliant => Some(Gold::NonCompliant),
            Verdict::Both | Verdict::Neither => None,
        }
    }
}

impl Answer {
    /// The more likely of the two words. `log_likelihoods` are those of ` compliant` and ` non-compliant` after the forced prefix, each
    /// summed over its tokens, in nats. Equal ones say both, NaN says neither.
    pub fn forced(log_likelihoods: [f64; 2]) -> Self {
        let [compliant, non_compliant] = log_likelihoods;
        let verdict = match compliant.partial_cmp(&non_compliant) {
            Some(std::cmp::Ordering::Greater) => Verdict::Compliant,
            Some(std::cmp::Ordering::Less) => Verdict::NonCompliant,
            Some(std::cmp::Ordering::Equal) => Verdict::Both,
            None => Verdict::Neither,
        };
        Self { verdict, source: Source::Forced, at: None, doubtful: false, truncated: false }
    }

    /// What stands in `text`, the text that was read, before the verdict; `None` where there is no verdict.
    pub fn reasoning<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.at.map(|at| &text[..at])
    }
}

impl Reader {
    /// Reads a generated text; `truncated` says that it was cut off at its budget.
    pub fn read(&self, text: &str, truncated: bool) -> Answer {
        let text = plain(text);
        let (source, span, marker) = match FINAL.find_iter(&text).flatten().last() {
            Some(found) => (Source::FinalAnswer, remainder(&text, found.end()), Some(found.start())),
            None => {
                let with_verdict = |span: &Range<usize>| self.verdict(&text[span.clone()]).0 != Verdict::Neither;
                match sentences(&text).into_iter().rev().find(with_verdict) {
                    Some(span) => (Source::Sentence, span, None),
                    None => (Source::Whole, 0..text.len(), None),
                }
            }
        };
        let (verdict, words) = self.verdict(&text[span.clone()]);
        let parsed = verdict.gold().is_some();
        let at = words.first().filter(|_| parsed).map(|word| marker.unwrap_or(span.start + word.start));
        let doubtful = parsed && words.iter().any(|word| doubtful(&text[span.clone()], word));
        Answer { verdict, source, at, doubtful, truncated }
    }

    /// What a span says, and the words that say it, in order.
    fn verdict(&self, span: &str) -> (Verdict, Vec<Range<usize>>) {
        let mut words: Vec<(Range<usize>, Gold)> =
            NEGATIVE.find_iter(span).flatten().map(|found| (found.range(), Gold::NonCompliant)).collect();
        let inside = |at: usize| words.iter().any(|(word, _)| word.contains(&at));
        let positive: Vec<Range<usize>> = POSITIVE.find_iter(span).flatten().map(|found| found.range()).collect();
        let positive: Vec<_> = positive.into_iter().filter(|word| !inside(word.start)).collect();
        words.extend(positive.into_iter().map(|word| (word, Gold::Compliant)));
        if let Some(yes) = self.yes
            && let Ok(Some(found)) = POLAR.captures(span)
        {
            let word = found.get(1).expect("a group that always takes part");
            let says = if word.as_str().eq_ignore_ascii_case("yes") { yes } else { yes.other() };
            words.push((word.range(), says));
        }
        words.sort_by_key(|(word, _)| word.start);
        let says = |gold: Gold| words.iter().any(|(_, said)| *said == gold);
        let verdict = match (says(Gold::Compliant), says(Gold::NonCompliant)) {
            (true, false) => Verdict::Compliant,
            (false, true) => Verdict::NonCompliant,
            (true, true) => Verdict::Both,
            (false, false) => Verdict::Neither,
        };
        (verdict, words.into_iter().map(|(word, _)| word).collect())
    }
}

/// The text as the patterns read it, with every byte at its place: a replaced character leaves as many as it had.
fn plain(text: &str) -> String {
    let marks = scaffold::marks(text);
    let mut plain = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let replaced = match c {
            _ if marks.iter().any(|mark| mark.contains(&at)) => Some(" "),
            '*' | '_' | '`' | '~' => Some(" "),
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}' => Some("-"),
            '\u{ff1a}' => Some(":"),
            _ => None,
        };
        match replaced {
            Some(with) => plain.push_str(&with.repeat(c.len_utf8())),
            None => plain.push(c),
        }
    }
    plain
}

/// The rest of the line from `from` on; if that is blank, the next line that is not.
fn remainder(text: &str, from: usize) -> Range<usize> {
    let start = from + (text[from..].len() - text[from..].trim_start().len());
    start..text[start..].find('\n').map_or(text.len(), |line| start + line)
}

/// Sentences and lines, none of which ends inside of a verdict.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let verdicts: Vec<Range<usize>> = NEGATIVE.find_iter(text).flatten().map(|found| found.range()).collect();
    let mut sentences = Vec::new();
    let mut from = 0;
    for end in SENTENCE_END.find_iter(text).flatten().map(|found| found.range()) {
        if !verdicts.iter().any(|verdict| verdict.contains(&end.start)) {
            sentences.push(from..end.end);
            from = end.end;
        }
    }
    sentences.push(from..text.len());
    sentences
}

fn doubtful(span: &str, word: &Range<usize>) -> bool {
    let before = &span[..word.start];
    let clause = before.rfind([',', ';', ':', '.', '!', '?', '\n']).map_or(before, |at| &before[at + 1..]);
    let found = |regex: &Regex, text: &str| regex.is_match(text).is_ok_and(|is| is);
    found(&DOUBT_BEFORE, clause) || found(&DOUBT_AFTER, &span[word.end..])
}
