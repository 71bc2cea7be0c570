//! Double quantisation: the scales of blocks in 8 bits each, as bitsandbytes does when `bnb_4bit_use_double_quant` is set.

use tch::{Device, Kind, TchError, Tensor};

use crate::error::Result;

/// Scales that share a scale of their own when we quantise.
const BLOCK: usize = 256;

/// Steps per unit of the table in which an index is looked up.
const STEPS: f32 = 65_535.0 / 2.0;

/// The scales of blocks as 8-bit indices into a table of 256 numbers, times a scale per block of them, plus their mean.
#[derive(Debug, Clone, PartialEq)]
pub struct DoubleScales {
    /// An index per scale.
    pub codes: Vec<u8>,
    /// A scale per `block` of them.
    pub absmax: Vec<f32>,
    /// The table, ascending.
    pub map: Vec<f32>,
    /// Indices that share a scale.
    pub block: usize,
    /// Added to every scale.
    pub offset: f32,
}

impl DoubleScales {
    /// What bitsandbytes makes of the scales: less their mean, in blocks of 256, rounded to the dynamic map.
    ///
    /// Errs when libtorch does.
    pub fn quantize(scales: &[f32]) -> Result<Self> {
        // libtorch's own mean, whose order of additions is bitsandbytes'.
        let offset = Tensor::from_slice(scales).f_mean(Kind::Float).map_err(super::torch)?.double_value(&[]) as f32;
        let map = dynamic_map().map_err(super::torch)?;
        let mut codes = Vec::with_capacity(scales.len());
        let mut absmax = Vec::with_capacity(scales.len().div_ceil(BLOCK));
        for block in scales.chunks(BLOCK) {
            let largest = block.iter().fold(0.0f32, |largest, scale| largest.max((scale - offset).abs()));
            codes.extend(block.iter().map(|scale| nearest(&map, (scale - offset) / largest.max(f32::MIN_POSITIVE))));
            absmax.push(largest);
        }
        Ok(Self { codes, absmax, map, block: BLOCK, offset })
    }

    /// The scales as they are multiplied with.
    pub fn expand(&self) -> Vec<f32> {
        let blocks = self.codes.chunks(self.block).zip(&self.absmax);
        let scales = blocks.flat_map(|(codes, absmax)| codes.iter().map(move |&code| (code, absmax)));
        scales.map(|(code, absmax)| self.map[usize::from(code)] * absmax + self.offset).collect()
    }
}

/// Index of the number of `map` nearest to `number`, the lower one of two that are equally near. bitsandbytes' CPU kernel looks
/// it up in a table of 65,536 equal steps from −1 to 1, so that `number` is first rounded to one of those (measured: each of
/// its 255 thresholds lies at the step, not at the middle between two entries of the map).
fn nearest(map: &[f32], number: f32) -> u8 {
    let number = ((number + 1.0) * STEPS).round() / STEPS - 1.0;
    let above = map.partition_point(|&entry| entry <= number);
    let left = above.saturating_sub(1);
    let nearer = above < map.len() && (number - map[above]).abs() < (number - map[left]).abs();
    (if nearer { above } else { left }) as u8
}

/// bitsandbytes' signed dynamic map (Dettmers et al. 2022): 0 and 1, and in each of seven decades twice as many numbers as
/// in the one below, the means of equal steps from 0.1 to 1. Its lowest is −0.993.
fn dynamic_map() -> Result<Vec<f32>, TchError> {
    let mut map = vec![0.0f32, 1.0];
    for decade in 0..7i32 {
        let factor = 10f64.powi(decade - 6) as f32;
        // libtorch's own `linspace`, whose last bits a plain product and sum do not give.
        let bounds = Tensor::f_linspace(0.1, 1.0, (1 << decade) + 1, (Kind::Float, Device::Cpu))?;
        let means = (&bounds.f_slice(0, 0, -1, 1)? + &bounds.f_slice(0, 1, None, 1)?) / 2.0;
        for mean in Vec::<f32>::try_from(means)? {
            map.extend([factor * mean, -factor * mean]);
        }
    }
    map.sort_by(f32::total_cmp);
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_256_ascending_numbers_around_zero() {
        let map = dynamic_map().unwrap();
        assert_eq!((map.len(), map[0], map[255], map[127]), (256, -0.99296874, 1.0, 0.0));
        assert!(map.is_sorted() && map.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn scales_come_back_to_a_hundredth_of_their_spread() {
        let scales: Vec<f32> = (0..700).map(|i| 2.0 + (i as f32 * 0.7).sin()).collect();
        let double = DoubleScales::quantize(&scales).unwrap();
        assert_eq!((double.codes.len(), double.absmax.len()), (700, 3));
        let back = double.expand();
        assert!(scales.iter().zip(&back).all(|(scale, back)| (scale - back).abs() < 0.011), "{back:?}");
        let equal = DoubleScales::quantize(&[3.0; 5]).unwrap();
        assert_eq!(equal.expand(), [3.0; 5]);
    }

    #[test]
    fn the_nearer_neighbour_wins() {
        let map = [-1.0, 0.0, 0.5, 1.0];
        let found = [-1.0, -0.6, -0.51, -0.4, 0.3, 0.75, 0.8, 1.0].map(|number| nearest(&map, number));
        assert_eq!(found, [0, 0, 0, 1, 2, 2, 3, 3]);
    }
}
