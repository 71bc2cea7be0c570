//! How confident a text says it is: a number from 0 to 1 and a level. Two extractors, named in every result.

use std::fmt;
use std::str::FromStr;

use super::text::{Word, apart, elided, has_any, words};
use crate::error::{Error, Result};

/// Stated confidence in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `high`
    High,
    /// `medium`
    Medium,
    /// `low`
    Low,
}

/// What an extractor finds in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    /// 0 to 1.
    pub value: f64,
    /// The level that the text states; `medium` where it states none.
    pub stated: Level,
}

/// Which rules read a text's confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extractor {
    /// BioRLHF's built-in rules: a percentage behind the word, else which kind of phrases is most frequent.
    #[default]
    BuiltIn,
    /// Rules in the spirit of BioEval's, with word lists of our own: percentages, stated levels, phrases, and else how many
    /// words of certainty and of hedging there are. Numbers are not BioEval's own.
    BioevalLike,
}

impl Level {
    /// From 0.7 on it is high, from 0.4 on medium.
    fn of(value: f64) -> Self {
        match value {
            _ if value >= 0.7 => Level::High,
            _ if value >= 0.4 => Level::Medium,
            _ => Level::Low,
        }
    }

    /// `high`, `medium` or `low`.
    pub fn name(self) -> &'static str {
        match self {
            Level::High => "high",
            Level::Medium => "medium",
            Level::Low => "low",
        }
    }
}

impl fmt::Display for Extractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Extractor::BuiltIn => "built-in",
            Extractor::BioevalLike => "bioeval-like",
        })
    }
}

impl FromStr for Extractor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "built-in" => Ok(Extractor::BuiltIn),
            "bioeval-like" => Ok(Extractor::BioevalLike),
            _ => Err(Error::Selector {
                what: "extractor",
                value: text.into(),
                problem: "no such confidence extractor".into(),
                hint: Some("extractors are built-in and bioeval-like".into()),
            }),
        }
    }
}

impl Extractor {
    /// The confidence of `text`.
    pub fn confidence(self, text: &str) -> Confidence {
        let lower = text.to_lowercase();
        match self {
            Extractor::BuiltIn => built_in(&lower),
            Extractor::BioevalLike => bioeval_like(&lower.replace('*', "")),
        }
    }
}

/// A percentage over 100 counts as 100, so that every confidence has a bin.
fn percent(digits: &str) -> Option<f64> {
    Some((f64::from(digits.parse::<u16>().ok()?) / 100.0).min(1.0))
}

fn stated(value: f64) -> Confidence {
    Confidence { value, stated: Level::of(value) }
}

fn built_in(lower: &str) -> Confidence {
    if let Some(value) = percent_behind(lower, &["confidence", "certainty", "probability"], true) {
        return stated(value);
    }
    let [high, medium, low] = phrases(lower);
    match () {
        () if low > high && low > medium => Confidence { value: 0.25, stated: Level::Low },
        () if high > low && high > medium => Confidence { value: 0.85, stated: Level::High },
        () if medium > 0 => Confidence { value: 0.55, stated: Level::Medium },
        () => Confidence { value: 0.50, stated: Level::Medium },
    }
}

/// The first `confidence: 80%`: one of `names`, colons and blanks (none at all only if `close`), one to three digits, `%`.
fn percent_behind(lower: &str, names: &[&str], close: bool) -> Option<f64> {
    let mut ends: Vec<usize> =
        names.iter().flat_map(|name| lower.match_indices(name).map(|(at, _)| at + name.len())).collect();
    ends.sort_unstable();
    ends.into_iter().find_map(|end| {
        let rest = lower[end..].trim_start_matches(|c: char| c == ':' || c.is_whitespace());
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        let near = close || rest.len() < lower.len() - end;
        let good = near && (1..=3).contains(&digits.len()) && rest[digits.len()..].starts_with('%');
        if good { percent(digits) } else { None }
    })
}

