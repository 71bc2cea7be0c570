//! What can be typed behind `interp task`, and the flags of a task that `interp study` has too.

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
