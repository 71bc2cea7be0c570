//! Greedy decoding in which every head is watched.

use tch::Kind;

use crate::cache::PastRecorder;
use crate::decoder::{Decoder, Past, Start};
use crate::patterns::LookedAt;

/// What a model wrote, and where its heads looked while it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// New tokens, the one that ended it included.
    pub tokens: Vec<i64>,
    /// `[step][layer][head]`: the position of largest attention from the position that produced the step's token.
    pub looked: Vec<Vec<Vec<usize>>>,
}

/// Continues a prompt greedily by up to `max_new` tokens, until one that `stops`. All tokens but the last are run at once and
/// unwatched; then each step runs one token.
pub fn follow(decoder: &Decoder, prompt: &[i64], max_new: usize, stops: impl Fn(i64) -> bool) -> Followed {
    let _no_grad = tch::no_grad_guard();
    let mut past = Past::new(decoder.config().n_layers);
    let last = prompt.len() - 1;
    if last > 0 {
        let mut recorder = PastRecorder::default();
        let _ = decoder.forward(decoder.embed(&prompt[..last]), last - 1..last, &mut recorder);
        recorder.append_to(&mut past);
    }
    let mut followed = Followed { tokens: Vec::new(), looked: Vec::new() };
    let mut token = prompt[last];
    for pos in last..last + max_new {
        let (mut recorder, mut looked) = (PastRecorder::default(), LookedAt::default());
        let earlier = past.before(pos);
        let resid = decoder.embed_rows(&[&[token]]);
        let start = Start { layer: 0, pos, resid, past: (pos > 0).then_some(&earlier) };
        let resid = decoder.forward(start, pos..pos + 1, &mut (&mut recorder, &mut looked));
        let logits = decoder.unembed(&resid, pos, None, &mut ());
        recorder.append_to(&mut past);
        let logits: Vec<f64> = Vec::try_from(logits.view([-1]).to_kind(Kind::Double)).expect("a vector of logits");
        // The first of equals, as everywhere here.
        token = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as i64;
        followed.tokens.push(token);
        followed.looked.push(looked.positions());
        if stops(token) {
            break;
        }
    }
    followed
}