/// How many different phrases of high, medium and low confidence a text has.
fn phrases(lower: &str) -> [u32; 3] {
    let words = words(lower);
    let (mut high, mut medium, mut low) = (0u32, 0u32, 0u32);
    for (i, &word) in words.iter().enumerate() {
        let next = words.get(i + 1).copied();
        let follows = |by: &str| next.is_some_and(|next| next.text == by && apart(lower, word, next));
        // `confidence: high`: the colon at once, blanks as you like.
        let labelled = |by: &str| {
            let gap = |next: Word<'_>| lower[word.end..next.start].strip_prefix(':').map(str::trim) == Some("");
            next.is_some_and(|next| next.text == by && gap(next))
        };
        match word.text {
            "high" if follows("confidence") => high |= 1,
            "highconfidence" => high |= 1,
            "very" if follows("confident") => high |= 1 << 1,
            "confident" if follows("that") => high |= 1 << 2,
            "certainly" => high |= 1 << 3,
            "clearly" => high |= 1 << 4,
            "definitely" => high |= 1 << 5,
            "without" if follows("doubt") => high |= 1 << 6,
            "confidence" if labelled("high") => high |= 1 << 7,
            "strongly" if follows("suggest") => high |= 1 << 8,

            "moderate" if follows("confidence") => medium |= 1,
            "moderateconfidence" => medium |= 1,
            "reasonably" if follows("confident") => medium |= 1 << 1,
            "likely" => medium |= 1 << 2,
            "probably" => medium |= 1 << 3,
            "confidence" if labelled("medium") => medium |= 1 << 5,
            "confidence" if labelled("moderate") => medium |= 1 << 6,

            "low" if follows("confidence") => low |= 1,
            "lowconfidence" => low |= 1,
            "uncertain" => low |= 1 << 2,
            "unclear" => low |= 1 << 3,
            "dont" if follows("know") => low |= 1 << 5,
            "cannot" if follows("determine") => low |= 1 << 6,
            "insufficient" if lacks(lower, &words[i..]) => low |= 1 << 7,
            "limited" if follows("evidence") => low |= 1 << 8,
            "confidence" if labelled("low") => low |= 1 << 10,
            text if text.starts_with("suggest") => medium |= 1 << 4,
            text if text.starts_with("speculat") => low |= 1 << 9,
            _ => {}
        }
        if word.text == "not" {
            low |= u32::from(follows("confident")) << 1 | u32::from(follows("sure")) << 4;
        }
        if let (Some(next), Some(&last)) = (next, words.get(i + 2)) {
            let dont_know = word.text == "don" && elided(lower, word, next) && last.text == "know";
            low |= u32::from(dont_know && apart(lower, next, last)) << 5;
        }
    }
    [high.count_ones(), medium.count_ones(), low.count_ones()]
}

/// `insufficient data`, or evidence, or with one word between.
fn lacks(lower: &str, words: &[Word<'_>]) -> bool {
    let named = |word: Word<'_>| word.text.ends_with("data") || word.text.ends_with("evidence");
    let whole = |word: Word<'_>| word.text == "data" || word.text == "evidence";
    match words {
        [one, next, ..] if !apart(lower, *one, *next) => false,
        [_, next, ..] if named(*next) => true,
        [_, next, last, ..] => apart(lower, *next, *last) && whole(*last),
        _ => false,
    }
}

const STATED: [&str; 4] = ["confident", "confidence", "certain", "sure"];
const SURE: [&str; 6] =
    ["highly confident", "very confident", "high confidence", "strong confidence", "fully confident", "very certain"];
const FAIRLY: [&str; 5] =
    ["moderately confident", "moderate confidence", "reasonably confident", "fairly confident", "somewhat confident"];
const UNSURE: [&str; 6] =
    ["low confidence", "little confidence", "not confident", "not very confident", "not certain", "not sure"];
/// Words that state, and words that hedge.
const CERTAIN: [&str; 26] = [
    "always",
    "are",
    "certain",
    "certainly",
    "clear",
    "clearly",
    "confirms",
    "definite",
    "definitely",
    "demonstrates",
    "established",
    "evident",
    "exactly",
    "indeed",
    "is",
    "known",
    "must",
    "never",
    "obvious",
    "obviously",
    "proves",
    "shows",
    "strongly",
    "surely",
    "undoubtedly",
    "will",
];
const HEDGES: [&str; 28] = [
    "about",
    "apparently",
    "appears",
    "approximately",
    "around",
    "can",
    "could",
    "generally",
    "likely",
    "may",
    "maybe",
    "might",
    "often",
    "perhaps",
    "plausible",
    "possible",
    "possibly",
    "potentially",
    "presumably",
    "probably",
    "seems",
    "sometimes",
    "suggest",
    "suggests",
    "tends",
    "typically",
    "unclear",
    "usually",
];

fn bioeval_like(lower: &str) -> Confidence {
    let found = percent_behind(lower, &["confidence"], false)
        .or_else(|| percent_before(lower, true))
        .or_else(|| decimal_behind(lower));
    if let Some(value) = found {
        return stated(value);
    }
    let found = category(lower).map(stated).or_else(|| {
        let levels =
            [(&UNSURE[..], 0.30, Level::Low), (&FAIRLY[..], 0.60, Level::Medium), (&SURE[..], 0.85, Level::High)];
        let level = levels.into_iter().find(|(phrases, ..)| has_any(lower, phrases));
        level.map(|(_, value, stated)| Confidence { value, stated })
    });
    let mut confidence = found.unwrap_or_else(|| {
        let words = words(lower);
        let per_hundred = |list: &[&str]| {
            let count = words.iter().filter(|word| list.binary_search(&word.text).is_ok()).count();
            100.0 * count as f64 / words.len().max(1) as f64
        };
        let value = (0.5 + 0.1 * (per_hundred(&CERTAIN) - per_hundred(&HEDGES))).clamp(0.1, 0.95);
        Confidence { value, stated: Level::Medium }
    });
    // No number in the strict form: a loose one still counts for more than words, but changes no level.
    let loose = percent_before(lower, false)
        .or_else(|| percent_behind(lower, &["confidence"], true))
        .or_else(|| decimal_before(lower));
    confidence.value = loose.unwrap_or(confidence.value);
    confidence
}

/// `80% confident`, with blanks between the two if `blank`, or nothing at all between them too.
fn percent_before(lower: &str, blank: bool) -> Option<f64> {
    lower.match_indices('%').find_map(|(at, _)| {
        let rest = lower[at + 1..].trim_start();
        let near = !blank || rest.len() < lower.len() - at - 1;
        let word = &rest[..rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len())];
        let head = lower[..at].trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &lower[head.len()..at];
        let good = near && STATED.contains(&word) && (1..=3).contains(&digits.len());
        if good { percent(digits) } else { None }
    })
}

