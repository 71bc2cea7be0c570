//! Continuations of a prompt, greedy or sampled, with edits on the prompt, on new tokens, or on both.

mod batch;
mod likelihood;

use std::fmt;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::cache::PastRecorder;
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Past, Start};
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::intervention::{Context, Donors, Edit, Edits, Intervention};
use crate::prompt::Prompt;
use crate::site::Positions;

pub use self::batch::{batches, generate_batch, log_likelihoods_batch};
pub use self::likelihood::log_likelihoods;

/// How to choose the next token.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// Divides the logits before sampling; 0 takes the most likely token.
    pub temperature: f64,
    /// Samples among this many most likely tokens; 0 means all.
    pub top_k: usize,
    /// Samples among the most likely tokens that together have this probability; 1 means all.
    pub top_p: f64,
    /// Divides positive and multiplies negative logits of tokens already in prompt or continuation; 1 changes nothing.
    pub repetition_penalty: f64,
    /// Continuations of the one prompt, run as a batch.
    pub n_samples: usize,
    /// Seed of sampling; sample `i` does not depend on how many there are.
    pub seed: u64,
    /// A continuation ends with the first of these.
    pub stop_tokens: Vec<i64>,
}

/// Which positions edits apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditScope {
    /// The prompt's, at the positions each intervention names.
    Prompt,
    /// Every new token's.
    New,
    /// Both.
    Both,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// New tokens, the stop token included.
    pub tokens: Vec<i64>,
    /// Whether it ended by itself rather than at `max_new_tokens`.
    pub stopped: bool,
}

impl FromStr for EditScope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "prompt" => Ok(EditScope::Prompt),
            "new" => Ok(EditScope::New),
            "both" => Ok(EditScope::Both),
            _ => Err(Error::Selector {
                what: "edit scope",
                value: text.into(),
                problem: "no such scope".into(),
                hint: Some("scopes are prompt, new and both".into()),
            }),
        }
    }
}

impl fmt::Display for EditScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditScope::Prompt => "prompt",
            EditScope::New => "new",
            EditScope::Both => "both",
        })
    }
}

/// Continues `prompt` under `edits`. Prompt positions are computed once and shared by all samples.
pub fn generate(
    decoder: &Decoder,
    prompt: &Prompt,
    options: &Generation,
    edits: &[Intervention],
    scope: EditScope,
    donors: &Donors<'_>,
    context: &Context<'_>,
) -> Result<Vec<Sample>> {
    let _no_grad = tch::no_grad_guard();
    check(decoder.config(), prompt, options, edits, scope, context.trial)?;
    let (on_prompt, on_new) = (scope != EditScope::New, scope != EditScope::Prompt);
    let n = options.n_samples;
    let mut past = Past::new(decoder.config().n_layers);
    let prompt_edits = if on_prompt { edits } else { &[] };
    let bound = Edits::bind_in_place((0, prompt_edits), 1, prompt, donors, context)?;
    let mut logits = step(decoder, decoder.embed(&prompt.tokens), bound, &mut past)?.expand([n as i64, -1], false);
    let mut rngs: Vec<ChaCha8Rng> = (0..n).map(|i| sample_rng(options.seed, i)).collect();
    let mut rows: Vec<Vec<i64>> = vec![prompt.tokens.clone(); n];
    let mut samples = vec![Sample { tokens: Vec::new(), stopped: false }; n];

    for new in 0..options.max_new_tokens {
        let table: Vec<Vec<f64>> = Vec::try_from(logits.to_kind(Kind::Double)).expect("logits are a matrix");
        for (((mut row_logits, tokens), sample), rng) in
            table.into_iter().zip(&mut rows).zip(&mut samples).zip(&mut rngs)
        {
            let token = choose(&mut row_logits, tokens, options, rng);
            tokens.push(token);
            if !sample.stopped {
                sample.tokens.push(token);
                sample.stopped = options.stop_tokens.contains(&token);
            }
        }
        if new + 1 == options.max_new_tokens || samples.iter().all(|sample| sample.stopped) {
            break;
        }
        let pos = prompt.tokens.len() + new;
        let newest: Vec<&[i64]> = rows.iter().map(|tokens| &tokens[pos..]).collect();
        let here = Prompt { tokens: rows[0].clone(), spans: prompt.spans.clone() };
        let at_new = |one: &Intervention| Intervention { positions: Positions::Index(vec![pos as i64]), ..one.clone() };
        let new_edits: Vec<Intervention> = if on_new { edits.iter().map(at_new).collect() } else { Vec::new() };
        let bound = Edits::bind_in_place((0, &new_edits), n, &here, donors, context)?;
        let earlier = past.before(pos);
        let start = Start { layer: 0, pos, resid: decoder.embed_rows(&newest), past: Some(&earlier) };
        logits = step(decoder, start, bound, &mut past)?;
    }
    Ok(samples)
}

