//! What can be typed behind `interp contrast`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{CheckFlags, SweepFlags};

/// `interp contrast`.
#[derive(Debug, Args)]
pub struct ContrastArgs {
    /// Checkpoints, the reference first: a folder or a hub id each, NAME= before it says what it is called
    #[arg(value_name = "[NAME=]CHECKPOINT", required_unless_present = "folders")]
    pub checkpoints: Vec<String>,
    /// Trial file (JSONL)
    #[arg(long, value_name = "FILE", required_unless_present = "folders")]
    pub trials: Option<String>,
    /// Compare these output folders of `interp sweep` instead, the reference first; needs no model
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = [
        "checkpoints", "trials", "site", "edit", "from", "to", "grid", "positions", "layers", "swap", "metric",
        "target", "max_rows", "seed", "source_model", "layer_map", "head_map", "map", "calibrate", "dtype", "weights",
        "device", "offline", "threads", "verify", "no_floor",
    ])]
    pub folders: Vec<PathBuf>,
    /// Output folder: a sweep's folder per checkpoint, and the comparison beside them; the same command resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print the lines of these heads for every checkpoint: L19.H17,L20.H3
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// How many of the most changed cells are listed
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// False discovery rate under which a difference counts as a change
    #[arg(long, value_name = "Q", default_value_t = 0.05)]
    pub level: f64,
    /// Random sign vectors of a test; up to 16 clusters all of them are enumerated
    #[arg(long, value_name = "N", default_value = "10000")]
    pub flips: NonZeroUsize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How each sweep is checked.
    #[command(flatten)]
    pub checks: CheckFlags,
    /// What to run.
    #[command(flatten)]
    pub flags: SweepFlags,
}
