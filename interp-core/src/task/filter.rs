//! Whether a model answers a prompt: by greedy generation, or by the probability it gives the answer. Changes nothing in it.

use std::fmt;
use std::str::FromStr;

use super::identity_rules::Rejection;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::generate::{EditScope, Generation, generate};
use crate::guard::catch_torch;
use crate::intervention::{Context, Donors};
use crate::metric::{Metric, Readout};
use crate::prompt::{Prompt, Tokenizer};
use crate::trial::Target;

/// Most tokens of a continuation that is compared with the answer.
const MAX_NEW_TOKENS: usize = 10;

/// What is asked of a prompt before it may be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// Nothing; no model is needed.
    None,
    /// Greedy generation gives the answer, and then ends.
    Generation,
    /// P(answer) at the last position is at least this.
    Prob(f64),
}

/// A model, and what is asked of it.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
    wanted: Wanted,
    /// The checkpoint's own end-of-sequence ids, and all that begin with a newline (Yang et al., ICML 2025).
    stop_tokens: Vec<i64>,
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |problem: &str| Error::Selector {
            what: "filter",
            value: text.into(),
            problem: problem.into(),
            hint: Some("filters are generation, prob:P such as prob:0.5, and none".into()),
        };
        match (text, text.strip_prefix("prob:")) {
            ("none", _) => Ok(Wanted::None),
            ("generation", _) => Ok(Wanted::Generation),
            (_, Some(p)) => match p.parse() {
                Ok(p) if (0.0..=1.0).contains(&p) => Ok(Wanted::Prob(p)),
                _ => Err(refuse("its threshold is no probability from 0 to 1")),
            },
            _ => Err(refuse("no such filter")),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::None => f.write_str("none"),
            Wanted::Generation => f.write_str("generation"),
            Wanted::Prob(p) => write!(f, "prob:{p}"),
        }
    }
}

impl<'a> Filter<'a> {
    /// `end_tokens` are the checkpoint's own end-of-sequence ids.
    pub fn new(decoder: &'a Decoder, tokenizer: &'a Tokenizer, end_tokens: &[i64], wanted: Wanted) -> Result<Self> {
        let mut stop_tokens = tokenizer.newline_tokens()?;
        stop_tokens.extend(end_tokens);
        Ok(Self { decoder, tokenizer, wanted, stop_tokens })
    }

    /// Why the model fails this prompt, if it does. `answer` comes as text and as the one token that it is after the prompt.
    pub fn judge(&self, prompt: &Prompt, (text, token): (&str, i64)) -> Result<Option<Rejection>> {
        match self.wanted {
            Wanted::None => Ok(None),
            Wanted::Generation => {
                let said = catch_torch("generation", || self.continuation(prompt))?;
                Ok((said != text).then_some(Rejection::Generation))
            }
            Wanted::Prob(least) => {
                let p = catch_torch("P(answer)", || self.probability(prompt, token))?;
                let reached = p >= least;
                Ok((!reached).then_some(Rejection::Probability))
            }
        }
    }

    /// What the model says, up to the first end-of-sequence or newline token. Yang et al. sample four times with settings
    /// that make every sample the greedy one, so one decides.
    fn continuation(&self, prompt: &Prompt) -> Result<String> {
        let (n, n_ctx) = (prompt.tokens.len(), self.decoder.config().n_ctx);
        if n + MAX_NEW_TOKENS > n_ctx {
            let problem =
                format!("{n} prompt tokens and {MAX_NEW_TOKENS} new ones exceed the model's context of {n_ctx}");
            let hint = Some("give fewer --shots, or --filter prob:P, which needs no new ones".into());
            return Err(Error::Selector { what: "filter", value: self.wanted.to_string(), problem, hint });
        }
        let options = Generation {
            max_new_tokens: MAX_NEW_TOKENS,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            n_samples: 1,
            seed: 0,
            stop_tokens: self.stop_tokens.clone(),
        };
        let context = Context::of_run(self.decoder, 0, "filter");
        let samples = generate(self.decoder, prompt, &options, &[], EditScope::Prompt, &Donors::default(), &context)?;
        let tokens = samples
            .first()
            .map_or(&[][..], |sample| &sample.tokens[..sample.tokens.len() - usize::from(sample.stopped)]);
        self.tokenizer.decode(tokens, false)
    }

    fn probability(&self, prompt: &Prompt, token: i64) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let readout = Readout::new(&[Metric::Prob], Target { correct: token, incorrect: None }, "filter")?;
        let last = prompt.tokens.len() - 1;
        let resid = self.decoder.forward(self.decoder.embed(&prompt.tokens), last..last + 1, &mut ());
        let logits = self.decoder.unembed(&resid, last, None, &mut ());
        Ok(readout.measure(&logits.squeeze_dim(1)).double_value(&[0, 0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_they_are_written() {
        for text in ["none", "generation", "prob:0.5", "prob:1"] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        for (text, problem) in [
            ("accuracy", "no such filter"),
            ("prob:1.5", "its threshold is no probability from 0 to 1"),
            ("prob:", "its threshold is no probability from 0 to 1"),
        ] {
            let error = text.parse::<Wanted>().unwrap_err().to_string();
            assert_eq!(error, format!("filter `{text}`: {problem}"));
        }
    }
}
