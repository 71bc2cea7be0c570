//! `delta.json` (schema `interp.delta/2`) and `delta.csv`: one line per metric and cell. Builds text; writes no files.
//!
//! Head of the JSON: `schema`, `index_base` (0), `model` and `source_model` {checkpoint, revision, chain, weights,
//! base_precision, dtype}, `task` (what the run's spec says of it, and `positions`), `delta_kind` (of the primary metric),
//! `axes` [{`name`, `labels`}], `metrics` (the primary one first), `target` (`one` token or the `first-token` of several),
//! `head_axis` (`query`, `kv` or null), `n_trials` (those averaged), `n_clusters`, `clusters_labelled` (false: each trial counts
//! as its own cluster), `n_rejected` {reason: count}, `noise_floor` {metric: {repeat, batch, precision, correlation} or null},
//! `bootstrap` {level, resamples, seed}, `threshold` {metric: {alpha, tau, n_perm, seed, two_sided, exact, n_significant,
//! note}}, for causal mediation scores `full_transfer` {metric: {mean, note}}, `trials_sha256`, `seed`, `tool_version`. What a run
//! does not say is absent.
//!
//! `threshold`: a cell is significant above `tau`. `exact` says that all `n_perm` sign vectors there are were tried, `note` why
//! there is no test where there is none. `full_transfer.mean` is what `cma_logit_diff_norm` divides by, and its `note` why
//! that is null.
//!
//! A line of `cells`: `metric`; `delta_kind`; one column per axis, named as the axis (the number of a layer, head or position,
//! else the label); `kv_head` where query heads share one and the run says how many do; `label`; `mean` over trials, `sd`
//! (ddof 1), `se` (by cluster), `ci` [lo, hi] (CSV: `ci_lo`, `ci_hi`) by percentiles, `bca_ci` likewise, `cohens_d` (mean over sd
//! of the cluster means), `p_fwer`, `q_fdr`, `significant`; `cma_logit_diff_norm` if any metric has causal mediation scores;
//! `below_floor` if a noise floor was measured; `rank` from 1 within the metric. Sorted by metric, then mean descending, then
//! axes. What is not finite or could not be found is null (CSV: empty), and a cell that was not asked for has neither numbers
//! nor rank.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::study::{AxisRecord, BootstrapRecord, Layout, Study, Summary};
use crate::scores::{self, Coordinate};
use crate::site::HeadAxis;
use crate::stats::FamilyTest;

/// Keys of the head that the run's spec says, or the run beside it, or the sweep's flags; before and behind our own.
const BEFORE: [&str; 3] = ["model", "source_model", "task"];
const BEHIND: [&str; 4] = ["target", "trials_sha256", "seed", "tool_version"];

/// What a table repeats of a model.
const OF_MODEL: [&str; 6] = ["checkpoint", "revision", "chain", "weights", "base_precision", "dtype"];

/// `delta.json`, one cell per line.
pub fn json(study: &Study, summaries: &[Summary]) -> String {
    let clusters = study.clusters();
    let mut rejected: BTreeMap<&str, usize> = BTreeMap::new();
    study.skipped.iter().for_each(|trial| *rejected.entry(&trial.reason).or_default() += 1);
    let noise: Map<String, Value> =
        study.layout.metrics.iter().zip(&study.noise).map(|(name, noise)| (name.clone(), json!(noise))).collect();
    let name = |summary: &Summary| study.layout.metrics[summary.metric].clone();
    let mut head = Map::new();
    head.insert("schema".into(), json!("interp.delta/2"));
    head.insert("index_base".into(), json!(0));
    head.extend(BEFORE.into_iter().filter_map(|key| Some((key.to_owned(), said(study, key)?))));
    let own = json!({
        "delta_kind": summaries.first().map(|summary| &summary.kind),
        "axes": study.layout.axes.iter().map(AxisRecord::from).collect::<Vec<_>>(),
        "metrics": study.layout.metrics,
        "head_axis": study.layout.head_axis.map(HeadAxis::name),
        "n_trials": study.rows.len(),
        "n_clusters": clusters.len(),
        "clusters_labelled": clusters.labelled(),
        "n_rejected": rejected,
        "noise_floor": noise,
        "bootstrap": BootstrapRecord::from(&study.bootstrap),
        "threshold": summaries.iter().map(|s| (name(s), threshold(&s.test))).collect::<Map<_, _>>(),
    });
    head.extend(own.as_object().cloned().expect("it was built as one"));
    let full = |summary: &Summary| {
        let full = summary.full_transfer.as_ref()?;
        Some((name(summary), json!({ "mean": full.mean, "note": full.undefined })))
    };
    let full: Map<String, Value> = summaries.iter().filter_map(full).collect();
    if !full.is_empty() {
        head.insert("full_transfer".into(), Value::Object(full));
    }
    head.extend(BEHIND.into_iter().filter_map(|key| Some((key.to_owned(), said(study, key)?))));
    with_cells(&Value::Object(head), rows(study, summaries))
}

