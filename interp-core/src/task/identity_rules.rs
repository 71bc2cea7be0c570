//! Draws of words that a tokenizer and a model can use, counted rejections of the others, and the trials made of them. Writes
//! nothing.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::line::{Line, Side};
use super::material::{Material, Pairing, Rule, n_tokens};
use crate::error::{Error, Result};
use crate::prompt::{Answer, Prompt, PromptReader, PromptSpec, Tokenizer};

/// What is to be made. A draw gives one trial per pairing and rule, all of them one cluster, and counts only if every prompt of
/// them can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityRules {
    /// Examples in a prompt.
    pub shots: usize,
    /// Kinds of pairs.
    pub pairings: Vec<Pairing>,
    /// Draws wanted.
    pub draws: usize,
    /// Seed of the words.
    pub seed: u64,
    /// Draws that are tried at most.
    pub max_attempts: usize,
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Made {
    /// Lines per pairing, draw after draw, one per rule.
    pub lines: Vec<Vec<Line>>,
    /// Draws tried.
    pub attempts: usize,
    /// How many of them were rejected, by the first reason that was found.
    pub rejected: BTreeMap<Rejection, usize>,
}

/// Says of a prompt and its answer (as text, and as the token that it is there) why a model fails it, if it does.
pub type Judge<'a> = dyn FnMut(&Prompt, (&str, i64)) -> Result<Option<Rejection>> + 'a;

/// Why a draw is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// A prompt has another number of tokens than words and separators.
    Length,
    /// Something else stands where `^` or the newline should.
    Separator,
    /// A prompt that an earlier draw has, too.
    Duplicate,
    /// The answer is not one token where it follows.
    Answer,
    /// Greedy generation does not give the answer.
    Generation,
    /// The answer's probability is under the threshold.
    Probability,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::Length => "a word is not one token in the prompt",
            Rejection::Separator => "a separator merges with a word",
            Rejection::Duplicate => "drawn before",
            Rejection::Answer => "the answer is not one token after the prompt",
            Rejection::Generation => "not answered by greedy generation",
            Rejection::Probability => "P(answer) under the threshold",
        })
    }
}

/// Whether a prompt's words and separators are one token each, `tokens` being its ids without what the tokenizer puts before a
/// text: their number is 6·shots + 4, and every second one is `^` or the newline (Yang et al., ICML 2025).
pub fn sound(tokenizer: &Tokenizer, tokens: &[i64], shots: usize) -> Result<(), Rejection> {
    if tokens.len() != n_tokens(shots) {
        return Err(Rejection::Length);
    }
    let is_separator = |&id: &i64| ["^", "\n"].contains(&tokenizer.token_text(id).as_str());
    match tokens.iter().skip(1).step_by(2).all(is_separator) {
        true => Ok(()),
        false => Err(Rejection::Separator),
    }
}

impl IdentityRules {
    /// Draws until there are enough. `step` is called after each draw that is used. Errs when the settings can give no trial, and
    /// when the attempts are used up.
    pub fn make(&self, reader: &PromptReader<'_>, judge: &mut Judge<'_>, step: &mut dyn FnMut()) -> Result<Made> {
        let tokenizer = reader.tokenizer.ok_or_else(|| no_words("the checkpoint has no tokenizer".into()))?;
        let (words, shift) = (tokenizer.words(), before_text(tokenizer)?);
        self.check(words.len(), n_tokens(self.shots) + shift, reader.n_ctx)?;
        let place = Place { reader, tokenizer, shots: self.shots, shift };
        let mut made = Made { lines: vec![Vec::new(); self.pairings.len()], ..Made::default() };
        let (mut rng, mut seen, mut kept) = (ChaCha8Rng::seed_from_u64(self.seed), HashSet::new(), 0);
        while kept < self.draws {
            if made.attempts == self.max_attempts {
                let rejected = made.rejected.iter().map(|(reason, &n)| (reason.to_string(), n)).collect();
                let Made { attempts, .. } = made;
                return Err(Error::TooFewDraws { found: kept, wanted: self.draws, attempts, rejected });
            }
            made.attempts += 1;
            let material = Material::draw(&words, self.shots, &mut rng);
            let cluster = format!("d{kept:03}");
            let of_pairing = |&pairing: &Pairing| Rule::BOTH.map(|rule| material.line(pairing, rule, &cluster, shift));
            let lines: Vec<[Line; 2]> = self.pairings.iter().map(of_pairing).collect();
            let sides = distinct(lines.iter().flatten().flat_map(Line::sides));
            match place.usable(&sides, &mut seen, judge)? {
                Err(reason) => *made.rejected.entry(reason).or_default() += 1,
                Ok(()) => {
                    made.lines.iter_mut().zip(lines).for_each(|(all, lines)| all.extend(lines));
                    kept += 1;
                    step();
                }
            }
        }
        Ok(made)
    }