/// `confidence: 0.8`
fn decimal_behind(lower: &str) -> Option<f64> {
    lower.match_indices("confidence").find_map(|(at, name)| {
        let rest = &lower[at + name.len()..];
        let number = rest.trim_start_matches(|c: char| c == ':' || c.is_whitespace());
        let near = number.len() < rest.len();
        near.then(|| decimal(number)).flatten()
    })
}

/// `0.8 confident` or `0.8 confidence`
fn decimal_before(lower: &str) -> Option<f64> {
    ["confident", "confidence"].iter().flat_map(|name| lower.match_indices(name)).find_map(|(at, _)| {
        let head = lower[..at].trim_end();
        let from = head.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let near = head.len() < at && !head.ends_with('.');
        near.then(|| decimal(&head[from..])).flatten()
    })
}

/// A number such as `0.85` or `1.0` at the beginning of a text.
fn decimal(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    let like = number.starts_with("0.") || number.starts_with("1.0");
    if like { number.parse::<f64>().ok().map(|value| value.clamp(0.0, 1.0)) } else { None }
}

/// `confidence: very high` and the like.
fn category(lower: &str) -> Option<f64> {
    lower.match_indices("confidence").find_map(|(at, name)| {
        let rest = &lower[at + name.len()..];
        let level = rest.trim_start_matches(|c: char| c == ':' || c.is_whitespace());
        if level.len() == rest.len() {
            return None;
        }
        let (very, level) = level.strip_prefix("very ").map_or((false, level), |level| (true, level));
        let is = |word: &str| level.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
        match very {
            _ if is("high") => Some(if very { 0.95 } else { 0.85 }),
            _ if is("low") => Some(if very { 0.15 } else { 0.25 }),
            _ => (is("medium") || is("moderate")).then_some(0.55),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extractor: Extractor, text: &str) -> (f64, &'static str) {
        let Confidence { value, stated } = extractor.confidence(text);
        (value, stated.name())
    }

    #[test]
    fn the_built_in_rules() {
        for (text, value, level) in [
            ("Confidence: 85%", 0.85, "high"),
            ("My certainty : 40%.", 0.4, "medium"),
            ("overconfidence5%", 0.05, "low"),
            ("Confidence: 1000%, probability 30%", 0.3, "low"),
            ("confidence 150%", 1.0, "high"),
            ("Confidence: high. It is clearly up.", 0.85, "high"),
            ("It is certainly up but likely small.", 0.55, "medium"),
            ("This is unclear; I don't know.", 0.25, "low"),
            ("There is insufficient published evidence, so not sure.", 0.25, "low"),
            ("insufficient metadata", 0.25, "low"),
            ("insufficient and small data", 0.5, "medium"),
            ("Clearly unclear", 0.5, "medium"),
            ("It suggests and suggested", 0.55, "medium"),
            ("It is upregulated", 0.5, "medium"),
            ("", 0.5, "medium"),
        ] {
            assert_eq!(read(Extractor::BuiltIn, text), (value, level), "{text}");
        }
    }

    #[test]
    fn the_other_rules() {
        assert!(CERTAIN.is_sorted() && HEDGES.is_sorted());
        for (text, value, level) in [
            ("**Confidence:** 85%", 0.85, "high"),
            ("I am 60% sure", 0.6, "medium"),
            ("Confidence: 0.35", 0.35, "low"),
            ("Confidence 1.0.", 1.0, "high"),
            ("Confidence: Very High", 0.95, "high"),
            ("confidence: very low", 0.15, "low"),
            ("Confidence: moderate", 0.55, "medium"),
            ("I am highly confident in that", 0.85, "high"),
            ("I am not very confident in that", 0.3, "low"),
            ("fairly confident", 0.6, "medium"),
            ("highly confident, 0.7 confidence", 0.7, "high"),
            ("up", 0.5, "medium"),
            ("may be", 0.1, "medium"),
            ("it is", 0.95, "medium"),
        ] {
            assert_eq!(read(Extractor::BioevalLike, text), (value, level), "{text}");
        }
        let error = "best".parse::<Extractor>().unwrap_err();
        assert_eq!(error.hint(), Some("extractors are built-in and bioeval-like"));
    }
}
