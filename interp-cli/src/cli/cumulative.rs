//! What can be typed behind `interp cumulative`.

use std::path::PathBuf;

use clap::Args;

use super::{CheckFlags, ComputeArgs};

/// `interp cumulative`.
#[derive(Debug, Args)]
pub struct CumulativeArgs {
    /// Checkpoint: a folder, or a hub id, with @REVISION to pin it; +merge:ADAPTER and +apply:ADAPTER add LoRA adapters
    #[arg(long, value_name = "CHECKPOINT")]
    pub model: String,
    /// Trial file (JSONL): prompts that the ranking was not made from
    #[arg(long, value_name = "FILE")]
    pub trials: String,
    /// Output folder of a sweep over layers and heads, whose primary metric ranks the heads
    #[arg(long, value_name = "DIR")]
    pub ranked_by: PathBuf,
    /// Output folder; the same command on the same folder resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// zero, or mean[:CAPTURE_DIR]: what the heads' outputs become
    #[arg(long, default_value = "zero")]
    pub edit: String,
    /// last, all, a list such as 3,-1, or span:NAME
    #[arg(long, default_value = "last", allow_hyphen_values = true)]
    pub positions: String,
    /// prob, acc, logit-diff, logit, log-prob, rank or kl; several separated by commas
    #[arg(long, default_value = "prob")]
    pub metric: String,
    /// From one number of heads to the next [default: 2, and 8 beyond 3,500 heads; the control 4 among the last 500]
    #[arg(long, value_name = "S")]
    pub step: Option<usize>,
    /// Most heads taken away [default: all]
    #[arg(long, value_name = "K")]
    pub max: Option<usize>,
    /// Random sets at every number of heads; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub random_draws: usize,
    /// From one number of random heads to the next [default: 10; 4 among the last 500 of a model with more]
    #[arg(long, value_name = "S")]
    pub random_step: Option<usize>,
    /// `one`: a target must be one token; `first-token`: take the first of several
    #[arg(long, default_value = "one")]
    pub target: String,
    /// Most rows of one wave; what fits into memory if not given
    #[arg(long, value_name = "N")]
    pub max_rows: Option<std::num::NonZeroUsize>,
    /// Seed of the random sets and of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How it is checked.
    #[command(flatten)]
    pub checks: CheckFlags,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}
