//! The `[SIG=…]` marks of a reasoning scaffold: steps read from a text, and written. Reading never fails.
//!
//! The published checkpoint gives only the form of a mark. The seven signals are those of Wen et al. (ICLR 2026, arXiv 2509.23619);
//! how a label is matched with them is ours.

use std::fmt;
use std::sync::LazyLock;

use fancy_regex::Regex;
use serde::{Serialize, Serializer};

static MARK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[SIG=([^\]\n]{1,64})\]").expect("a pattern"));

/// What a step of reasoning does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Addition and elaboration.
    Addition,
    /// Examples and illustration.
    Example,
    /// Personal opinion and recall.
    Opinion,
    /// Contrast and concession.
    Contrast,
    /// Reasoning and analysis.
    Reasoning,
    /// Conclusion and summary.
    Conclusion,
    /// Response generation.
    Response,
    /// A label that is none of the seven, as it stands in the text.
    Other(String),
}

/// The text from one mark to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The mark's label.
    pub signal: Signal,
    /// What follows the mark, without white space at its ends.
    pub text: String,
}

/// A text with its marks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Scaffold {
    /// What stands before the first mark, without white space at its ends; all of a text without marks.
    pub before: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Signal {
    /// The seven, in the paper's order.
    pub const ALL: [Signal; 7] = [
        Signal::Addition,
        Signal::Example,
        Signal::Opinion,
        Signal::Contrast,
        Signal::Reasoning,
        Signal::Conclusion,
        Signal::Response,
    ];

    /// The signal that a label names, in any case, with spaces, `_` or `-` between its words, and `&` for `and`.
    pub fn of(label: &str) -> Self {
        let plain = label.to_lowercase().replace(['_', '-'], " ").replace('&', " and ");
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::ALL
            .into_iter()
            .find(|one| one.label().to_lowercase() == plain)
            .unwrap_or_else(|| Signal::Other(label.into()))
    }

    /// The label, as [`Scaffold`] writes it.
    pub fn label(&self) -> &str {
        match self {
            Signal::Addition => "Addition and Elaboration",
            Signal::Example => "Examples and Illustration",
            Signal::Opinion => "Personal Opinion and Recall",
            Signal::Contrast => "Contrast and Concession",
            Signal::Reasoning => "Reasoning and Analysis",
            Signal::Conclusion => "Conclusion and Summary",
            Signal::Response => "Response Generation",
            Signal::Other(raw) => raw,
        }
    }
}

/// The label; of one that is none of the seven, `other:` and the label.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signal::Other(raw) => write!(f, "other:{raw}"),
            known => f.pad(known.label()),
        }
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scaffold {
    /// Reads every mark of a text. What is no whole mark (empty, over 64 characters, cut off) is text.
    pub fn parse(text: &str) -> Self {
        let mut scaffold = Self::default();
        let mut from = 0;
        let mut signal: Option<Signal> = None;
        for mark in MARK.captures_iter(text).flatten() {
            let (whole, label) =
                (mark.get(0).expect("the match"), mark.get(1).expect("a group that always takes part"));
            scaffold.add(signal.replace(Signal::of(label.as_str())), &text[from..whole.start()]);
            from = whole.end();
        }
        scaffold.add(signal, &text[from..]);
        scaffold
    }

    fn add(&mut self, signal: Option<Signal>, text: &str) {
        let text = text.trim().to_owned();
        match signal {
            Some(signal) => self.steps.push(Step { signal, text }),
            None => self.before = text,
        }
    }

    /// How often each signal occurs: the seven in the paper's order, also where there is none, then other labels in order of
    /// first appearance.
    pub fn counts(&self) -> Vec<(Signal, usize)> {
        let mut counts: Vec<(Signal, usize)> = Signal::ALL.map(|one| (one, 0)).into();
        for step in &self.steps {
            match counts.iter_mut().find(|(signal, _)| *signal == step.signal) {
                Some((_, n)) => *n += 1,
                None => counts.push((step.signal.clone(), 1)),
            }
        }
        counts
    }
}

