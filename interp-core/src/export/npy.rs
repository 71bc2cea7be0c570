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
