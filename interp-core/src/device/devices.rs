//! Several devices that hold a model together: layers in order, as many on each.

use std::fmt;

use tch::Device;

use super::{device_name, free_memory, gpu_memory, parse_device, synchronize};
use crate::error::Result;

/// Devices in the order in which layers go over them; never empty. The embedding is on the first, the final norm and the
/// unembedding on the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl From<Device> for Devices {
    fn from(device: Device) -> Self {
        Self(vec![device])
    }
}

impl Devices {
    /// Parses one device as [`parse_device`] does, or several separated by commas: `cuda:0,cuda:1`.
    pub fn parse(text: &str) -> Result<Self> {
        text.split(',').map(|one| parse_device(one.trim())).collect::<Result<_>>().map(Self)
    }

    /// Every GPU there is, beginning with the given one. One device where there are no others.
    pub fn all_from(first: Device) -> Self {
        let Device::Cuda(index) = first else { return first.into() };
        let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        let others = (0..count).filter(|&other| other != index).map(Device::Cuda);
        Self(std::iter::once(first).chain(others).collect())
    }

    /// Where the embedding is.
    pub fn first(&self) -> Device {
        self.0[0]
    }

    /// Where logits come out.
    pub fn last(&self) -> Device {
        self.0[self.0.len() - 1]
    }

    /// Where a layer of `n_layers` is.
    pub fn of_layer(&self, layer: usize, n_layers: usize) -> Device {
        self.0[layer * self.0.len() / n_layers]
    }

    /// Each device once per stretch of layers.
    pub fn iter(&self) -> impl Iterator<Item = Device> {
        self.0.iter().copied()
    }

    /// Free bytes of the one that has least, if known: every device carries the activations of its own layers.
    pub fn free_memory(&self) -> Option<u64> {
        self.iter().filter_map(free_memory).min()
    }

    /// Bytes in use on the GPUs among them, by whomever; `None` where there are none.
    pub fn used_gpu_memory(&self) -> Option<u64> {
        self.iter().filter_map(gpu_memory).map(|(free, total)| total - free).reduce(|a, b| a + b)
    }

    /// Waits for all of them; see [`synchronize`].
    pub fn synchronize(&self) {
        self.iter().for_each(synchronize);
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(device_name).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_go_over_devices_in_order() {
        let [a, b, c] = [0, 1, 2].map(Device::Cuda);
        let devices = Devices(vec![a, b, c]);
        let places: Vec<Device> = (0..7).map(|layer| devices.of_layer(layer, 7)).collect();
        assert_eq!(places, [a, a, a, b, b, c, c]);
        assert_eq!((devices.first(), devices.last()), (a, c));
        assert_eq!(devices.to_string(), "cuda:0,cuda:1,cuda:2");
        assert_eq!(Devices::from(Device::Cpu).of_layer(6, 7), Device::Cpu);
    }

    #[test]
    fn lists_parse_and_name_what_is_wrong() {
        assert_eq!(Devices::parse("cpu,cpu").unwrap().to_string(), "cpu,cpu");
        assert!(Devices::parse("cpu,gpu").unwrap_err().to_string().contains("`gpu`"));
    }
}