    /// What is wrong with the settings, whatever is drawn.
    fn check(&self, n_words: usize, n_tokens: usize, n_ctx: usize) -> Result<()> {
        let refuse = |what, value: usize, problem: String, hint: &str| {
            Err(Error::Selector { what, value: value.to_string(), problem, hint: Some(hint.into()) })
        };
        if self.shots == 0 {
            let problem = "without an example nothing tells the two rules apart".into();
            return refuse("shots", 0, problem, "give 1 or more");
        }
        if self.draws == 0 {
            return refuse("draws", 0, "there would be no trial".into(), "give 1 or more");
        }
        if n_tokens > n_ctx {
            let problem = format!("prompts would have {n_tokens} tokens, but the model's context holds {n_ctx}");
            return refuse("shots", self.shots, problem, "give fewer");
        }
        let needed = 2 * (self.shots + 1);
        match n_words {
            0 => Err(no_words("the tokenizer has no token made only of letters".into())),
            n if n < needed => Err(no_words(format!(
                "the tokenizer has {n} tokens made only of letters, and a prompt of {} shots needs {needed}",
                self.shots
            ))),
            _ => Ok(()),
        }
    }
}

/// Where prompts are checked.
struct Place<'a> {
    reader: &'a PromptReader<'a>,
    tokenizer: &'a Tokenizer,
    shots: usize,
    shift: usize,
}

impl Place<'_> {
    /// Whether all prompts of a draw can be used; they then count as `seen`. What needs no model is looked at first.
    fn usable(
        &self,
        sides: &[&Side],
        seen: &mut HashSet<String>,
        judge: &mut Judge<'_>,
    ) -> Result<Result<(), Rejection>> {
        let mut prompts = Vec::with_capacity(sides.len());
        for side in sides {
            let read = self.reader.read(&PromptSpec::text(&side.text), "identity-rules")?;
            if let Err(reason) = sound(self.tokenizer, &read.prompt.tokens[self.shift..], self.shots) {
                return Ok(Err(reason));
            }
            if seen.contains(&side.text) {
                return Ok(Err(Rejection::Duplicate));
            }
            let answer = Answer::Text(side.answer.clone());
            match self.reader.next_token(&read, &answer, false, "identity-rules") {
                Ok(token) => prompts.push((read.prompt, token.id)),
                Err(_) => return Ok(Err(Rejection::Answer)),
            }
        }
        for (side, (prompt, token)) in sides.iter().zip(&prompts) {
            if let Some(reason) = judge(prompt, (&side.answer, *token))? {
                return Ok(Err(reason));
            }
        }
        seen.extend(sides.iter().map(|side| side.text.clone()));
        Ok(Ok(()))
    }
}

/// The prompts of a draw, each once, in order.
fn distinct<'a>(sides: impl Iterator<Item = &'a Side>) -> Vec<&'a Side> {
    let mut distinct: Vec<&Side> = Vec::new();
    for side in sides {
        if distinct.iter().all(|other| other.text != side.text) {
            distinct.push(side);
        }
    }
    distinct
}

