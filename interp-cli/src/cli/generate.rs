//! What can be typed behind `interp generate`.
#![allow(rustdoc::broken_intra_doc_links, reason = "doc comments here are the help text, where [:F] means optional")]

use std::path::PathBuf;

use clap::Args;

use super::{ModelArgs, PromptArgs};

/// `interp generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to continue.
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// How to choose tokens.
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// What to change.
    #[command(flatten)]
    pub edit: EditArgs,
    /// Print one JSON object per prompt
    #[arg(long)]
    pub json: bool,
}

/// Flags that choose the next token.
#[derive(Debug, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingArgs {
    /// Most tokens to add to each prompt
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_new_tokens: usize,
    /// Divides the logits before sampling; 0 takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_hyphen_values = true)]
    pub temperature: f64,
    /// Sample among this many most likely tokens; 0 means all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Sample among the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_hyphen_values = true)]
    pub top_p: f64,
    /// `raw`: no repetition penalty; `card`: that of generation_config.json, as Hugging Face's greedy decoding has it
    #[arg(long, default_value = "raw")]
    pub mode: String,
    /// Divides positive and multiplies negative logits of tokens seen before, whatever --mode says
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub repetition_penalty: Option<f64>,
    /// Continuations of each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub samples: usize,
    /// Seed of sampling and of noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also stop after one of these: token ids such as 198,271, or text that is one token; may be repeated
    #[arg(long, value_name = "IDS|TEXT")]
    pub stop: Vec<String>,
}

/// Flags of one edit of a run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Edit")]
pub struct EditArgs {
    /// Activation that is edited: z, result, q, k, v, pattern, resid_pre, mlp_out, …
    #[arg(long, default_value = "z")]
    pub site: String,
    /// zero, mean:CAPTURE_DIR, patch, add:FILE.npy[:F], scale:F, noise:F:CAPTURE_DIR, knockout or uniform-attention
    #[arg(long)]
    pub edit: Option<String>,
    /// Only these heads: L19.H17,L20.H3, or with --ranked-by top:K
    #[arg(long, value_name = "HEADS", requires = "edit")]
    pub heads: Option<String>,
    /// Folder of a sweep, or retrieval scores, that ranks the heads of top:K
    #[arg(long, value_name = "DIR|FILE", requires = "heads")]
    pub ranked_by: Option<PathBuf>,
    /// Only these layers: A..B, half-open
    #[arg(long, value_name = "A..B", requires = "edit")]
    pub layers: Option<String>,
    /// Positions of the prompt: last, all, a list such as 3,-1, or span:NAME
    #[arg(long, default_value = "last", allow_hyphen_values = true)]
    pub positions: String,
    /// Keys that a knockout forbids: positions as in --positions
    #[arg(long, value_name = "POSITIONS", requires = "edit", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Where it applies: to the prompt's positions, to every new token, or to both
    #[arg(long, default_value = "prompt")]
    pub edit_scope: String,
    /// The prompt that a patch takes from, as text
    #[arg(long, value_name = "TEXT", requires = "edit", conflicts_with = "source_tokens")]
    pub source_prompt: Option<String>,
    /// The prompt that a patch takes from, as token ids
    #[arg(long, value_name = "IDS", requires = "edit")]
    pub source_tokens: Option<String>,
}
