//! What can be typed behind `interp adapter`.

use std::path::PathBuf;

use clap::Args;

/// `interp adapter`.
#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// LoRA adapter: a folder that peft wrote, or a hub id
    pub adapter: String,
    /// A second adapter of the same model, to compare with the first
    pub other: Option<String>,
    /// The model it was made for: a folder, a hub id, or the path of its config.json; no weights are read
    #[arg(long, value_name = "CHECKPOINT|FILE")]
    pub model: String,
    /// Folder for adapter.json, adapter.csv, .npy files and heat maps
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How many of the heads that change most are listed
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Use only what the hub cache holds
    #[arg(long)]
    pub offline: bool,
}
