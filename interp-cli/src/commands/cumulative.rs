//! `interp cumulative`: what is left of a metric when more and more heads of a ranking are taken away together, beside the
//! lowest heads of the same layers and heads drawn at random. One sweep over sets of heads, and its curves.

use anyhow::Result;
use interp_core::Error;
use interp_core::export::{AblationCurves, Study};
use interp_core::intervention::EditSpec;
use interp_core::site::{HeadAxis, HeadRef};
use interp_core::stats::Curve;
use serde_json::{Map, Value, json};

use super::sweep::{self, Machine, SetPlan, SweepSpec, prepare};
use crate::bases::Bases;
use crate::cli::CumulativeArgs;
use crate::output::{Exit, Printer, columns};
use crate::ranked::check_grid;

/// Most lines of the table on the terminal; the files have all.
const LINES: usize = 24;

/// Sweeps what is not swept yet, draws the curves, prints.
pub fn cumulative(args: &CumulativeArgs, printer: &Printer) -> Result<Exit> {
    let ranking = Study::load(&args.ranked_by)?;
    let plan = SetPlan {
        ranked: ranked(&ranking, args)?,
        step: args.step,
        max: args.max,
        random_draws: args.random_draws,
        random_step: args.random_step,
    };
    let sets = plan.cells(args.seed)?;
    let spec = spec(args, plan)?;
    let prepared = prepare(&spec, Machine { offline: args.compute.offline, threads: args.compute.threads })?;
    check_grid(Some(ranking.head_grid()?), ranking.layout.head_axis, prepared.model.checkpoint.config())?;
    if ranking.run["spec"]["trials_sha256"] == prepared.plan.spec["trials_sha256"] {
        printer.talk("note: the heads are ranked by these very trials, which flatters the ranking");
    }
    let exit = sweep::run(&spec, &prepared, &args.out, args.checks, &mut Bases::new(true), printer)?;
    if exit == Exit::Interrupted {
        return Ok(exit);
    }
    let study = Study::load(&args.out)?;
    let metrics = 0..study.layout.metrics.len();
    let curves: Vec<AblationCurves> =
        metrics.map(|metric| AblationCurves::new(&study, &sets, metric)).collect::<interp_core::Result<_>>()?;
    let head = head(args, &ranking, &study);
    AblationCurves::write(&curves, &study, &head, &args.out)?;
    if args.json {
        let points = curves.iter().flat_map(|curves| curves.lines(&study)).collect::<Vec<_>>();
        let mut answer = json!({ "folder": args.out });
        head.into_iter().for_each(|(key, value)| answer[key] = value);
        answer["points"] = json!(points);
        printer.data(&format!("{answer:#}\n"))?;
    } else {
        curves.iter().for_each(|curves| talk(&study, curves, printer));
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(exit)
}

/// The measured query heads of the ranking, from the largest mean to the smallest.
fn ranked(ranking: &Study, args: &CumulativeArgs) -> Result<Vec<String>> {
    if ranking.layout.head_axis != Some(HeadAxis::Query) {
        let axis = ranking.layout.head_axis.map_or("no", HeadAxis::name);
        let problem = format!("counts {axis} heads, and what is taken away is the output of query heads");
        let hint = Some("rank by a sweep of z, the default site".into());
        return Err(Error::File { path: args.ranked_by.clone(), problem, hint }.into());
    }
    let n = ranking.measured(0).len();
    Ok(ranking.top_heads(0, n)?.iter().map(HeadRef::to_string).collect())
}

fn spec(args: &CumulativeArgs, plan: SetPlan) -> Result<SweepSpec> {
    let edit: EditSpec = args.edit.parse()?;
    if !matches!(edit, EditSpec::Zero | EditSpec::Mean(_)) {
        let hint = Some("write zero or mean[:CAPTURE_DIR]".into());
        let problem = "takes no head away".into();
        return Err(Error::Selector { what: "edit", value: edit.to_string(), problem, hint }.into());
    }
    Ok(SweepSpec {
        model: args.model.clone(),
        dtype: args.compute.dtype.clone(),
        weights: args.compute.weights.clone(),
        device: args.compute.device.clone(),
        trials: args.trials.clone(),
        target: args.target.clone(),
        swap: false,
        site: "z".into(),
        edit: args.edit.clone(),
        from: None,
        grid: "cumulative".into(),
        positions: args.positions.clone(),
        layers: None,
        heads: None,
        metric: args.metric.clone(),
        max_rows: args.max_rows.map(Into::into),
        seed: args.seed,
        source_model: None,
        layer_map: None,
        head_map: None,
        map: None,
        calibrate: None,
        cumulative: Some(plan),
    })
}

/// What the curves are of.
fn head(args: &CumulativeArgs, ranking: &Study, study: &Study) -> Map<String, Value> {
    let by = json!({
        "folder": args.ranked_by,
        "metric": ranking.layout.metrics[0],
        "model": ranking.run["model"]["checkpoint"],
        "trials_sha256": ranking.run["spec"]["trials_sha256"],
    });
    let sweep = &study.run["spec"]["sweep"];
    let mut head = Map::new();
    head.insert("ranked_by".into(), by);
    for key in ["edit", "site", "positions", "cumulative", "seed"] {
        head.insert(key.into(), sweep[key].clone());
    }
    head.insert("model".into(), study.run["model"]["checkpoint"].clone());
    head
}

/// A few points of every curve.
fn talk(study: &Study, curves: &AblationCurves, printer: &Printer) {
    printer.talk(&format!(
        "{} after the ablation, mean ± standard error over {} trials:",
        study.layout.metrics[curves.metric],
        study.rows.len()
    ));
    let said = |curve: Curve, k: usize| {
        let point = curves.at(curve, k);
        point.map_or("-".into(), |point| format!("{:.4} ± {:.4}", point.stats.mean, point.stats.se))
    };
    let mut ks: Vec<usize> = curves.points.iter().map(|point| point.k).collect();
    ks.sort_unstable();
    ks.dedup();
    let every = ks.len().div_ceil(LINES);
    let row = |&k: &usize| {
        let values = Curve::ALL.map(|curve| said(curve, k));
        [vec![k.to_string()], values.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = ks.iter().step_by(every).map(row).collect();
    let head = ["heads", "ranked", "lowest", "random"].map(String::from);
    columns(&head, &rows).lines().for_each(|line| printer.talk(line));
}
