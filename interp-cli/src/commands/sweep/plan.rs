//! From a sweep as text to checked values: files open, selectors parsed, trials read, the run's identity settled. Loads no
//! weights and writes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::export::capture::Capture;
use interp_core::export::{Layout, RunPlan, TrialRow};
use interp_core::hash::FileHash;
use interp_core::intervention::EditSpec;
use interp_core::metric::Metric;
use interp_core::site::{HeadRef, Layers, Positions, Site};
use interp_core::stats::Bootstrap;
use interp_core::sweep::{Grid, GridSpec, HeadSet, Sweep};
use interp_core::trial::{Trial, TrialFile, TrialOptions};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::source::Source;
use super::spec::{Machine, SweepSpec};
use crate::edits;
use crate::model::{Model, fingerprint};
use crate::select::list;

/// A sweep that is known to be able to run.
pub struct Prepared {
    /// The checkpoint, weights not loaded.
    pub model: Model,
    /// The other checkpoint that patches take from; `None` where it is the same.
    pub source: Option<Source>,
    /// Trials that can be read, and lines that cannot.
    pub trials: TrialFile,
    /// Which of the trials can run with this sweep.
    pub can_run: Vec<bool>,
    /// What to run.
    pub sweep: Sweep,
    /// Where means and deviations come from, if not from the trials.
    pub capture: Option<Capture>,
    /// What the output folder is for.
    pub plan: RunPlan,
}

/// Checks everything that can be checked before the weights are loaded.
pub fn prepare(spec: &SweepSpec, machine: Machine) -> Result<Prepared> {
    let model = Model::open(&spec.model_args(&spec.model, machine))?;
    let config = model.checkpoint.config();
    let first_token = match spec.target.as_str() {
        "one" => false,
        "first-token" => true,
        other => return Err(refuse("target", other, "no such reading of a target", "write one or first-token").into()),
    };
    let trial_path = Path::new(&spec.trials);
    let mut trials = TrialFile::read(trial_path, &model.reader(), TrialOptions { first_token, swap: spec.swap })?;
    let n_bad = trials.bad_lines.len();
    if trials.trials.is_empty() && n_bad > 0 {
        let first = anyhow::Error::from(trials.bad_lines.swap_remove(0).error);
        return Err(if n_bad == 1 {
            first
        } else {
            first.context(format!("none of {n_bad} lines can be used, the first"))
        });
    }
    let sweep = sweep(spec, config)?;
    check_graft(&sweep, &model)?;
    let source = Source::open(spec, machine, &model, &sweep)?;
    if let Some(source) = &source {
        source.check_prompts(&trials.trials)?;
    }
    let wrong = sweep.check(config, &trials.trials, source.is_some())?;
    let edit: EditSpec = spec.edit.parse()?;
    let capture = edit.capture_dir().map(|dir| edits::capture(Path::new(dir), &model, &sweep.points())).transpose()?;
    let first = wrong.iter().position(Option::is_none).expect("check errs when no trial can run");
    let can_run = wrong.iter().map(Option::is_none).collect();
    let axes = sweep.axes(config, &trials.trials[first])?;

    let row = |trial: &Trial| TrialRow {
        id: trial.id.clone(),
        cluster: trial.cluster.clone(),
        direction: trial.direction.clone(),
    };
    let mut identity = json!({
        "command": "sweep",
        "sweep": spec,
        "config_sha256": model.file_sha256("config.json")?,
        "tokenizer_sha256": model.file_sha256("tokenizer.json")?,
        "trials_sha256": trials.sha256,
        "capture_sha256": capture.as_ref().map(Capture::sha256),
    });
    if let Some(source) = &source {
        identity["source"] = source.identity()?;
    }
    if let Some(pairs) = pair_type(&trials.trials) {
        identity["task"] = json!({ "pair_type": pairs });
    }
    let plan = RunPlan {
        spec: identity,
        layout: Layout {
            axes,
            metrics: sweep.metrics.iter().map(ToString::to_string).collect(),
            head_axis: sweep.site.head_axis(),
            heads_per_kv: Some(config.heads_per_kv_head()),
        },
        trials: trials.trials.iter().map(row).collect(),
        bootstrap: Bootstrap { seed: spec.seed, ..Bootstrap::default() },
    };
    Ok(Prepared { model, source, trials, can_run, sweep, capture, plan })
}

/// What the trials' own words say of their pairs: in `token` pairs the source answers what the patch should make the base say,
/// in `abstract` pairs both prompts have one answer. `None` where no trial says what its source answers.
fn pair_type(trials: &[Trial]) -> Option<&'static str> {
    let of = |trial: &Trial| match trial.source_answer? {
        answer if answer == trial.target.correct => Some("abstract"),
        answer if Some(answer) == trial.target.incorrect => Some("token"),
        _ => Some("mixed"),
    };
    let mut kinds = trials.iter().filter_map(of);
    let first = kinds.next()?;
    Some(if kinds.all(|kind| kind == first) { first } else { "mixed" })
}

/// A graft takes parts of the adapter that is applied last.
fn check_graft(sweep: &Sweep, model: &Model) -> Result<()> {
    if !sweep.edit.is_graft() {
        return Ok(());
    }
    let adapter = model.chain.last_applied().ok_or_else(|| {
        let hint = "write --model MODEL+apply:ADAPTER, without +only: behind the adapter that is grafted";
        refuse("edit", "graft", &format!("{} ends in no adapter that is applied as a whole", model.name()), hint)
    })?;
    Ok(adapter.check_parts()?)
}

