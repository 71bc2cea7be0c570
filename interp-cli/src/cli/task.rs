//! What can be typed behind `interp task`, and the flags of a task that `interp study` has too.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ModelArgs;

/// `interp task`.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Which task.
    #[command(subcommand)]
    pub task: TaskCommand,
}

/// One variant per built-in task.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// In-context examples a^b^a or a^b^b of words that are single tokens, and a query that follows the rule
    IdentityRules(IdentityRulesArgs),
    /// Cases of procedural compliance: a procedure, a scenario, and whether it keeps the rules; into a folder
    Compliance(ComplianceArgs),
}

/// `interp task compliance`.
#[derive(Debug, Args)]
pub struct ComplianceArgs {
    /// Output folder, new or empty: train.jsonl, traces.jsonl, test.jsonl, pairs.jsonl, trials.jsonl, report.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Training cases
    #[arg(long, value_name = "N", default_value_t = 6000)]
    pub train: usize,
    /// Held-out cases: a third each of new cases, of new words for roles and things, and of new processes
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub test: usize,
    /// Seed of every draw
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Processes of your own (TOML, the file's name is the domain) instead of those that come with the tool; may be repeated
    #[arg(long, value_name = "FILE")]
    pub processes: Vec<PathBuf>,
    /// Distractors and cues of your own (TOML)
    #[arg(long, value_name = "FILE")]
    pub phrases: Option<PathBuf>,
    /// Clean cases of your own (JSONL) instead of making some: cleaned.jsonl and report.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["train", "test", "seed", "phrases", "model", "max_tokens"])]
    pub records: Option<PathBuf>,
    /// Say what --records shares with these cases (JSONL), which a model was trained on
    #[arg(long, value_name = "FILE", requires = "records")]
    pub against: Option<PathBuf>,
    /// Of cases of --records that are the same, keep the one whose cohort stands first here
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "records")]
    pub cohorts: Vec<String>,
    /// Checkpoint whose tokenizer --max-tokens counts with
    #[arg(long, value_name = "CHECKPOINT", requires = "max_tokens")]
    pub model: Option<String>,
    /// Leave out cases whose user message is longer
    #[arg(long, value_name = "N", requires = "model")]
    pub max_tokens: Option<usize>,
    /// Use only files that are there already
    #[arg(long)]
    pub offline: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `interp task identity-rules`.
#[derive(Debug, Args)]
pub struct IdentityRulesArgs {
    /// Checkpoint whose tokenizer has the words, and that a filter asks.
    #[command(flatten)]
    pub model: ModelArgs,
    /// abstract: items and query swapped, so that the rule flips; token: only the query swapped; single: one prompt
    #[arg(long, default_value = "token")]
    pub pairs: String,
    /// What is drawn.
    #[command(flatten)]
    pub flags: RuleFlags,
}

/// Flags that decide which identity-rule prompts are made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompts")]
pub struct RuleFlags {
    /// Examples in a prompt
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub shots: usize,
    /// Draws of words; each gives one trial per rule, which are one cluster
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub draws: usize,
    /// Seed of the words, and of all that is resampled
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Keep a draw only if the model answers all of its prompts: by greedy `generation`, with at least `prob:P`, or `none`
    /// to ask no model
    #[arg(long, default_value = "generation")]
    pub filter: String,
    /// Draws that are tried at most [default: 20 for each that is wanted]
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<usize>,
}

impl RuleFlags {
    /// Draws that are tried at most.
    pub fn attempts(&self) -> usize {
        self.max_attempts.unwrap_or(20 * self.draws)
    }
}