/// A test's head, as every file that shows one has it.
pub fn threshold(test: &FamilyTest) -> Value {
    json!({
        "alpha": test.permutation.alpha,
        "tau": test.tau,
        "n_perm": test.permutation.n,
        "seed": test.permutation.seed,
        "two_sided": test.permutation.two_sided,
        "exact": test.exact,
        "n_significant": test.count().map(|(n, _)| n),
        "note": test.note,
    })
}

/// What the run says of itself under a key of the head.
fn said(study: &Study, key: &str) -> Option<Value> {
    let (spec, sweep) = (&study.run["spec"], &study.run["spec"]["sweep"]);
    // What was typed of models is not what they are.
    let typed = if BEHIND.contains(&key) { &sweep[key] } else { &Value::Null };
    let mut value = [&spec[key], &study.run[key], typed].into_iter().find(|value| !value.is_null()).cloned();
    match (key, &mut value) {
        ("model" | "source_model", Some(Value::Object(model))) => {
            model.retain(|key, _| OF_MODEL.contains(&key.as_str()))
        }
        // A whole task says its own positions; of a sweep by itself nothing else is known.
        ("task", task) if sweep["positions"].is_string() => {
            let task = task.get_or_insert_with(|| json!({}));
            if task["positions"].is_null() {
                task["positions"] = sweep["positions"].clone();
            }
        }
        _ => {}
    }
    value
}

/// The head's keys, one per line, and then `cells`, one per line.
pub fn with_cells(head: &Value, rows: Vec<Map<String, Value>>) -> String {
    let mut text = String::from("{\n");
    for (key, value) in head.as_object().expect("it was built as one") {
        text.push_str(&format!("{}: {value},\n", Value::from(key.as_str())));
    }
    let lines: Vec<String> = rows.into_iter().map(|row| Value::Object(row).to_string()).collect();
    text.push_str(&format!("\"cells\": [\n{}\n]\n}}\n", lines.join(",\n")));
    text
}

/// `delta.csv`, the same columns with a header line.
pub fn csv(study: &Study, summaries: &[Summary]) -> String {
    csv_of(&rows(study, summaries))
}

/// Rows that all have the same columns, under a header line. An interval `ci` becomes `ci_lo` and `ci_hi`.
pub fn csv_of(rows: &[Map<String, Value>]) -> String {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let columns: Vec<(String, String)> = row.iter().flat_map(|(name, value)| columns(name, value)).collect();
        if i == 0 {
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            text.push_str(&format!("{}\n", names.join(",")));
        }
        let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
        text.push_str(&format!("{}\n", values.join(",")));
    }
    text
}

/// The lines of both files.
pub fn rows(study: &Study, summaries: &[Summary]) -> Vec<Map<String, Value>> {
    let has_norm = summaries.iter().any(|summary| summary.full_transfer.is_some());
    let places = |summary: &Summary| 0..summary.order.len();
    summaries.iter().flat_map(|s| places(s).map(move |place| row(study, s, place, has_norm))).collect()
}

