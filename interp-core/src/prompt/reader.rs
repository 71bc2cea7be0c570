//! Prompts as written to prompts that can run: tokenised, spans placed, lengths and ids checked. Runs nothing.

use super::spans::TokenChars;
use super::spec::{Answer, PromptInput, PromptSpec, SpanSpec};
use super::{Prompt, Tokenizer, spans};
use crate::error::{Error, Result};

/// Reads prompts for one model. Without a tokenizer it reads token ids only.
#[derive(Debug, Clone, Copy)]
pub struct PromptReader<'a> {
    /// The checkpoint's tokenizer, if it has one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Rows of the model's embedding: ids run from 0 to one less.
    pub d_vocab: usize,
    /// Longest prompt the model takes, in tokens.
    pub n_ctx: usize,
}

/// A prompt together with the text it came from, so that an answer can be tokenised where it follows.
#[derive(Debug, Clone)]
pub struct ReadPrompt {
    /// What runs.
    pub prompt: Prompt,
    text: Option<Text>,
}

#[derive(Debug, Clone)]
struct Text {
    text: String,
    add_special_tokens: bool,
}

/// A prompt's tokens on their way to a [`ReadPrompt`]; its characters only if a span counts them.
struct Encoded {
    tokens: Vec<i64>,
    chars: Option<TokenChars>,
    text: Option<Text>,
}

/// The token by which an answer begins after a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextToken {
    /// Its id.
    pub id: i64,
    /// How many tokens the whole answer is.
    pub n_tokens: usize,
}

