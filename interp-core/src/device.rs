//! Devices, the dtype of computation, how weights are held, and free memory. Turns CUDA on at run time.

mod devices;
mod memory;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

pub use self::devices::Devices;
pub use self::memory::{free_memory, gpu_memory};
use crate::error::{Error, Result};

/// dtype of activations and of weights while they are multiplied. Norms, softmax, rope tables and logits are f32 (f64 in
/// f64 mode) whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats: the default of sweeps.
    F32,
    /// 16-bit brain floats.
    Bf16,
    /// 64-bit floats: the reference.
    F64,
}

/// How weights are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// In the dtype of computation if that fits into half of the free memory, as in the file otherwise.
    Auto,
    /// As in the file; converted layer by layer, product by product.
    File,
    /// Linear maps of the layers in 4 bits as bitsandbytes' NF4 has them, one f32 scale per 64 numbers (4.5 bits a
    /// number), quantised when they are read if the file has them otherwise; everything else as in the file.
    Nf4,
    /// [`Weights::Nf4`] with the scales rounded as in double quantisation, which QLoRA trains on. They are held expanded,
    /// so that it takes as much memory.
    Nf4Double,
}

/// What to compute in and how to hold weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    /// dtype of computation.
    pub dtype: Dtype,
    /// Storage.
    pub weights: Weights,
}

impl Weights {
    /// Whether linear maps that are not stored in 4 bits are quantised when they are read.
    pub fn quantizes(self) -> bool {
        matches!(self, Weights::Nf4 | Weights::Nf4Double)
    }
}

impl Dtype {
    /// libtorch's word for it.
    pub fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
        }
    }

    /// One precision up, to measure this one against; nothing is above f64.
    pub fn above(self) -> Option<Self> {
        match self {
            Dtype::Bf16 => Some(Dtype::F32),
            Dtype::F32 => Some(Dtype::F64),
            Dtype::F64 => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F64 => "f64",
        })
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Dtype::F32),
            "bf16" => Ok(Dtype::Bf16),
            "f64" => Ok(Dtype::F64),
            _ => Err(selector("dtype", text, "no such dtype", "dtypes are f32, bf16 and f64")),
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weights::Auto => "auto",
            Weights::File => "file",
            Weights::Nf4 => "nf4",
            Weights::Nf4Double => "nf4-double",
        })
    }
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Weights::Auto),
            "file" => Ok(Weights::File),
            "nf4" => Ok(Weights::Nf4),
            "nf4-double" => Ok(Weights::Nf4Double),
            _ => {
                let hint = "weights are held as `auto`, as in the `file`, or in 4 bits: `nf4` or `nf4-double`";
                Err(selector("weights", text, "no such storage", hint))
            }
        }
    }
}

impl Precision {
    /// The dtype to hold weights in: `None` keeps the file's. `stored` are the file's bytes by safetensors' dtype name.
    /// f16 is a file format only: it is always converted. With linear maps in 4 bits (stored as `NF4`, or to become it)
    /// the rest is small and keeps its numbers.
    pub fn storage(self, stored: &BTreeMap<String, u64>, device: Device) -> Option<Kind> {
        let compute = self.dtype.kind();
        if stored.contains_key("NF4") || self.weights.quantizes() {
            return stored.contains_key("F16").then_some(Kind::Float);
        }
        if stored.contains_key("F16") {
            return Some(compute);
        }
        let width = |name: &str| match name {
            "F64" => 8,
            "F32" => 4,
            _ => 2,
        };
        let bytes: u64 = stored.values().sum();
        let converted: u64 =
            stored.iter().map(|(name, bytes)| bytes / width(name) * compute.elt_size_in_bytes() as u64).sum();
        let fits = device != Device::Cpu
            || converted <= bytes
            || free_memory(Device::Cpu).is_none_or(|free| converted < free / 2);
        let as_wanted = stored.keys().all(|name| *name == self.dtype.to_string().to_uppercase());
        (self.weights == Weights::Auto && !as_wanted && fits).then_some(compute)
    }
}

