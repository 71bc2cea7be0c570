//! What a user can type, as clap types. No file is opened and no value is checked against another here.
#![allow(rustdoc::broken_intra_doc_links, reason = "doc comments here are the help text, where [:F] means optional")]

mod adapter;
mod attention;
mod bench;
mod contrast;
mod cumulative;
mod eval;
mod generate;
mod retrieval;
mod roles;
mod rsa;
mod stats;
mod study;
mod task;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::adapter::AdapterArgs;
pub use self::attention::AttentionArgs;
pub use self::bench::BenchArgs;
pub use self::contrast::ContrastArgs;
pub use self::cumulative::CumulativeArgs;
pub use self::eval::*;
pub use self::generate::{DecodingArgs, EditArgs, GenerateArgs};
pub use self::retrieval::RetrievalArgs;
pub use self::roles::RolesArgs;
pub use self::rsa::RsaArgs;
pub use self::stats::{JudgeArgs, StatsArgs};
pub use self::study::{StudyArgs, StudyCommand, StudyComplianceArgs, SymbolicArgs};
pub use self::task::{ComplianceArgs, IdentityRulesArgs, RuleFlags, TaskArgs, TaskCommand};

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
    /// Show what a checkpoint is, and prove on it that hooks and engine work
    Inspect(InspectArgs),
    /// Continue prompts, greedy or sampled, with or without an edit
    Generate(GenerateArgs),
    /// Write activations of prompts to .npy files
    Capture(CaptureArgs),
    /// Measure the effect of an edit on every cell of a grid
    Sweep(SweepArgs),
    /// Run random cells of an output folder again by plain full passes and compare
    Verify(VerifyArgs),
    /// Print the largest effects in an output folder, or heads beside a control, with intervals and tests
    Stats(StatsArgs),
    /// Run the same sweep on several checkpoints and compare them cell by cell
    Contrast(ContrastArgs),
    /// Measure where a LoRA adapter changes a model, by module and head, or how alike two adapters are
    Adapter(AdapterArgs),
    /// Draw an output folder's figure again
    Plot(PlotArgs),
    /// Write a checkpoint with LoRA adapters merged into its weights
    Merge(MergeArgs),
    /// Measure how fast this machine sweeps, with random weights or a checkpoint's
    Bench(BenchArgs),
    /// Take more and more heads of a ranking away together, beside two controls
    Cumulative(CumulativeArgs),
    /// Run, score and check the evaluations that were published with checkpoints
    Eval(EvalArgs),
    /// Write the trials of a built-in task to stdout
    Task(TaskArgs),
    /// Run a built-in study: make trials, sweep every stage, say which heads stand out
    Study(StudyArgs),
    /// Compare what heads write with hypotheses of what should be alike (representational similarity)
    Rsa(RsaArgs),
    /// Score every head as previous-token, duplicate-token and induction head, beside what other measures say of it
    Roles(RolesArgs),
    /// Measure how the attention of heads falls on the named spans of prompts
    Attention(AttentionArgs),
    /// Score heads by what they copy out of a long text (retrieval heads of Wu et al.), or rank a file of such scores
    Retrieval(RetrievalArgs),
}

/// Flags that choose a checkpoint and how to compute.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Checkpoint: a folder, or a hub id such as Qwen/Qwen2.5-7B-Instruct, with @REVISION to pin it;
    /// +merge:ADAPTER and +apply:ADAPTER[+only:PARTS] add LoRA adapters
    #[arg(long, value_name = "CHECKPOINT")]
    pub model: String,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Flags that say how to compute, and on what.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// Numbers to compute in: f32, bf16 or f64
    #[arg(long, default_value = "f32")]
    pub dtype: String,
    /// How weights are held: `auto` converts them once if that fits, `file` keeps them as stored, `nf4` and `nf4-double`
    /// hold linear maps in 4 bits, with one or two levels of scales (bitsandbytes)
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

impl ComputeArgs {
    /// On the CPU, everything else as it is when nothing is typed.
    pub fn cpu() -> Self {
        Self { dtype: "f32".into(), weights: "auto".into(), device: "cpu".into(), offline: false, threads: None }
    }
}

/// Flags that give one prompt or many.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct PromptArgs {
    /// A prompt as text
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// A JSON file of chat messages: [{"role": …, "content": …}, …], or {"messages": […], "prefix": …}
    #[arg(long, value_name = "FILE")]
    pub messages: Option<PathBuf>,
    /// A prompt as token ids: 1,403,407
    #[arg(long, value_name = "IDS")]
    pub tokens: Option<String>,
    /// A file of prompts, one JSON object per line: {"text": …}, {"messages": […]} or {"tokens": […]}
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
}

