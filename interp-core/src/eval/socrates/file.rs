//! Files of predictions and of metrics, as the released script writes them.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Metrics, Prediction, metrics, number};
use crate::error::Result;
use crate::eval::Check;
use crate::eval::read::{Row, distinct, refuse};

/// Whether a JSON value looks like a file of predictions.
pub fn is_one(value: &Value) -> bool {
    value.as_array().and_then(|rows| rows.first()).is_some_and(|row| {
        ["study_id", "predicted_response", "true_response", "pred_numeric"]
            .iter()
            .any(|field| row.get(*field).is_some())
    })
}

/// Whether a JSON value looks like the metrics that go with such a file.
pub fn is_metrics(value: &Value) -> bool {
    value.get("num_predictions").is_some() || value.get("wasserstein_distance").is_some()
}

/// Reads the rows. Errs on a missing field, a number that is none, and ids that stand twice.
pub fn from_json(path: &Path, value: &Value) -> Result<Vec<Prediction>> {
    let Some(list) = value.as_array().filter(|list| !list.is_empty()) else {
        return Err(refuse(path, "holds no row".into(), "give a list of predictions with at least one row"));
    };
    let empty = Map::new();
    let mut rows = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        rows.push(row(&Row::new(path, format!("[{index}]."), value.as_object().unwrap_or(&empty)))?);
    }
    let ids = rows.iter().enumerate().filter_map(|(i, row)| Some((format!("[{i}]"), row.id.clone()?)));
    distinct(path, ids)?;
    Ok(rows)
}

fn row(row: &Row<'_>) -> Result<Prediction> {
    let label = |field: &str| -> Result<String> {
        row.value(field)?;
        Ok(row.label(field)?.unwrap_or_default())
    };
    let read = |field: &str| -> Result<Option<f64>> {
        row.value(field)?;
        if row.optional(field).is_some() { row.number(field).map(Some) } else { Ok(None) }
    };
    Ok(Prediction {
        id: row.label("id")?,
        study: label("study_id")?,
        condition: label("condition_num")?,
        input: row.text_or("input", "")?.into(),
        answer: row.text("true_response")?.into(),
        predicted: row.text("predicted_response")?.into(),
        true_number: read("true_numeric")?,
        predicted_number: read("pred_numeric")?,
    })
}

/// Rows as JSON, in the published shape.
pub fn rows_json(rows: &[Prediction]) -> Value {
    let row = |row: &Prediction| {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.into(), value);
        if let Some(id) = &row.id {
            put("id", json!(id));
        }
        put("study_id", json!(row.study));
        // A number stays a number.
        put("condition_num", row.condition.parse::<i64>().map_or_else(|_| json!(row.condition), |n| json!(n)));
        put("input", json!(row.input));
        put("true_response", json!(row.answer));
        put("predicted_response", json!(row.predicted));
        put("true_numeric", json!(row.true_number));
        put("pred_numeric", json!(row.predicted_number));
        Value::Object(map)
    };
    rows.iter().map(row).collect()
}

/// Metrics as JSON: the published names first, then ours.
pub fn metrics_json(found: &Metrics) -> Value {
    let per_study = found.studies.iter().map(|study| (study.study.clone(), json!(study.self_minmax)));
    let per_condition = found.groups.iter().map(|(group, distances)| {
        json!({
            "study_id": group.study,
            "condition_num": group.condition,
            "n": group.truth.len(),
            "mean_true": mean(&group.truth),
            "mean_predicted": mean(&group.predicted),
            "w1_self_minmax": distances.map(|d| d.self_minmax),
            "w1_ref_range": distances.and_then(|d| d.ref_range),
            "w1_uniform": distances.and_then(|d| d.uniform),
        })
    });
    let per_study_all = found.studies.iter().map(|study| {
        json!({
            "study_id": study.study,
            "rows": study.rows,
            "conditions": study.conditions,
            "w1_self_minmax": study.self_minmax,
            "w1_ref_range": study.ref_range,
            "w1_uniform": study.uniform,
        })
    });
    json!({
        "num_predictions": found.n,
        "total_examples": found.rows,
        "mae": found.mae,
        "rmse": found.rmse,
        "correlation": found.correlation,
        "wasserstein_distance": found.self_minmax,
        "wasserstein_num_conditions": found.conditions,
        "wasserstein_num_studies": found.studies.len(),
        "wasserstein_per_study": per_study.collect::<Map<String, Value>>(),
        "exact_match": found.exact,
        "w1_self_minmax": found.self_minmax,
        "w1_ref_range": found.ref_range,
        "w1_ref_range_conditions": found.ref_conditions,
        "w1_uniform": found.uniform,
        "conditions_of_one_row": found.single,
        "per_study": per_study_all.collect::<Vec<Value>>(),
        "per_condition": per_condition.collect::<Vec<Value>>(),
    })
}

fn mean(values: &[f64]) -> Option<f64> {
    crate::eval::sums::mean_in_order(values)
}

/// What the rows claim of their texts, and what a file of metrics, if there is one, claims of the rows.
pub fn check(rows: &[Prediction], claimed: Option<&Value>) -> Check {
    let mut check = Check::default();
    for (i, row) in rows.iter().enumerate() {
        check.number(format!("[{i}].true_numeric"), row.true_number, number(&row.answer));
        check.number(format!("[{i}].pred_numeric"), row.predicted_number, number(&row.predicted));
    }
    let Some(claimed) = claimed.and_then(Value::as_object) else { return check };
    let found = metrics_json(&metrics(rows));
    for (name, value) in claimed {
        match value {
            Value::Object(_) => {
                let numbers = found[name.as_str()].as_object().into_iter().flatten();
                check.numbers(name, value, numbers.filter_map(|(key, x)| Some((key.as_str(), x.as_f64()?))));
            }
            Value::Number(_) => check.number(name, value.as_f64(), found[name.as_str()].as_f64()),
            Value::Null if found[name.as_str()].is_null() => check.number(name, None, None),
            other => check.value(name, other, found[name.as_str()].clone()),
        }
    }
    check
}
