//! What can be typed behind `interp roles`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, PromptArgs};

/// `interp roles`.
#[derive(Debug, Args)]
pub struct RolesArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to run.
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// Run the base prompts of a trial file
    #[arg(long, value_name = "FILE", conflicts_with = "PromptArgs")]
    pub trials: Option<PathBuf>,
    /// Run N prompts of random tokens that are repeated once: where induction is the only thing to do
    #[arg(long, value_name = "N", requires = "length", conflicts_with_all = ["PromptArgs", "trials"])]
    pub random: Option<NonZeroUsize>,
    /// Tokens of a random prompt before they are repeated, all different
    #[arg(long, value_name = "T", requires = "random")]
    pub length: Option<NonZeroUsize>,
    /// Seed of the random prompts
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What else to put beside the scores: folders of sweeps over layers and heads, folders of interp retrieval, or files of
    /// retrieval scores
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub beside: Vec<PathBuf>,
    /// How many of the heads that are largest in each column are listed
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