/// Parses `cpu`, `cuda`, `cuda:N` or `auto` (CUDA when there is a usable GPU). Errors when CUDA is named and absent.
pub fn parse_device(text: &str) -> Result<Device> {
    let gpu = || usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    match text {
        "cpu" => Ok(Device::Cpu),
        "auto" if has_nvidia_driver() && load_cuda().is_ok() && gpu() > 0 => Ok(Device::Cuda(0)),
        "auto" => Ok(Device::Cpu),
        _ => {
            let index = match text.strip_prefix("cuda") {
                Some("") => Some(0),
                Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()),
                None => None,
            };
            let index = index
                .ok_or_else(|| selector("device", text, "no such device", "devices are auto, cpu, cuda and cuda:N"))?;
            load_cuda().map_err(|problem| {
                selector("device", text, &problem, "use --device cpu, or install libtorch with CUDA")
            })?;
            if index >= gpu() {
                let problem = format!("this machine has {} CUDA devices", gpu());
                return Err(selector("device", text, &problem, "use --device cpu, or a smaller number"));
            }
            Ok(Device::Cuda(index))
        }
    }
}

/// A device as [`parse_device`] reads it.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn selector(what: &'static str, value: &str, problem: &str, hint: &str) -> Error {
    Error::Selector { what, value: value.into(), problem: problem.into(), hint: Some(hint.into()) }
}

fn has_nvidia_driver() -> bool {
    Path::new("/dev/nvidiactl").exists() || Path::new("/proc/driver/nvidia").exists()
}

/// Loads libtorch's CUDA half into the process. The binary links only the CPU half, so that one binary serves both kinds of
/// machine; loading the library registers its kernels.
fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let name = CString::new("libtorch_cuda.so").expect("no NUL");
            // SAFETY: dlopen runs the library's initialisers, which only register kernels; the handle is never closed.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
            if !handle.is_null() {
                return Ok(());
            }
            // SAFETY: dlerror returns a NUL-terminated string after a failed dlopen on the same thread.
            let message = unsafe { std::ffi::CStr::from_ptr(libc::dlerror()) };
            Err(format!("libtorch's CUDA library does not load: {}", message.to_string_lossy()))
        })
        .clone()
}

/// `[n]` numbers on a device. On CUDA from page-locked memory, so that the host does not wait for what is running there.
pub fn upload(numbers: &[i64], device: Device) -> Tensor {
    let host = Tensor::from_slice(numbers);
    match device {
        Device::Cuda(_) => host.pin_memory(device).to_device_(device, Kind::Int64, true, false),
        _ => host.to_device(device),
    }
}

/// A copy on the host. From CUDA it arrives later, in page-locked memory, while the device goes on: [`synchronize`] before reading.
pub fn download(tensor: &Tensor) -> Tensor {
    tensor.to_device_(Device::Cpu, tensor.kind(), true, false)
}

/// Waits until a device has done all that it was given, so that what it sends back is there and a clock read afterwards has
/// timed it.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_follows_file_and_request() {
        let auto = |dtype| Precision { dtype, weights: Weights::Auto };
        let file = |dtype| Precision { dtype, weights: Weights::File };
        let stored = |name: &str, bytes: u64| BTreeMap::from([(name.to_owned(), bytes)]);
        let huge = u64::MAX / 8;
        assert_eq!(auto(Dtype::F32).storage(&stored("F32", 100), Device::Cpu), None);
        assert_eq!(auto(Dtype::F32).storage(&stored("BF16", 100), Device::Cpu), Some(Kind::Float));
        assert_eq!(auto(Dtype::F32).storage(&stored("BF16", huge), Device::Cpu), None);
        assert_eq!(auto(Dtype::Bf16).storage(&stored("F32", huge), Device::Cpu), Some(Kind::BFloat16));
        assert_eq!(file(Dtype::F32).storage(&stored("BF16", 100), Device::Cpu), None);
        assert_eq!(file(Dtype::F32).storage(&stored("F16", 100), Device::Cpu), Some(Kind::Float));
        let nf4 = Precision { dtype: Dtype::Bf16, weights: Weights::Nf4 };
        assert_eq!(nf4.storage(&stored("F32", 100), Device::Cpu), None);
        assert_eq!(nf4.storage(&stored("F16", 100), Device::Cpu), Some(Kind::Float));
        assert_eq!(auto(Dtype::Bf16).storage(&stored("NF4", 100), Device::Cpu), None);
    }

    #[test]
    fn storages_print_as_they_parse() {
        for text in ["auto", "file", "nf4", "nf4-double"] {
            assert_eq!(text.parse::<Weights>().unwrap().to_string(), text);
        }
        assert!("fp4".parse::<Weights>().unwrap_err().hint().unwrap().contains("`nf4`"));
    }

    #[test]
    fn devices_parse() {
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        assert!(parse_device("gpu").unwrap_err().hint().unwrap().contains("cuda:N"));
    }
}
