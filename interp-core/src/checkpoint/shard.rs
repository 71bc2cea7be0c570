//! One safetensors file: mapped, its header read and checked against its length. Makes no tensors.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, Mmap, UncheckedAdvice};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};

use crate::error::{Error, Result};

/// Length of the number that opens a file.
const LEN: usize = 8;

/// A mapped file.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    pub(super) path: PathBuf,
    map: Arc<Mmap>,
}

/// Where a tensor lies in its shard.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<i64>,
    /// Bytes of the file.
    pub(crate) range: Range<usize>,
}

impl Shard {
    /// Maps `path` and reads its header: the tensors by name, in file order.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<(String, Stored)>)> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: the map is only ever read. A file that another process shortens meanwhile raises SIGBUS, as for every
        // program that maps its weights; reading copies instead would double the memory.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let (header, metadata) = header(path, &map)?;
        let start = LEN + header;
        let mut tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (from, to) = info.data_offsets;
                let shape = info.shape.iter().map(|&n| n as i64).collect();
                (name, Stored { dtype: info.dtype, shape, range: start + from..start + to })
            })
            .collect::<Vec<_>>();
        tensors.sort_by_key(|(_, stored)| stored.range.start);
        Ok((Self { path: path.into(), map: Arc::new(map) }, tensors))
    }

    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.map[range]
    }

    pub(super) fn map(&self) -> Arc<Mmap> {
        Arc::clone(&self.map)
    }

    /// Asks the system to start reading the file. It may decline.
    pub(super) fn prefetch(&self, range: Range<usize>) {
        let _ = self.map.advise_range(Advice::WillNeed, range.start, range.len());
    }

    /// Gives back the pages under `range`, which has been copied elsewhere; they can be read again from the file.
    pub(super) fn release(&self, range: Range<usize>) {
        // SAFETY: the map is of a file and unwritten, so dropped pages come back with the same content.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
    }
}

/// Length of the header and what it says, or what is wrong with the file.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata)> {
    let refuse = |problem: String, hint: &str| Error::File { path: path.into(), problem, hint: Some(hint.into()) };
    const AGAIN: &str = "copy or download the file again";
    let total = bytes.len();
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(refuse("is a Git LFS pointer, not the weights".into(), "run `git lfs pull` in that folder"));
    }
    if bytes.starts_with(b"GGUF") {
        return Err(refuse("is a GGUF file, not safetensors".into(), super::files::GGUF_HINT));
    }
    let Some(length) = bytes.first_chunk::<LEN>() else {
        return Err(refuse(format!("is truncated: {total} bytes are too few for a safetensors file"), AGAIN));
    };
    let length = u64::from_le_bytes(*length);
    match SafeTensors::read_metadata(bytes) {
        Ok(read) => Ok(read),
        Err(SafeTensorError::HeaderTooLarge) => {
            Err(refuse(format!("is not a safetensors file: its header would be {length} bytes long"), AGAIN))
        }
        Err(SafeTensorError::InvalidHeaderLength) => {
            Err(refuse(format!("is truncated: a header of {length} bytes in a file of {total}"), AGAIN))
        }
        Err(SafeTensorError::MetadataIncompleteBuffer) => {
            let header = &bytes[LEN..LEN + length as usize];
            let data = serde_json::from_slice::<Metadata>(header).map_or(0, |metadata| metadata.data_len());
            let expected = LEN + header.len() + data;
            let problem = match expected > total {
                true => format!("is truncated: its header describes a file of {expected} bytes, it has {total}"),
                false => format!("has {total} bytes where its header describes {expected}"),
            };
            Err(refuse(problem, AGAIN))
        }
        Err(error) => Err(refuse(format!("has a broken header: {error}"), AGAIN)),
    }
}