impl PromptReader<'_> {
    /// Tokenises and checks a prompt. `place` names it in errors (`trials.jsonl:12: base`, `--prompt`).
    pub fn prompt(&self, spec: &PromptSpec, place: &str) -> Result<Prompt> {
        Ok(self.read(spec, place)?.prompt)
    }

    /// As [`prompt`](Self::prompt), keeping what [`next_token`](Self::next_token) needs.
    pub fn read(&self, spec: &PromptSpec, place: &str) -> Result<ReadPrompt> {
        let needs_chars = spec.spans.values().any(|span| matches!(span, SpanSpec::Chars(_)));
        let Encoded { tokens, chars, text } = match &spec.input {
            PromptInput::Tokens(tokens) => Encoded { tokens: tokens.clone(), chars: None, text: None },
            PromptInput::Text(text) => {
                self.encode(Text { text: text.clone(), add_special_tokens: true }, needs_chars, place)?
            }
            PromptInput::Chat { messages, .. } if messages.is_empty() => {
                return Err(refuse(place, "the prompt is empty: `messages` has none", None));
            }
            PromptInput::Chat { messages, prefix } => {
                let text = self.tokenizer(place)?.render_chat(messages, place)? + prefix;
                self.encode(Text { text, add_special_tokens: false }, needs_chars, place)?
            }
        };
        self.check_tokens(&tokens, place)?;
        let place_span = |(name, span): (&String, &SpanSpec)| {
            let ranges = match (span, &chars) {
                (SpanSpec::Tokens(ranges), _) => spans::from_tokens(ranges, tokens.len()),
                (SpanSpec::Chars(span), Some(chars)) => spans::from_chars(&span.chars, chars),
                (SpanSpec::Chars(_), None) => Err("it counts characters, but the prompt is token ids".into()),
            };
            match ranges {
                Ok(ranges) => Ok((name.clone(), ranges)),
                Err(problem) => Err(refuse(place, format!("span `{name}`: {problem}"), None)),
            }
        };
        let spans = spec.spans.iter().map(place_span).collect::<Result<_>>()?;
        Ok(ReadPrompt { prompt: Prompt { tokens, spans }, text })
    }

    /// The token by which `answer` begins where it follows the prompt. Text is tokenised together with the prompt, and
    /// the prompt's own tokens must stay what they are. More than one token is an error unless `first_token`.
    pub fn next_token(&self, after: &ReadPrompt, answer: &Answer, first_token: bool, place: &str) -> Result<NextToken> {
        let answer = match answer {
            Answer::Id(id) => {
                self.check_id(*id, place)?;
                return Ok(NextToken { id: *id, n_tokens: 1 });
            }
            Answer::Text(answer) if answer.is_empty() => return Err(refuse(place, "it is empty", None)),
            Answer::Text(answer) => answer,
        };
        let added = self.continuation(after, answer, place)?;
        let tokenizer = self.tokenizer(place)?;
        let &[id, ..] = &added[..] else {
            return Err(refuse(place, format!("{answer:?} adds no token to the prompt"), None));
        };
        self.check_id(id, place)?;
        if added.len() > 1 && !first_token {
            return Err(refuse(
                place,
                format!("{answer:?} is {} tokens after the prompt: {}", added.len(), quote(tokenizer, &added)),
                Some("give one token, or take the first with `--target first-token`"),
            ));
        }
        if tokenizer.is_unknown(id) {
            return Err(refuse(
                place,
                format!("{answer:?} is not in the tokenizer's vocabulary"),
                Some("choose an answer that is"),
            ));
        }
        Ok(NextToken { id, n_tokens: added.len() })
    }

    /// The tokens that `answer` adds to a prompt. The prompt's own tokens must stay what they are.
    pub fn continuation(&self, after: &ReadPrompt, answer: &str, place: &str) -> Result<Vec<i64>> {
        let tokenizer = self.tokenizer(place)?;
        let tokens = &after.prompt.tokens;
        let joined = match &after.text {
            Some(Text { text, add_special_tokens }) => {
                tokenizer.encode(&format!("{text}{answer}"), *add_special_tokens)
            }
            None => {
                let text = tokenizer.decode(tokens, false)?;
                if tokenizer.encode(&text, false).ok().as_ref() != Some(tokens) {
                    return Err(refuse(
                        place,
                        format!("{answer:?} cannot be tokenised after a prompt of token ids that are no text's"),
                        Some("give the answer as a token id too"),
                    ));
                }
                tokenizer.encode(&format!("{text}{answer}"), false)
            }
        }
        .map_err(at(place))?;
        let kept = tokens.iter().zip(&joined).take_while(|(a, b)| a == b).count();
        if kept < tokens.len() {
            return Err(refuse(
                place,
                format!(
                    "{answer:?} changes how the prompt is tokenised: its end {} becomes {}",
                    quote(tokenizer, &tokens[kept..]),
                    quote(tokenizer, &joined[kept..])
                ),
                Some("move a space from the end of the prompt to the start of the answer, or give a token id"),
            ));
        }
        Ok(joined[kept..].to_vec())
    }

    fn encode(&self, text: Text, needs_chars: bool, place: &str) -> Result<Encoded> {
        let tokenizer = self.tokenizer(place)?;
        // A tokenizer that adds a BOS would make one token of nothing.
        if text.text.is_empty() {
            return Err(refuse(place, "the prompt is empty", None));
        }
        let (tokens, chars) = if needs_chars {
            let (tokens, chars) =
                tokenizer.encode_with_chars(&text.text, text.add_special_tokens).map_err(at(place))?;
            (tokens, Some(chars))
        } else {
            (tokenizer.encode(&text.text, text.add_special_tokens).map_err(at(place))?, None)
        };
        Ok(Encoded { tokens, chars, text: Some(text) })
    }

    fn tokenizer(&self, place: &str) -> Result<&Tokenizer> {
        self.tokenizer.ok_or_else(|| {
            refuse(
                place,
                "it is text, but the checkpoint has no tokenizer",
                Some("give token ids, or put the model's tokenizer.json into the checkpoint's folder"),
            )
        })
    }

    fn check_tokens(&self, tokens: &[i64], place: &str) -> Result<()> {
        if tokens.is_empty() {
            return Err(refuse(place, "the prompt is empty: it has no tokens", None));
        }
        if tokens.len() > self.n_ctx {
            let problem =
                format!("the prompt has {} tokens but the model's context holds {}", tokens.len(), self.n_ctx);
            return Err(refuse(place, problem, Some("shorten it, or use a model with a longer context")));
        }
        tokens.iter().try_for_each(|&id| self.check_id(id, place))
    }

    fn check_id(&self, id: i64, place: &str) -> Result<()> {
        match usize::try_from(id) {
            Ok(row) if row < self.d_vocab => Ok(()),
            _ => Err(refuse(
                place,
                format!("token id {id} is not in the model's vocabulary of {}", self.d_vocab),
                Some(&format!("ids are 0 to {}", self.d_vocab.saturating_sub(1))),
            )),
        }
    }
}

fn refuse(place: &str, problem: impl Into<String>, hint: Option<&str>) -> Error {
    Error::Prompt { place: place.into(), problem: problem.into(), hint: hint.map(str::to_owned) }
}

/// Gives an error of the tokenizer the prompt's place.
fn at(place: &str) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Prompt { problem, hint, .. } => Error::Prompt { place: place.into(), problem, hint },
        other => other,
    }
}

