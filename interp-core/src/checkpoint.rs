//! A local folder or hub id becomes memory-mapped weights behind a [`Scope`]; the checkpoint knows which went unused. A
//! geometry becomes random weights behind the same cursor. Knows the files, not the forward pass: which tensors there must
//! be, and of what shape, is the caller's business.

pub(crate) mod files;
pub(crate) mod finite;
mod quantized;
mod random;
mod reference;
mod scope;
pub(crate) mod shard;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::Mmap;
use safetensors::tensor::Dtype;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::hub::{HubOptions, HubRepo};
use files::{Source, Weights};
use quantized::Nf4Parts;
use shard::{Shard, Stored};

pub use reference::{CheckpointRef, How, Location, Step};
pub use scope::{Placement, Scope};

/// Small files that belong to a checkpoint without being weights.
const OPTIONAL_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];

/// An opened checkpoint: its config, and its tensors by name, mapped but not read.
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    source: Source,
    config: ModelConfig,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
}

/// A tensor, where its numbers come from, and whether anyone asked for it.
#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<i64>,
    origin: Origin,
    used: AtomicBool,
}

#[derive(Debug)]
enum Origin {
    /// These bytes of a shard.
    File { shard: usize, range: Range<usize> },
    /// Random numbers.
    Seed(i64),
    /// 4-bit numbers and their scales; the shape is that of the numbers.
    Nf4(Box<Nf4Parts>),
}

impl Entry {
    /// The shard and the bytes of it that its numbers lie in.
    fn place(&self) -> Option<(usize, Range<usize>)> {
        match &self.origin {
            Origin::File { shard, range } => Some((*shard, range.clone())),
            Origin::Nf4(parts) => parts.packed.place(),
            Origin::Seed(_) => None,
        }
    }

    fn bytes(&self) -> u64 {
        match &self.origin {
            Origin::File { range, .. } => range.len() as u64,
            Origin::Nf4(parts) => parts.bytes,
            Origin::Seed(_) => self.shape.iter().product::<i64>() as u64 * (self.dtype.bitsize() / 8) as u64,
        }
    }
}

/// Keeps mapped weights in memory. Whoever holds tensors that [`Scope::tensor`] returned must hold this as long.
#[derive(Debug)]
pub struct Maps {
    #[expect(dead_code, reason = "held for its Drop")]
    maps: Vec<Arc<Mmap>>,
}

impl Checkpoint {
    /// Finds, maps and checks the files; downloads them if need be. No weight is read yet.
    ///
    /// Errs on a missing folder or repository, a missing or refused `config.json`, missing, pickled or truncated weights,
    /// and an index that does not match its shards.
    pub fn open(reference: &CheckpointRef, hub: &HubOptions) -> Result<Self> {
        let mut checkpoint = Self::without_weights(reference, hub)?;
        let weights = checkpoint.source.weights()?;
        (checkpoint.shards, checkpoint.tensors) = open_shards(&weights)?;
        quantized::assemble(&mut checkpoint.tensors, &checkpoint.shards, checkpoint.config.nf4)?;
        Ok(checkpoint)
    }

    /// Config and small files alone, for what needs a tokenizer and no model: weights need not be there, and none are downloaded.
    pub fn without_weights(reference: &CheckpointRef, hub: &HubOptions) -> Result<Self> {
        let source = match &reference.model {
            Location::Folder(path) => Source::folder(path)?,
            Location::Hub(id) => Source::Hub(Box::new(HubRepo::open(id, hub)?)),
        };
        // The config first: it is small, and refuses before gigabytes are downloaded.
        let config = ModelConfig::from_file(&source.config()?)?;
        if let Source::Hub(repo) = &source {
            // All small files at once, so that what is cached now also serves offline.
            for name in OPTIONAL_FILES {
                repo.file(name)?;
            }
        }
        Ok(Self { name: reference.name(), source, config, shards: Vec::new(), tensors: BTreeMap::new() })
    }

    /// A model with random weights, made when they are asked for, on the device that they are wanted on: nothing is read,
    /// written or held twice. `tensors` are the names and shapes that the config implies. Stored dtype is f32 where the
    /// config says so, else bf16; other dtypes are conversions of the same numbers. The same seed gives the same weights on
    /// one device, not from one device to another.
    pub fn random(name: &str, config: ModelConfig, tensors: Vec<(String, Vec<i64>)>, seed: u64) -> Self {
        let dtype = if config.dtype.as_deref() == Some("float32") { Dtype::F32 } else { Dtype::BF16 };
        let entry = |(name, shape): (String, Vec<i64>)| {
            let origin = Origin::Seed(random::seed_of(seed, &name));
            (name, Entry { dtype, shape, origin, used: AtomicBool::new(false) })
        };
        let tensors = tensors.into_iter().map(entry).collect();
        Self { name: name.into(), source: Source::Nowhere, config, shards: Vec::new(), tensors }
    }

    /// The user's label, or the last part of the folder or hub id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's geometry.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The folder in which the files lie (of a hub repository, the cached snapshot; empty for random weights).
    pub fn dir(&self) -> &Path {
        self.source.dir()
    }