/// `interp inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Load it and prove that every site is live, that capturing changes no bit, and that a wave equals plain passes
    #[arg(long)]
    pub self_check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `interp capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Checkpoint and precision.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to run.
    #[command(flatten)]
    pub prompts: PromptArgs,
    /// Run the base prompts of a trial file
    #[arg(long, value_name = "FILE", conflicts_with = "PromptArgs")]
    pub trials: Option<PathBuf>,
    /// Activations to write: z,resid_post,pattern, …
    #[arg(long)]
    pub sites: String,
    /// Only these layers: A..B, half-open
    #[arg(long, value_name = "A..B")]
    pub layers: Option<String>,
    /// Only these heads: L19.H17,L20.H3
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// last, all, a list such as 3,-1, or span:NAME; `last` if not given
    #[arg(long, allow_hyphen_values = true)]
    pub positions: Option<String>,
    /// Write arrays of TransformerLens's shape, [batch, pos, …], over all positions
    #[arg(long, conflicts_with = "positions")]
    pub whole: bool,
    /// Output folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `interp sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Take everything but --out from the run.json of an earlier sweep
    #[arg(long, value_name = "RUN.JSON", conflicts_with_all = [
        "model", "trials", "site", "edit", "from", "to", "grid", "positions", "layers", "heads", "swap", "metric",
        "target", "max_rows", "seed", "dtype", "weights", "device", "source_model", "layer_map", "head_map", "map",
        "calibrate",
    ])]
    pub spec: Option<PathBuf>,
    /// Output folder; the same command on the same folder resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Checkpoint that is edited: a folder, or a hub id, with @REVISION to pin it
    #[arg(long, value_name = "CHECKPOINT", required_unless_present = "spec")]
    pub model: Option<String>,
    /// Trial file (JSONL)
    #[arg(long, value_name = "FILE", required_unless_present = "spec")]
    pub trials: Option<String>,
    /// Only these heads: L19.H17,L20.H3
    #[arg(long, value_name = "HEADS")]
    pub heads: Option<String>,
    /// How it is checked.
    #[command(flatten)]
    pub checks: CheckFlags,
    /// What to run.
    #[command(flatten)]
    pub flags: SweepFlags,
}

/// How a sweep checks itself.
#[derive(Debug, Clone, Copy, Args)]
pub struct CheckFlags {
    /// At the end, run K random cells again by plain full passes; exit 1 if one differs
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub verify: usize,
    /// Leave out the part of the noise floor that runs 16 cells again in a higher precision
    #[arg(long)]
    pub no_floor: bool,
}

/// What decides the numbers of a sweep, besides checkpoint, trials and heads.
#[derive(Debug, Args)]
pub struct SweepFlags {
    /// Activation that is edited: z, result, q, k, v, pattern, resid_pre, mlp_out, …
    #[arg(long, default_value = "z")]
    pub site: String,
    /// zero, mean[:CAPTURE_DIR], patch, add:FILE.npy[:F], scale:F, noise:F[:CAPTURE_DIR], knockout, uniform-attention; or,
    /// for a checkpoint with +apply:ADAPTER, graft (only this part of the adapter) or ungraft (all but this part)
    #[arg(long, default_value = "patch")]
    pub edit: String,
    /// Keys that a knockout forbids: positions as in --positions
    #[arg(long, value_name = "POSITIONS", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Queries of a knockout: the same as --positions
    #[arg(long, value_name = "POSITIONS", conflicts_with = "positions", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// layer-head, layer-pos or sets:FILE; for grafts also layer-part
    #[arg(long, default_value = "layer-head")]
    pub grid: String,
    /// last, all, a list such as 3,-1, or span:NAME (several spans for a layer-pos grid) [default: last; all for grafts]
    #[arg(long, allow_hyphen_values = true)]
    pub positions: Option<String>,
    /// Only these layers: A..B, half-open
    #[arg(long, value_name = "A..B")]
    pub layers: Option<String>,
    /// Run each trial also with base and source exchanged
    #[arg(long)]
    pub swap: bool,
    /// logit-diff, logit, prob, log-prob, acc, rank or kl; several separated by commas
    #[arg(long, default_value = "logit-diff")]
    pub metric: String,
    /// `one`: a target must be one token; `first-token`: take the first of several
    #[arg(long, default_value = "one")]
    pub target: String,
    /// Most rows of one wave, besides the few that measure its noise; what fits into memory if not given
    #[arg(long, value_name = "N")]
    pub max_rows: Option<NonZeroUsize>,
    /// Seed of noise and of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The other model, if any.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to compute.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Flags of a sweep whose patches come from another checkpoint.
#[derive(Debug, Args)]
#[command(next_help_heading = "Another checkpoint as donor")]
pub struct SourceArgs {
    /// Checkpoint that patches take from; it runs the source prompts, or the base prompts of trials without a source
    #[arg(long, value_name = "CHECKPOINT")]
    pub source_model: Option<String>,
    /// Which donor layer stands for which: `relative` depth, or a JSON file [0,0,1,…] with one per layer
    #[arg(long, value_name = "relative|FILE", requires = "source_model")]
    pub layer_map: Option<String>,
    /// Which donor head stands for which: `relative`, or a JSON file [0,0,1,…], or one such list per layer
    #[arg(long, value_name = "relative|FILE", requires = "source_model")]
    pub head_map: Option<String>,
    /// How vectors are carried over: raw (the default), procrustes or ridge[:LAMBDA], fitted per layer and head
    #[arg(long, value_name = "MAP", requires = "source_model")]
    pub map: Option<String>,
    /// Trial file whose prompts a map is fitted on, a fifth of their clusters held out to test it
    #[arg(long, value_name = "FILE", requires = "map")]
    pub calibrate: Option<String>,
}

/// `interp merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// What to merge: MODEL+merge:ADAPTER[+merge:ADAPTER]…, each a folder or a hub id
    pub checkpoint: String,
    /// Output folder, new or empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Use only what the hub cache holds
    #[arg(long)]
    pub offline: bool,
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
