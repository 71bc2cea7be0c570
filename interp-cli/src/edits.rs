//! Edits as typed, with the files and prompts they need, made into what the engine takes.

use std::path::Path;
use std::rc::Rc;

use interp_core::cache::CleanRun;
use interp_core::config::ModelConfig;
use interp_core::decoder::Decoder;
use interp_core::export::capture::Capture;
use interp_core::export::npy;
use interp_core::intervention::{Edit, EditSpec, Moments};
use interp_core::site::{HookPoint, Positions};
use interp_core::{Error, Result};
use tch::Tensor;

use crate::model::Model;
use crate::select::{n_heads, width};

/// An edit with its files read. `from` are the keys that a knockout forbids.
pub fn edit(spec: &EditSpec, from: Option<&str>) -> Result<Edit> {
    let refuse = |what, value: String, problem: &str, hint: &str| {
        Err(Error::Selector { what, value, problem: problem.into(), hint: Some(hint.into()) })
    };
    if let (Some(from), false) = (from, *spec == EditSpec::Knockout) {
        return refuse("--from", from.into(), "only a knockout forbids keys", "leave it out, or use --edit knockout");
    }
    Ok(match spec {
        EditSpec::Zero => Edit::Zero,
        EditSpec::Mean(_) => Edit::Mean,
        EditSpec::Patch => Edit::Patch,
        EditSpec::Add(file, factor) => Edit::Add { vector: Rc::new(vector(Path::new(file))?), factor: *factor },
        EditSpec::Scale(factor) => Edit::Scale(*factor),
        EditSpec::Noise(factor, _) => Edit::Noise(*factor),
        EditSpec::Knockout => {
            let Some(keys) = from else {
                let problem = "it does not say which keys may not be seen";
                return refuse("edit", spec.to_string(), problem, "add --from POSITIONS, such as --from span:NAME");
            };
            Edit::Knockout { keys: keys.parse::<Positions>()? }
        }
        EditSpec::UniformAttention => Edit::UniformAttention,
        EditSpec::Graft => Edit::Graft,
        EditSpec::Ungraft => Edit::Ungraft,
    })
}

fn vector(file: &Path) -> Result<Tensor> {
    let (shape, values) = npy::read(file)?;
    let shape: Vec<i64> = shape.into_iter().map(|n| n as i64).collect();
    if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
        let (problem, hint) = (format!("holds {bad}"), Some("a vector to add must be finite".into()));
        return Err(Error::File { path: file.into(), problem, hint });
    }
    Ok(Tensor::from_slice(&values).view(shape.as_slice()))
}

/// Means and standard deviations of `points` over prompts, one clean run each.
pub fn moments_of_prompts<'a>(
    decoder: &Decoder,
    prompts: impl IntoIterator<Item = &'a [i64]>,
    points: &[HookPoint],
    mut step: impl FnMut(),
) -> Moments {
    let _no_grad = tch::no_grad_guard();
    let mut moments = Moments::default();
    for tokens in prompts {
        let run = CleanRun::new(decoder, tokens, [], points.iter().copied(), 0);
        moments.add_run(points, run.cache());
        step();
    }
    moments
}

/// A capture folder that is known to serve `points` of this model.
pub fn capture(dir: &Path, model: &Model, points: &[HookPoint]) -> Result<Capture> {
    let capture = Capture::open(dir)?;
    capture.check_geometry(&model.geometry())?;
    points.iter().try_for_each(|&at| capture.check_point(at))?;
    Ok(capture)
}

/// Means and standard deviations of `points` over the prompts of a capture folder.
pub fn moments_of_capture(capture: &Capture, points: &[HookPoint], config: &ModelConfig) -> Result<Moments> {
    let mut moments = Moments::default();
    for &at in points {
        let heads = n_heads(at.site, config);
        let numbers = heads.unwrap_or(1) * width(at.site, config);
        let (mut first, mut second, mut count) = (Vec::new(), Vec::new(), Vec::new());
        capture.for_each_row(at, |distance, values| {
            if count.len() <= distance {
                count.resize(distance + 1, 0.0);
                first.resize(count.len() * numbers, 0.0);
                second.resize(count.len() * numbers, 0.0);
            }
            count[distance] += 1.0;
            for (i, value) in values.iter().enumerate() {
                first[distance * numbers + i] += value;
                second[distance * numbers + i] += value * value;
            }
        })?;
        let shape: Vec<i64> =
            [count.len()].into_iter().chain(heads).chain([width(at.site, config)]).map(|n| n as i64).collect();
        let tensor = |values: &[f64]| Tensor::from_slice(values).view(shape.as_slice());
        moments.set(at, tensor(&first), tensor(&second), count);
    }
    Ok(moments)
}
