//! What can be typed behind `interp attention`.

use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, PromptArgs};

/// `interp attention`.
#[derive(Debug, Args)]
pub struct AttentionArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to run.
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// Run the base prompts of a trial file
    #[arg(long, value_name = "FILE", conflicts_with = "PromptArgs")]
    pub trials: Option<PathBuf>,
    /// Run the source prompts of the trial file instead
    #[arg(long, requires = "trials")]
    pub source: bool,
    /// Heads: L19.H17,L20.H3, or with --ranked-by top:K or significant
    #[arg(long, value_name = "HEADS")]
    pub heads: String,
    /// Folder of a sweep that ranks the heads of top:K and significant, or retrieval scores (a file, or a folder of interp
    /// retrieval)
    #[arg(long, value_name = "DIR")]
    pub ranked_by: Option<PathBuf>,
    /// Positions that attend: last, all, a list such as 3,-1, or span:NAME; of several the mean is taken
    #[arg(long, default_value = "last", allow_hyphen_values = true)]
    pub at: String,
    /// Spans that are attended to, by name [default: those that all prompts name]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub spans: Vec<String>,
    /// Write the patterns of the first N prompts for viewers
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub patterns: usize,
    /// Confidence level of the bootstrap intervals
    #[arg(long, value_name = "LEVEL", default_value_t = 0.95)]
    pub ci: f64,
    /// Number of bootstrap resamples
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub resamples: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
