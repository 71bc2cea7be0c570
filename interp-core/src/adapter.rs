//! PEFT LoRA adapters: a folder or hub id becomes checked low-rank changes of a model's linear maps. Every field of the
//! configuration is honoured or refused; what the changes are added to, and when, is the decoder's business.

mod config;
mod keys;
mod merge;
mod parts;
mod pattern;
mod targets;
mod tensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Tensor;

use crate::checkpoint::Location;
use crate::checkpoint::files::Source;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::hub::{HubOptions, HubRepo};

pub use config::LoraConfig;
pub use merge::Merges;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";

/// An opened adapter: everything checked against a model's geometry, tensors on the CPU.
#[derive(Debug)]
pub struct Adapter {
    name: String,
    dir: PathBuf,
    file: PathBuf,
    config: LoraConfig,
    deltas: BTreeMap<String, Delta>,
    biases: BTreeMap<String, Tensor>,
    saved: BTreeMap<String, Tensor>,
    warnings: Vec<String>,
}

/// A low-rank change of one linear map `y = W x + b`: `y += scale · (B (A x) + bias)`.
///
/// With a magnitude (DoRA) the map's weight becomes `magnitude · (W + scale · B A) / ‖W + scale · B A‖`, the norm being that
/// of each row, and its own bias is added after, unscaled.
#[derive(Debug)]
pub struct Delta {
    /// `[rank, d_in]`, f32.
    pub a: Tensor,
    /// `[d_out, rank]`, f32.
    pub b: Tensor,
    /// α / rank, or α / √rank with `use_rslora`, of this very module.
    pub scale: f64,
    /// `[d_out]`, f32: bias of B. The map itself may have none.
    pub bias: Option<Tensor>,
    /// `[d_out]`, f32: DoRA's magnitudes.
    pub magnitude: Option<Tensor>,
}

impl Adapter {
    /// Finds, reads and checks an adapter for a model of this geometry; downloads it if need be.
    ///
    /// Errs, naming file, field or tensor and what to do, on a missing folder or repository, on files that are missing or
    /// pickled, as [`LoraConfig::from_file`] does, on modules that cannot be changed, on tensors that are not exactly those
    /// that the configuration implies for this model, that have other shapes or ranks, or that hold NaN or infinity.
    pub fn open(location: &Location, hub: &HubOptions, config: &ModelConfig) -> Result<Self> {
        let source = match location {
            Location::Folder(path) => folder(path)?,
            Location::Hub(id) => Source::Hub(Box::new(HubRepo::open(id, hub)?)),
        };
        let lora = LoraConfig::from_file(&config_file(&source)?)?;
        let file = weights_file(&source)?;
        let tensors::Loaded { deltas, biases, saved } = tensors::read(&file, &lora, config)?;
        let mut warnings = lora.warnings().to_vec();
        if !saved.is_empty() {
            let names = saved.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            warnings.push(format!("the adapter replaces whole weights of the base: {names}"));
        }
        Ok(Self {
            name: location.name(),
            dir: source.dir().into(),
            file,
            config: lora,
            deltas,
            biases,
            saved,
            warnings,
        })
    }

    /// The last part of the folder or hub id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder in which the files lie (of a hub repository, the cached snapshot).
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The safetensors file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The configuration.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The changes, by module as in the model: `model.layers.3.self_attn.q_proj`.
    pub fn deltas(&self) -> &BTreeMap<String, Delta> {
        &self.deltas
    }

    /// Biases that training replaced (`bias`: lora_only or all), f32 `[d_out]`, by module as in the model.
    pub fn biases(&self) -> &BTreeMap<String, Tensor> {
        &self.biases
    }

    /// Whole weights that training replaced (`modules_to_save`), f32, by tensor as in the model: `lm_head.weight`. A name
    /// stands for that tensor alone: where the base ties embedding and unembedding, `lm_head.weight` leaves the embedding as
    /// it is, and `model.embed_tokens.weight` the unembedding. With `ensure_weight_tying` both are here, and equal.
    pub fn saved(&self) -> &BTreeMap<String, Tensor> {
        &self.saved
    }

    /// What is worth knowing and no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Numbers in all A and B.
    pub fn n_params(&self) -> u64 {
        self.deltas.values().map(|delta| (delta.a.numel() + delta.b.numel()) as u64).sum()
    }
}

fn folder(path: &Path) -> Result<Source> {
    let problem = match (path.is_dir(), path.exists()) {
        (true, _) => return Ok(Source::Folder(path.into())),
        (false, true) => "is a file, not an adapter's folder",
        (false, false) => "no such folder",
    };
    let hint = format!("give a folder that holds {CONFIG}, or a hub id such as owner/name");
    Err(Error::File { path: path.into(), problem: problem.into(), hint: Some(hint) })
}

fn config_file(source: &Source) -> Result<PathBuf> {
    source.get(CONFIG)?.ok_or_else(|| {
        let hint = match source.names().iter().any(|name| name == "config.json") {
            true => "this is a checkpoint, not an adapter",
            false => "an adapter is a folder as peft's save_pretrained writes it",
        };
        source.refuse(&format!("has no {CONFIG}"), hint)
    })
}

fn weights_file(source: &Source) -> Result<PathBuf> {
    if let Some(path) = source.get(WEIGHTS)? {
        return Ok(path);
    }
    Err(match source.names().iter().any(|name| name == PICKLE) {
        true => source.refuse(
            &format!("has its tensors only as a pickle, {PICKLE}, which can run code when it is opened"),
            "convert once, in Python: AutoPeftModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)",
        ),
        false => source.refuse(&format!("has no {WEIGHTS}"), "an adapter's folder holds its tensors as safetensors"),
    })
}
