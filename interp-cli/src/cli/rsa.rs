//! What can be typed behind `interp rsa`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;

/// `interp rsa`.
#[derive(Debug, Args)]
pub struct RsaArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Trial file of identity-rule pairs; base and source prompts are material, each distinct prompt once
    #[arg(long, value_name = "FILE", conflicts_with = "prompts", required_unless_present = "prompts")]
    pub trials: Option<PathBuf>,
    /// Any other prompts, one JSON object per line, whose labels --labels gives
    #[arg(long, value_name = "FILE", requires = "labels")]
    pub prompts: Option<PathBuf>,
    /// One JSON object per prompt: {"NAME": LABEL or [LABEL, …], …}, a label for each selected position
    #[arg(long, value_name = "FILE", requires = "prompts")]
    pub labels: Option<PathBuf>,
    /// Use only the first N trials, or prompts
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    /// Also every prompt of a pair with the two words of its query exchanged
    #[arg(long, requires = "trials")]
    pub add_swap: bool,
    /// What heads are compared by: z, q, k, v, result, rot_q, rot_k
    #[arg(long, default_value = "z")]
    pub site: String,
    /// last, a list such as 4,10, or span:NAME; every position of every prompt is a row
    #[arg(long, default_value = "last", allow_hyphen_values = true)]
    pub positions: String,
    /// abstract, token, both, or names of --labels
    #[arg(long, value_name = "NAMES", default_value = "both")]
    pub hypothesis: String,
    /// Heads whose similarity matrices are kept and averaged: L19.H17,…, or with --ranked-by top:K or significant
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// Folder of a sweep whose mean δ weighs the heads and ranks those of top:K and significant; or retrieval scores
    #[arg(long, value_name = "DIR", requires = "heads")]
    pub ranked_by: Option<PathBuf>,
    /// How many heads of largest r, by any hypothesis, are listed
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
