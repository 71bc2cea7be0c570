//! Built-in tasks: from a tokenizer and a seed (and a model, where a filter asks it) to the lines of a trial file. Runs no
//! sweep and writes no file.

mod filter;
mod identity_rules;
mod line;
mod material;

pub use self::filter::{Filter, Wanted};
pub use self::identity_rules::{IdentityRules, Judge, Made, Rejection, sound};
pub use self::line::{Line, Side, jsonl};
pub use self::material::{Material, Pairing, Rule};
