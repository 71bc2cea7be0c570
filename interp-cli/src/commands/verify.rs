//! `interp verify`: random cells of an output folder again, by plain full passes that share nothing with the engine but the
//! decoder, and the folder's means from its own per-trial numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::Error;
use interp_core::device::Dtype;
use interp_core::export::{Study, npy, table};
use interp_core::hash::Hashes;
use interp_core::scores::cell_label;
use interp_core::sweep::Models;
use interp_core::trial::Trial;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::sweep::{Machine, Prepared, SweepSpec, prepare};
use crate::bases::Bases;
use crate::cli::VerifyArgs;
use crate::output::{Exit, Printer, columns};

/// Compares, prints the comparison, and answers no when something is off.
pub fn verify(args: &VerifyArgs, printer: &Printer) -> Result<Exit> {
    let study = Study::load(&args.dir)?;
    let spec = SweepSpec::read(&args.dir.join("run.json"))?;
    let prepared = prepare(&spec, Machine { offline: args.offline, threads: None })?;
    let mut wrong = changed_inputs(&study, &prepared)?;
    wrong.extend(changed_numbers(&args.dir, &study)?);

    let cells = choose(&args.dir, &study, args.cells, args.seed)?;
    let wanted = |trial: usize| cells.iter().any(|&(row, _)| study.rows[row] == trial);
    let loaded = prepared.load(&wanted, &mut Bases::new(false), printer)?;
    let found = recheck(&args.dir, &study, &prepared, loaded.models(), &cells)?;
    printer.data(&found.table)?;
    found.note.iter().for_each(|line| printer.talk(line));
    wrong.extend(found.wrong);
    wrong.iter().for_each(|line| printer.talk(&format!("no: {line}")));
    if wrong.is_empty() {
        let cells = if found.noisy { "no cell is farther off than noise" } else { "every cell agrees" };
        printer.talk(&format!("yes: the inputs are those of the run, its files follow from each other, and {cells}"));
    }
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::No })
}

/// What running cells again by plain passes showed.
pub struct Rechecked {
    /// One line per cell and metric.
    pub table: String,
    /// Whether some cells are beyond the noise floor, which may be.
    pub noisy: bool,
    /// What a reader must know of the bounds.
    pub note: Option<String>,
    /// Cells that differ by more than they may.
    pub wrong: Vec<String>,
}

/// `n` random measured cells of a finished folder, as row and cell.
pub fn choose(dir: &Path, study: &Study, n: usize, seed: u64) -> Result<Vec<(usize, usize)>> {
    let cells = study.cells[0].first().map_or(0, Vec::len);
    let measured: Vec<(usize, usize)> = (0..study.rows.len())
        .flat_map(|row| (0..cells).map(move |cell| (row, cell)))
        .filter(|&(row, cell)| !study.cells[0][row][cell].is_nan())
        .collect();
    if measured.is_empty() {
        let hint = Some("skipped.json says why no trial could run".into());
        return Err(Error::File { path: dir.into(), problem: "holds no numbers to verify".into(), hint }.into());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Ok((0..n).map(|_| measured[rng.random_range(0..measured.len())]).collect())
}

/// The trials of chosen cells, each once.
pub fn trials_of<'a>(study: &Study, prepared: &'a Prepared, cells: &[(usize, usize)]) -> Vec<&'a Trial> {
    let rows: BTreeSet<usize> = cells.iter().map(|&(row, _)| row).collect();
    rows.into_iter().map(|row| &prepared.trials.trials[study.rows[row]]).collect()
}

/// Runs chosen cells of a finished folder again, each by a plain full pass.
pub fn recheck(
    dir: &Path,
    study: &Study,
    prepared: &Prepared,
    models: Models<'_>,
    chosen: &[(usize, usize)],
) -> Result<Rechecked> {
    let n = chosen.len();
    let dtype = prepared.model.precision.dtype;
    let tolerances: Vec<Tolerance> = (0..study.cells.len()).map(|metric| Tolerance::of(study, metric, dtype)).collect();
    let mut noisy = vec![0; tolerances.len()];
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for &(row, cell) in chosen {
        let trial = &prepared.trials.trials[study.rows[row]];
        let clean = prepared.sweep.plain_clean(models, trial)?;
        for ((metric, clean), tolerance) in clean.iter().enumerate().zip(&tolerances) {
            let off = (study.clean[row][metric] - clean).abs();
            // Asked this way round, NaN is a disagreement.
            let agrees = off <= tolerance.clean;
            if !agrees {
                wrong.push(format!("metric_clean of {} differs by {off:.3e}", trial.id));
            }
        }
        let plain = prepared.sweep.plain(models, trial, cell)?;
        let plain = plain.ok_or_else(|| anyhow!("{}: has a cell that the sweep does not", dir.display()))?;
        let label = cell_label(&study.layout.axes, cell);
        for ((metric, plain), tolerance) in plain.iter().enumerate().zip(&tolerances) {
            let stored = f64::from(study.cells[metric][row][cell]);
            let off = (stored - plain).abs();
            // Asked this way round, NaN is a disagreement.
            let verdict = match () {
                () if off <= tolerance.typical => "agrees",
                () if off <= tolerance.largest => "noisy",
                () => "differs",
            };
            match verdict {
                "noisy" => noisy[metric] += 1,
                "differs" => wrong.push(format!("{label} of {} differs", trial.id)),
                _ => {}
            }
            let [stored, plain, bound] = [stored, *plain, tolerance.typical].map(|x| format!("{x:.3e}"));
            let metric = study.layout.metrics[metric].clone();
            rows.push(vec![trial.id.clone(), label.clone(), metric, stored, plain, bound, verdict.into()]);
        }
    }
    let any_noisy = noisy.iter().any(|&noisy| noisy > 0);
    for (metric, noisy) in study.layout.metrics.iter().zip(noisy).filter(|(_, noisy)| 4 * noisy > n.max(4)) {
        wrong.push(format!("{noisy} of {n} cells are beyond the noise floor of {metric}"));
    }
    let head = ["trial", "cell", "metric", "stored", "plain pass", "may differ by", "verdict"].map(String::from);
    let unmeasured = dtype == Dtype::Bf16 && tolerances.iter().any(|tolerance| !tolerance.from_floor);
    let note = unmeasured.then(|| {
        "note: this folder has no measured precision, so bf16 numbers may differ by 4/256 of the metric: that tells a \
         broken run from a sound one, and says nothing about small effects"
            .to_owned()
    });
    Ok(Rechecked { table: columns(&head, &rows), noisy: any_noisy, note, wrong })
}

