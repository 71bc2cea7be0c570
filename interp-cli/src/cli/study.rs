//! What can be typed behind `interp study`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ComputeArgs, ModelArgs, RuleFlags};

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
    /// Procedural compliance: what checkpoints of one base answer, and which heads carry it
    Compliance(StudyComplianceArgs),
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

/// `interp study compliance`.
#[derive(Debug, Args)]
pub struct StudyComplianceArgs {
    /// Checkpoints of one geometry and tokenizer, the reference (the base) first: NAME=MODEL+apply:ADAPTER
    #[arg(value_name = "[NAME=]CHECKPOINT", required = true)]
    pub checkpoints: Vec<String>,
    /// Folder of `interp task compliance`: its test.jsonl is asked, its pairs.jsonl says which cases belong together
    #[arg(long, value_name = "DIR", required_unless_present = "records", conflicts_with_all = ["records", "pairs"])]
    pub data: Option<PathBuf>,
    /// Cases of your own (JSONL)
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Pairs of those cases (JSONL); without it nothing that needs pairs is measured
    #[arg(long, value_name = "FILE", requires = "records")]
    pub pairs: Option<PathBuf>,
    /// Output folder: a folder per checkpoint, the comparisons, and report.md; the same command resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// `card`: with the repetition penalty of generation_config.json, as Hugging Face's greedy decoding has it; `raw`: without
    #[arg(long, default_value = "card")]
    pub mode: String,
    /// Most tokens of a free-form answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Most prompts of one length that are answered together
    #[arg(long, value_name = "N", default_value = "64")]
    pub batch: NonZeroUsize,
    /// Heads that stand in every table [default: L19.H17,L20.H17, or, where the model has them not, the strongest of each checkpoint]
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// Most flip pairs of each causal mediation, each in both directions, as evenly over processes as can be
    #[arg(long, value_name = "N", default_value = "1000")]
    pub max_pairs: NonZeroUsize,
    /// Most rows of one wave, besides the few that measure its noise; what fits into memory if not given
    #[arg(long, value_name = "N")]
    pub max_rows: Option<NonZeroUsize>,
    /// Leave out the part of the noise floor that runs 16 cells of each sweep again in a higher precision
    #[arg(long)]
    pub no_floor: bool,
    /// Seed of borrowed procedures, intervals and tests
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Precision and place.
    #[command(flatten)]
    pub compute: ComputeArgs,
}
