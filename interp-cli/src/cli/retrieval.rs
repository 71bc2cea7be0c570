//! What can be typed behind `interp retrieval`.

use std::path::PathBuf;

use clap::Args;

use super::ComputeArgs;

/// `interp retrieval`.
#[derive(Debug, Args)]
pub struct RetrievalArgs {
    /// Rank the heads of files of scores, {"LAYER-HEAD": [score, …], …}, instead of measuring; several are put together
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "needles", "haystack", "out"])]
    pub read: Vec<PathBuf>,
    /// Checkpoint: a folder, or a hub id, with @REVISION to pin it
    #[arg(long, value_name = "CHECKPOINT", required_unless_present = "read")]
    pub model: Option<String>,
    /// File of needles, one JSON object per line: {"needle": …, "question": …, "real_needle": …}
    #[arg(long, value_name = "FILE", required_unless_present = "read")]
    pub needles: Option<PathBuf>,
    /// Folder of .txt files to hide needles in; where it has folders part1, part2, …, each needle has its own
    #[arg(long, value_name = "DIR", required_unless_present = "read")]
    pub haystack: Option<PathBuf>,
    /// Shortest and longest context in tokens, both included
    #[arg(long, value_name = "A..B", default_value = "1000..50000")]
    pub lengths: String,
    /// How many lengths, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub n_lengths: usize,
    /// How many depths from 0 to 100 per cent, evenly spaced
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub n_depths: usize,
    /// Tokens of a length that are left for the question
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub buffer: usize,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub max_new_tokens: usize,
    /// Ask in a user's turn of the checkpoint's chat template, the text between <book> and </book>
    #[arg(long)]
    pub chat: bool,
    /// Rank by the set definition, under which no score exceeds 1, instead of the one that counts repeats
    #[arg(long)]
    pub cap: bool,
    /// How many of the best heads are listed
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Output folder; the same command on the same folder resumes
    #[arg(long, value_name = "DIR", required_unless_present = "read")]
    pub out: Option<PathBuf>,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}