/// Finds what is wrong with a request before any model is loaded. `place` names the prompt in errors.
pub fn check(
    config: &ModelConfig,
    prompt: &Prompt,
    options: &Generation,
    edits: &[Intervention],
    scope: EditScope,
    place: &str,
) -> Result<()> {
    if prompt.tokens.len() + options.max_new_tokens > config.n_ctx {
        return Err(Error::Prompt {
            place: place.into(),
            problem: format!(
                "{} prompt tokens and {} new ones exceed the model's context of {}",
                prompt.tokens.len(),
                options.max_new_tokens,
                config.n_ctx
            ),
            hint: Some("shorten the prompt or lower --max-new-tokens".into()),
        });
    }
    let from_prompts = |one: &&Intervention| matches!(one.edit, Edit::Patch | Edit::Mean | Edit::Noise(_));
    match edits.iter().find(from_prompts) {
        Some(one) if scope != EditScope::Prompt => Err(Error::Selector {
            what: "edit scope",
            value: scope.to_string(),
            problem: format!("edit at {} takes values from prompts, and new tokens have no counterpart there", one.at),
            hint: Some("use --edit-scope prompt, or zero, scale, add, knockout or uniform-attention".into()),
        }),
        _ => Ok(()),
    }
}

/// Runs one step under `edits`; see [`pass`].
fn step(decoder: &Decoder, start: Start<'_>, mut edits: Edits, past: &mut Past) -> Result<Tensor> {
    let logits = pass(decoder, start, &mut edits, past);
    edits.finish()?;
    Ok(logits)
}

/// Runs one step, appends its keys and values to `past`, and returns the logits `[batch, vocab]` of its last position.
fn pass<H: Hooks>(decoder: &Decoder, start: Start<'_>, hooks: &mut H, past: &mut Past) -> Tensor {
    let last = start.pos + start.resid.size()[1] as usize - 1;
    let mut recorder = PastRecorder::default();
    let resid = decoder.forward(start, last..last + 1, &mut (&mut *hooks, &mut recorder));
    let logits = decoder.unembed(&resid, last, None, hooks);
    recorder.append_to(past);
    logits.squeeze_dim(1)
}

/// The next token of one row. Penalty, temperature, top-k and top-p in Hugging Face's order.
fn choose(logits: &mut [f64], tokens: &[i64], options: &Generation, rng: &mut ChaCha8Rng) -> i64 {
    if options.repetition_penalty != 1.0 {
        let mut seen: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            let logit = &mut logits[token];
            *logit =
                if *logit > 0.0 { *logit / options.repetition_penalty } else { *logit * options.repetition_penalty };
        }
    }
    if options.temperature == 0.0 {
        // The first of equals, as argmax takes it.
        return (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as i64;
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let largest = logits[order[0]];
    let mut weights: Vec<f64> = order.iter().map(|&i| ((logits[i] - largest) / options.temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    if options.top_p < 1.0 {
        let mut reached = 0.0;
        let kept = weights.iter().take_while(|&&weight| {
            let inside = reached < options.top_p * total;
            reached += weight;
            inside
        });
        let kept = kept.count().max(1);
        weights.truncate(kept);
    }
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (&token, weight) in order.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return token as i64;
        }
    }
    order[weights.len() - 1] as i64
}

/// Every sample has a stream of its own, so that sample `i` is the same in a batch of any size.
fn sample_rng(seed: u64, sample: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(sample as u64);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f64) -> Generation {
        Generation {
            max_new_tokens: 1,
            temperature,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            n_samples: 1,
            seed: 0,
            stop_tokens: vec![],
        }
    }

    fn shares(options: &Generation) -> [f64; 3] {
        let mut counts = [0.0; 3];
        let mut rng = sample_rng(1, 0);
        for _ in 0..20_000 {
            counts[choose(&mut [1.0, 0.0, 2.0], &[], options, &mut rng) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn sampling_follows_softmax_and_its_truncations() {
        let close = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.015);
        assert!(close(shares(&options(1.0)), [0.2447, 0.0900, 0.6652]));
        assert!(close(shares(&options(0.5)), [0.1173, 0.0159, 0.8668]));
        assert!(close(shares(&Generation { top_k: 2, ..options(1.0) }), [0.2689, 0.0, 0.7311]));
        assert!(close(shares(&Generation { top_p: 0.7, ..options(1.0) }), [0.2689, 0.0, 0.7311]));
        assert!(close(shares(&Generation { top_p: 0.6, ..options(1.0) }), [0.0, 0.0, 1.0]));
        assert!(close(shares(&options(0.0)), [0.0, 0.0, 1.0]));
    }

    #[test]
    fn the_penalty_divides_positive_and_multiplies_negative_logits() {
        let penalised = Generation { repetition_penalty: 2.0, ..options(0.0) };
        let mut logits = [3.0, 2.0, -1.0];
        assert_eq!(choose(&mut logits, &[0, 0, 2], &penalised, &mut sample_rng(0, 0)), 1);
        assert_eq!(logits, [1.5, 2.0, -2.0]);
    }
}
