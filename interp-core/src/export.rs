//! The output folder: what a sweep leaves behind, and reading it back with no model present. Numbers and labels only; no tensors.
//!
//! ```text
//! run.json                          what was run, noise floor and what its precision was measured against; written last, so
//!                                   its presence means the folder is complete
//! delta[.METRIC].npy                f64 [..axes], mean over trials; NaN where a cell was not asked for
//! delta_per_trial[.METRIC].npy      f32 [trial, ..axes]
//! metric_clean.npy                  f64 [trial, metric]; metric_source.npy likewise, when trials have a source
//! trials.json                       every trial in file order: row in the arrays (null if refused), id, cluster, direction, status
//! delta_significant[.METRIC].npy    f64 [..axes], the mean where it is significant and 0 elsewhere (the convention of Yang et
//!                                   al.'s published scores); absent where no test could be made
//! delta.json, delta.csv             one table, see [`table`]
//! skipped.json                      trials refused: index, id, reason
//! heatmap[.METRIC].svg, .png        the primary metric's figure, and one for every further metric
//! ```
//! The first metric is the primary one and its files carry no suffix; every further metric's files carry its name.
//! Every statistic is computed from the f32 cells as stored, so anyone can recompute `delta.json` from the `.npy`.
//! No file of these holds a time, a duration or a host name: the same run gives the same bytes. `timing.json`, which the
//! command line writes beside them, is no part of that promise.

mod atomic;
pub mod capture;
mod contrast;
mod curves;
mod heads;
mod journal;
mod kind;
mod noise;
pub mod npy;
mod run_folder;
mod stages;
mod study;
pub mod table;
mod write;

pub use atomic::write_atomic;
pub use contrast::{Arm, Change, Contrast, Contrasted, Effect, Judge};
pub use curves::{AblationCurves, CurvePoint};
pub use kind::FullTransfer;
pub use noise::NoiseFloor;
pub use run_folder::{Opened, RunFolder, RunPlan};
pub use stages::{Stage, write_stages};
pub use study::{Layout, Skipped, Study, Summary, TrialRow};
