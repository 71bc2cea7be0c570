//! Linear maps from the donor's space into the edited model's, one per hook point and head, and how well they do on
//! prompts that they were not fitted to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

use super::procrustes::procrustes;
use super::ridge::ridge;
use super::samples::Samples;
use crate::error::{Error, Result};
use crate::site::{HookPoint, Site};

/// λ of `ridge` where none is given.
const LAMBDA: f64 = 1e-2;

/// One group of prompts in this many is held out.
const SHARE: usize = 5;

/// How donated vectors are made into vectors of the edited model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// As they are.
    Raw,
    /// Rotated.
    Procrustes,
    /// By a linear map, with this penalty.
    Ridge(f64),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Raw => f.write_str("raw"),
            Method::Procrustes => f.write_str("procrustes"),
            Method::Ridge(lambda) => write!(f, "ridge:{lambda}"),
        }
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lambda = |text: &str| text.parse::<f64>().ok().filter(|lambda| lambda.is_finite() && *lambda >= 0.0);
        let method = match text.split_once(':') {
            None if text == "raw" => Some(Method::Raw),
            None if text == "procrustes" => Some(Method::Procrustes),
            None if text == "ridge" => Some(Method::Ridge(LAMBDA)),
            Some(("ridge", number)) => lambda(number).map(Method::Ridge),
            _ => None,
        };
        method.ok_or_else(|| Error::Selector {
            what: "map",
            value: text.into(),
            problem: "no such map".into(),
            hint: Some("maps are raw, procrustes and ridge[:LAMBDA], LAMBDA 0 or more".into()),
        })
    }
}

/// y ≈ (x − mean x)·weight + mean y, all in f64 on the host.
#[derive(Debug)]
pub struct LinearMap {
    /// `[d_x, d_y]`
    pub weight: Tensor,
    /// `[1, d_x]`
    pub mean_x: Tensor,
    /// `[1, d_y]`
    pub mean_y: Tensor,
}

impl LinearMap {
    /// `[sample, d_x]` in f64 to `[sample, d_y]`.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        (x - &self.mean_x).matmul(&self.weight) + &self.mean_y
    }

    /// Samples less their mean, and the mean, `[1, width]`.
    pub(super) fn centred(x: &Tensor) -> (Tensor, Tensor) {
        let mean = x.mean_dim(0i64, true, Kind::Double);
        (x - &mean, mean)
    }
}

/// A fitted map and how well it does.
#[derive(Debug)]
pub struct Fit {
    /// Fitted to the samples that were not held out.
    pub map: LinearMap,
    /// On the held-out samples, 1 − Σ‖y − ŷ‖² / Σ‖y − m‖², m the mean of the fitted samples: 1 is perfect, 0 no better than
    /// that mean. NaN where y never changes.
    pub r2: f64,
}

/// Maps of every hook point that patches take from.
#[derive(Debug)]
pub struct Maps {
    method: Method,
    /// Per hook point, one per head; one at sites without heads.
    fits: BTreeMap<(usize, Site), Vec<Fit>>,
    /// Samples that were fitted, and held out.
    n: (usize, usize),
}

impl Maps {
    /// Fits `method` from the donor's samples to the edited model's, of the same positions of the same prompts, leaving out
    /// those that `held_out` names. Errs for `raw`, which fits nothing, and on too few samples; what
    /// [`Correspondence::check`](super::Correspondence::check) refuses is the caller's to find.
    pub fn fit(method: Method, donor: &Samples, edited: &Samples, held_out: &[bool]) -> Result<Self> {
        let refuse = |problem: String, hint: &str| {
            Err(Error::Selector { what: "map", value: method.to_string(), problem, hint: Some(hint.into()) })
        };
        let pick = |held: bool| -> Vec<i64> {
            held_out.iter().enumerate().filter(|(_, out)| **out == held).map(|(i, _)| i as i64).collect()
        };
        let (fitted, out) = (pick(false), pick(true));
        if fitted.len() < 2 || out.is_empty() {
            let problem = format!("{} samples to fit and {} to test with are too few", fitted.len(), out.len());
            return refuse(problem, "give a calibration file of more prompts, or more --positions");
        }
        let (fitted, out) = (Tensor::from_slice(&fitted), Tensor::from_slice(&out));
        let mut fits: BTreeMap<(usize, Site), Vec<Fit>> = BTreeMap::new();
        for (at, y) in edited.points() {
            let x = donor.get(at).expect("both have the same points");
            for head in 0..y.size()[1] {
                let of = |samples: &Tensor, which: &Tensor| samples.select(1, head).index_select(0, which);
                let (x_in, y_in) = (of(x, &fitted).to_kind(Kind::Double), of(y, &fitted).to_kind(Kind::Double));
                let map = match method {
                    Method::Raw => return refuse("fits nothing".into(), "use procrustes or ridge"),
                    Method::Procrustes => procrustes(&x_in, &y_in)?,
                    Method::Ridge(lambda) => ridge(&x_in, &y_in, lambda)?,
                };
                let r2 = r2(&map, &of(x, &out).to_kind(Kind::Double), &of(y, &out).to_kind(Kind::Double));
                fits.entry(at.order()).or_default().push(Fit { map, r2 });
            }
        }
        let n = (fitted.size()[0] as usize, out.size()[0] as usize);
        Ok(Self { method, fits, n })
    }

    /// The method that was fitted.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Number of samples fitted, and held out.
    pub fn n_samples(&self) -> (usize, usize) {
        self.n
    }

