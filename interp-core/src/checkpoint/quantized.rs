//! 4-bit tensors of a file. bitsandbytes stores one as several, `X.weight` and `X.weight.absmax` and so on, which are put
//! together here, so that everybody else sees one tensor of the shape that the config implies.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use safetensors::tensor::Dtype;
use serde_json::Value;
use tch::Kind;

use super::finite::first_bad;
use super::{Entry, Origin, Shard};
use crate::error::{Error, Result};
use crate::nf4::{DoubleScales, Form};

/// What the name of a quantisation's JSON ends in, up to the type's name.
const STATE: &str = ".quant_state.bitsandbytes__";
/// Numbers per scale that bitsandbytes can do.
const BLOCKS: [u64; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];
const AGAIN: &str = "copy or download the checkpoint again, or quantize it again";

/// A 4-bit tensor: its packed numbers stay in the file, scales are read.
#[derive(Debug)]
pub(super) struct Nf4Parts {
    /// u8, two numbers each.
    pub(super) packed: Entry,
    /// One f32 per block.
    pub(super) absmax: Vec<f32>,
    /// What they mean.
    pub(super) form: Form,
    /// Bytes of all parts in the file.
    pub(super) bytes: u64,
}

/// Replaces the parts of every 4-bit tensor by the tensor. Parts without a tensor stay, as tensors that nobody has a use for.
///
/// Errs, naming the tensor, when parts are missing or do not fit together, and on quantisation that config.json is silent about.
pub(super) fn assemble(tensors: &mut BTreeMap<String, Entry>, shards: &[Shard], declared: bool) -> Result<()> {
    let states: Vec<String> = tensors.keys().filter(|name| name.contains(STATE)).cloned().collect();
    for state in states {
        let (name, kind) = state.split_once(STATE).expect("just found");
        let mut reader = Reader { tensors, shards, name, bytes: 0 };
        if !declared {
            return Err(reader.refuse(&state, "numbers as they are", "quantized ones, on which config.json is silent"));
        }
        if kind != "nf4" {
            return Err(reader.refuse(&state, "4-bit numbers of type nf4", kind));
        }
        let (shape, parts) = reader.parts(&state)?;
        let origin = Origin::Nf4(Box::new(parts));
        tensors.insert(name.to_owned(), Entry { dtype: Dtype::U8, shape, origin, used: AtomicBool::new(false) });
    }
    Ok(())
}

/// Takes one tensor's parts out of the list.
struct Reader<'a> {
    tensors: &'a mut BTreeMap<String, Entry>,
    shards: &'a [Shard],
    /// `X.weight`.
    name: &'a str,
    /// Bytes taken so far.
    bytes: u64,
}

impl Reader<'_> {
    fn parts(&mut self, state: &str) -> Result<(Vec<i64>, Nf4Parts)> {
        let json = self.take(state, Dtype::U8, None)?;
        let json: Value = serde_json::from_slice(self.bytes_of(&json))
            .map_err(|error| self.refuse(state, "the JSON of a quantization", &error.to_string()))?;
        let wrong = |reader: &Self, field: &str, expected: &str| {
            reader.refuse(state, &format!("`{field}` {expected}"), &json[field].to_string())
        };
        let shape: Option<Vec<i64>> =
            json["shape"].as_array().and_then(|shape| shape.iter().map(Value::as_i64).collect());
        let Some(&[d_out @ 1..=0x7fff_ffff, d_in @ 1..=0x7fff_ffff]) = shape.as_deref() else {
            return Err(wrong(self, "shape", "of a matrix"));
        };
        let shape = [d_out, d_in];
        let block_of = |field: &str| json[field].as_u64().filter(|block| BLOCKS.contains(block)).map(|n| n as usize);
        let Some(block) = block_of("blocksize") else { return Err(wrong(self, "blocksize", "from 32 to 4096")) };
        if json["quant_type"] != "nf4" {
            return Err(wrong(self, "quant_type", "nf4"));
        }
        let numbers = shape.iter().product::<i64>() as usize;
        if !numbers.is_multiple_of(2) {
            return Err(wrong(self, "shape", "of an even number of numbers"));
        }
        let made_of = match json["dtype"].as_str() {
            Some("float32") => Kind::Float,
            Some("bfloat16") => Kind::BFloat16,
            Some("float16") => Kind::Half,
            _ => return Err(wrong(self, "dtype", "float32, bfloat16 or float16")),
        };
        let packed = self.take(self.name, Dtype::U8, Some(numbers / 2))?;
        let code = self.floats(".quant_map", 16)?;
        let blocks = numbers.div_ceil(block);
        let double = self.tensors.contains_key(&format!("{}.nested_absmax", self.name));
        let absmax = if double {
            let (Some(nested), Some(offset)) = (block_of("nested_blocksize"), json["nested_offset"].as_f64()) else {
                return Err(wrong(self, "nested_blocksize", "and `nested_offset`"));
            };
            let codes = self.take(&format!("{}.absmax", self.name), Dtype::U8, Some(blocks))?;
            let codes = self.bytes_of(&codes).to_vec();
            let absmax = self.floats(".nested_absmax", blocks.div_ceil(nested))?;
            let map = self.floats(".nested_quant_map", 256)?;
            DoubleScales { codes, absmax, map, block: nested, offset: offset as f32 }.expand()
        } else {
            self.floats(".absmax", blocks)?
        };
        let code = code.try_into().expect("as many as were asked for");
        let form = Form { code, block, shape, double, made_of };
        Ok((shape.to_vec(), Nf4Parts { packed, absmax, form, bytes: self.bytes }))
    }

    /// Takes a part of `numbers` numbers, however many axes it has.
    fn take(&mut self, name: &str, dtype: Dtype, numbers: Option<usize>) -> Result<Entry> {
        let expected = match numbers {
            Some(numbers) => format!("{numbers} numbers of dtype {dtype}, a part of a 4-bit tensor"),
            None => format!("a part of a 4-bit tensor, of dtype {dtype}"),
        };
        let Some(entry) = self.tensors.remove(name) else {
            return Err(self.refuse(name, &expected, "no tensor of that name"));
        };
        if entry.dtype != dtype || numbers.is_some_and(|n| entry.shape.iter().product::<i64>() as usize != n) {
            return Err(self.refuse(name, &expected, &format!("shape {:?} of dtype {}", entry.shape, entry.dtype)));
        }
        self.bytes += entry.bytes();
        Ok(entry)
    }

    /// The finite f32 numbers of the part that ends so.
    fn floats(&mut self, end: &str, numbers: usize) -> Result<Vec<f32>> {
        let name = format!("{}{end}", self.name);
        let entry = self.take(&name, Dtype::F32, Some(numbers))?;
        let bytes = self.bytes_of(&entry);
        if let Some((index, what)) = first_bad(bytes, Dtype::F32) {
            return Err(self.refuse(&name, "finite numbers", &format!("{what} at [{index}]")));
        }
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
    }

    fn bytes_of(&self, entry: &Entry) -> &[u8] {
        let (shard, range) = entry.place().expect("a part lies in a file");
        self.shards[shard].bytes(range)
    }

    fn refuse(&self, tensor: &str, expected: &str, found: &str) -> Error {
        Error::Tensor {
            path: self.shards[0].path.parent().unwrap_or(&self.shards[0].path).into(),
            tensor: tensor.into(),
            expected: expected.into(),
            found: found.into(),
            hint: Some(AGAIN.into()),
        }
    }
}
