//! What heads look at: attention patterns reduced to a few numbers per head while a pass computes them, so that no pattern is
//! ever kept. Changes nothing.

mod looked;
mod roles;
mod spans;

pub use self::looked::LookedAt;
pub use self::roles::{Role, RoleScores};
pub use self::spans::{attention_to, overlap};
