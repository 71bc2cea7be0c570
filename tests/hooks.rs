//! The hook seam: observation changes nothing, every site is live.

use interp_core::device::Dtype;
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention};
use interp_core::site::Positions;
use tch::Tensor;

use crate::common::{FAMILIES, all_points, full_pass, load, max_diff, prompt, same_bits, tiny};

const TOKENS: [i64; 9] = [5, 17, 3, 88, 42, 17, 9, 101, 64];

#[test]
fn capturing_changes_no_bit() {
    for family in FAMILIES {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F64] {
            let decoder = load(&tiny(family), dtype);
            let (_, plain) = full_pass(&decoder, &TOKENS, &[]);
            let (_, watched) = full_pass(&decoder, &TOKENS, &all_points(decoder.config().n_layers));
            assert!(same_bits(&plain, &watched), "{family} {dtype}");
        }
    }
}

#[test]
fn zeroing_any_site_changes_the_logits() {
    for family in FAMILIES {
        let decoder = load(&tiny(family), Dtype::F32);
        let (_, clean) = full_pass(&decoder, &TOKENS, &[]);
        let clean = clean.get(TOKENS.len() as i64 - 1);
        for at in all_points(decoder.config().n_layers) {
            let set = [Intervention { at, heads: None, positions: Positions::All, edit: Edit::Zero }];
            let edited = run_in_place(&decoder, &set);
            let change = max_diff(&edited, &clean);
            assert!(change > 1e-3, "{family}: zeroing {at} changes the logits by only {change:e}");
        }
    }
}

/// Logits at the last position under one set of edits, by a plain full pass.
fn run_in_place(decoder: &interp_core::decoder::Decoder, set: &[Intervention]) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let context = Context::of_run(decoder, 0, "test");
    let mut edits = Edits::bind_in_place((0, set), 1, &prompt(&TOKENS), &Donors::default(), &context).expect("binds");
    let last = TOKENS.len() - 1;
    let resid = decoder.forward(decoder.embed(&TOKENS), last..last + 1, &mut &mut edits);
    let logits = decoder.unembed(&resid, last, None, &mut edits);
    edits.finish().expect("every edit fired");
    logits.view([-1])
}
