//! `delta.json` (schema `interp.delta/2`) and `delta.csv`: one line per metric and cell. Builds text; writes no files.
//!
//! Head of the JSON: `schema`, `index_base` (0), `axes` [{`name`, `labels`}], `metrics` (the primary one first), `head_axis`
//! (`query`, `kv` or null), `n_trials` (those averaged), `n_clusters`, `clusters_labelled` (false: each trial counts as its
//! own cluster), `n_rejected` {reason: count}, `noise_floor` {metric: {repeat, batch, precision, correlation} or null},
//! `bootstrap` {level, resamples, seed}, and, when the run's spec has them, `model`, `source_model`, `task`, `delta_kind`,
//! `target`, `trials_sha256`, `seed`, `tool_version`.
//!
//! A line of `cells`: `metric`; one column per axis, named as the axis (the number of a layer, head or position, else
//! the label); `kv_head` where query heads share one and the run says how many do; `label`; `mean` over trials, `sd`
//! (ddof 1), `se` (by cluster), `ci` [lo, hi] (CSV: `ci_lo`, `ci_hi`); `below_floor` if a noise floor was measured; `rank`
//! from 1 within the metric. Sorted by metric, then mean descending, then axes. What is not finite is null (CSV: empty),
//! and a cell that was not asked for has neither numbers nor rank. Fields that nothing computes yet (`p_fwer`, `q_fdr`,
//! `significant`, `threshold`) are absent, not null, so that null always means "computed, and there is none".

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::study::{AxisRecord, BootstrapRecord, Layout, Study, Summary};
use crate::scores::{self, Coordinate};
use crate::site::HeadAxis;

/// Keys copied from the run's spec into the head of `delta.json`.
const FROM_SPEC: [&str; 8] =
    ["model", "source_model", "task", "delta_kind", "target", "trials_sha256", "seed", "tool_version"];

/// `delta.json`, one cell per line.
pub fn json(study: &Study, summaries: &[Summary]) -> String {
    let clusters = study.clusters();
    let mut rejected: BTreeMap<&str, usize> = BTreeMap::new();
    study.skipped.iter().for_each(|trial| *rejected.entry(&trial.reason).or_default() += 1);
    let noise: Map<String, Value> =
        study.layout.metrics.iter().zip(&study.noise).map(|(name, noise)| (name.clone(), json!(noise))).collect();
    let mut head = json!({
        "schema": "interp.delta/2",
        "index_base": 0,
        "axes": study.layout.axes.iter().map(AxisRecord::from).collect::<Vec<_>>(),
        "metrics": study.layout.metrics,
        "head_axis": study.layout.head_axis.map(HeadAxis::name),
        "n_trials": study.rows.len(),
        "n_clusters": clusters.len(),
        "clusters_labelled": clusters.labelled(),
        "n_rejected": rejected,
        "noise_floor": noise,
        "bootstrap": BootstrapRecord::from(&study.bootstrap),
    });
    for key in FROM_SPEC {
        if let Some(value) = study.run["spec"].get(key) {
            head[key] = value.clone();
        }
    }
    with_cells(&head, rows(study, summaries))
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
    summaries.iter().flat_map(|summary| (0..summary.order.len()).map(|place| row(study, summary, place))).collect()
}

fn row(study: &Study, summary: &Summary, place: usize) -> Map<String, Value> {
    let cell = summary.order[place];
    let stats = &summary.cells[cell];
    let mut row = place_of(&study.layout, summary.metric, cell);
    row.insert("mean".into(), json!(stats.mean));
    row.insert("sd".into(), json!(stats.sd));
    row.insert("se".into(), json!(stats.se));
    row.insert("ci".into(), json!(stats.ci));
    let has_number = !stats.mean.is_nan();
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
            "metric,layer,head,kv_head,label,mean,sd,se,ci_lo,ci_hi,below_floor,rank\n\
             logit-diff,19,1,0,L19.H1,3.0,0.0,0.0,3.0,3.0,false,1\n\
             logit-diff,19,3,1,L19.H3,3.0,0.0,0.0,3.0,3.0,false,2\n\
             logit-diff,19,0,0,L19.H0,1.5,0.7071067811865476,0.5,1.0,2.0,true,3\n\
             logit-diff,19,2,1,L19.H2,,,,,,,\n"
        );
        let text = json(&study, &summaries);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["schema"], "interp.delta/2");
        assert_eq!(json["n_rejected"], json!({"two tokens": 1}));
        assert_eq!((&json["n_trials"], &json["seed"], &json["head_axis"]), (&json!(2), &json!(7), &json!("query")));
        assert_eq!(json["cells"][2]["ci"], json!([1.0, 2.0]));
        assert_eq!(json["cells"][3]["mean"], Value::Null);
        assert!(json["cells"][3].get("p_fwer").is_none());
    }

    #[test]
    fn names_with_commas_survive_csv() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