fn sweep(spec: &SweepSpec, config: &ModelConfig) -> Result<Sweep> {
    let site: Site = spec.site.parse()?;
    let edit: EditSpec = spec.edit.parse()?;
    let grid = match &spec.cumulative {
        Some(plan) => Grid::Sets(plan.head_sets(spec.seed)?),
        None => match spec.grid.parse()? {
            GridSpec::LayerHead => Grid::LayerHead,
            GridSpec::LayerPos => Grid::LayerPos,
            GridSpec::LayerPart => Grid::LayerPart,
            GridSpec::Sets(file) => Grid::Sets(read_sets(Path::new(&file))?),
        },
    };
    let layers = match &spec.layers {
        Some(text) => text.parse::<Layers>()?.resolve(config.n_layers)?,
        None => 0..config.n_layers,
    };
    let heads = spec.heads.as_deref().map(list::<HeadRef>).transpose()?;
    if let (Some(text), false) = (&spec.heads, grid == Grid::LayerHead) {
        let hint = "use --grid layer-head, or name heads in the file of --grid sets:FILE";
        return Err(refuse("heads", text, "choose cells of --grid layer-head only", hint).into());
    }
    if let Some(head) = heads.iter().flatten().find(|head| !layers.contains(&head.layer)) {
        let problem = format!("its layer is not among the sweep's layers {}..{}", layers.start, layers.end);
        let hint = format!("the model has layers 0..{}, counted from 0 and half-open", config.n_layers);
        return Err(refuse("head", &head.to_string(), &problem, &hint).into());
    }
    if let (Some(heads), Some(axis)) = (&heads, site.head_axis()) {
        let n = if axis.name() == "kv" { config.n_kv_heads } else { config.n_heads };
        if let Some(head) = heads.iter().find(|head| head.head >= n) {
            let problem = format!("`{site}` has {} heads 0..{n}", axis.name());
            return Err(refuse("head", &head.to_string(), &problem, "heads count from 0").into());
        }
    }
    let positions = match (&grid, spec.positions.starts_with("span:")) {
        // Each span is one column.
        (Grid::LayerPos, true) => list::<Positions>(&spec.positions)?,
        _ => vec![spec.positions.parse::<Positions>()?],
    };
    Ok(Sweep {
        site,
        edit: edits::edit(&edit, spec.from.as_deref())?,
        grid,
        positions,
        layers,
        heads,
        metrics: metrics(&spec.metric)?,
        max_rows: spec.max_rows,
        seed: spec.seed,
    })
}

fn metrics(text: &str) -> Result<Vec<Metric>> {
    let metrics = list::<Metric>(text)?;
    match metrics.iter().enumerate().find(|(i, metric)| metrics[..*i].contains(metric)) {
        Some((_, twice)) => {
            Err(refuse("metric", &twice.to_string(), "named twice", "name each metric once, the primary one first")
                .into())
        }
        None => Ok(metrics),
    }
}

fn refuse(what: &'static str, value: &str, problem: &str, hint: &str) -> Error {
    Error::Selector { what, value: value.into(), problem: problem.into(), hint: Some(hint.into()) }
}

/// A file of head sets: `[{"name": "top-2", "heads": ["L2.H6", "L2.H1"]}, …]`.
fn read_sets(file: &Path) -> Result<Vec<HeadSet>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        name: String,
        heads: Vec<String>,
    }
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    let refuse = |problem: String| Error::File {
        path: file.into(),
        problem,
        hint: Some(r#"write [{"name": "top-2", "heads": ["L2.H6", "L2.H1"]}, …]"#.into()),
    };
    let lines: Vec<Line> =
        serde_json::from_str(&text).map_err(|error| refuse(format!("not a list of sets of heads: {error}")))?;
    if lines.is_empty() {
        return Err(refuse("holds no sets".into()).into());
    }
    for (i, line) in lines.iter().enumerate() {
        if lines[..i].iter().any(|earlier| earlier.name == line.name) {
            return Err(refuse(format!("has two sets named `{}`", line.name)).into());
        }
        if let Some(twice) = line.heads.iter().enumerate().find(|(j, head)| line.heads[..*j].contains(head)) {
            return Err(refuse(format!("set `{}` names {} twice", line.name, twice.1)).into());
        }
    }
    let set = |line: Line| -> Result<HeadSet> {
        let heads = line.heads.iter().map(|head| head.parse()).collect::<interp_core::Result<_>>();
        Ok(HeadSet {
            heads: heads.with_context(|| format!("{}: set `{}`", file.display(), line.name))?,
            name: line.name,
        })
    };
    lines.into_iter().map(set).collect()
}

impl Prepared {
    /// How many of the trials cannot run with this sweep.
    pub fn refused(&self) -> usize {
        self.can_run.iter().filter(|can_run| !**can_run).count()
    }

    /// Tells the weight files of one start from those of another without reading them.
    pub fn fingerprint(&self) -> interp_core::Result<String> {
        fingerprint(&self.weight_files())
    }

    /// Files of weights, the donor's behind the edited model's.
    pub fn weight_files(&self) -> Vec<PathBuf> {
        let models = std::iter::once(&self.model).chain(self.source.as_ref().map(|source| &source.model));
        models.flat_map(Model::weight_files).collect()
    }

    /// What `run.json` says besides the plan; `weights` as [`Prepared::weight_files`] has them.
    pub fn describe(&self, weights: &[FileHash]) -> Map<String, Value> {
        let mut run = Map::new();
        let (edited, donor) = weights.split_at(self.model.weight_files().len().min(weights.len()));
        run.insert("model".into(), self.model.describe(edited));
        if let Some(source) = &self.source {
            run.insert("source_model".into(), source.model.describe(donor));
        }
        run.insert("delta".into(), json!("metric(clean) - metric(edited)"));
        run.insert("index_base".into(), json!(0));
        run.insert("tool_version".into(), json!(env!("CARGO_PKG_VERSION")));
        run
    }
}
