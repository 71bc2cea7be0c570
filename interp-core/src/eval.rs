//! Evaluations that were published with checkpoints, as functions of text and numbers: BioRLHF's verifiers and calibration,
//! SOCRATES's behavioural prediction, and results files of both. Plain data; no model, no tensors, no prompts.
//!
//! Definitions follow the released code of each evaluation where that differs from what is said about it elsewhere. Sums are
//! taken in the order in which the original programs take them ([`sums`]), so that their published numbers come out to the
//! last digit.

pub mod bio;
mod calibration;
pub mod choice;
mod compose;
mod confidence;
mod consistency;
mod correlation;
mod difference;
mod direction;
mod facts;
pub mod read;
pub mod socrates;
pub mod sums;
mod text;
mod truth;
mod uncertainty;
mod wasserstein;

pub use calibration::{Bin, Calibration, N_BINS, calibration};
pub use compose::{Composer, Reward, Sample, TRAINING_WEIGHTS, Verifier, WEIGHTS, total};
pub use confidence::{Confidence, Extractor, Level};
pub use consistency::consistency;
pub use correlation::correlation;
pub use difference::{Check, Difference};
pub use direction::{direction, direction_variants};
pub use facts::facts;
pub use truth::{BioContext, GroundTruth};
pub use uncertainty::{Aware, Mode, behaviour, uncertainty};
pub use wasserstein::{to_uniform, wasserstein};
