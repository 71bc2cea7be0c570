//! The three stages of Yang et al. (ICML 2025): which pairs, and where heads are patched. Runs nothing.

use interp_core::task::Pairing;

use crate::cli::SymbolicArgs;
use crate::commands::sweep::SweepSpec;

/// One stage.
pub struct Symbolic {
    /// Also the name of its folder.
    pub name: &'static str,
    /// Pairs of prompts.
    pub pairing: Pairing,
    /// Where z of a head is patched.
    pub positions: &'static str,
}

/// The stages, from the tokens to the answer. Those of one pairing follow each other, so that their prompts are at hand.
pub const STAGES: [Symbolic; 3] = [
    Symbolic { name: "symbol-abstraction", pairing: Pairing::Abstract, positions: "span:third" },
    Symbolic { name: "symbolic-induction", pairing: Pairing::Abstract, positions: "last" },
    Symbolic { name: "retrieval", pairing: Pairing::Token, positions: "last" },
];

/// Kinds of pairs that the stages need.
pub const PAIRINGS: [Pairing; 2] = [Pairing::Abstract, Pairing::Token];

/// Name of the trial file of a kind of pairs.
pub fn file(pairing: Pairing) -> String {
    format!("{pairing}.jsonl")
}

impl Symbolic {
    /// The sweep that the stage is.
    pub fn spec(&self, args: &SymbolicArgs) -> SweepSpec {
        let compute = &args.model.compute;
        SweepSpec {
            model: args.model.model.clone(),
            dtype: compute.dtype.clone(),
            weights: compute.weights.clone(),
            device: compute.device.clone(),
            trials: args.out.join(file(self.pairing)).display().to_string(),
            target: "one".into(),
            swap: false,
            site: "z".into(),
            edit: "patch".into(),
            from: None,
            grid: "layer-head".into(),
            positions: self.positions.into(),
            layers: None,
            heads: None,
            metric: "logit-diff".into(),
            max_rows: args.max_rows.map(Into::into),
            seed: args.flags.seed,
            source_model: None,
            layer_map: None,
            head_map: None,
            map: None,
            calibrate: None,
            cumulative: None,
        }
    }
}