fn row(study: &Study, summary: &Summary, place: usize, has_norm: bool) -> Map<String, Value> {
    let cell = summary.order[place];
    let stats = &summary.cells[cell];
    let has_number = !stats.mean.is_nan();
    let significant = summary.test.significant.as_ref().filter(|_| has_number).map(|significant| significant[cell]);
    let mut row = Map::new();
    // The metric keeps its place, before what it is a kind of.
    row.insert("metric".into(), Value::Null);
    row.insert("delta_kind".into(), json!(summary.kind));
    row.extend(place_of(&study.layout, summary.metric, cell));
    let columns = [
        ("mean", json!(stats.mean)),
        ("sd", json!(stats.sd)),
        ("se", json!(stats.se)),
        ("ci", json!(stats.ci)),
        ("bca_ci", json!(stats.bca)),
        ("cohens_d", json!(stats.cohens_d)),
        ("p_fwer", json!(summary.test.p_fwer[cell])),
        ("q_fdr", json!(summary.test.q_fdr[cell])),
        ("significant", json!(significant)),
    ];
    row.extend(columns.map(|(name, value)| (name.to_owned(), value)));
    if has_norm {
        let share = summary.full_transfer.as_ref().map(|full| full.share(stats.mean));
        row.insert("cma_logit_diff_norm".into(), json!(share));
    }
    if let Some(below) = &summary.below_floor {
        row.insert("below_floor".into(), if has_number { json!(below[cell]) } else { Value::Null });
    }
    row.insert("rank".into(), if has_number { json!(place + 1) } else { Value::Null });
    row
}

/// The columns that say which cell of which metric a row is of.
pub(super) fn place_of(layout: &Layout, metric: usize, cell: usize) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("metric".into(), json!(layout.metrics[metric]));
    let mut kv_head = None;
    for (axis, index) in layout.axes.iter().zip(scores::unravel(&layout.axes, cell)) {
        let at = axis.coordinate(index);
        if let (Coordinate::Number(head), "head", Some(HeadAxis::Query)) = (&at, axis.name.as_str(), layout.head_axis) {
            kv_head = layout.heads_per_kv.map(|group| head / group as i64);
        }
        let at = match at {
            Coordinate::Number(number) => json!(number),
            Coordinate::Name(name) => json!(name),
        };
        row.insert(axis.name.clone(), at);
    }
    if let Some(kv_head) = kv_head {
        row.insert("kv_head".into(), json!(kv_head));
    }
    row.insert("label".into(), json!(scores::cell_label(&layout.axes, cell)));
    row
}

