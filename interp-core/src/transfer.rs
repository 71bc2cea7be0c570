//! How activations of one model become activations of another: which layer and head stands for which ([`Correspondence`]),
//! and linear maps fitted between their spaces ([`Maps`]). Knows no trials, sweeps or files of results.

mod fit;
mod layers;
mod procrustes;
mod ridge;
mod samples;

pub use self::fit::{Fit, LinearMap, Maps, Method, hold_out};
pub use self::layers::{Correspondence, HeadMap, LayerMap, extent};
pub use self::procrustes::procrustes;
pub use self::ridge::ridge;
pub use self::samples::Samples;
