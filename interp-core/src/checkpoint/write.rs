//! A checkpoint written anew, some of its tensors replaced on the way: tensor by tensor, so that no more than one is in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::json;
use tch::{Kind, Tensor};

use super::{Checkpoint, Entry, OPTIONAL_FILES, Origin};
use crate::error::{Error, Result};

/// Bytes of one file, as `transformers` cuts them.
const SHARD: usize = 5_000_000_000;

/// A tensor of the new file: the stored bytes, or those of a replacement made when its turn comes.
struct Lazy<'a> {
    checkpoint: &'a Checkpoint,
    name: &'a str,
    entry: &'a Entry,
    shape: Vec<usize>,
    replace: &'a dyn Fn(&str) -> Result<Option<Tensor>>,
    /// The first thing that went wrong; writing itself cannot say.
    failed: &'a RefCell<Option<Error>>,
}

impl Lazy<'_> {
    fn made(&self) -> Result<Option<Vec<u8>>> {
        let Some(tensor) = (self.replace)(self.name)? else { return Ok(None) };
        let kind = super::scope::kind_of(self.entry.dtype).unwrap_or(Kind::Float);
        let tensor = tensor.to_kind(kind).contiguous();
        if tensor.isfinite().all().int64_value(&[]) == 0 {
            return Err(Error::Tensor {
                path: self.checkpoint.dir().into(),
                tensor: self.name.into(),
                expected: "finite numbers".into(),
                found: "NaN or infinity after merging".into(),
                hint: Some("the adapter's scale is too large for this dtype, or its training diverged".into()),
            });
        }
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        Ok(Some(bytes))
    }
}

impl View for &Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let stored = || match &self.entry.origin {
            Origin::File { shard, range } => self.checkpoint.shards[*shard].bytes(range.clone()),
            Origin::Seed(_) | Origin::Nf4(_) => unreachable!("checked before anything is written"),
        };
        match self.made() {
            Ok(None) => Cow::Borrowed(stored()),
            Ok(Some(bytes)) => Cow::Owned(bytes),
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                Cow::Borrowed(stored())
            }
        }
    }

    fn data_len(&self) -> usize {
        self.entry.bytes() as usize
    }
}

impl Checkpoint {
    /// Writes config, tokenizer and weights into the folder `dir`, which must exist: every tensor as it is stored, or as
    /// `replace` has it (by its stored name; of the stored shape; converted to the stored dtype). `add` are further small files.
    ///
    /// Errs when a file cannot be written, when a replacement holds NaN or infinity, and for random and quantized weights.
    pub fn write(
        &self,
        dir: &Path,
        replace: &dyn Fn(&str) -> Result<Option<Tensor>>,
        add: &[(&str, Vec<u8>)],
    ) -> Result<()> {
        if self.tensors.values().any(|entry| !matches!(entry.origin, Origin::File { .. })) {
            let problem = "has tensors that are not numbers in a file, random or quantized ones".into();
            let hint = Some("write from the original checkpoint".into());
            return Err(Error::File { path: self.dir().into(), problem, hint });
        }
        for name in OPTIONAL_FILES.into_iter().chain(["config.json"]).chain(VOCABULARIES) {
            if let Some(from) = self.file(name)? {
                let to = dir.join(name);
                fs::copy(&from, &to).map_err(Error::io("write", &to))?;
            }
        }
        let failed = RefCell::new(None);
        let lazy = |(name, entry): (&'_ String, &'_ Entry)| (name.clone(), entry.bytes() as usize);
        let sizes: Vec<(String, usize)> = self.tensors.iter().map(lazy).collect();
        let shards = cut(&sizes);
        let mut index = BTreeMap::new();
        for (number, names) in shards.iter().enumerate() {
            let file = match shards.len() {
                1 => "model.safetensors".to_owned(),
                n => format!("model-{:05}-of-{n:05}.safetensors", number + 1),
            };
            let tensors: Vec<Lazy<'_>> = names
                .iter()
                .map(|name| {
                    let (name, entry) = self.tensors.get_key_value(*name).expect("a name of this checkpoint");
                    let shape = entry.shape.iter().map(|&n| n as usize).collect();
                    Lazy { checkpoint: self, name, entry, shape, replace, failed: &failed }
                })
                .collect();
            let path = dir.join(&file);
            let metadata = [("format".to_owned(), "pt".to_owned())].into();
            let written = serialize_to_file(tensors.iter().map(|one| (one.name, one)), Some(metadata), &path);
            if let Some(error) = failed.take() {
                return Err(error);
            }
            written.map_err(|error| Error::File {
                path: path.clone(),
                problem: format!("cannot be written: {error}"),
                hint: None,
            })?;
            index.extend(names.iter().map(|name| ((*name).to_owned(), file.clone())));
        }
        let put =
            |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).map_err(Error::io("write", &dir.join(name)));
        if shards.len() > 1 {
            let total: usize = sizes.iter().map(|(_, size)| size).sum();
            let index = json!({ "metadata": { "total_size": total }, "weight_map": index });
            put("model.safetensors.index.json", format!("{index:#}\n").as_bytes())?;
        }
        add.iter().try_for_each(|(name, bytes)| put(name, bytes))
    }
}

/// Tokenizer files that only other programs read.
const VOCABULARIES: [&str; 6] =
    ["vocab.json", "merges.txt", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.txt"];

/// Names in order, in files of at most [`SHARD`] bytes (or one tensor).
fn cut(sizes: &[(String, usize)]) -> Vec<Vec<&str>> {
    let mut shards: Vec<Vec<&str>> = vec![Vec::new()];
    let mut held = 0;
    for (name, size) in sizes {
        if held > 0 && held + size > SHARD {
            shards.push(Vec::new());
            held = 0;
        }
        shards.last_mut().expect("never empty").push(name);
        held += size;
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_between_tensors() {
        let sizes = [("a", SHARD - 1), ("b", 1), ("c", 1), ("d", 2 * SHARD), ("e", 1)];
        let sizes: Vec<(String, usize)> = sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        assert_eq!(cut(&sizes), [vec!["a", "b"], vec!["c"], vec!["d"], vec!["e"]]);
    }
}
