//! From what was typed to an open checkpoint (or random weights), its tokenizer, and (later, when everything else is known to be right) its
//! decoder.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use interp_core::checkpoint::{Checkpoint, CheckpointRef};
use interp_core::config::ModelConfig;
use interp_core::decoder::{Decoder, expected_tensors};
use interp_core::device::{Dtype, Precision, Weights, device_name, parse_device};
use interp_core::export::capture::Geometry;
use interp_core::hash::FileHash;
use interp_core::hub::HubOptions;
use interp_core::prompt::{PromptReader, Tokenizer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tch::Device;

use crate::cli::{ComputeArgs, ModelArgs};
use crate::memory;
use crate::output::Printer;

/// A checkpoint whose files are open and whose weights are not loaded yet.
pub struct Model {
    /// Files and config.
    pub checkpoint: Checkpoint,
    /// `None` when the checkpoint has none: prompts are token ids then.
    pub tokenizer: Option<Tokenizer>,
    /// What to compute in.
    pub precision: Precision,
    /// Where to compute.
    pub device: Device,
}

impl Model {
    /// Opens the checkpoint and its tokenizer. Reads no weights.
    pub fn open(args: &ModelArgs) -> Result<Self> {
        let (precision, device) = resolve(&args.compute)?;
        let checkpoint = open_checkpoint(&args.model, args.compute.offline)?;
        let tokenizer = open_tokenizer(&checkpoint)?;
        Ok(Self { checkpoint, tokenizer, precision, device })
    }

    /// A model of that geometry (a name, or the path of a `config.json`) with random weights.
    pub fn random(geometry: &str, seed: u64, compute: &ComputeArgs) -> Result<Self> {
        let (precision, device) = resolve(compute)?;
        let path = Path::new(geometry);
        let config = if path.is_file() { ModelConfig::from_file(path)? } else { ModelConfig::named(geometry)? };
        let tensors = expected_tensors(&config);
        let checkpoint = Checkpoint::random(geometry, config, tensors, seed);
        Ok(Self { checkpoint, tokenizer: None, precision, device })
    }

    /// Turns text, messages and token ids into prompts for this model.
    pub fn reader(&self) -> PromptReader<'_> {
        let config = self.checkpoint.config();
        PromptReader { tokenizer: self.tokenizer.as_ref(), d_vocab: config.d_vocab, n_ctx: config.n_ctx }
    }

    /// Loads the weights, and says so when it takes a while.
    pub fn load(&self, printer: &Printer) -> Result<Decoder> {
        self.load_by(Decoder::load, printer)
    }

    /// [`Model::load`], for sweeps: weights are laid out for many passes of many rows.
    pub fn load_for_waves(&self, printer: &Printer) -> Result<Decoder> {
        self.load_by(Decoder::load_for_waves, printer)
    }

    fn load_by(
        &self,
        load: fn(&Checkpoint, Device, Precision) -> interp_core::Result<Decoder>,
        printer: &Printer,
    ) -> Result<Decoder> {
        let start = Instant::now();
        let decoder = load(&self.checkpoint, self.device, self.precision)
            .with_context(|| format!("loading {}", self.checkpoint.name()))?;
        memory::keep_freed();
        if start.elapsed().as_secs() >= 2 {
            let gigabytes = self.checkpoint.total_bytes() as f64 / 1e9;
            printer.talk(&format!("loaded {gigabytes:.1} GB in {:.1} s", start.elapsed().as_secs_f64()));
        }
        Ok(decoder)
    }

    /// SHA-256 of a small file of the checkpoint.
    pub fn file_sha256(&self, name: &str) -> Result<Option<String>> {
        let Some(path) = self.checkpoint.file(name)? else { return Ok(None) };
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(format!("{:x}", Sha256::digest(bytes))))
    }

    /// What files of results say of the model.
    pub fn describe(&self, weights: &[FileHash]) -> Value {
        let (checkpoint, config) = (&self.checkpoint, self.checkpoint.config());
        let file = |hash: &FileHash| {
            let name = hash.path.file_name().map(|name| name.to_string_lossy().into_owned());
            json!({ "file": name, "bytes": hash.bytes, "sha256": hash.sha256 })
        };
        json!({
            "checkpoint": checkpoint.name(),
            "revision": checkpoint.revision(),
            "family": config.family,
            "n_layers": config.n_layers,
            "n_heads": config.n_heads,
            "n_kv_heads": config.n_kv_heads,
            "weights": weights.iter().map(file).collect::<Vec<_>>(),
            "dtype": self.precision.dtype.to_string(),
            "device": device_name(self.device),
        })
    }

    /// The sizes that decide whether activations of one model fit into another.
    pub fn geometry(&self) -> Geometry {
        let config = self.checkpoint.config();
        let sizes = [
            ("n_layers", config.n_layers),
            ("n_heads", config.n_heads),
            ("n_kv_heads", config.n_kv_heads),
            ("d_head", config.d_head),
            ("d_model", config.d_model),
            ("d_mlp", config.d_mlp),
        ];
        sizes.into_iter().map(|(name, size)| (name.to_owned(), size)).collect()
    }
}

/// What to compute in and on; sets the number of threads.
fn resolve(compute: &ComputeArgs) -> Result<(Precision, Device)> {
    let precision = Precision { dtype: compute.dtype.parse::<Dtype>()?, weights: compute.weights.parse::<Weights>()? };
    let device = parse_device(&compute.device)?;
    if let Some(threads) = compute.threads {
        tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
    }
    Ok((precision, device))
}

/// Opens a checkpoint from a folder or the hub.
pub fn open_checkpoint(text: &str, offline: bool) -> Result<Checkpoint> {
    let reference: CheckpointRef = text.parse()?;
    let mut hub = HubOptions::from_env();
    hub.offline |= offline;
    Ok(Checkpoint::open(&reference, &hub)?)
}

fn open_tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
    let Some(file) = checkpoint.file("tokenizer.json")? else { return Ok(None) };
    let config = checkpoint.file("tokenizer_config.json")?;
    let template = checkpoint.file("chat_template.jinja")?;
    let tokenizer = Tokenizer::from_files(&file, config.as_deref(), template.as_deref())?;
    tokenizer.check_against(checkpoint.config().d_vocab, &file)?;
    Ok(Some(tokenizer))
}
