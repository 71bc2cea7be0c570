//! What the tokens of an identity-rule prompt stand for: read off the prompt itself, so that it does not matter which side of
//! which pair it was.
//!
//! Without BOS a prompt of n examples has 6n + 4 tokens: the items of example i at 6i, 6i + 2 and 6i + 4, the query's at 6n and
//! 6n + 2, and separators between. What stands before (a BOS) shifts all of it.

/// By which item the third one of an example is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The third item is the first.
    Aba,
    /// The third item is the second.
    Abb,
}

/// The variable that a position stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variable {
    /// What the first item of an example is.
    A,
    /// What the second item of an example is.
    B,
}

/// What a position is under the two hypotheses of Yang et al.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labels {
    /// Its variable: A for first items, B for second ones; for third items and the prompt's last position that of the rule.
    pub variable: Variable,
    /// Its token; at the prompt's last position the answer's.
    pub token: i64,
}

/// A prompt of identity rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPrompt {
    /// What all its examples follow.
    pub rule: Rule,
    /// Number of examples.
    pub n_shots: usize,
    /// The token that follows by the rule.
    pub answer: i64,
    tokens: Vec<i64>,
    before: usize,
}

impl Rule {
    /// `ABA` or `ABB`.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Aba => "ABA",
            Rule::Abb => "ABB",
        }
    }

    fn variable(self) -> Variable {
        match self {
            Rule::Aba => Variable::A,
            Rule::Abb => Variable::B,
        }
    }
}

impl Variable {
    /// `A` or `B`.
    pub fn name(self) -> &'static str {
        match self {
            Variable::A => "A",
            Variable::B => "B",
        }
    }
}

impl IdentityPrompt {
    /// Reads the rule off the examples. `None` where the tokens are no such prompt: too few, examples that follow no rule or
    /// different ones, or separators that differ.
    pub fn read(tokens: &[i64]) -> Option<Self> {
        // At most one token before: two could not be told from a shorter example.
        let before = (tokens.len() + 2) % 6;
        let own = tokens.get(before..).filter(|own| before <= 1 && own.len() >= 10)?;
        let n_shots = (own.len() - 4) / 6;
        let separators = (0..=n_shots).flat_map(|i| [own[6 * i + 1], own[6 * i + 3]]);
        let newlines = (0..n_shots).map(|i| own[6 * i + 5]);
        if separators.clone().any(|token| token != own[1]) || newlines.clone().any(|token| token != own[5]) {
            return None;
        }
        let rule_of = |i: usize| match (own[6 * i], own[6 * i + 2], own[6 * i + 4]) {
            (a, b, _) if a == b => None,
            (a, _, third) if third == a => Some(Rule::Aba),
            (_, b, third) if third == b => Some(Rule::Abb),
            _ => None,
        };
        let rule = rule_of(0)?;
        if (1..n_shots).any(|i| rule_of(i) != Some(rule)) {
            return None;
        }
        let answer = own[6 * n_shots + if rule == Rule::Aba { 0 } else { 2 }];
        Some(Self { rule, n_shots, answer, tokens: tokens.to_vec(), before })
    }

    /// What a position stands for; `None` for a separator, a newline and a BOS.
    pub fn labels(&self, position: usize) -> Option<Labels> {
        let token = *self.tokens.get(position)?;
        if position + 1 == self.tokens.len() {
            return Some(Labels { variable: self.rule.variable(), token: self.answer });
        }
        let variable = match position.checked_sub(self.before)? % 6 {
            0 => Variable::A,
            2 => Variable::B,
            4 => self.rule.variable(),
            _ => return None,
        };
        Some(Labels { variable, token })
    }

    /// The same prompt with the two items of its query exchanged, and so with the other answer.
    #[must_use]
    pub fn with_query_swapped(&self) -> Vec<i64> {
        let mut tokens = self.tokens.clone();
        let query = self.before + 6 * self.n_shots;
        tokens.swap(query, query + 2);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `la^li^la te^to^te hi^ha^` under the Qwen2.5 tokenizer.
    const ABA: [i64; 16] = [4260, 61, 742, 61, 4260, 198, 665, 61, 983, 61, 665, 198, 6023, 61, 4223, 61];

    #[test]
    fn the_rule_is_read_off_the_examples() {
        let prompt = IdentityPrompt::read(&ABA).unwrap();
        assert_eq!((prompt.rule, prompt.n_shots, prompt.answer), (Rule::Aba, 2, 6023));
        let label = |position| prompt.labels(position).map(|l| (l.variable, l.token));
        assert_eq!(label(0), Some((Variable::A, 4260)));
        assert_eq!(label(2), Some((Variable::B, 742)));
        assert_eq!(label(4), Some((Variable::A, 4260)), "the third item, under ABA");
        assert_eq!(label(15), Some((Variable::A, 6023)), "the last position stands for the answer");
        assert_eq!([label(1), label(5), label(13), label(16)], [None; 4]);

        // The other prompt of its abstract pair: first and second items swapped, third ones kept. The rule flips.
        let abstract_pair = [742, 61, 4260, 61, 4260, 198, 983, 61, 665, 61, 665, 198, 4223, 61, 6023, 61];
        let other = IdentityPrompt::read(&abstract_pair).unwrap();
        assert_eq!((other.rule, other.answer), (Rule::Abb, 6023));
        assert_eq!(other.labels(4), Some(Labels { variable: Variable::B, token: 4260 }));
        assert_eq!(other.labels(15), Some(Labels { variable: Variable::B, token: 6023 }));

        // A BOS shifts everything.
        let with_bos: Vec<i64> = std::iter::once(7).chain(ABA).collect();
        let shifted = IdentityPrompt::read(&with_bos).unwrap();
        assert_eq!((shifted.labels(0), shifted.labels(5)), (None, prompt.labels(4)));
        assert_eq!(shifted.labels(16), prompt.labels(15));
    }

    #[test]
    fn a_swapped_query_has_the_other_answer() {
        let prompt = IdentityPrompt::read(&ABA).unwrap();
        let swapped = IdentityPrompt::read(&prompt.with_query_swapped()).unwrap();
        assert_eq!((swapped.rule, swapped.answer), (Rule::Aba, 4223));
        assert_eq!(swapped.with_query_swapped(), ABA);
    }

    #[test]
    fn other_prompts_are_none() {
        let changed = |at: usize, token: i64| {
            let mut tokens = ABA;
            tokens[at] = token;
            IdentityPrompt::read(&tokens)
        };
        assert_eq!(changed(4, 9), None, "a third item of its own");
        assert_eq!(changed(10, 983), None, "two rules");
        assert_eq!(changed(3, 62), None, "another separator");
        assert_eq!(changed(2, 4260), None, "first and second item alike: no rule can be read");
        assert_eq!(IdentityPrompt::read(&ABA[..15]), None);
        assert_eq!(IdentityPrompt::read(&ABA[..4]), None, "no example");
        assert_eq!(IdentityPrompt::read(&[]), None);
    }
}
