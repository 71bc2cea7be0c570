//! Procedural compliance: cases whose label follows from rules, answers read from what a model said, and what to count.

pub mod record;

pub use self::record::{Gold, Meta, Pair, PairKind, Perturbation, Record};
