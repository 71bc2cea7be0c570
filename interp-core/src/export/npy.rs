//! numpy's `.npy`, little-endian and C order. Shapes in, bytes out; knows no file names.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use npyz::{DType, NpyFile, Order, TypeStr, WriterBuilder as _};

use crate::error::{Error, Result};

/// An `.npy` file with `values` in row-major order of `shape`.
///
/// # Panics
/// If the number of values is not the product of `shape`.
pub fn encode<T: npyz::AutoSerialize + Copy>(shape: &[usize], values: &[T]) -> Vec<u8> {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "values of an array of shape {shape:?}");
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    let mut bytes = Vec::with_capacity(128 + size_of_val(values));
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut bytes)
        .begin_nd()
        .expect("memory takes every header");
    writer.extend(values.iter().copied()).expect("memory takes every number");
    writer.finish().expect("the number of values was checked");
    bytes
}

/// Shape and values (row-major) of an `.npy` file holding `<f4` or `<f8`, widened to f64.
pub fn read(path: &Path) -> Result<(Vec<usize>, Vec<f64>)> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let bad = |problem: String| Error::File { path: path.into(), problem, hint: None };
    let array = NpyFile::new(BufReader::new(file)).map_err(|e| bad(format!("not a .npy file: {e}")))?;
    let shape: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
    if array.order() != Order::C {
        return Err(bad("is in Fortran order; save it with numpy.ascontiguousarray".into()));
    }
    let dtype = array.dtype();
    let values = match &dtype {
        DType::Plain(plain) if *plain == f4() => {
            array.into_vec::<f32>().map(|values| values.into_iter().map(f64::from).collect())
        }
        DType::Plain(plain) if *plain == f8() => array.into_vec::<f64>(),
        other => return Err(bad(format!("holds {}, not 32 or 64 bit floats", other.descr()))),
    };
    Ok((shape, values.map_err(|e| bad(format!("cut off: {e}")))?))
}

/// Width of the numbers of an array that is written piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// `<f4`
    F32,
    /// `<f8`
    F64,
}

impl Width {
    /// numpy's word for it.
    pub fn descr(self) -> &'static str {
        match self {
            Width::F32 => "<f4",
            Width::F64 => "<f8",
        }
    }

    /// The numbers as bytes of a file.
    pub fn bytes(self, values: &[f64]) -> Vec<u8> {
        match self {
            Width::F32 => values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect(),
            Width::F64 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// What stands before the numbers of an array of `shape`, which can then be appended row by row.
pub fn header(shape: &[usize], width: Width) -> Vec<u8> {
    let shape: Vec<String> = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut text =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", width.descr(), shape.concat().trim_end());
    // Magic, version and length take 10 bytes; numpy aligns its data to 64.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).expect("a shape of few axes").to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// Calls `visit` with one row after another, `row` numbers each, of an `.npy` file of `<f4` or `<f8` whose shape is
/// `expected`. Only one row is in memory.
pub fn for_each_row(path: &Path, expected: &[usize], row: usize, mut visit: impl FnMut(usize, &[f64])) -> Result<()> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let bad = |problem: String| Error::File { path: path.into(), problem, hint: None };
    let array = NpyFile::new(BufReader::new(file)).map_err(|e| bad(format!("not a .npy file: {e}")))?;
    let shape: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
    if shape != expected || array.order() != Order::C {
        return Err(bad(format!("has shape {shape:?}, expected {expected:?} in C order")));
    }
    let cut = |e: std::io::Error| bad(format!("cut off: {e}"));
    let numbers: Box<dyn Iterator<Item = std::io::Result<f64>>> = match array.dtype() {
        DType::Plain(plain) if plain == f4() => {
            Box::new(array.data::<f32>().map_err(|e| bad(e.to_string()))?.map(|x| x.map(f64::from)))
        }
        DType::Plain(plain) if plain == f8() => Box::new(array.data::<f64>().map_err(|e| bad(e.to_string()))?),
        other => return Err(bad(format!("holds {}, not 32 or 64 bit floats", other.descr()))),
    };
    let mut values = Vec::with_capacity(row);
    let mut index = 0;
    for number in numbers {
        values.push(number.map_err(cut)?);
        if values.len() == row {
            visit(index, &values);
            values.clear();
            index += 1;
        }
    }
    Ok(())
}

fn f4() -> TypeStr {
    "<f4".parse().expect("a type numpy knows")
}

fn f8() -> TypeStr {
    "<f8".parse().expect("a type numpy knows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_written_piece_by_piece_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let values = [0.5, f64::NEG_INFINITY, -1.0, 2.0, 1e-3, 4.0];
        for (width, shape) in [(Width::F32, vec![3, 2]), (Width::F64, vec![3, 1, 2]), (Width::F64, vec![6])] {
            let mut bytes = header(&shape, width);
            assert_eq!(bytes.len() % 64, 0);
            values.chunks(2).for_each(|piece| bytes.extend(width.bytes(piece)));
            std::fs::write(&path, bytes).unwrap();
            let (found, back) = read(&path).unwrap();
            let stored = |x: f64| if width == Width::F32 { f64::from(x as f32) } else { x };
            assert_eq!((found, back), (shape.clone(), values.map(stored).to_vec()));
            let mut rows = Vec::new();
            for_each_row(&path, &shape, 2, |i, row| rows.push((i, row.to_vec()))).unwrap();
            assert_eq!((rows.len(), rows[2].0, rows[2].1[1]), (3, 2, 4.0));
            assert!(for_each_row(&path, &[2, 2], 2, |_, _| ()).unwrap_err().to_string().contains("expected [2, 2]"));
        }
    }

    #[test]
    fn arrays_read_back_and_wrong_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let bytes = encode(&[2, 3], &[0.5f32, f32::NAN, -1.0, 2.0, 3.0, 4.0]);
        assert_eq!(bytes.len() % 64, 24, "numpy aligns its data to 64 bytes");
        std::fs::write(&path, &bytes).unwrap();
        let (shape, values) = read(&path).unwrap();
        assert_eq!((shape, values[0], values[5]), (vec![2, 3], 0.5, 4.0));
        assert!(values[1].is_nan());
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("cut off"));
        std::fs::write(&path, encode(&[1], &[1i64])).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("holds '<i8', not 32 or 64 bit floats"));
        std::fs::write(&path, b"no").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("not a .npy file"));
    }
}
