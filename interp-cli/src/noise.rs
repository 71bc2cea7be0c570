//! How the noise floor of a run reads in a terminal. Measures nothing.

use interp_core::export::{NoiseFloor, Study, Summary};

/// One line for one metric.
pub fn line(metric: &str, floor: &NoiseFloor) -> String {
    let number = |x: Option<f64>| -> String {
        match x {
            None => "not measured".into(),
            Some(0.0) => "0".into(),
            Some(x) => format!("{x:.1e}"),
        }
    };
    let correlation = floor.correlation.map(|r| format!(", correlation {r:.4}")).unwrap_or_default();
    format!(
        "noise floor ({metric}): repeat {}, batch {}, precision {}{correlation}",
        number(floor.repeat),
        number(floor.batch),
        number(floor.precision)
    )
}

/// [`line()`], and how many cells it takes in.
pub fn line_of(study: &Study, summary: &Summary) -> Option<String> {
    let floor = study.noise[summary.metric].as_ref()?;
    let below = summary.below_floor.as_ref()?;
    let measured = summary.cells.iter().zip(below).filter(|(cell, _)| !cell.mean.is_nan());
    let (n, under) = measured.fold((0, 0), |(n, under), (_, &below)| (n + 1, under + usize::from(below)));
    let line = line(&study.layout.metrics[summary.metric], floor);
    Some(format!("{line}; {under} of {n} cells are below it"))
}

/// What to do when the order of the cells cannot be trusted; `dtype` as the run has it.
pub fn warning(metric: &str, floor: &NoiseFloor, dtype: &str) -> Option<String> {
    let correlation = floor.correlation.filter(|_| floor.drowns())?;
    let above = if dtype == "bf16" { "f32" } else { "f64" };
    Some(format!(
        "warning: {metric} in {dtype} correlates {correlation:.2} with {above}: effects drown in noise, use --dtype {above}"
    ))
}