    /// Held-out R² per hook point, in the order of a pass, and head.
    pub fn r2(&self) -> impl Iterator<Item = (HookPoint, Vec<f64>)> {
        let of = |(&(layer, site), fits): (&(usize, Site), &Vec<Fit>)| {
            (HookPoint::new(site, layer), fits.iter().map(|fit| fit.r2).collect())
        };
        self.fits.iter().map(of)
    }

    /// The donor's activation for `at`, `[1, pos, (head,) d_x]`, in the edited model's space, `[1, pos, (head,) d_y]`.
    pub fn carry(&self, at: HookPoint, act: &Tensor) -> Tensor {
        let fits = &self.fits[&at.order()];
        let wide = act.to_kind(Kind::Double);
        let carried = match at.site.head_axis() {
            None => fits[0].map.apply(&wide),
            Some(_) => {
                let heads = fits.iter().enumerate().map(|(head, fit)| fit.map.apply(&wide.select(2, head as i64)));
                Tensor::stack(&heads.collect::<Vec<_>>(), 2)
            }
        };
        carried.to_kind(act.kind())
    }
}

fn r2(map: &LinearMap, x: &Tensor, y: &Tensor) -> f64 {
    let sum = |off: Tensor| (&off * &off).sum(Kind::Double).double_value(&[]);
    let (missed, all) = (sum(y - map.apply(x)), sum(y - &map.mean_y));
    if all > 0.0 { 1.0 - missed / all } else { f64::NAN }
}

/// Which samples are held out: a fifth of their groups, at least one, drawn by the seed. Errs when there is only one group, for
/// samples of one group are no test of each other.
pub fn hold_out(groups: &[&str], seed: u64) -> Result<Vec<bool>> {
    let mut names: Vec<&str> = groups.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        return Err(Error::Statistics {
            what: "calibration of",
            value: format!("{} clusters", names.len()),
            problem: "at least 2 are needed, one to fit and one to test".into(),
        });
    }
    names.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    names.truncate((names.len() / SHARE).max(1));
    Ok(groups.iter().map(|group| names.contains(group)).collect())
}

/// libtorch's refusals as errors of ours.
pub(super) fn torch(what: &str, run: impl FnOnce() -> Result<Tensor, TchError>) -> Result<Tensor> {
    run().map_err(|error| {
        let message = error.to_string();
        Error::Torch { context: what.into(), message: message.lines().next().unwrap_or_default().into() }
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn normal(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Float, Device::Cpu))
    }

    fn fitted(method: Method, x: &Tensor, y: &Tensor) -> Result<Maps> {
        let at = HookPoint::new(Site::Z, 0);
        let samples = |act: &Tensor| Samples::of([(at, act.shallow_clone())]);
        let held: Vec<bool> = (0..x.size()[0]).map(|i| i % 5 == 0).collect();
        Maps::fit(method, &samples(x), &samples(y), &held)
    }

    #[test]
    fn r2_tells_a_map_from_noise() {
        tch::manual_seed(3);
        let (x, weight) = (normal(&[500, 2, 6]), normal(&[2, 6, 6]));
        let y = Tensor::stack(&[x.select(1, 0).matmul(&weight.get(0)), normal(&[500, 6])], 1);
        let maps = fitted(Method::Ridge(1e-6), &x, &y).unwrap();
        let (_, r2) = maps.r2().next().unwrap();
        assert!(r2[0] > 0.999_999 && r2[1] < 0.05, "{r2:?}");
        assert_eq!(maps.n_samples(), (400, 100));
        let carried = maps.carry(HookPoint::new(Site::Z, 0), &x.unsqueeze(0)).squeeze_dim(0);
        assert!((carried.select(1, 0) - y.select(1, 0)).abs().max().double_value(&[]) < 1e-4);
        assert_eq!((carried.size(), carried.kind()), (vec![500, 2, 6], Kind::Float));
        let noise = fitted(Method::Procrustes, &x, &normal(&[500, 2, 6])).unwrap();
        assert!(noise.r2().all(|(_, r2)| r2.iter().all(|&r2| r2 < 0.0)));
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let (x, y) = (normal(&[20, 2, 6]), normal(&[20, 2, 4]));
        assert_eq!(fitted(Method::Raw, &x, &y).unwrap_err().to_string(), "map `raw`: fits nothing");
        let few = fitted(Method::Ridge(1.0), &x.narrow(0, 0, 2), &y.narrow(0, 0, 2)).unwrap_err();
        assert_eq!(few.to_string(), "map `ridge:1`: 1 samples to fit and 1 to test with are too few");
        assert_eq!("ridge".parse::<Method>().unwrap(), Method::Ridge(LAMBDA));
        assert!("ridge:-1".parse::<Method>().is_err() && "affine".parse::<Method>().is_err());
    }

    #[test]
    fn whole_groups_are_held_out_by_the_seed() {
        let groups: Vec<String> = (0..40).map(|i| format!("c{}", i / 4)).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let held = hold_out(&groups, 7).unwrap();
        assert_eq!(held.iter().filter(|held| **held).count(), 8);
        assert!(held.chunks(4).all(|group| group.iter().all(|held| *held == group[0])));
        assert_eq!(held, hold_out(&groups, 7).unwrap());
        assert!((0..9).any(|seed| held != hold_out(&groups, seed).unwrap()));
        assert!(hold_out(&["a", "a"], 0).is_err());
    }
}