    /// The commit of a hub repository; `None` for a folder and for random weights.
    pub fn revision(&self) -> Option<&str> {
        match &self.source {
            Source::Folder(_) | Source::Nowhere => None,
            Source::Hub(repo) => Some(repo.commit()),
        }
    }

    /// The path of another file of the checkpoint, such as `tokenizer.json`; `None` when it has none.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        self.source.get(name)
    }

    /// The safetensors files, in the index's order.
    pub fn weight_files(&self) -> Vec<&Path> {
        self.shards.iter().map(|shard| shard.path.as_path()).collect()
    }

    /// Bytes of all tensors as stored.
    pub fn total_bytes(&self) -> u64 {
        self.stored_dtypes().values().sum()
    }

    /// Bytes stored per dtype, by safetensors' names (`F32`, `BF16`, …), and as `NF4` those of 4-bit tensors with their scales.
    pub fn stored_dtypes(&self) -> BTreeMap<String, u64> {
        let mut dtypes = BTreeMap::new();
        for entry in self.tensors.values() {
            let dtype = match &entry.origin {
                Origin::Nf4(_) => "NF4".to_owned(),
                Origin::File { .. } | Origin::Seed(_) => entry.dtype.to_string(),
            };
            *dtypes.entry(dtype).or_default() += entry.bytes();
        }
        dtypes
    }

    /// `nf4`, or with double quantisation `nf4-double`, if the files hold 4-bit tensors.
    pub fn quantization(&self) -> Option<&'static str> {
        self.tensors.values().find_map(|entry| match &entry.origin {
            Origin::Nf4(parts) if parts.form.double => Some("nf4-double"),
            Origin::Nf4(_) => Some("nf4"),
            Origin::File { .. } | Origin::Seed(_) => None,
        })
    }

    /// Every stored tensor: its name and shape, sorted by name. A 4-bit tensor has the shape of its numbers.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.shape.as_slice()))
    }

    /// Bytes of one tensor as stored; `None` when there is none of that name.
    pub fn stored_bytes(&self, tensor: &str) -> Option<u64> {
        self.tensors.get(tensor).map(Entry::bytes)
    }

    /// PEFT adapters lying in the folder or directly below it, as folders, sorted.
    pub fn adapters_seen(&self) -> Vec<PathBuf> {
        if matches!(self.source, Source::Nowhere) {
            return Vec::new();
        }
        let dir = self.dir();
        let below = files::folder_names(dir).into_iter().map(|name| dir.join(name));
        let folders = std::iter::once(dir.to_owned()).chain(below);
        folders.filter(|folder| folder.join("adapter_config.json").is_file()).collect()
    }

    /// A cursor at the top of the weights' names.
    pub fn scope(&self) -> Scope<'_> {
        Scope::top(self)
    }

    /// What must outlive every tensor made from this checkpoint.
    pub fn keep_alive(&self) -> Arc<Maps> {
        Arc::new(Maps { maps: self.shards.iter().map(Shard::map).collect() })
    }

    /// Tensors that nobody asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        let unused = self.tensors.iter().filter(|(_, entry)| !entry.used.load(Ordering::Relaxed));
        unused.map(|(name, _)| name.clone()).collect()
    }

    /// Of [`Checkpoint::unused`], those that are not known to be harmless: rope tables that old checkpoints stored, and
    /// the unembedding of a model that ties it to the embedding.
    pub fn unexpected(&self) -> Vec<String> {
        let mut unused = self.unused();
        unused.retain(|name| !self.is_harmless(name));
        unused
    }

    /// Whether a tensor that nobody asked for changes nothing.
    pub fn is_harmless(&self, name: &str) -> bool {
        let tied = self.config.tie_word_embeddings && name == "lm_head.weight";
        tied || name.ends_with("rotary_emb.inv_freq")
    }
}

fn open_shards(weights: &Weights) -> Result<(Vec<Shard>, BTreeMap<String, Entry>)> {
    let mut shards = Vec::new();
    let mut tensors = BTreeMap::new();
    for (number, path) in weights.paths.iter().enumerate() {
        let (shard, found) = Shard::open(path)?;
        shards.push(shard);
        for (name, stored) in found {
            // A tensor lying in two shards is read from the one that the index names.
            let indexed = weights.index.as_ref().and_then(|(_, index)| index.get(&name));
            if indexed.is_none_or(|&indexed| indexed == number) {
                let Stored { dtype, shape, range } = stored;
                let origin = Origin::File { shard: number, range };
                tensors.insert(name, Entry { dtype, shape, origin, used: AtomicBool::new(false) });
            }
        }
    }
    if let Some((path, index)) = &weights.index
        && let Some((name, &number)) = index.iter().find(|(name, _)| !tensors.contains_key(*name))
    {
        return Err(Error::Tensor {
            path: weights.paths[number].clone(),
            tensor: name.clone(),
            expected: format!("it here, as {} says", path.file_name().unwrap_or_default().display()),
            found: "no tensor of that name".into(),
            hint: Some("copy or download the checkpoint again, all of its files".into()),
        });
    }
    Ok((shards, tensors))
}
