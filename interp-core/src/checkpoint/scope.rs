//! A cursor over weight names that hands out tensors: shape and finiteness checked, in place where nothing must change,
//! or random ones where there are no files.
//! Never writes to mapped memory.

use std::fmt;
use std::sync::atomic::Ordering;

use safetensors::tensor::Dtype;
use tch::{Device, Kind, TchError, Tensor};

use super::finite::first_bad;
use super::{Checkpoint, Entry, Origin, random};
use crate::error::{Error, Result};
use crate::nf4::Nf4;

/// Copies are made in pieces of this many bytes, each released before the next, so that no tensor is in memory twice.
const PIECE: usize = 32 << 20;

const OTHER_MODEL: &str = "config.json and the weights belong to different models";

/// Where a tensor goes and in which dtype.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// The device it will lie on.
    pub device: Device,
    /// The dtype to convert to; `None` keeps the file's.
    pub kind: Option<Kind>,
}

/// A prefix of weight names, such as `model.layers.3`.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    checkpoint: &'a Checkpoint,
    prefix: String,
}

impl<'a> Scope<'a> {
    pub(super) fn top(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, prefix: String::new() }
    }

    /// One step down: a name or a number.
    pub fn pp(&self, part: impl fmt::Display) -> Self {
        Self { checkpoint: self.checkpoint, prefix: self.full(part) }
    }

    /// The checkpoint the names belong to.
    pub fn checkpoint(&self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// The prefix itself.
    pub fn name(&self) -> &str {
        &self.prefix
    }

    /// The stored dtype of the tensor `name`, where it is one of numbers.
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        self.checkpoint.tensors.get(&self.full(name)).and_then(|entry| kind_of(entry.dtype))
    }

    /// Whether a tensor of that name is stored. Does not count as using it.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensors.contains_key(&self.full(name))
    }

    /// The tensor `name` of exactly this shape.
    ///
    /// On the CPU in the file's dtype it points into the mapped file: it must never be written to, and whoever keeps it
    /// keeps [`Checkpoint::keep_alive`] too. Otherwise it is a copy, and the file's pages are released piece by piece.
    ///
    /// Errs, naming file and tensor, when it is missing, has another shape, a dtype other than F32, BF16, F16 and F64,
    /// F16 without a dtype to convert to, or holds NaN or infinity.
    pub fn tensor(&self, name: &str, shape: &[i64], placement: &Placement) -> Result<Tensor> {
        let name = self.full(name);
        let entry = self.checkpoint.tensors.get(&name).ok_or_else(|| self.missing(&name, shape))?;
        entry.used.store(true, Ordering::Relaxed);
        if entry.shape != shape {
            let (expected, found) = (format!("shape {shape:?}"), format!("shape {:?}", entry.shape));
            return Err(self.refuse(&name, entry, expected, found, Some(OTHER_MODEL)));
        }
        let Some(file_kind) = kind_of(entry.dtype) else {
            let hint = match &entry.origin {
                Origin::Nf4(_) => "quantize linear maps of layers only: llm_int8_skip_modules = [\"lm_head\"]",
                Origin::File { .. } | Origin::Seed(_) => "use the checkpoint in its original, unquantized dtype",
            };
            let (expected, found) = ("dtype F32, BF16, F16 or F64".to_owned(), format!("dtype {}", entry.dtype));
            return Err(self.refuse(&name, entry, expected, found, Some(hint)));
        };
        let kind = placement.kind.unwrap_or(file_kind);
        if kind == Kind::Half {
            let expected = "a dtype to convert F16 to".to_owned();
            return Err(self.refuse(&name, entry, expected, "none".into(), Some("compute in f32 or bf16")));
        }
        let fail = |source: TchError| torch_error(&name, &source);
        if let Origin::Seed(seed) = entry.origin {
            let placement = Placement { kind: Some(kind), ..*placement };
            return random::tensor(seed, &name, shape, file_kind, placement).map_err(fail);
        }
        let (shard, range) = entry.place().expect("what is not random lies in a file");
        let shard = &self.checkpoint.shards[shard];
        shard.prefetch(range.clone());
        let bytes = shard.bytes(range.clone());
        let size = file_kind.elt_size_in_bytes();
        if placement.device == Device::Cpu && kind == file_kind && bytes.as_ptr().addr().is_multiple_of(size) {
            self.check_finite(&name, entry, bytes, 0)?;
            return Ok(view(bytes, shape, file_kind));
        }

        let copy = Tensor::f_empty([shape.iter().product()], (kind, placement.device)).map_err(fail)?;
        let mut at = 0;
        while at < bytes.len() {
            let piece = &bytes[at..(at + PIECE).min(bytes.len())];
            self.check_finite(&name, entry, piece, at / size)?;
            let numbers = [(piece.len() / size) as i64];
            let aligned = piece.as_ptr().addr().is_multiple_of(size);
            let from = if aligned {
                view(piece, &numbers, file_kind)
            } else {
                Tensor::f_from_data_size(piece, &numbers, file_kind).map_err(fail)?
            };
            let mut to = copy.f_narrow(0, (at / size) as i64, numbers[0]).map_err(fail)?;
            to.f_copy_(&from).map_err(fail)?;
            let start = range.start + at;
            shard.release(start..start + piece.len());
            at += piece.len();
        }
        copy.f_view(shape).map_err(fail)
    }

    /// The 4-bit matrix `name` of exactly this shape; `None` when it is stored otherwise, or not at all. Its packed numbers
    /// stay in the mapped file, as with [`Scope::tensor`]; its scales are copies.
    ///
    /// Errs, naming file and tensor, when it has another shape.
    pub fn nf4(&self, name: &str, shape: [i64; 2]) -> Result<Option<Nf4>> {
        let name = self.full(name);
        let Some(entry) = self.checkpoint.tensors.get(&name) else { return Ok(None) };
        let Origin::Nf4(parts) = &entry.origin else { return Ok(None) };
        entry.used.store(true, Ordering::Relaxed);
        if entry.shape != shape {
            let (expected, found) = (format!("shape {shape:?}"), format!("shape {:?}", entry.shape));
            return Err(self.refuse(&name, entry, expected, found, Some(OTHER_MODEL)));
        }
        let (shard, range) = entry.place().expect("what is not random lies in a file");
        let (shard, n) = (&self.checkpoint.shards[shard], range.len() as i64);
        shard.prefetch(range.clone());
        let packed = view(shard.bytes(range), &[n], Kind::Uint8);
        Ok(Some(Nf4::new(packed, &parts.absmax, parts.form)))
    }

    /// Gives back the pages of a tensor that was copied elsewhere. A tensor still in use reads them again from the file.
    pub(crate) fn release(&self, name: &str) {
        let entry = self.checkpoint.tensors.get(&self.full(name));
        if let Some((shard, range)) = entry.and_then(Entry::place) {
            self.checkpoint.shards[shard].release(range);
        }
    }

    fn full(&self, part: impl fmt::Display) -> String {
        match self.prefix.as_str() {
            "" => part.to_string(),
            prefix => format!("{prefix}.{part}"),
        }
    }

    /// Errs when `bytes`, which begin at number `first` of the tensor, hold NaN or infinity.
    fn check_finite(&self, name: &str, entry: &Entry, bytes: &[u8], first: usize) -> Result<()> {
        let Some((index, what)) = first_bad(bytes, entry.dtype) else { return Ok(()) };
        let mut rest = (first + index) as i64;
        let mut place: Vec<i64> = Vec::new();
        for &length in entry.shape.iter().rev() {
            place.insert(0, rest % length);
            rest /= length;
        }
        let hint = "copy or download the file again; if it stays, training diverged";
        let found = format!("{what} at {place:?}");
        Err(self.refuse(name, entry, "finite numbers".into(), found, Some(hint)))
    }

    fn missing(&self, name: &str, shape: &[i64]) -> Error {
        let names = self.checkpoint.tensors.keys();
        let hint = nearest(name, names).map(|(near, same_end)| match same_end {
            true => format!("it holds `{near}`: save the whole model, as AutoModelForCausalLM.save_pretrained does"),
            false => format!("it holds `{near}`"),
        });
        Error::Tensor {
            path: self.checkpoint.dir().into(),
            tensor: name.into(),
            expected: format!("shape {shape:?}"),
            found: "no tensor of that name".into(),
            hint,
        }
    }

    fn refuse(&self, name: &str, entry: &Entry, expected: String, found: String, hint: Option<&str>) -> Error {
        let path = match entry.place() {
            Some((shard, _)) => self.checkpoint.shards[shard].path.clone(),
            None => self.checkpoint.name().into(),
        };
        Error::Tensor { path, tensor: name.into(), expected, found, hint: hint.map(str::to_owned) }
    }
}

/// The dtype of numbers, by libtorch's name.
pub(super) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

/// A tensor over `bytes`, which must be aligned to the numbers' size.
fn view(bytes: &[u8], shape: &[i64], kind: Kind) -> Tensor {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    // SAFETY: shape and dtype were checked against the header, which was checked against the file's length; the bytes are
    // mapped as long as `Maps` is held, and are nowhere written to.
    unsafe { Tensor::from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu) }
}

fn torch_error(name: &str, source: &TchError) -> Error {
    let message = source.to_string().lines().next().unwrap_or_default().to_owned();
    Error::Torch { context: format!("loading tensor `{name}`"), message }
}

/// The stored name most like `name`, and whether the two differ by a prefix only. `None` when nothing is near.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n String>) -> Option<(&'n str, bool)> {
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
    let mut best = None;
    for stored in names {
        if ends(stored, name) || ends(name, stored) {
            return Some((stored, true));
        }
        let distance = edit_distance(name, stored);
        if distance <= 3 && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, stored.as_str()));
        }
    }
    best.map(|(_, stored)| (stored, false))
}

/// Insertions, deletions and replacements between two names.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
