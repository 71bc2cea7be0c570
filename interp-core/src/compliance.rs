//! Procedural compliance: cases whose label follows from rules, answers read from what a model said, and what to count.

pub mod ask;
pub mod corpus;
pub mod narrate;
pub mod perturb;
pub mod process;
pub mod record;
pub mod rules;
pub mod trace;
pub mod words;

pub use self::record::{Gold, Meta, Pair, PairKind, Perturbation, Record};