/// The text before the first mark, then one line per step: its mark, a space and its text. Reads back as it was, unless a text
/// holds a mark itself or a label cannot stand in one.
impl fmt::Display for Scaffold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::with_capacity(1 + self.steps.len());
        if !self.before.is_empty() {
            lines.push(self.before.clone());
        }
        lines.extend(self.steps.iter().map(|step| format!("[SIG={}] {}", step.signal.label(), step.text)));
        f.write_str(&lines.join("\n"))
    }
}

/// Byte ranges of all marks.
pub(super) fn marks(text: &str) -> Vec<std::ops::Range<usize>> {
    MARK.find_iter(text).flatten().map(|mark| mark.range()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(signal: Signal, text: &str) -> Step {
        Step { signal, text: text.into() }
    }

    #[test]
    fn labels_in_any_spelling() {
        for label in
            ["Reasoning and Analysis", "REASONING_AND_ANALYSIS", "reasoning-&-analysis", " Reasoning&Analysis "]
        {
            assert_eq!(Signal::of(label), Signal::Reasoning, "{label}");
        }
        for signal in Signal::ALL {
            assert_eq!((Signal::of(signal.label()), signal.to_string()), (signal.clone(), signal.label().into()));
        }
        // A part of a name is another label, and is kept as it is.
        assert_eq!(Signal::of("Reasoning").to_string(), "other:Reasoning");
        assert_eq!(Signal::of("").to_string(), "other:");
    }

    #[test]
    fn steps_order_and_counts() {
        let text = "Let me see.\n[SIG=Reasoning & Analysis] The badge was shown\nfirst.\n\n[SIG=Check_7]  fine [SIG=check_7]\n\
                    [SIG=CONCLUSION_AND_SUMMARY]FINAL ANSWER: compliant\n";
        let found = Scaffold::parse(text);
        assert_eq!(found.before, "Let me see.");
        let other = |label: &str| Signal::Other(label.into());
        let steps = [
            step(Signal::Reasoning, "The badge was shown\nfirst."),
            step(other("Check_7"), "fine"),
            step(other("check_7"), ""),
            step(Signal::Conclusion, "FINAL ANSWER: compliant"),
        ];
        assert_eq!(found.steps, steps);
        let counts: Vec<(String, usize)> = found.counts().into_iter().map(|(one, n)| (one.to_string(), n)).collect();
        assert_eq!(counts.len(), 9);
        assert_eq!(counts[4..6], [("Reasoning and Analysis".into(), 1), ("Conclusion and Summary".into(), 1)]);
        assert_eq!(counts[7..], [("other:Check_7".into(), 1), ("other:check_7".into(), 1)]);
        assert_eq!(serde_json::to_value(&found.steps[1]).unwrap()["signal"], "other:Check_7");
    }

    #[test]
    fn what_is_no_mark_is_text() {
        let long = format!("[SIG={}] x", "a".repeat(65));
        for text in ["", "no mark", "[SIG=]", "[sig=Reasoning]", "[SIG=cut off", "[SIG=over\nlines]", &long] {
            assert_eq!(Scaffold::parse(text), Scaffold { before: text.into(), steps: vec![] });
        }
        // 64 characters, not bytes.
        assert_eq!(Scaffold::parse(&format!("[SIG={}]", "é".repeat(64))).steps.len(), 1);
        assert_eq!(Scaffold::parse("[SIG=[SIG=a]]").steps, [step(Signal::Other("[SIG=a".into()), "]")]);
    }

    #[test]
    fn what_is_written_reads_back() {
        let steps = Signal::ALL.map(|signal| step(signal, "one\ntwo")).into_iter();
        let steps: Vec<Step> = steps.chain([step(Signal::Other("My-Own".into()), "")]).collect();
        for before in ["", "First."] {
            let scaffold = Scaffold { before: before.into(), steps: steps.clone() };
            assert_eq!(Scaffold::parse(&scaffold.to_string()), scaffold);
        }
        let one = Scaffold { before: String::new(), steps: vec![step(Signal::Reasoning, "So.")] };
        assert_eq!(one.to_string(), "[SIG=Reasoning and Analysis] So.");
    }
}