/// `" non" (2477), "-com" (11476)`; long lists are cut.
fn quote(tokenizer: &Tokenizer, ids: &[i64]) -> String {
    const SHOWN: usize = 6;
    let mut parts: Vec<String> =
        ids.iter().take(SHOWN).map(|&id| format!("{:?} ({id})", tokenizer.token_text(id))).collect();
    if ids.len() > SHOWN {
        parts.push("…".into());
    }
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a span is a list of ranges, often of one")]
mod tests {
    use super::super::testing;
    use super::*;

    fn reader(tokenizer: &Tokenizer) -> PromptReader<'_> {
        PromptReader { tokenizer: Some(tokenizer), d_vocab: tokenizer.vocab_size(), n_ctx: 12 }
    }

    fn spec(json: &str) -> PromptSpec {
        serde_json::from_str(json).unwrap()
    }

    fn refused(reader: &PromptReader<'_>, json: &str) -> String {
        reader.prompt(&spec(json), "t1").unwrap_err().to_string()
    }

    #[test]
    fn character_spans_become_token_spans_in_multibyte_text() {
        let tokenizer = testing::byte_level();
        // <s> · a · é (one token) · € (three) · " she": characters a, é, €, then four.
        let read = |span: &str| {
            let json = format!(r#"{{"text":"aé€ she","spans":{{"x":{{"chars":{span}}}}}}}"#);
            let prompt = reader(&tokenizer).prompt(&spec(&json), "t1").unwrap();
            assert_eq!(prompt.tokens.len(), 7);
            prompt.spans["x"].clone()
        };
        assert_eq!(read("[[0,1]]"), [1..2], "the added <s> belongs to no character");
        assert_eq!(read("[[1,2]]"), [2..3]);
        assert_eq!(read("[[2,3]]"), [3..6], "all tokens of one character");
        assert_eq!(read("[[3,4]]"), [6..7], "a space belongs to its token");
        assert_eq!(read("[[6,7],[0,2]]"), [1..3, 6..7]);
        assert_eq!(read("[[0,7]]"), [1..7]);
    }

    #[test]
    fn chat_is_rendered_and_nothing_is_added() {
        let tokenizer = testing::byte_level();
        let json = r#"{"messages":[{"role":"u","content":" é"}],"prefix":"=","spans":{"e":{"chars":[[3,4]]}}}"#;
        let prompt = reader(&tokenizer).prompt(&spec(json), "t1").unwrap();
        assert_eq!(prompt.tokens, tokenizer.encode("u: é;A>=", false).unwrap());
        assert_eq!(prompt.spans["e"], vec![3..4]);
        assert_eq!(refused(&reader(&tokenizer), r#"{"messages":[]}"#), "t1: the prompt is empty: `messages` has none");
        let words = testing::words(&["a"]);
        assert_eq!(
            refused(&reader(&words), r#"{"messages":[{"role":"u","content":"a"}]}"#),
            "t1: the checkpoint has no chat template for `messages`"
        );
    }

    #[test]
    fn token_ids_need_no_tokenizer() {
        let reader = PromptReader { tokenizer: None, d_vocab: 8, n_ctx: 4 };
        let prompt = reader.prompt(&spec(r#"{"tokens":[7,0,7],"spans":{"x":[[2,3],[0,1]]}}"#), "t1").unwrap();
        assert_eq!((prompt.tokens, &prompt.spans["x"]), (vec![7, 0, 7], &vec![0..1, 2..3]));
        assert_eq!(refused(&reader, r#"{"text":"a"}"#), "t1: it is text, but the checkpoint has no tokenizer");
        assert_eq!(
            refused(&reader, r#"{"messages":[{"role":"u","content":"a"}]}"#),
            "t1: it is text, but the checkpoint has no tokenizer"
        );
        assert_eq!(refused(&reader, r#"{"tokens":[]}"#), "t1: the prompt is empty: it has no tokens");
        assert_eq!(refused(&reader, r#"{"tokens":[0,8]}"#), "t1: token id 8 is not in the model's vocabulary of 8");
        assert_eq!(refused(&reader, r#"{"tokens":[-1]}"#), "t1: token id -1 is not in the model's vocabulary of 8");
        assert_eq!(
            refused(&reader, r#"{"tokens":[0,0,0,0,0]}"#),
            "t1: the prompt has 5 tokens but the model's context holds 4"
        );
        let chars = r#"{"tokens":[1],"spans":{"x":{"chars":[[0,1]]}}}"#;
        assert_eq!(refused(&reader, chars), "t1: span `x`: it counts characters, but the prompt is token ids");
        let long = r#"{"tokens":[1],"spans":{"x":[[0,2]]}}"#;
        assert_eq!(refused(&reader, long), "t1: span `x`: [0, 2] ends beyond the prompt's 1 tokens");
    }

    #[test]
    fn a_text_is_checked_like_its_tokens() {
        let tokenizer = testing::byte_level();
        assert_eq!(refused(&reader(&tokenizer), r#"{"text":""}"#), "t1: the prompt is empty");
        assert_eq!(
            refused(&reader(&tokenizer), r#"{"text":"xxxxxxxxxxxx"}"#),
            "t1: the prompt has 13 tokens but the model's context holds 12"
        );
        let words = testing::words(&["a"]);
        assert_eq!(refused(&reader(&words), r#"{"text":"  "}"#), "t1: the prompt is empty: it has no tokens");
        let small = PromptReader { d_vocab: 1, ..reader(&words) };
        assert_eq!(refused(&small, r#"{"text":"a"}"#), "t1: token id 1 is not in the model's vocabulary of 1");
    }

    fn next(prompt: &str, answer: &str, first_token: bool) -> Result<NextToken, String> {
        let tokenizer = testing::byte_level();
        let reader = reader(&tokenizer);
        let read = reader.read(&spec(prompt), "t1").unwrap();
        let answer = serde_json::from_str(answer).unwrap();
        reader.next_token(&read, &answer, first_token, "t1: target.correct").map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_is_one_token_where_it_follows() {
        let tokenizer = testing::byte_level();
        let she = NextToken { id: tokenizer.encode(" she", false).unwrap()[0], n_tokens: 1 };
        assert_eq!(next(r#"{"text":"x"}"#, r#"" she""#, false), Ok(she));
        assert_eq!(next(r#"{"messages":[{"role":"u","content":"x"}]}"#, r#"" she""#, false), Ok(she));
        assert_eq!(next(r#"{"tokens":[40]}"#, r#"" she""#, false), Ok(she));
        assert_eq!(next(r#"{"text":"x"}"#, "258", false), Ok(NextToken { id: 258, n_tokens: 1 }));
        assert_eq!(
            next(r#"{"text":"x"}"#, "300", false).unwrap_err(),
            "t1: target.correct: token id 300 is not in the model's vocabulary of 265"
        );
        assert_eq!(
            next(r#"{"text":"x"}"#, r#"" sheet""#, false).unwrap_err(),
            "t1: target.correct: \" sheet\" is 3 tokens after the prompt: \" she\" (258), \"e\" (68), \"t\" (83)"
        );
        assert_eq!(next(r#"{"text":"x"}"#, r#"" sheet""#, true), Ok(NextToken { id: 258, n_tokens: 3 }));
        assert_eq!(
            next(r#"{"text":"x "}"#, r#""he""#, true).unwrap_err(),
            "t1: target.correct: \"he\" changes how the prompt is tokenised: its end \" \" (220) becomes \" he\" (260)"
        );
        assert_eq!(next(r#"{"text":"x"}"#, r#""""#, false).unwrap_err(), "t1: target.correct: it is empty");
        assert_eq!(
            next(r#"{"tokens":[71,68]}"#, r#""x""#, false).unwrap_err(),
            "t1: target.correct: \"x\" cannot be tokenised after a prompt of token ids that are no text's"
        );
    }

    #[test]
    fn an_answer_outside_the_vocabulary_is_refused() {
        let words = testing::words(&["a", "b"]);
        let reader = reader(&words);
        let read = reader.read(&spec(r#"{"text":"a"}"#), "t1").unwrap();
        let next = |answer: &str| reader.next_token(&read, &Answer::Text(answer.into()), false, "t1: target.correct");
        assert_eq!(next(" b").unwrap().id, 2);
        assert_eq!(
            next(" c").unwrap_err().to_string(),
            "t1: target.correct: \" c\" is not in the tokenizer's vocabulary"
        );
        assert_eq!(next(" ").unwrap_err().to_string(), "t1: target.correct: \" \" adds no token to the prompt");
        let bare = PromptReader { tokenizer: None, d_vocab: 3, n_ctx: 12 };
        assert_eq!(
            bare.next_token(&read, &Answer::Text("b".into()), false, "t1").unwrap_err().to_string(),
            "t1: it is text, but the checkpoint has no tokenizer"
        );
    }
}
