//! The words of one draw, and the prompts and pairs of prompts that identity rules make of them. Knows no tokenizer.
//!
//! An example shows a rule on two words: `a^b^a` (ABA) or `a^b^b` (ABB). Examples stand one per line, then the query `q0^q1^`.
//! The words are those of Yang et al. (ICML 2025) as this crate says them: what they call *exp* is the base, which is edited,
//! and what they call *base* is the source, which donates.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;

use super::line::{Line, Side};
use crate::error::{Error, Result};
use crate::stats::below;

/// What the third item of an example repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The first item.
    Aba,
    /// The second item.
    Abb,
}

/// How the two prompts of a trial differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// First and second item of every example swapped with the third kept, and the query swapped: the rule is the other one.
    Abstract,
    /// The query swapped, everything else the same: the rule stays, the answer is the other word.
    Token,
    /// There is no source.
    Single,
}

/// The words of one draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// Two words per example, and those of the query last.
    pub pairs: Vec<[String; 2]>,
}

impl Rule {
    /// Both rules.
    pub const BOTH: [Rule; 2] = [Rule::Aba, Rule::Abb];

    /// As trials and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Aba => "ABA",
            Rule::Abb => "ABB",
        }
    }

    /// Index of the item that the third one repeats.
    fn repeats(self) -> usize {
        match self {
            Rule::Aba => 0,
            Rule::Abb => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Rule::Aba => Rule::Abb,
            Rule::Abb => Rule::Aba,
        }
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pairing::Abstract => "abstract",
            Pairing::Token => "token",
            Pairing::Single => "single",
        })
    }
}

impl FromStr for Pairing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Pairing::Abstract, Pairing::Token, Pairing::Single];
        all.into_iter().find(|pairing| pairing.to_string() == text).ok_or_else(|| Error::Selector {
            what: "pairs",
            value: text.into(),
            problem: "no such pairs".into(),
            hint: Some("pairs are abstract, token and single".into()),
        })
    }
}

impl Material {
    /// `2(shots + 1)` different ones of `words`, of which there must be that many. The same state of `rng` draws the same
    /// words on every machine.
    pub fn draw(words: &[String], shots: usize, rng: &mut ChaCha8Rng) -> Self {
        let n = 2 * (shots + 1);
        let mut drawn: Vec<usize> = Vec::with_capacity(n);
        while drawn.len() < n {
            let word = below(rng, words.len());
            if !drawn.contains(&word) {
                drawn.push(word);
            }
        }
        let pairs = drawn.chunks(2).map(|pair| [words[pair[0]].clone(), words[pair[1]].clone()]).collect();
        Self { pairs }
    }

    /// Number of examples.
    pub fn shots(&self) -> usize {
        self.pairs.len() - 1
    }

    /// The prompt that shows `rule`, and its spans where the tokenizer puts `shift` tokens before it.
    pub fn prompt(&self, rule: Rule, shift: usize) -> Side {
        let (query, examples) = self.pairs.split_last().expect("the query is always there");
        let mut text: String =
            examples.iter().map(|pair| format!("{}^{}^{}\n", pair[0], pair[1], pair[rule.repeats()])).collect();
        text += &format!("{}^{}^", query[0], query[1]);
        Side { text, answer: query[rule.repeats()].clone(), spans: spans(self.shots(), shift) }
    }

    /// The trial of one direction; `rule` is that of the source, or of the only prompt.
    pub fn line(&self, pairing: Pairing, rule: Rule, cluster: &str, shift: usize) -> Line {
        let source = self.prompt(rule, shift);
        let (base, incorrect) = match pairing {
            Pairing::Abstract => {
                let swapped = self.swapped(0..self.pairs.len());
                let under_the_source_rule = swapped.prompt(rule, shift).answer;
                (swapped.prompt(rule.other(), shift), under_the_source_rule)
            }
            Pairing::Token => (self.swapped(self.shots()..self.pairs.len()).prompt(rule, shift), source.answer.clone()),
            Pairing::Single => (source.clone(), self.prompt(rule.other(), shift).answer),
        };
        Line {
            id: format!("{cluster}-{}", rule.name()),
            cluster: cluster.into(),
            direction: rule.name(),
            base,
            source: (pairing != Pairing::Single).then_some(source),
            incorrect,
        }
    }

