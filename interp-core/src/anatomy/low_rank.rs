//! Norms, inner products and subspaces of s·BA, without multiplying it out.

use tch::{Kind, Tensor};

/// A low-rank matrix s·BA `[d_out, d_in]`, in f64 on the CPU.
#[derive(Debug)]
pub struct LowRank {
    /// `[r, d_in]`
    a: Tensor,
    /// `[d_out, r]`
    b: Tensor,
    scale: f64,
}

/// A side of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Rows, the output's side: B.
    Rows,
    /// Columns, the input's side: A.
    Columns,
}

/// How far two subspaces overlap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Mean squared cosine of the principal angles: 1 where one space holds the other, 0 where they are orthogonal, NaN where
    /// one of them is only the origin.
    pub mean: f64,
    /// What random spaces of the same dimensions would have: the larger of the dimensions over the whole space's.
    pub chance: f64,
}

impl LowRank {
    /// s·BA from A `[r, d_in]` and B `[d_out, r]` of any dtype.
    ///
    /// # Panics
    /// If the shapes do not match.
    pub fn new(a: &Tensor, b: &Tensor, scale: f64) -> Self {
        let _no_grad = tch::no_grad_guard();
        let wide = |tensor: &Tensor| tensor.to_device(tch::Device::Cpu).to_kind(Kind::Double);
        let (a, b) = (wide(a), wide(b));
        assert!(a.dim() == 2 && b.dim() == 2 && a.size()[0] == b.size()[1], "A {:?} and B {:?}", a.size(), b.size());
        Self { a, b, scale }
    }

    /// Rows of A.
    pub fn rank(&self) -> usize {
        self.a.size()[0] as usize
    }

    /// ‖s·BA‖_F.
    pub fn norm(&self) -> f64 {
        // Rounding may leave a product of almost nothing just below 0.
        self.inner(self).max(0.0).sqrt()
    }

    /// Sum over all entries of the product of the two matrices' entries.
    pub fn inner(&self, other: &Self) -> f64 {
        let (b, a) = (self.b.tr().matmul(&other.b), self.a.matmul(&other.a.tr()));
        self.scale * other.scale * (b * a).sum(Kind::Double).double_value(&[])
    }

    /// [`LowRank::inner`] over the norms; NaN where one of them is 0.
    pub fn cosine(&self, other: &Self) -> f64 {
        // Clamped, so that the cosine of a matrix with itself is no more than 1; NaN stays NaN.
        (self.inner(other) / (self.norm() * other.norm())).clamp(-1.0, 1.0)
    }

    /// The matrix cut into `n` blocks of as many rows or columns each.
    pub fn blocks(&self, side: Side, n: usize) -> Vec<LowRank> {
        let cut = |tensor: &Tensor, dim: i64| -> Vec<Tensor> {
            let size = tensor.size()[dim as usize] / n as i64;
            (0..n as i64).map(|i| tensor.narrow(dim, i * size, size)).collect()
        };
        let block = |a: Tensor, b: Tensor| LowRank { a, b, scale: self.scale };
        match side {
            Side::Rows => cut(&self.b, 0).into_iter().map(|b| block(self.a.shallow_clone(), b)).collect(),
            Side::Columns => cut(&self.a, 1).into_iter().map(|a| block(a, self.b.shallow_clone())).collect(),
        }
    }

    /// How far the two column spaces of B (`Side::Rows`: what is written), or row spaces of A, overlap.
    pub fn overlap(&self, other: &Self, side: Side) -> Overlap {
        let (one, other) = match side {
            Side::Rows => (basis(&self.b), basis(&other.b)),
            Side::Columns => (basis(&self.a.tr()), basis(&other.a.tr())),
        };
        let (d, r1, r2) = (one.size()[0] as f64, one.size()[1], other.size()[1]);
        if r1.min(r2) == 0 {
            return Overlap { mean: f64::NAN, chance: f64::NAN };
        }
        let (_, cosines, _) = one.tr().matmul(&other).svd(true, false);
        let mean = cosines.square().sum(Kind::Double).double_value(&[]) / r1.min(r2) as f64;
        Overlap { mean: mean.min(1.0), chance: r1.max(r2) as f64 / d }
    }

    /// The product itself.
    #[cfg(test)]
    pub fn formed(&self) -> Tensor {
        self.b.matmul(&self.a) * self.scale
    }
}

