//! Weights that lie in no file: random numbers, made on the device that wants them, in pieces. Knows tensors by how
//! their names end, and nothing of what they are for beyond the size their numbers should have.

use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};
use sha2::{Digest as _, Sha256};
use tch::{Kind, TchError, Tensor};

use super::scope::Placement;

/// Numbers made at a time, in f32: what a tensor needs beside itself while it is made.
const PIECE: i64 = 1 << 24;

/// Standard deviation of biases.
const BIAS: f64 = 0.05;

/// Standard deviation of a projection's outputs where its inputs have 1, by how its name ends. Attention shall look at a
/// few tokens rather than at all or at one, and what it adds shall outweigh what MLPs add: then at 48 layers of 40 heads,
/// with prompts that differ in one token, the strongest single head as a rule still moves a logit difference by a tenth
/// of it.
const GAINS: [(&str, f64); 9] = [
    ("q_proj.weight", 2.0),
    ("k_proj.weight", 2.0),
    ("v_proj.weight", 2.0),
    ("o_proj.weight", 2.0),
    ("gate_proj.weight", 1.0),
    ("up_proj.weight", 1.0),
    ("down_proj.weight", 1.0),
    ("embed_tokens.weight", 1.5),
    ("lm_head.weight", 1.5),
];

/// Standard deviation, between layers, of the logarithm of what attention adds: some layers matter more than others.
const LAYERS_DIFFER: f64 = 0.7;

/// libtorch has one generator per device for the whole process: whoever seeds it needs it alone until done.
static GENERATOR: Mutex<()> = Mutex::new(());

/// The seed of one tensor: tensors do not depend on the order in which they are made.
pub(super) fn seed_of(seed: u64, name: &str) -> i64 {
    let digest = Sha256::digest(format!("{seed}\0{name}"));
    i64::from_le_bytes(*digest.first_chunk().expect("32 bytes"))
}

/// The tensor of a seed. Its numbers are those of `stored`, whichever dtype `placement` asks for.
pub(super) fn tensor(
    seed: i64,
    name: &str,
    shape: &[i64],
    stored: Kind,
    placement: Placement,
) -> Result<Tensor, TchError> {
    let kind = placement.kind.unwrap_or(stored);
    let Some(spread) = spread(seed, name, shape) else { return Tensor::f_ones(shape, (kind, placement.device)) };
    let n: i64 = shape.iter().product();
    let made = Tensor::f_empty([n], (kind, placement.device))?;
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    let piece = Tensor::f_empty([PIECE.min(n)], (Kind::Float, placement.device))?;
    let mut at = 0;
    while at < n {
        let len = PIECE.min(n - at);
        let numbers = piece.f_narrow(0, 0, len)?.f_normal_(0.0, spread)?;
        made.f_narrow(0, at, len)?.f_copy_(&numbers.f_to_kind(stored)?)?;
        at += len;
    }
    made.f_view(shape)
}

/// Standard deviation of a tensor's numbers; `None` means that all are 1, as a norm's.
fn spread(seed: i64, name: &str, shape: &[i64]) -> Option<f64> {
    match (shape, name.ends_with(".bias")) {
        (_, true) => Some(BIAS),
        ([_, d_in], _) => {
            let (end, gain) = GAINS.iter().find(|(end, _)| name.ends_with(end)).unwrap_or(&("", 1.0));
            let normal = |seed: i64| -> f64 { StandardNormal.sample(&mut ChaCha8Rng::seed_from_u64(seed as u64)) };
            let layer = if end.starts_with("o_proj") { (LAYERS_DIFFER * normal(seed)).exp() } else { 1.0 };
            Some(gain * layer / (*d_in as f64).sqrt())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn numbers_have_the_spread_their_name_asks_for_and_follow_from_the_seed() {
        let make = |seed, name: &str, shape: &[i64], kind| {
            let placement = Placement { device: Device::Cpu, kind: Some(kind) };
            tensor(seed_of(seed, name), name, shape, Kind::BFloat16, placement).unwrap()
        };
        let name = "model.layers.3.self_attn.v_proj.weight";
        let weight = make(1, name, &[300, 400], Kind::Float);
        let spread = weight.std(true).double_value(&[]) * 20.0;
        assert!((spread - 2.0).abs() < 0.02, "{spread}");
        assert!(weight.equal(&make(1, name, &[300, 400], Kind::Float)));
        assert!(weight.equal(&make(1, name, &[300, 400], Kind::BFloat16).to_kind(Kind::Float)), "one set of numbers");
        assert!(!weight.equal(&make(2, name, &[300, 400], Kind::Float)), "the seed decides");
        let other = make(1, "model.layers.4.self_attn.v_proj.weight", &[300, 400], Kind::Float);
        assert!(!weight.equal(&other), "the name decides");
        let norm = make(1, "model.norm.weight", &[8], Kind::Float);
        assert!(norm.equal(&Tensor::ones([8], (Kind::Float, Device::Cpu))));
    }
}