    /// The same with the words of some pairs exchanged.
    fn swapped(&self, which: std::ops::Range<usize>) -> Self {
        let mut pairs = self.pairs.clone();
        pairs[which].iter_mut().for_each(|pair| pair.swap(0, 1));
        Self { pairs }
    }
}

/// Number of tokens of a prompt, without what the tokenizer puts before it: six per example, four for the query.
pub(super) fn n_tokens(shots: usize) -> usize {
    6 * shots + 4
}

/// Where what stands, in token positions.
fn spans(shots: usize, shift: usize) -> Vec<(&'static str, Vec<[usize; 2]>)> {
    let at = |start: usize, end: usize| [shift + start, shift + end];
    let one = |pos: usize| at(pos, pos + 1);
    let separators = (0..=shots).flat_map(|i| [one(6 * i + 1), one(6 * i + 3)]).collect();
    vec![
        ("third", (0..shots).map(|i| one(6 * i + 4)).collect()),
        ("query", vec![at(6 * shots, n_tokens(shots))]),
        ("separator", separators),
        ("examples", vec![at(0, 6 * shots)]),
    ]
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    fn material() -> Material {
        let pairs = [["la", "li"], ["te", "to"], ["hi", "ha"]].map(|pair| pair.map(str::to_owned));
        Material { pairs: pairs.to_vec() }
    }

    #[test]
    fn pairs_are_the_worked_ones_of_the_specification() {
        let line = material().line(Pairing::Abstract, Rule::Aba, "d0", 0);
        let source = line.source.as_ref().unwrap();
        assert_eq!((source.text.as_str(), source.answer.as_str()), ("la^li^la\nte^to^te\nhi^ha^", "hi"));
        assert_eq!((line.base.text.as_str(), line.base.answer.as_str()), ("li^la^la\nto^te^te\nha^hi^", "hi"));
        assert_eq!((line.incorrect.as_str(), line.id.as_str(), line.direction), ("ha", "d0-ABA", "ABA"));
        let line = material().line(Pairing::Token, Rule::Aba, "d0", 0);
        assert_eq!((line.base.text.as_str(), line.base.answer.as_str()), ("la^li^la\nte^to^te\nha^hi^", "ha"));
        assert_eq!((line.incorrect.as_str(), line.source.unwrap().answer.as_str()), ("hi", "hi"));
        let line = material().line(Pairing::Abstract, Rule::Abb, "d0", 0);
        assert_eq!((line.base.text.as_str(), line.base.answer.as_str()), ("li^la^li\nto^te^to\nha^hi^", "ha"));
        assert_eq!((line.incorrect.as_str(), line.source.unwrap().answer.as_str()), ("hi", "ha"));
        let line = material().line(Pairing::Single, Rule::Abb, "d0", 0);
        assert_eq!((line.base.answer.as_str(), line.incorrect.as_str(), line.source), ("ha", "hi", None));
    }

    #[test]
    fn what_the_tokenizer_puts_before_a_text_shifts_its_spans() {
        let spans = |shift| material().prompt(Rule::Aba, shift).spans;
        let expected = vec![
            ("third", vec![[4, 5], [10, 11]]),
            ("query", vec![[12, 16]]),
            ("separator", vec![[1, 2], [3, 4], [7, 8], [9, 10], [13, 14], [15, 16]]),
            ("examples", vec![[0, 12]]),
        ];
        assert_eq!(spans(0), expected);
        let shifted = |(name, ranges): (_, Vec<[usize; 2]>)| {
            (name, ranges.into_iter().map(|range| range.map(|pos| pos + 1)).collect::<Vec<_>>())
        };
        assert_eq!(spans(1), expected.into_iter().map(shifted).collect::<Vec<_>>());
    }

    #[test]
    fn words_of_a_draw_differ_and_follow_from_the_seed() {
        let words: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
        let draw = |seed| Material::draw(&words, 2, &mut ChaCha8Rng::seed_from_u64(seed));
        let mut drawn = draw(3).pairs.concat();
        drawn.sort();
        assert_eq!(drawn, words);
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
