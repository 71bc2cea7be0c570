//! What a user can type, as clap types. No file is opened and no value is checked against another here.

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
pub enum Command {
    /// Print the cells of largest effect in an output folder, with intervals
    Stats(StatsArgs),
    /// Draw an output folder's figure again
    Plot(PlotArgs),
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
    /// How many cells, those of largest mean first
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// Confidence level of the bootstrap intervals; as in the folder if not given
    #[arg(long, value_name = "LEVEL")]
    pub ci: Option<f64>,
    /// Number of bootstrap resamples; as in the folder if not given
    #[arg(long, value_name = "N")]
    pub resamples: Option<usize>,
    /// Seed of the bootstrap; as in the folder if not given
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
