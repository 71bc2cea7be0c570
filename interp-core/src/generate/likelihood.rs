//! How likely a model finds given continuations of a prompt, with edits on the prompt.

use tch::Kind;

use super::step;
use crate::decoder::{Decoder, Past, Start};
use crate::error::Result;
use crate::intervention::{Context, Donors, Edits, Intervention};
use crate::prompt::Prompt;

/// ln P of each continuation after `prompt`, in nats: the sum over its tokens, each given the prompt and those before it. The
/// prompt runs once, with `edits` at its positions; what follows is unedited, but attends to the edited prompt. A continuation of no
/// token is certain: 0.
pub fn log_likelihoods(
    decoder: &Decoder,
    prompt: &Prompt,
    continuations: &[Vec<i64>],
    edits: &[Intervention],
    donors: &Donors<'_>,
    context: &Context<'_>,
) -> Result<Vec<f64>> {
    let _no_grad = tch::no_grad_guard();
    let pos = prompt.tokens.len();
    let mut past = Past::new(decoder.config().n_layers);
    let bound = Edits::bind_in_place((0, edits), 1, prompt, donors, context)?;
    let first = step(decoder, decoder.embed(&prompt.tokens), bound, &mut past)?;
    let first = first.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
    let one = |tokens: &Vec<i64>| {
        let Some((&head, rest)) = tokens.split_first() else { return 0.0 };
        let mut sum = first.double_value(&[0, head]);
        if !rest.is_empty() {
            let given = &tokens[..rest.len()];
            let earlier = past.before(pos);
            let start = Start { layer: 0, pos, resid: decoder.embed_rows(&[given]), past: Some(&earlier) };
            let resid = decoder.forward(start, pos..pos + given.len(), &mut ());
            let logits = decoder.unembed(&resid, pos, None, &mut ()).to_kind(Kind::Double);
            let logs = logits.log_softmax(-1, Kind::Double);
            sum += rest.iter().zip(0..).map(|(&token, i)| logs.double_value(&[0, i, token])).sum::<f64>();
        }
        sum
    };
    Ok(continuations.iter().map(one).collect())
}
