//! The linear map between two spaces that fits paired vectors best, with a penalty on its size.

use tch::{Kind, Tensor};

use super::fit::{LinearMap, torch};
use crate::error::Result;

/// The `weight` that minimises ‖y − mean y − (x − mean x)·weight‖² + λ·s·‖weight‖², where s is the mean of the diagonal of
/// (x − mean x)ᵀ(x − mean x): λ does not depend on the scale of `x` or on the number of samples. `x` `[sample, d_x]` and `y`
/// `[sample, d_y]` in f64. Errs where the system cannot be solved, which λ > 0 excludes unless `x` never changes.
pub fn ridge(x: &Tensor, y: &Tensor, lambda: f64) -> Result<LinearMap> {
    let (x, mean_x) = LinearMap::centred(x);
    let (y, mean_y) = LinearMap::centred(y);
    let weight = torch("ridge", || {
        let xt = x.transpose(0, 1);
        let gram = xt.f_matmul(&x)?;
        let scale = gram.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]);
        let penalty = Tensor::eye(gram.size()[0], (Kind::Double, gram.device())) * (lambda * scale);
        Tensor::f_linalg_solve(&(gram + penalty), &xt.f_matmul(&y)?, true)
    })?;
    Ok(LinearMap { weight, mean_x, mean_y })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_linear_map_is_recovered_and_shrunk_by_the_penalty() {
        tch::manual_seed(2);
        let normal = |size: [i64; 2]| Tensor::randn(size, (Kind::Double, Device::Cpu));
        let (x, weight, shift) = (normal([300, 10]), normal([10, 7]), normal([1, 7]));
        let y = x.matmul(&weight) + shift;
        let off = |lambda: f64| (ridge(&x, &y, lambda).unwrap().weight - &weight).abs().max().double_value(&[]);
        assert!(off(0.0) < 1e-12, "{}", off(0.0));
        assert!(off(1e-6) < 1e-4 && off(1e-6) > 1e-8, "{}", off(1e-6));
        let size = |lambda: f64| ridge(&x, &y, lambda).unwrap().weight.norm().double_value(&[]);
        assert!(size(1.0) < 0.7 * size(0.0));
        // The scale of x does not matter.
        let scaled = ridge(&(&x * 100.0), &y, 0.5).unwrap().weight * 100.0;
        assert!((scaled - ridge(&x, &y, 0.5).unwrap().weight).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn what_has_no_solution_is_an_error() {
        let x = Tensor::ones([5, 3], (Kind::Double, Device::Cpu));
        let error = ridge(&x, &x, 0.0).unwrap_err().to_string();
        assert!(error.starts_with("ridge: "), "{error}");
    }
}
