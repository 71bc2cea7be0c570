//! What a user can type, as clap types. No file is opened and no value is checked against another here.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exact per-head causal interventions on Qwen2.5-style models.
#[derive(Debug, Parser)]
#[command(name = "interp", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One variant per file in `commands/`.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made per process")]
pub enum Command {
    /// Measure the effect of an edit on every cell of a grid
    Sweep(SweepArgs),
    /// Run random cells of an output folder again by plain full passes and compare
    Verify(VerifyArgs),
    /// Print the largest effects in an output folder, or heads beside a random control, with intervals
    Stats(StatsArgs),
    /// Draw an output folder's figure again
    Plot(PlotArgs),
}

/// Flags that choose a checkpoint and how to compute.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Checkpoint: a folder, or a hub id such as Qwen/Qwen2.5-7B-Instruct, with @REVISION to pin it
    #[arg(long, value_name = "CHECKPOINT")]
    pub model: String,
    /// Numbers to compute in: f32, bf16 or f64
    #[arg(long, default_value = "f32")]
    pub dtype: String,
    /// How weights are held: `auto` converts them once if that fits, `file` keeps them as stored
    #[arg(long, default_value = "auto")]
    pub weights: String,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Use only what the hub cache holds
    #[arg(long)]
    pub offline: bool,
    /// Threads of the CPU; all cores if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// `interp sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Take everything but --out from the run.json of an earlier sweep
    #[arg(long, value_name = "RUN.JSON", conflicts_with_all = [
        "model", "trials", "site", "edit", "from", "to", "grid", "positions", "layers", "heads", "swap", "metric",
        "target", "max_rows", "seed", "dtype", "weights", "device",
    ])]
    pub spec: Option<PathBuf>,
    /// Output folder; the same command on the same folder resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What to run.
    #[command(flatten)]
    pub flags: SweepFlags,
}

/// What decides the numbers of a sweep.
#[derive(Debug, Args)]
pub struct SweepFlags {
    /// Checkpoint that is edited: a folder, or a hub id, with @REVISION to pin it
    #[arg(long, value_name = "CHECKPOINT", required_unless_present = "spec")]
    pub model: Option<String>,
    /// Trial file (JSONL)
    #[arg(long, value_name = "FILE", required_unless_present = "spec")]
    pub trials: Option<String>,
    /// Activation that is edited: z, result, q, k, v, pattern, resid_pre, mlp_out, …
    #[arg(long, default_value = "z")]
    pub site: String,
    /// zero, mean, patch, add:FILE.npy[:F], scale:F, noise:F, knockout or uniform-attention
    #[arg(long, default_value = "patch")]
    pub edit: String,
    /// Keys that a knockout forbids: positions as in --positions
    #[arg(long, value_name = "POSITIONS")]
    pub from: Option<String>,
    /// Queries of a knockout: the same as --positions
    #[arg(long, value_name = "POSITIONS", conflicts_with = "positions")]
    pub to: Option<String>,
    /// layer-head, layer-pos or sets:FILE
    #[arg(long, default_value = "layer-head")]
    pub grid: String,
    /// last, all, a list such as 3,-1, or span:NAME (several spans for a layer-pos grid)
    #[arg(long, default_value = "last", allow_hyphen_values = true)]
    pub positions: String,
    /// Only these layers: A..B, half-open
    #[arg(long, value_name = "A..B")]
    pub layers: Option<String>,
    /// Only these heads: L19.H17,L20.H3
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// Run each trial also with base and source exchanged
    #[arg(long)]
    pub swap: bool,
    /// logit-diff, logit, prob, log-prob, acc, rank or kl; several separated by commas
    #[arg(long, default_value = "logit-diff")]
    pub metric: String,
    /// `one`: a target must be one token; `first-token`: take the first of several
    #[arg(long, default_value = "one")]
    pub target: String,
    /// Most rows of one wave; what fits into memory if not given
    #[arg(long, value_name = "N")]
    pub max_rows: Option<NonZeroUsize>,
    /// Seed of noise and of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Numbers to compute in: f32, bf16 or f64
    #[arg(long, default_value = "f32")]
    pub dtype: String,
    /// How weights are held: `auto` converts them once if that fits, `file` keeps them as stored
    #[arg(long, default_value = "auto")]
    pub weights: String,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Use only what the hub cache holds
    #[arg(long)]
    pub offline: bool,
    /// Threads of the CPU; all cores if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// `interp verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Output folder of a sweep
    pub dir: PathBuf,
    /// How many random (trial, cell) pairs to run again
    #[arg(long, value_name = "K", default_value_t = 16)]
    pub cells: usize,
    /// Seed of the choice
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Use only what the hub cache holds
    #[arg(long)]
    pub offline: bool,
}

/// `interp stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Output folder of a sweep
    pub dir: PathBuf,
    /// Which metric; the folder's first one if not given
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Print JSON with the columns of delta.json
    #[arg(long)]
    pub json: bool,
    /// How many cells, those of largest mean first [default: 10]
    #[arg(long, value_name = "K", conflicts_with_all = ["heads", "clean"])]
    pub top: Option<usize>,
    /// Only these heads: L19.H17,L20.H3, or top:K for those of largest mean
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// Folder whose primary metric ranks the heads of `--heads top:K`; this folder if not given
    #[arg(long, value_name = "DIR", requires = "heads")]
    pub ranked_by: Option<PathBuf>,
    /// Compare --heads with the mean of N other measured heads, drawn at random
    #[arg(long, value_name = "N")]
    pub control: Option<usize>,
    /// Print what the unedited runs measured instead, by direction
    #[arg(long, conflicts_with_all = ["heads", "control"])]
    pub clean: bool,
    /// Confidence level of the bootstrap intervals; as in the folder if not given
    #[arg(long, value_name = "LEVEL")]
    pub ci: Option<f64>,
    /// Number of bootstrap resamples; as in the folder if not given
    #[arg(long, value_name = "N")]
    pub resamples: Option<usize>,
    /// Seed of the bootstrap and of the control's draw; as in the folder if not given
    #[arg(long)]
    pub seed: Option<u64>,
}

/// `interp plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Output folder of a sweep
    pub dir: PathBuf,
    /// Which metric; the folder's first one if not given
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// Where to draw, .svg or .png; the folder's own heatmap.svg and heatmap.png if not given
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// First line of the figure
    #[arg(long)]
    pub title: Option<String>,
    /// How many of the strongest cells are outlined and listed
    #[arg(long, value_name = "K", default_value_t = interp_core::plot::TOP)]
    pub top: usize,
}
