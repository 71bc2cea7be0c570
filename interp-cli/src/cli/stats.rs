//! What can be typed behind `interp stats`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// `interp stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Output folder of a sweep
    #[arg(required_unless_present = "scores")]
    pub dir: Option<PathBuf>,
    /// Which metric; the folder's first one if not given
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Print JSON with the columns of delta.json
    #[arg(long)]
    pub json: bool,
    /// Rank by the size of the mean, so that strong negative cells come first too
    #[arg(long, conflicts_with_all = ["heads", "clean"])]
    pub abs: bool,
    /// How many cells, those of largest (most positive) mean first [default: 10]
    #[arg(long, value_name = "K", conflicts_with_all = ["heads", "clean"])]
    pub top: Option<usize>,
    /// Only these heads: L19.H17,L20.H3, or top:K for those of largest mean; parts such as L19.MLP on a grid of parts
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// Folder whose primary metric ranks the heads of `--heads top:K`; this folder if not given
    #[arg(long, value_name = "DIR", requires = "heads")]
    pub ranked_by: Option<PathBuf>,
    /// Compare --heads with others: N measured ones drawn at random, `matched` (draws of as many that are not significant), or
    /// `lowest` (as many of the lowest mean of the same layers, by --ranked-by if given)
    #[arg(long, value_name = "N|matched|lowest")]
    pub control: Option<String>,
    /// How many random draws a control is the mean of [default: 1, of `matched` 20]
    #[arg(long, value_name = "D", requires = "control")]
    pub draws: Option<NonZeroUsize>,
    /// Print what the unedited runs measured instead, by direction
    #[arg(long, conflicts_with_all = ["heads", "control"])]
    pub clean: bool,
    /// How intervals and tests are made.
    #[command(flatten)]
    pub judge: JudgeArgs,
    /// An array instead of a folder.
    #[command(flatten)]
    pub scores: ScoresArgs,
}

/// How intervals and tests are made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Intervals and tests")]
pub struct JudgeArgs {
    /// Confidence level of the bootstrap intervals; as in the folder if not given
    #[arg(long, value_name = "LEVEL")]
    pub ci: Option<f64>,
    /// percentile, or bca (bias-corrected and accelerated)
    #[arg(long, value_name = "KIND", default_value = "percentile")]
    pub interval: String,
    /// Number of bootstrap resamples; as in the folder if not given
    #[arg(long, value_name = "N")]
    pub resamples: Option<usize>,
    /// The chance, over the whole grid, of calling any cell significant where none is
    #[arg(long, value_name = "A", default_value_t = 0.05)]
    pub alpha: f64,
    /// Random sign vectors of the test; up to 16 clusters all of them are enumerated
    #[arg(long, value_name = "T", default_value = "5000")]
    pub permutations: NonZeroUsize,
    /// Let strong negative cells be significant too
    #[arg(long)]
    pub two_sided: bool,
    /// Seed of bootstrap, signs and random controls; as in the folder if not given
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Scores that no sweep of ours made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scores without a sweep")]
pub struct ScoresArgs {
    /// Rank an array [layer, head] of mean scores instead of a folder
    #[arg(long, value_name = "FILE.NPY", conflicts_with_all = [
        "dir", "metric", "abs", "heads", "clean", "draws", "ci", "interval", "resamples", "alpha", "permutations",
        "two_sided", "seed",
    ])]
    pub scores: Option<PathBuf>,
    /// The same array with 0 where a head is not significant
    #[arg(long, value_name = "FILE.NPY", requires = "scores")]
    pub significant: Option<PathBuf>,
    /// Count the heads above this score
    #[arg(long, value_name = "T", requires = "scores", allow_negative_numbers = true)]
    pub tau: Option<f64>,
    /// Draw them, .svg or .png
    #[arg(long, value_name = "FILE", requires = "scores")]
    pub figure: Option<PathBuf>,
}
