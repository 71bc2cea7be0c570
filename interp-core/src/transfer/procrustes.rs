//! The rotation between two spaces that fits paired vectors best.

use tch::Tensor;

use super::fit::{LinearMap, torch};
use crate::error::Result;

/// The orthogonal `weight` for which `(x − mean x) · weight + mean y` is closest to `y` by least squares: U·Vᵀ of the singular
/// value decomposition of `(x − mean x)ᵀ · (y − mean y)`. `x` and `y` are `[sample, width]` in f64, of equal width.
pub fn procrustes(x: &Tensor, y: &Tensor) -> Result<LinearMap> {
    let (x, mean_x) = LinearMap::centred(x);
    let (y, mean_y) = LinearMap::centred(y);
    let weight = torch("procrustes", || {
        let (u, _, v) = x.transpose(0, 1).f_matmul(&y)?.f_svd(true, true)?;
        u.f_matmul(&v.f_transpose(0, 1)?)
    })?;
    Ok(LinearMap { weight, mean_x, mean_y })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_rotation_is_recovered() {
        tch::manual_seed(1);
        let normal = |size: [i64; 2]| Tensor::randn(size, (Kind::Double, Device::Cpu));
        let (x, shift) = (normal([200, 12]), normal([1, 12]));
        let (rotation, _) = Tensor::linalg_qr(&normal([12, 12]), "reduced");
        let y = x.matmul(&rotation) + shift;
        let map = procrustes(&x, &y).unwrap();
        assert!((&map.weight - &rotation).abs().max().double_value(&[]) < 1e-12);
        assert!((map.apply(&x) - &y).abs().max().double_value(&[]) < 1e-12);
        // A rotation even where no rotation fits.
        let map = procrustes(&x, &(&y * 3.0)).unwrap();
        let identity = Tensor::eye(12, (Kind::Double, Device::Cpu));
        assert!((map.weight.transpose(0, 1).matmul(&map.weight) - identity).abs().max().double_value(&[]) < 1e-12);
    }
}
