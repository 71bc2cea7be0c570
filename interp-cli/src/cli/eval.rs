//! What can be typed behind `interp eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ComputeArgs, EditArgs, ModelArgs};

/// `interp eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Which evaluation.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// One variant per file in `commands/eval/`.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Compute the metrics of a results file again from its samples, and report every difference from what it claims
    Score(ScoreArgs),
    /// Score completions as they come: JSON lines in, JSON lines out, one for one, for use as a reward function
    Reward(RewardArgs),
    /// Check that the parts of a split share no study
    Splits(SplitsArgs),
    /// Put biology questions to a model, or take completions made elsewhere, and score them by BioRLHF's verifiers
    Bio(BioArgs),
    /// Have a model predict how people answered in SOCRATES's studies, and compare the distributions
    Socrates(SocratesArgs),
    /// Ask your own multiple-choice questions: accuracy, likelihood and calibration
    Choice(ChoiceArgs),
}

/// `interp eval score`.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A BioRLHF evaluation (with per_sample), or a list of SOCRATES predictions; which of them is seen from the file
    pub file: PathBuf,
    /// File of metrics that goes with SOCRATES predictions; if not given, the file beside them that has `metrics` in its
    /// name where theirs has `predictions`
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Weights of V1,V2,V3,V4 that rewards are composed with
    #[arg(long, value_name = "W,W,W,W", default_value = "0.35,0.30,0.15,0.20")]
    pub verifier_weights: String,
    /// Folder for figures and tables
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How BioRLHF's verifiers score.
#[derive(Debug, Args)]
#[command(next_help_heading = "Verifiers")]
pub struct VerifierArgs {
    /// Only these verifiers, whose weights then sum to 1: V1,V4
    #[arg(long, value_name = "NAMES", default_value = "V1,V2,V3,V4")]
    pub verifiers: String,
    /// Weights of V1,V2,V3,V4; `training` for those of the released training, 0.30,0.15,0.10,0.45
    #[arg(long, value_name = "W,W,W,W", default_value = "0.35,0.30,0.15,0.20")]
    pub verifier_weights: String,
    /// What reads a text's confidence: built-in (BioRLHF's own), or bioeval-like (in BioEval's spirit, with our word lists)
    #[arg(long, default_value = "built-in")]
    pub extractor: String,
    /// What V4 does where a question names no expected confidence: match_v1 or legacy
    #[arg(long, default_value = "match_v1")]
    pub v4_mode: String,
}

/// `interp eval reward`.
#[derive(Debug, Args)]
pub struct RewardArgs {
    /// How to score.
    #[command(flatten)]
    pub verifiers: VerifierArgs,
}

/// `interp eval splits`.
#[derive(Debug, Args)]
pub struct SplitsArgs {
    /// Parts of the split, at least two: NAME=FILE or FILE, JSON lines with a study_id
    #[arg(required = true, num_args = 2.., value_name = "NAME=FILE")]
    pub parts: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of answering, where the evaluation's own way is not wanted.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Answering")]
pub struct AnswerArgs {
    /// Most tokens of an answer; as published if not given (bio: 512, socrates: 100)
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// Divides the logits before sampling; 0 takes the most likely token; as published if not given (bio: 0.1, socrates: 0)
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub temperature: Option<f64>,
    /// Sample among the most likely tokens that together have this probability; as published if not given (bio: 0.9)
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub top_p: Option<f64>,
    /// `raw`: no repetition penalty; `card`: that of generation_config.json
    #[arg(long, default_value = "raw")]
    pub mode: String,
    /// Seed of sampling and of noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Also stop after one of these: token ids such as 198,271, or text that is one token; may be repeated
    #[arg(long, value_name = "IDS|TEXT")]
    pub stop: Vec<String>,
}

/// `interp eval bio`.
#[derive(Debug, Args)]
pub struct BioArgs {
    /// Questions (JSON lines): prompt, and id, ground_truth, question_type, applicable_verifiers, source, tissue, cluster
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Checkpoint that answers: MODEL[+merge:ADAPTER][+apply:ADAPTER]…, each a folder or a hub id
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "completions")]
    pub model: Option<String>,
    /// Answers made elsewhere (JSON lines): id and completion
    #[arg(long, value_name = "FILE")]
    pub completions: Option<PathBuf>,
    /// Results file of another model, such as the one before training with rewards, to compare with
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Leave out questions that cannot be used, and name them in run.json; if not given, one refuses the file
    #[arg(long)]
    pub skip_broken: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to score.
    #[command(flatten)]
    pub verifiers: VerifierArgs,
    /// How to answer.
    #[command(flatten)]
    pub answers: AnswerArgs,
    /// What to change.
    #[command(flatten)]
    pub edit: EditArgs,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `interp eval socrates`.
#[derive(Debug, Args)]
pub struct SocratesArgs {
    /// Questions (JSON lines): instruction, input, output, study_id, condition_num, and perhaps id
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Checkpoint that answers: MODEL[+merge:ADAPTER][+apply:ADAPTER]…, each a folder or a hub id
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "completions")]
    pub model: Option<String>,
    /// Answers made elsewhere (JSON lines): id and completion
    #[arg(long, value_name = "FILE")]
    pub completions: Option<PathBuf>,
    /// alpaca (as in training and in the published evaluation) or chat (the card's: the checkpoint's chat template)
    #[arg(long, default_value = "alpaca")]
    pub form: String,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Leave out questions that cannot be used, and name them in run.json; if not given, one refuses the file
    #[arg(long)]
    pub skip_broken: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to answer.
    #[command(flatten)]
    pub answers: AnswerArgs,
    /// What to change.
    #[command(flatten)]
    pub edit: EditArgs,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `interp eval choice`.
#[derive(Debug, Args)]
pub struct ChoiceArgs {
    /// Questions (JSON lines): prompt (or text, messages, tokens), choices, answer, and perhaps id and cluster
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Leave out questions that cannot be used, and name them in run.json; if not given, one refuses the file
    #[arg(long)]
    pub skip_broken: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Seed of noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What to change.
    #[command(flatten)]
    pub edit: EditArgs,
}

impl ChoiceArgs {
    /// Nothing is generated here: only the seed matters.
    pub fn answers(&self) -> AnswerArgs {
        let (max_new_tokens, temperature, top_p) = (None, None, None);
        AnswerArgs { max_new_tokens, temperature, top_p, mode: "raw".into(), seed: self.seed, stop: Vec::new() }
    }
}
