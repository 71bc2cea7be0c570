//! One number per head from a finished measurement, to be put beside other numbers of the same heads.

use std::path::{Path, PathBuf};

use anyhow::Result;
use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::export::Study;
use interp_core::plot;
use interp_core::retrieval::RetrievalScores;
use interp_core::scores::cell_label;
use interp_core::site::{HeadAxis, HeadRef};

/// A named number per query head.
#[derive(Debug, Clone)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// What it is, in words.
    pub what: String,
    /// What a colour means.
    pub quantity: String,
    /// `[layer * head]`; NaN where there is none.
    pub values: Vec<f64>,
}

impl Column {
    /// Reads the folder of a sweep: mean δ of its first metric; or a file (or folder) of retrieval scores: their means. Errs for another grid, or other heads than the model's.
    pub fn read(path: &Path, config: &ModelConfig) -> Result<Self> {
        if let Some(file) = scores_file(path) {
            return Self::of_retrieval(&file, path, config);
        }
        let study = Study::load(path)?;
        let refuse = |problem: String, hint: &str| -> anyhow::Error {
            Error::File { path: path.into(), problem, hint: Some(hint.into()) }.into()
        };
        if study.layout.head_axis == Some(HeadAxis::Kv) {
            let problem = "counts kv heads, the scores beside it query heads".into();
            return Err(refuse(problem, "give the folder of a sweep of a site with query heads, such as z"));
        }
        let summary = study.summary(0, &study.bootstrap)?;
        let mut values = vec![f64::NAN; config.n_layers * config.n_heads];
        for cell in study.measured(0) {
            let label = cell_label(&study.layout.axes, cell);
            let head: HeadRef = label.parse().map_err(|_| {
                refuse(format!("its grid has {label}, which is no head"), "give a sweep with --grid layer-head")
            })?;
            *slot(&mut values, head, config).ok_or_else(|| too_large(path, head, config))? = summary.cells[cell].mean;
        }
        let metric = &study.layout.metrics[0];
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let quantity = plot::quantity("δ", metric);
        Ok(Self { what: format!("mean δ {metric} in {}", path.display()), quantity, name, values })
    }

    fn of_retrieval(file: &Path, path: &Path, config: &ModelConfig) -> Result<Self> {
        let scores = RetrievalScores::read(file)?;
        let (n_layers, n_heads) = scores.grid();
        if (n_layers, n_heads) != (config.n_layers, config.n_heads) {
            return Err(too_large(path, HeadRef { layer: n_layers - 1, head: n_heads - 1 }, config).into());
        }
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let what = format!("mean retrieval score (Wu et al.) in {}, {} trials", path.display(), scores.n_trials());
        Ok(Self { name, what, quantity: "retrieval score".into(), values: scores.means() })
    }
}

/// The file of retrieval scores that is meant: named itself, or in a folder of `interp retrieval`.
pub fn scores_file(path: &Path) -> Option<PathBuf> {
    let inside = path.join("retrieval_heads.json");
    if path.is_file() { Some(path.into()) } else { inside.is_file().then_some(inside) }
}

/// The place of a head in a grid of the model's.
fn slot<'a>(values: &'a mut [f64], head: HeadRef, config: &ModelConfig) -> Option<&'a mut f64> {
    let inside = head.layer < config.n_layers && head.head < config.n_heads;
    inside.then(|| &mut values[head.layer * config.n_heads + head.head])
}

fn too_large(path: &Path, head: HeadRef, config: &ModelConfig) -> Error {
    let problem =
        format!("its heads go up to {head}, and the model has {} layers of {} heads", config.n_layers, config.n_heads);
    Error::File { path: path.into(), problem, hint: Some("measure both on the same model".into()) }
}
