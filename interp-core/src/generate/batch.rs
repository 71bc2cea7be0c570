//! Many prompts without edits, several of one length in each pass, so that short prompts of a small model do not cost a pass each.
//! Prompts of one length need no padding: every row is computed as it would be alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tch::{Kind, Tensor};

use super::{Generation, Sample, choose, pass};
use crate::decoder::{Decoder, Past, Start};

/// Which prompts run together: those of one length, at most `most` of them, from the shortest on, equal ones in their order. Depends
/// on the lengths alone, so that a run that is stopped and started again has the same passes.
pub fn batches(lengths: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&prompt| lengths[prompt]);
    let of_one_length = order.chunk_by(|&a, &b| lengths[a] == lengths[b]);
    of_one_length.flat_map(|prompts| prompts.chunks(most.max(1))).map(<[usize]>::to_vec).collect()
}

/// The most likely continuation of each prompt, with the repetition penalty of `options`: what [`super::generate`] gives them one by
/// one, but for logits so close that the order of additions decides.
///
/// # Panics
///
/// Where prompts differ in length, or `options` ask for samples.
pub fn generate_batch(decoder: &Decoder, prompts: &[&[i64]], options: &Generation) -> Vec<Sample> {
    assert!(options.temperature == 0.0 && options.n_samples == 1, "a batch is decoded greedily");
    let _no_grad = tch::no_grad_guard();
    let (mut past, mut logits) = first(decoder, prompts);
    // Greedy choices draw nothing.
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut texts: Vec<Vec<i64>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
    let mut samples = vec![Sample { tokens: Vec::new(), stopped: false }; prompts.len()];
    // Which prompt each row of the pass belongs to; one that has stopped has none.
    let mut going: Vec<usize> = (0..prompts.len()).collect();
    for new in 0..options.max_new_tokens {
        let table: Vec<Vec<f64>> = Vec::try_from(logits.to_kind(Kind::Double)).expect("logits are a matrix");
        for (mut row, &prompt) in table.into_iter().zip(&going) {
            let token = choose(&mut row, &texts[prompt], options, &mut rng);
            texts[prompt].push(token);
            samples[prompt].tokens.push(token);
            samples[prompt].stopped = options.stop_tokens.contains(&token);
        }
        let left: Vec<i64> =
            (0..).zip(&going).filter(|(_, prompt)| !samples[**prompt].stopped).map(|(i, _)| i).collect();
        if left.is_empty() || new + 1 == options.max_new_tokens {
            break;
        }
        if left.len() < going.len() {
            past.keep_rows(&left);
            going = left.iter().map(|&row| going[row as usize]).collect();
        }
        let pos = prompts[0].len() + new;
        let newest: Vec<&[i64]> = going.iter().map(|&prompt| &texts[prompt][pos..]).collect();
        let earlier = past.before(pos);
        let start = Start { layer: 0, pos, resid: decoder.embed_rows(&newest), past: Some(&earlier) };
        logits = pass(decoder, start, &mut (), &mut past);
    }
    samples
}

/// ln P of every token of every continuation after each prompt, in nats, `[prompt][continuation][token]`, each given the prompt and
/// the tokens before it; see [`super::log_likelihoods`].
///
/// # Panics
///
/// Where prompts differ in length.
pub fn log_likelihoods_batch(decoder: &Decoder, prompts: &[&[i64]], continuations: &[Vec<i64>]) -> Vec<Vec<Vec<f64>>> {
    let _no_grad = tch::no_grad_guard();
    let (past, logits) = first(decoder, prompts);
    let pos = prompts[0].len();
    let logs = logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
    let mut found = vec![Vec::with_capacity(continuations.len()); prompts.len()];
    for tokens in continuations {
        let given = &tokens[..tokens.len().saturating_sub(1)];
        let later = (!given.is_empty()).then(|| {
            let rows = vec![given; prompts.len()];
            let start = Start { layer: 0, pos, resid: decoder.embed_rows(&rows), past: Some(&past) };
            let resid = decoder.forward(start, pos..pos + given.len(), &mut ());
            let logits = decoder.unembed(&resid, pos, None, &mut ());
            logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double)
        });
        for (row, found) in (0..).zip(&mut found) {
            let of = |(i, &token): (usize, &i64)| match (i, &later) {
                (1.., Some(later)) => later.double_value(&[row, i as i64 - 1, token]),
                _ => logs.double_value(&[row, token]),
            };
            found.push(tokens.iter().enumerate().map(of).collect());
        }
    }
    found
}

/// Keys and values of the prompts, and the logits `[prompt, vocab]` after them.
fn first(decoder: &Decoder, prompts: &[&[i64]]) -> (Past, Tensor) {
    assert!(prompts.iter().all(|prompt| prompt.len() == prompts[0].len()), "prompts of one length run together");
    let mut past = Past::new(decoder.config().n_layers);
    let start = Start { layer: 0, pos: 0, resid: decoder.embed_rows(prompts), past: None };
    let logits = pass(decoder, start, &mut (), &mut past);
    (past, logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_one_length_run_together() {
        assert_eq!(batches(&[3, 2, 3, 3, 2, 9], 2), [vec![1, 4], vec![0, 2], vec![3], vec![5]]);
        assert_eq!(batches(&[1, 1], 0), [[0], [1]]);
        assert!(batches(&[], 4).is_empty());
    }
}
