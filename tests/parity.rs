//! Every family, every site, several prompts against transformers' own activations (`fixtures/tiny`).

use std::collections::HashMap;

use interp_core::device::Dtype;
use interp_core::site::{HookPoint, Site};
use tch::{Kind, Tensor};

use crate::common::{FAMILIES, all_points, full_pass, load, max_abs, max_diff, tiny};

/// Reference arrays by key, as `fixtures/tiny/README.md` lists them.
struct Reference(HashMap<String, Tensor>);

impl Reference {
    fn read(family: &str) -> Self {
        let file = tiny(family).join("reference.safetensors");
        Self(Tensor::read_safetensors(file).expect("reference arrays").into_iter().collect())
    }

    fn get(&self, prompt: usize, kind: &str, name: &str) -> Option<&Tensor> {
        self.0.get(&format!("p{prompt}.{kind}.{name}"))
    }

    fn tokens(&self, prompt: usize) -> Vec<i64> {
        Vec::try_from(&self.0[&format!("p{prompt}.tokens")]).expect("token ids")
    }
}

/// The key's name for a hook point.
fn key(at: HookPoint) -> String {
    if at.site == Site::Embed { "embed".into() } else { at.to_string() }
}

/// The last positions (destinations) of a capture, as many as the reference kept; batch axis dropped.
fn tail(act: &Tensor, reference: &Tensor, attention: bool) -> Tensor {
    let act = act.get(0);
    let axis = if attention { 1 } else { 0 };
    let n = reference.size()[axis as usize];
    act.narrow(axis, act.size()[axis as usize] - n, n)
}

/// Everything a pass makes, by reference key.
fn captured(family: &str, dtype: Dtype, tokens: &[i64]) -> Vec<(String, bool, Tensor)> {
    let decoder = load(&tiny(family), dtype);
    let points = all_points(decoder.config().n_layers);
    let (cache, logits) = full_pass(&decoder, tokens, &points);
    let site = |at: &HookPoint| (key(*at), at.site.is_attention(), cache.get(*at).expect("recorded").shallow_clone());
    let mut all: Vec<_> = points.iter().map(site).collect();
    all.push(("logits".into(), false, logits.unsqueeze(0)));
    all
}

#[test]
fn every_site_of_every_family_agrees_with_transformers() {
    println!("largest difference from transformers, over all sites and layers, in units of the site's largest value");
    println!("{:<14} {:>6} {:>10} {:>10} {:>22}", "family", "tokens", "f32", "f64", "bf16 / HF's own");
    for family in FAMILIES {
        let reference = Reference::read(family);
        for prompt in 0..3 {
            let tokens = reference.tokens(prompt);
            let (mut worst32, mut worst64, mut worst16) = (0.0f64, 0.0f64, 0.0f64);
            let wide = captured(family, Dtype::F64, &tokens);
            let single = captured(family, Dtype::F32, &tokens);
            let half = captured(family, Dtype::Bf16, &tokens);
            for (((name, attention, wide), (_, _, single)), (_, _, half)) in wide.iter().zip(&single).zip(&half) {
                let exact = reference.get(prompt, "f64", name).expect("every site has an f64 reference");
                let scale = max_abs(exact);
                let relative = max_diff(&tail(wide, exact, *attention), exact) / scale;
                assert!(relative <= 1e-10, "{family} p{prompt} {name}: f64 differs by {relative:e}");
                worst64 = worst64.max(relative);

                // Inside attention and MLP of the longer prompts only f64 arrays are kept; they are nearer to f32 than 1e-5.
                let reference32 = reference.get(prompt, "f32", name).unwrap_or(exact);
                let relative = max_diff(&tail(single, reference32, *attention), reference32) / scale;
                assert!(relative <= 1e-5, "{family} p{prompt} {name}: f32 differs by {relative:e}");
                worst32 = worst32.max(relative);

                let own = reference.get(prompt, "bf16_distance", name).expect("distance").double_value(&[0]);
                let ratio = max_diff(&tail(half, reference32, *attention), reference32) / own.max(f64::MIN_POSITIVE);
                assert!(ratio <= 2.0, "{family} p{prompt} {name}: bf16 is {ratio:.2} of transformers' own distance");
                worst16 = worst16.max(ratio);

                if let Some(sums) = reference.get(prompt, "f64", &format!("{name}.checksum")) {
                    let finite = wide.masked_fill(&wide.isinf(), 0.0);
                    let found = [finite.sum(Kind::Double), finite.abs().sum(Kind::Double)].map(|x| x.double_value(&[]));
                    let expected = [sums.double_value(&[0]), sums.double_value(&[1])];
                    let gap = (found[0] - expected[0]).abs().max((found[1] - expected[1]).abs()) / expected[1];
                    assert!(gap <= 1e-10, "{family} p{prompt} {name}: checksum differs by {gap:e}");
                }
            }
            println!("{family:<14} {:>6} {worst32:>10.1e} {worst64:>10.1e} {worst16:>22.2}", tokens.len());
        }
    }
}