/// How far stored numbers of one metric may be from plain passes.
struct Tolerance {
    /// A δ within it agrees.
    typical: f64,
    /// One beyond `typical` but within this is noisy, which a quarter of the cells may be.
    largest: f64,
    /// The metric of an unedited run.
    clean: f64,
    /// Whether `typical` is the folder's own noise floor.
    from_floor: bool,
}

impl Tolerance {
    /// In f32 1e-3 of the largest |δ|, in f64 what rounding a cell to f32 costs. Neither is below the last bits of the metric,
    /// or a sweep whose effects are all 0 could never agree. In bf16 the folder's noise floor, where its precision was
    /// measured. That floor is the largest of a sample, so one of as many further cells is beyond it by chance alone, and
    /// two bf16 passes are farther apart than either is from f32: some cells may be beyond it, by no more than four times,
    /// or than a few roundings of the metric itself, each 2^-8 of it.
    fn of(study: &Study, metric: usize, dtype: Dtype) -> Self {
        let cells = study.cells[metric].iter().flatten();
        let largest = cells.filter(|x| !x.is_nan()).fold(0.0f64, |a, &b| a.max(f64::from(b.abs())));
        let size = study.clean.iter().map(|row| row[metric].abs()).fold(largest, f64::max);
        let same = |bound: f64| Self { typical: bound, largest: bound, clean: bound, from_floor: false };
        let rounding = 4.0 / 256.0 * size;
        let floor = study.noise[metric].filter(|floor| floor.precision.is_some()).and_then(|floor| floor.largest());
        match (dtype, floor) {
            // Cells are stored in f32, whatever they were computed in.
            (Dtype::F64, _) => same((f64::from(f32::EPSILON) * largest).max(1e-12 * size)),
            (Dtype::F32, _) => same((1e-3 * largest).max(1e-6 * size)),
            (Dtype::Bf16, None) => same(rounding),
            (Dtype::Bf16, Some(floor)) => {
                Self { typical: floor, largest: rounding.max(4.0 * floor), clean: rounding, from_floor: true }
            }
        }
    }
}

/// Files of the folder that do not follow from its per-trial numbers, bit by bit.
fn changed_numbers(dir: &Path, study: &Study) -> Result<Vec<String>> {
    let (mut wrong, mut summaries) = (Vec::new(), Vec::new());
    for metric in 0..study.layout.metrics.len() {
        let summary = study.summary(metric, &study.bootstrap)?;
        let name = study.layout.file("delta", metric, "npy");
        let (_, stored) = npy::read(&dir.join(&name))?;
        let bits = |x: &f64| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
        if !stored.iter().map(bits).eq(summary.cells.iter().map(|cell| bits(&cell.mean))) {
            let per_trial = study.layout.file("delta_per_trial", metric, "npy");
            wrong.push(format!("{name} is not the mean of {per_trial}"));
        }
        if let Some(means) = summary.significant_means() {
            let name = study.layout.file("delta_significant", metric, "npy");
            let (_, stored) = npy::read(&dir.join(&name))?;
            if !stored.iter().map(bits).eq(means.iter().map(bits)) {
                wrong.push(format!("{name} does not follow from the arrays"));
            }
        }
        summaries.push(summary);
    }
    for (name, text) in [("delta.json", table::json(study, &summaries)), ("delta.csv", table::csv(study, &summaries))] {
        let path = dir.join(name);
        if fs::read(&path).map_err(Error::io("read", &path))? != text.as_bytes() {
            wrong.push(format!("{name} does not follow from the arrays"));
        }
    }
    Ok(wrong)
}

/// Inputs that are not those the folder was made from.
fn changed_inputs(study: &Study, prepared: &Prepared) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for field in ["config_sha256", "tokenizer_sha256", "trials_sha256", "capture_sha256", "source"] {
        if study.run["spec"][field] != prepared.plan.spec[field] {
            wrong.push(format!("{field} is not what run.json says: the input changed since the run"));
        }
    }
    let now = prepared.describe(&Hashes::start(prepared.weight_files()).wait()?);
    for model in ["model", "source_model"].into_iter().filter(|model| now.contains_key(*model)) {
        if study.run[model]["weights"] != now[model]["weights"] {
            wrong.push(format!("{model}.weights is not what run.json says: the weights changed since the run"));
        }
    }
    Ok(wrong)
}
