//! Procedural compliance: cases whose label follows from rules, answers read from what a model said, and what to count.

pub mod answer;
pub mod ask;
pub mod builtin;
pub mod clean;
pub mod corpus;
pub mod metrics;
pub mod narrate;
pub mod perturb;
pub mod process;
pub mod read;
pub mod record;
mod reliance;
pub mod report;
pub mod rules;
pub mod scaffold;
mod shingles;
pub mod trace;
pub mod words;

pub use self::answer::{Answer, Reader, Verdict};
pub use self::record::{Gold, Meta, Pair, PairKind, Perturbation, Record};
pub use self::reliance::other_procedures;
