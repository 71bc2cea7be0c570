//! From what was typed to an open checkpoint (or random weights) with its adapters, its tokenizer, and (later, when everything
//! else is known to be right) its decoder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use interp_core::Error;
use interp_core::adapter::Merges;
use interp_core::checkpoint::{Checkpoint, CheckpointRef, How, Location, Step};
use interp_core::config::{GenerationDefaults, ModelConfig};
use interp_core::decoder::{Decoder, expected_tensors};
use interp_core::device::{Devices, Dtype, Precision, Weights};
use interp_core::export::capture::Geometry;
use interp_core::hash::FileHash;
use interp_core::hub::HubOptions;
use interp_core::prompt::{PromptReader, Tokenizer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bases::Bases;
use crate::chain::{Chain, describe_files};
use crate::cli::{ComputeArgs, ModelArgs};
use crate::memory;
use crate::output::Printer;

/// A checkpoint whose files are open and whose weights are not loaded yet.
pub struct Model {
    /// As typed; `None` for random weights.
    reference: Option<CheckpointRef>,
    /// Files and config.
    pub checkpoint: Checkpoint,
    /// Adapters that are merged into it or applied beside it.
    pub chain: Chain,
    /// `None` when the checkpoint has none: prompts are token ids then.
    pub tokenizer: Option<Tokenizer>,
    /// What to compute in.
    pub precision: Precision,
    /// Where to compute.
    pub devices: Devices,
}

/// Which weights, merged with what, in which precision and where: models of one key can share them.
#[derive(Debug, PartialEq)]
pub struct BaseKey(Location, Option<String>, Vec<Step>, Precision, Devices);

impl Model {
    /// Opens the checkpoint and its tokenizer. Reads no weights.
    pub fn open(args: &ModelArgs) -> Result<Self> {
        let (precision, mut devices) = resolve(&args.compute)?;
        let (reference, checkpoint, chain) = open_checkpoint(&args.model, args.compute.offline)?;
        // A fifth is left for activations.
        let fits = |free: u64| checkpoint.total_bytes() < free / 5 * 4;
        if args.compute.device == "auto" && !devices.free_memory().is_none_or(fits) {
            devices = Devices::all_from(devices.first());
        }
        let tokenizer = open_tokenizer(&checkpoint)?;
        Ok(Self { reference: Some(reference), checkpoint, chain, tokenizer, precision, devices })
    }

    /// Config and tokenizer alone, without adapters: for what needs no weights, which then need not be there.
    pub fn without_weights(args: &ModelArgs) -> Result<Self> {
        let (precision, devices) = resolve(&args.compute)?;
        let reference: CheckpointRef = args.model.parse()?;
        let mut hub = HubOptions::from_env();
        hub.offline |= args.compute.offline;
        let checkpoint = Checkpoint::without_weights(&reference, &hub)?;
        let tokenizer = open_tokenizer(&checkpoint)?;
        Ok(Self { reference: Some(reference), checkpoint, chain: Chain::none(), tokenizer, precision, devices })
    }

    /// A model of that geometry (a name, or the path of a `config.json`) with random weights.
    pub fn random(geometry: &str, seed: u64, compute: &ComputeArgs) -> Result<Self> {
        let (precision, devices) = resolve(compute)?;
        let path = Path::new(geometry);
        let config = if path.is_file() { ModelConfig::from_file(path)? } else { ModelConfig::named(geometry)? };
        let tensors = expected_tensors(&config);
        let checkpoint = Checkpoint::random(geometry, config, tensors, seed);
        Ok(Self { reference: None, checkpoint, chain: Chain::none(), tokenizer: None, precision, devices })
    }

    /// Turns text, messages and token ids into prompts for this model.
    pub fn reader(&self) -> PromptReader<'_> {
        let config = self.checkpoint.config();
        PromptReader { tokenizer: self.tokenizer.as_ref(), d_vocab: config.d_vocab, n_ctx: config.n_ctx }
    }

    /// The label, or the last part of the folder or hub id with those of its adapters.
    pub fn name(&self) -> String {
        self.reference.as_ref().map_or_else(|| self.checkpoint.name().to_owned(), CheckpointRef::name)
    }

    /// Loads the weights, and says so when it takes a while.
    pub fn load(&self, printer: &Printer) -> Result<Decoder> {
        Bases::new(false).load(self, printer)
    }

    /// [`Model::load`], for sweeps: weights are laid out for many passes of many rows.
    pub fn load_for_waves(&self, printer: &Printer) -> Result<Decoder> {
        Bases::new(true).load(self, printer)
    }

    /// Loads the weights with the merged adapters, without the applied ones: what checkpoints of one [`BaseKey`] share.
    pub fn load_base(&self, waves: bool, printer: &Printer) -> Result<Decoder> {
        let start = Instant::now();
        self.chain.warnings().for_each(|line| printer.talk(&line));
        let merges = Merges(self.chain.merges());
        if !merges.0.is_empty() {
            let bytes = merges.bytes(&self.checkpoint) as f64 / 1e9;
            printer.talk(&format!("merging: a second copy of the weights that change, {bytes:.2} GB"));
        }
        memory::give_back_freed();
        let decoder = Decoder::load_merged(&self.checkpoint, merges, self.devices.clone(), self.precision, waves)
            .with_context(|| format!("loading {}", self.name()))?;
        memory::keep_freed();
        if start.elapsed().as_secs() >= 2 {
            let gigabytes = self.checkpoint.total_bytes() as f64 / 1e9;
            printer.talk(&format!("loaded {gigabytes:.1} GB in {:.1} s", start.elapsed().as_secs_f64()));
        }
        Ok(decoder)
    }

    /// What [`Model::load_base`] loads; `None` for random weights.
    pub fn base_key(&self) -> Option<BaseKey> {
        let reference = self.reference.as_ref()?;
        let merges = reference.steps.iter().filter(|step| step.how == How::Merge).cloned().collect();
        let revision = self.checkpoint.revision().map(str::to_owned);
        Some(BaseKey(reference.model.clone(), revision, merges, self.precision, self.devices.clone()))
    }

    /// Files of weights, the adapters' last.
    pub fn weight_files(&self) -> Vec<PathBuf> {
        self.checkpoint.weight_files().into_iter().chain(self.chain.files()).map(Path::to_path_buf).collect()
    }

    /// SHA-256 of a small file of the checkpoint.
    pub fn file_sha256(&self, name: &str) -> Result<Option<String>> {
        let Some(path) = self.checkpoint.file(name)? else { return Ok(None) };
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(format!("{:x}", Sha256::digest(bytes))))
    }

    /// Ids that end a continuation: as Hugging Face, those of generation_config.json where it names any, else of config.json.
    pub fn end_tokens(&self) -> Result<Vec<i64>> {
        let named = self.generation_defaults()?.eos_token_ids;
        Ok(if named.is_empty() { self.checkpoint.config().eos_token_ids.clone() } else { named })
    }

    /// What generation_config.json says, where there is one.
    pub fn generation_defaults(&self) -> Result<GenerationDefaults> {
        Ok(match self.checkpoint.file("generation_config.json")? {
            Some(file) => GenerationDefaults::from_file(&file)?,
            None => GenerationDefaults::default(),
        })
    }

    /// What files of results say of the model.
    pub fn describe(&self, weights: &[FileHash]) -> Value {
        let (checkpoint, config) = (&self.checkpoint, self.checkpoint.config());
        json!({
            "checkpoint": self.name(),
            "revision": checkpoint.revision(),
            "family": config.family,
            "n_layers": config.n_layers,
            "n_heads": config.n_heads,
            "n_kv_heads": config.n_kv_heads,
            "weights": describe_files(weights),
            "base_precision": self.base_precision(),
            "chain": self.chain.describe(),
            "dtype": self.precision.dtype.to_string(),
            "device": self.devices.to_string(),
        })
    }

    /// What the numbers of linear maps were rounded to: `nf4` or `nf4-double` where they are in 4 bits, otherwise the dtype
    /// that most of the checkpoint is stored in.
    pub fn base_precision(&self) -> String {
        let weights = self.precision.weights;
        match self.checkpoint.quantization() {
            Some(quantization) => quantization.into(),
            None if weights.quantizes() => weights.to_string(),
            None => {
                let stored = self.checkpoint.stored_dtypes().into_iter();
                stored.max_by_key(|(_, bytes)| *bytes).map(|(dtype, _)| dtype.to_lowercase()).unwrap_or_default()
            }
        }
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

/// Tells files from those of another start without reading them: by path, length and time of change.
pub fn fingerprint(files: &[PathBuf]) -> interp_core::Result<String> {
    let mut text = String::new();
    for path in files {
        let meta = fs::metadata(path).map_err(Error::io("read", path))?;
        text += &format!("{} {} {}.{}\n", path.display(), meta.len(), meta.mtime(), meta.mtime_nsec());
    }
    Ok(format!("{:x}", Sha256::digest(text.as_bytes())))
}

/// What to compute in and on; sets the number of threads.
fn resolve(compute: &ComputeArgs) -> Result<(Precision, Devices)> {
    let precision = Precision { dtype: compute.dtype.parse::<Dtype>()?, weights: compute.weights.parse::<Weights>()? };
    let devices = Devices::parse(&compute.device)?;
    if let Some(threads) = compute.threads {
        tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
    }
    Ok((precision, devices))
}

/// The tokenizer of a checkpoint, for what needs nothing else of it.
pub fn tokenizer_of(model: &str, offline: bool) -> Result<Tokenizer> {
    let (_, checkpoint, _) = open_checkpoint(model, offline)?;
    open_tokenizer(&checkpoint)?.with_context(|| format!("{model}: the checkpoint has no tokenizer"))
}

/// Opens a checkpoint and its adapters from folders or the hub.
fn open_checkpoint(text: &str, offline: bool) -> Result<(CheckpointRef, Checkpoint, Chain)> {
    let reference: CheckpointRef = text.parse()?;
    let mut hub = HubOptions::from_env();
    hub.offline |= offline;
    let checkpoint = Checkpoint::open(&reference, &hub)?;
    let chain = Chain::open(&reference, &checkpoint, &hub)?;
    Ok((reference, checkpoint, chain))
}

fn open_tokenizer(checkpoint: &Checkpoint) -> Result<Option<Tokenizer>> {
    let Some(file) = checkpoint.file("tokenizer.json")? else { return Ok(None) };
    let config = checkpoint.file("tokenizer_config.json")?;
    let template = checkpoint.file("chat_template.jinja")?;
    let tokenizer = Tokenizer::from_files(&file, config.as_deref(), template.as_deref())?;
    tokenizer.check_against(checkpoint.config().d_vocab, &file)?;
    Ok(Some(tokenizer))
}