/// An orthonormal basis `[d, rank]` of the columns of `[d, r]`: QR, and an SVD of the small triangle to find which directions
/// are there at all. A column that training left at 0 must not count as one.
fn basis(columns: &Tensor) -> Tensor {
    let (q, triangle) = Tensor::linalg_qr(columns, "reduced");
    let (u, sizes, _) = triangle.svd(true, true);
    let largest = sizes.max().double_value(&[]);
    let longest = columns.size().into_iter().max().unwrap_or(0) as f64;
    let rank = sizes.gt(largest * longest * f64::EPSILON).sum(Kind::Int64).int64_value(&[]);
    q.matmul(&u.narrow(1, 0, rank))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn random(rows: i64, columns: i64) -> Tensor {
        Tensor::randn([rows, columns], (Kind::Double, Device::Cpu))
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "{found} {expected}");
    }

    #[test]
    fn norms_and_products_are_those_of_the_formed_matrices() {
        tch::manual_seed(1);
        for (rank, other_rank) in [(1, 1), (4, 2), (3, 8)] {
            let one = LowRank::new(&random(rank, 12), &random(20, rank), 1.5);
            let other = LowRank::new(&random(other_rank, 12), &random(20, other_rank), -0.25);
            let formed = (one.formed(), other.formed());
            close(one.norm(), formed.0.norm().double_value(&[]));
            let inner = (&formed.0 * &formed.1).sum(Kind::Double).double_value(&[]);
            close(one.inner(&other), inner);
            close(one.cosine(&other), inner / (formed.0.norm().double_value(&[]) * formed.1.norm().double_value(&[])));
            for (side, dim, size) in [(Side::Rows, 0, 5), (Side::Columns, 1, 3)] {
                for (i, block) in one.blocks(side, 4).iter().enumerate() {
                    close(block.norm(), formed.0.narrow(dim, i as i64 * size, size).norm().double_value(&[]));
                }
            }
        }
        // Half-precision files are widened before anything is multiplied.
        let (a, b) = (random(4, 12).to_kind(Kind::BFloat16), random(20, 4).to_kind(Kind::BFloat16));
        let formed = b.to_kind(Kind::Double).matmul(&a.to_kind(Kind::Double));
        close(LowRank::new(&a, &b, 1.0).norm(), formed.norm().double_value(&[]));
        let nothing = LowRank::new(&a, &b.zeros_like(), 1.0);
        assert!(nothing.norm() == 0.0 && nothing.cosine(&nothing).is_nan());
    }

    #[test]
    fn overlaps_by_hand() {
        // Planes in four dimensions: (e0, e1) and (e1, e2) share one direction of two, (e0, e1) and (e2, e3) none.
        let columns =
            |indices: &[i64]| Tensor::eye(4, (Kind::Double, Device::Cpu)).index_select(1, &Tensor::from_slice(indices));
        let plane = |indices: &[i64]| LowRank::new(&random(2, 5), &(columns(indices).matmul(&random(2, 2))), 1.0);
        let of = |one: &[i64], other: &[i64]| plane(one).overlap(&plane(other), Side::Rows);
        tch::manual_seed(2);
        close(of(&[0, 1], &[1, 2]).mean, 0.5);
        assert!(of(&[0, 1], &[2, 3]).mean < 1e-24);
        close(of(&[0, 1], &[0, 1]).mean, 1.0);
        assert_eq!(of(&[0, 1], &[1, 2]).chance, 0.5);
        // At 60 degrees from e0 in the plane of e0 and e1: cos² = 1/4. A direction that is 0 is no direction.
        let slanted = Tensor::from_slice(&[0.5, 0.75f64.sqrt(), 0.0, 0.0]).view([4, 1]);
        let line = Tensor::cat(&[&slanted, &slanted.zeros_like()], 1);
        let one = LowRank::new(&random(2, 5), &line, 1.0);
        let axis = LowRank::new(&random(1, 5), &columns(&[0]), 1.0);
        let found = one.overlap(&axis, Side::Rows);
        close(found.mean, 0.25);
        assert_eq!(found.chance, 0.25, "both are lines");
        assert!(one.overlap(&LowRank::new(&random(1, 5), &line.narrow(1, 1, 1), 1.0), Side::Rows).mean.is_nan());
        // The other side is A's: rows in five dimensions.
        let a = random(2, 5);
        let [one, other] = [3, 2].map(|d| LowRank::new(&random(2, 2).matmul(&a), &random(d, 2), 1.0));
        close(one.overlap(&other, Side::Columns).mean, 1.0);
    }

    #[test]
    fn random_spaces_overlap_as_chance_says() {
        tch::manual_seed(3);
        let change = |rank: i64| LowRank::new(&random(rank, 4), &random(64, rank), 1.0);
        let found: Vec<Overlap> = (0..40).map(|_| change(8).overlap(&change(16), Side::Rows)).collect();
        let mean = found.iter().map(|overlap| overlap.mean).sum::<f64>() / 40.0;
        assert_eq!(found[0].chance, 0.25);
        assert!((mean - 0.25).abs() < 0.02, "{mean}");
    }
}