fn columns(name: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        _ if name == "ci" || name.ends_with("_ci") => {
            let bound = |i: usize| value.get(i).map(plain).unwrap_or_default();
            vec![(format!("{name}_lo"), bound(0)), (format!("{name}_hi"), bound(1))]
        }
        value => vec![(quoted(name), plain(value))],
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A CSV field, quoted only where it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{NoiseFloor, Skipped, TrialRow};
    use crate::scores::GridAxis;
    use crate::stats::Bootstrap;

    fn study() -> Study {
        let trial = |id: &str| TrialRow { id: id.into(), cluster: None, direction: None };
        Study {
            layout: Layout {
                axes: vec![GridAxis::layers(19..20), GridAxis::heads(0..4)],
                metrics: vec!["logit-diff".into()],
                head_axis: Some(HeadAxis::Query),
                heads_per_kv: Some(2),
            },
            trials: vec![trial("a"), trial("b"), trial("c")],
            rows: vec![0, 2],
            skipped: vec![Skipped { index: 1, id: "b".into(), reason: "two tokens".into() }],
            cells: vec![vec![vec![1.0, 3.0, f32::NAN, 3.0], vec![2.0, 3.0, f32::NAN, 3.0]]],
            clean: vec![vec![4.0], vec![5.0]],
            source: None,
            bootstrap: Bootstrap { resamples: 50, ..Bootstrap::default() },
            noise: vec![Some(NoiseFloor { batch: Some(2.0), ..NoiseFloor::default() })],
            run: json!({"spec": {"seed": 7}}),
        }
    }

    #[test]
    fn lines_are_sorted_and_what_is_not_there_is_null() {
        let study = study();
        let summaries = [study.summary(0, &study.bootstrap).unwrap()];
        let csv = csv(&study, &summaries);
        assert_eq!(
            csv,
            "metric,delta_kind,layer,head,kv_head,label,mean,sd,se,ci_lo,ci_hi,bca_ci_lo,bca_ci_hi,cohens_d,p_fwer,q_fdr,\
             significant,below_floor,rank\n\
             logit-diff,logit_diff_drop,19,1,0,L19.H1,3.0,0.0,0.0,3.0,3.0,3.0,3.0,,0.25,0.25,,false,1\n\
             logit-diff,logit_diff_drop,19,3,1,L19.H3,3.0,0.0,0.0,3.0,3.0,3.0,3.0,,0.25,0.25,,false,2\n\
             logit-diff,logit_diff_drop,19,0,0,L19.H0,1.5,0.7071067811865476,0.5,1.0,2.0,1.0,2.0,2.1213203435596424,\
             0.25,0.25,,true,3\n\
             logit-diff,logit_diff_drop,19,2,1,L19.H2,,,,,,,,,,,,,\n"
        );
        let text = json(&study, &summaries);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["schema"], "interp.delta/2");
        assert_eq!(json["n_rejected"], json!({"two tokens": 1}));
        assert_eq!((&json["n_trials"], &json["seed"], &json["head_axis"]), (&json!(2), &json!(7), &json!("query")));
        assert_eq!(json["cells"][2]["ci"], json!([1.0, 2.0]));
        assert_eq!(json["cells"][3]["mean"], Value::Null);
        assert_eq!(json["cells"][3]["p_fwer"], Value::Null);
        assert_eq!(json["delta_kind"], "logit_diff_drop");
        // Two clusters have four sign vectors, of which one in four is the least p: nothing can be significant.
        let threshold = json!({"alpha": 0.05, "tau": null, "n_perm": 4, "seed": 0, "two_sided": false, "exact": true,
            "n_significant": null, "note": "2 clusters: the least p is 0.250, above alpha 0.05"});
        assert_eq!(json["threshold"], json!({ "logit-diff": threshold }));
        assert!(json.get("task").is_none() && json.get("full_transfer").is_none() && json.get("model").is_none());
    }

    #[test]
    fn what_the_run_says_is_in_the_head() {
        let mut study = study();
        study.source = Some(vec![vec![-6.0], vec![-4.0]]);
        study.run = json!({
            "spec": {
                "sweep": {"edit": "patch", "positions": "last", "target": "one", "seed": 3, "model": "base"},
                "task": {"pair_type": "token"},
            },
            "model": {"checkpoint": "base", "chain": [], "weights": [], "dtype": "f32", "n_layers": 2},
            "tool_version": "1",
        });
        study.noise = vec![Some(NoiseFloor { batch: Some(0.5), ..NoiseFloor::default() })];
        let summaries = [study.summary(0, &study.bootstrap).unwrap()];
        let json: Value = serde_json::from_str(&json(&study, &summaries)).unwrap();
        let model = json!({"checkpoint": "base", "chain": [], "weights": [], "dtype": "f32"});
        assert_eq!((&json["model"], &json["task"]), (&model, &json!({"pair_type": "token", "positions": "last"})));
        assert_eq!((&json["target"], &json["seed"], &json["tool_version"]), (&json!("one"), &json!(3), &json!("1")));
        // T is 10 and 9: a mean of 3 logits is 6/19 of the whole.
        assert_eq!(json["full_transfer"]["logit-diff"], json!({"mean": 9.5, "note": null}));
        assert_eq!(json["delta_kind"], "cma_logit_diff");
        assert_eq!(json["cells"][0]["cma_logit_diff_norm"], json!(3.0 / 9.5));
        assert_eq!(json["cells"][3]["cma_logit_diff_norm"], Value::Null);
    }

    #[test]
    fn names_with_commas_survive_csv() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