/// How many tokens the tokenizer puts before a text (a BOS). Errs if it also puts some behind, where the answer should come.
fn before_text(tokenizer: &Tokenizer) -> Result<usize> {
    let (bare, whole) = (tokenizer.encode("^", false)?, tokenizer.encode("^", true)?);
    match whole.ends_with(&bare) {
        true => Ok(whole.len() - bare.len()),
        false => Err(Error::Prompt {
            place: "tokenizer".into(),
            problem: "it puts tokens behind a text, where the answer should come".into(),
            hint: Some("take them out of the post-processor in tokenizer.json".into()),
        }),
    }
}

fn no_words(problem: String) -> Error {
    let hint =
        Some("identity rules are made of a tokenizer's own words: use a checkpoint whose tokenizer has them".into());
    Error::Prompt { place: "identity-rules".into(), problem, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::testing;

    fn task(shots: usize, draws: usize) -> IdentityRules {
        let pairings = vec![Pairing::Abstract, Pairing::Token];
        IdentityRules { shots, pairings, draws, seed: 0, max_attempts: 50 }
    }

    fn make(task: &IdentityRules, tokenizer: Option<&Tokenizer>, n_ctx: usize) -> Result<Made, String> {
        let reader = PromptReader { tokenizer, d_vocab: 300, n_ctx };
        task.make(&reader, &mut |_, _| Ok(None), &mut || ()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_that_give_no_trial_are_refused_by_name() {
        let words = testing::letters(&["a", "b", "c", "d", "e"]);
        let refused = |task: &IdentityRules, tokenizer, n_ctx| make(task, tokenizer, n_ctx).unwrap_err();
        assert_eq!(
            refused(&task(0, 1), Some(&words), 99),
            "shots `0`: without an example nothing tells the two rules apart"
        );
        assert_eq!(refused(&task(1, 0), Some(&words), 99), "draws `0`: there would be no trial");
        assert_eq!(
            refused(&task(2, 1), Some(&words), 15),
            "shots `2`: prompts would have 16 tokens, but the model's context holds 15"
        );
        assert_eq!(
            refused(&task(2, 1), Some(&words), 99),
            "identity-rules: the tokenizer has 5 tokens made only of letters, and a prompt of 2 shots needs 6"
        );
        assert_eq!(refused(&task(1, 1), None, 99), "identity-rules: the checkpoint has no tokenizer");
        let none = testing::letters(&[]);
        assert_eq!(
            refused(&task(1, 1), Some(&none), 99),
            "identity-rules: the tokenizer has no token made only of letters"
        );
    }

    #[test]
    fn a_prompt_is_drawn_once_and_what_is_rejected_is_counted() {
        let words = testing::letters(&["a", "b", "c", "d"]);
        // Four words have 24 orders, and a draw leaves none of the four that swapping its example and its query reaches.
        let made = make(&task(1, 3), Some(&words), 99).unwrap();
        let texts: Vec<&str> =
            made.lines.iter().flatten().flat_map(Line::sides).map(|side| side.text.as_str()).collect();
        assert_eq!((made.lines[0].len(), made.lines[1].len(), texts.len()), (6, 6, 24));
        let unique: HashSet<&str> = texts.iter().copied().collect();
        assert_eq!(unique.len(), 6 * 3, "base and source of a draw share prompts, draws do not");
        assert_eq!(made.rejected.values().sum::<usize>() + 3, made.attempts);
        assert_eq!(make(&task(1, 3), Some(&words), 99).unwrap(), made);
        assert_eq!(
            make(&task(1, 40), Some(&words), 99).unwrap_err(),
            "only 6 of 40 draws can be used, after 50 were tried; rejected: 44 (drawn before)"
        );
    }

    #[test]
    fn what_comes_before_a_text_is_counted() {
        let bos = testing::byte_level();
        assert_eq!(before_text(&bos).unwrap(), 1);
        assert_eq!(before_text(&testing::letters(&["a"])).unwrap(), 0);
    }
}
