//! What can be typed behind `interp bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::ComputeArgs;

/// `interp bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Random weights of this geometry: qwen2.5-0.5b, qwen2.5-7b, qwen2.5-14b, small, or the path of a config.json
    /// [default: qwen2.5-0.5b, with --linearity small]
    #[arg(long, value_name = "NAME|FILE")]
    pub geometry: Option<String>,
    /// The weights of a checkpoint instead: a folder, or a hub id
    #[arg(long, value_name = "CHECKPOINT", conflicts_with_all = ["geometry", "linearity"])]
    pub model: Option<String>,
    /// patch-last, patch-all, zero-all, cumulative, layer-pos; several separated by commas
    #[arg(long, value_name = "LIST", default_value = "patch-last")]
    pub sweep: String,
    /// Lengths of the prompts; several separated by commas
    #[arg(long, value_name = "LIST", default_value = "64")]
    pub tokens: String,
    /// How often everything is measured, after a first time that does not count
    #[arg(long, value_name = "N", default_value = "5")]
    pub repeats: NonZeroUsize,
    /// Seed of weights and prompts
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Most rows of one wave; what fits into memory if not given
    #[arg(long, value_name = "N")]
    pub max_rows: Option<NonZeroUsize>,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Measure seconds against heads, layers, tokens and trials instead, and draw them
    #[arg(long, requires = "out", conflicts_with_all = ["sweep", "tokens", "json"])]
    pub linearity: bool,
    /// Measure the three stages of `interp study symbolic` instead, with random words
    #[arg(long, conflicts_with_all = ["sweep", "tokens", "repeats", "linearity"])]
    pub study: bool,
    /// Draws of words of --study, each of two trials per stage
    #[arg(long, value_name = "N", default_value = "100", requires = "study")]
    pub draws: NonZeroUsize,
    /// Examples in a prompt of --study
    #[arg(long, value_name = "N", default_value = "10", requires = "study")]
    pub shots: NonZeroUsize,
    /// Folder for linearity.svg and linearity.json
    #[arg(long, value_name = "DIR", requires = "linearity")]
    pub out: Option<PathBuf>,
}
