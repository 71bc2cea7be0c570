//! What can be typed behind `interp study`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ModelArgs, RuleFlags};

/// `interp study`.
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Which study.
    #[command(subcommand)]
    pub study: StudyCommand,
}

/// One variant per built-in study.
#[derive(Debug, Subcommand)]
pub enum StudyCommand {
    /// Symbol abstraction, symbolic induction and retrieval heads, by causal mediation on identity rules
    Symbolic(SymbolicArgs),
}

/// `interp study symbolic`.
#[derive(Debug, Args)]
pub struct SymbolicArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Output folder: the trials, a sweep's folder per stage, and the finding beside them; the same command resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many heads of each stage are listed at least
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
    /// Most rows of one wave, besides the few that measure its noise; what fits into memory if not given
    #[arg(long, value_name = "N")]
    pub max_rows: Option<NonZeroUsize>,
    /// Leave out the part of the noise floor that runs 16 cells of each stage again in a higher precision
    #[arg(long)]
    pub no_floor: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What is drawn.
    #[command(flatten)]
    pub flags: RuleFlags,
}
