//! The results file of BioRLHF's evaluation script: read, compared with what its samples say, and written.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Scored, Summary, V4Check, summary};
use crate::error::Result;
use crate::eval::read::{Row, distinct};
use crate::eval::{Check, Verifier};

/// Characters of a prompt and of a response that the file keeps.
const KEPT: [usize; 2] = [100, 300];

/// What a results file says besides its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The model that answered.
    pub model_path: String,
    /// What it was made from.
    pub base_model: String,
    /// When, as written; `null` where nobody said.
    pub evaluation_date: Value,
    /// Tissues that training did not see.
    pub hold_out_tissues: Vec<String>,
    /// Counts of the questions: `total`, `by_source`, `by_question_type`, `by_tissue`, `by_difficulty`.
    pub dataset: Value,
}

/// The model before training with rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    /// Its mean reward.
    pub reward: f64,
    /// Its expected calibration error.
    pub ece: f64,
}

/// A whole evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What was evaluated.
    pub head: Head,
    /// What it is compared with.
    pub baseline: Option<Baseline>,
    /// The samples.
    pub samples: Vec<Scored>,
}

impl Evaluation {
    /// Whether a JSON value looks like a file of this kind.
    pub fn is_one(value: &Value) -> bool {
        value.get("per_sample").is_some() || value.get("calibration").is_some()
    }

    /// Reads a file's value. Errs on a missing field, a share outside 0 to 1, a verifier that does not exist and ids that stand
    /// twice.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self> {
        let empty = Map::new();
        let top = Row::new(path, "", value.as_object().unwrap_or(&empty));
        let list = top.list("per_sample")?;
        if list.is_empty() {
            return Err(top.wrong("per_sample", "is empty".into(), "give a file with at least one sample"));
        }
        let mut samples = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let map = value.as_object().unwrap_or(&empty);
            samples.push(sample(&Row::new(path, format!("per_sample[{index}]."), map))?);
        }
        let ids = samples.iter().enumerate().filter_map(|(i, one)| Some((format!("per_sample[{i}]"), one.id.clone()?)));
        distinct(path, ids)?;
        let baseline = match top.optional("baseline_comparison").and_then(Value::as_object) {
            Some(map) if !map.is_empty() => {
                let row = Row::new(path, "baseline_comparison.", map);
                Some(Baseline { reward: row.number("sft_mean_reward")?, ece: row.number("sft_ece")? })
            }
            _ => None,
        };
        let tissues = value["hold_out_tissues"].as_array().into_iter().flatten();
        let head = Head {
            model_path: top.text_or("model_path", "")?.into(),
            base_model: top.text_or("base_model", "")?.into(),
            evaluation_date: value["evaluation_date"].clone(),
            hold_out_tissues: tissues.filter_map(|tissue| tissue.as_str().map(str::to_owned)).collect(),
            dataset: value["eval_dataset_stats"].clone(),
        };
        Ok(Self { head, baseline, samples })
    }

    /// Everything that `value`, this evaluation's file, claims beside what its samples give, with the composer's `weights`.
    pub fn check(&self, path: &Path, value: &Value, weights: &[f64; 4]) -> Result<Check> {
        let empty = Map::new();
        let top = Row::new(path, "", value.as_object().unwrap_or(&empty));
        let (grpo, claimed) = (top.object("grpo")?, top.object("calibration")?);
        let grpo_row = Row::new(path, "grpo.", grpo);
        let row = Row::new(path, "calibration.", claimed);
        let Summary { mean_reward, verifier_means, by_type, calibration } = summary(&self.samples);
        let mut check = Check::default();
        let n = self.samples.len() as f64;
        check.number("grpo.mean_reward", Some(grpo_row.number("mean_reward")?), Some(mean_reward));
        check.number("grpo.n_samples", Some(grpo_row.number("n_samples")?), Some(n));
        let means = verifier_means.iter().map(|(verifier, mean)| (verifier.name(), *mean));
        check.numbers("grpo.verifier_means", grpo_row.value("verifier_means")?, means);
        let means = by_type.iter().map(|(name, mean, _)| (name.as_str(), *mean));
        check.numbers("grpo.by_question_type", grpo_row.value("by_question_type")?, means);
        for (name, found) in calibration_fields(&calibration) {
            check.number(format!("calibration.{name}"), Some(row.number(name)?), Some(found));
        }
        let bins = row.list("reliability_bins")?;
        for (i, bin) in calibration.bins.iter().enumerate() {
            let claimed = bins.get(i).unwrap_or(&Value::Null);
            check.numbers(&format!("calibration.reliability_bins[{i}]"), claimed, bin_fields(bin).into_iter());
        }
        for (i, bin) in bins.iter().enumerate().skip(calibration.bins.len()) {
            check.value(format!("calibration.reliability_bins[{i}]"), bin, Value::Null);
        }
        for (index, sample) in self.samples.iter().enumerate() {
            let found = sample.recomposed(weights);
            check.number(format!("per_sample[{index}].total_reward"), Some(sample.total), Some(found));
        }
        for (index, stored, found) in V4Check::of(&self.samples).exceptions {
            check.number(format!("per_sample[{index}].verifier_scores.V4"), Some(stored), Some(found));
        }
        let summary = summary(&self.samples);
        if self.baseline.is_some() {
            let found = self.comparison(&summary);
            let claimed = &value["baseline_comparison"];
            for name in ["delta_reward", "delta_ece"] {
                check.number(format!("baseline_comparison.{name}"), claimed[name].as_f64(), found[name].as_f64());
            }
        }
        if let Some(claimed) = top.optional("success_criteria").and_then(Value::as_object) {
            let found = self.criteria(&summary);
            claimed.iter().for_each(|(name, value)| {
                check.value(format!("success_criteria.{name}"), value, found[name.as_str()].clone());
            });
        }
        // A file may keep fewer samples than the set has questions; then its counts are not of these samples.
        if self.head.dataset["total"].as_f64() == Some(n) {
            for (name, count) in self.counts() {
                let claimed = &self.head.dataset[name];
                if claimed.is_object() {
                    let field = format!("eval_dataset_stats.{name}");
                    check.numbers(&field, claimed, count.iter().map(|(key, n)| (key.as_str(), *n as f64)));
                }
            }
        }
        Ok(check)
    }

    /// The file as JSON, in the published shape.
    pub fn json(&self) -> Value {
        let summary = summary(&self.samples);
        let Summary { mean_reward, verifier_means, by_type, calibration } = &summary;
        let object = |pairs: Vec<(String, Value)>| Value::Object(pairs.into_iter().collect());
        let verifiers = verifier_means.iter().map(|(verifier, mean)| (verifier.name().to_owned(), json!(mean)));
        let types = by_type.iter().map(|(name, mean, _)| (name.clone(), json!(mean)));
        let mut calibrated: Map<String, Value> = Map::new();
        for (name, value) in calibration_fields(calibration) {
            let value = if name == "n_samples" { json!(calibration.n) } else { json!(value) };
            calibrated.insert(name.into(), value);
        }
        let bin = |bin: &crate::eval::Bin| {
            let mut fields: Map<String, Value> =
                bin_fields(bin).into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
            fields.insert("count".into(), json!(bin.count));
            Value::Object(fields)
        };
        calibrated.insert("reliability_bins".into(), calibration.bins.iter().map(bin).collect());
        json!({
            "model_path": self.head.model_path,
            "base_model": self.head.base_model,
            "evaluation_date": self.head.evaluation_date,
            "hold_out_tissues": self.head.hold_out_tissues,
            "eval_dataset_stats": self.head.dataset,
            "grpo": {
                "mean_reward": mean_reward,
                "verifier_means": object(verifiers.collect()),
                "by_question_type": object(types.collect()),
                "n_samples": self.samples.len(),
            },
            "calibration": calibrated,
            "baseline_comparison": self.comparison(&summary),
            "success_criteria": self.criteria(&summary),
            "per_sample": self.samples.iter().map(sample_json).collect::<Vec<Value>>(),
        })
    }

    /// Counts of the samples by source, type and tissue, in order of first appearance.
    pub fn counts(&self) -> [(&'static str, Vec<(String, usize)>); 3] {
        let count = |of: fn(&Scored) -> &String| {
            let mut counts: Vec<(String, usize)> = Vec::new();
            for sample in &self.samples {
                match counts.iter_mut().find(|(name, _)| name == of(sample)) {
                    Some((_, n)) => *n += 1,
                    None => counts.push((of(sample).clone(), 1)),
                }
            }
            counts
        };
        [
            ("by_source", count(|sample| &sample.source)),
            ("by_question_type", count(|sample| &sample.question_type)),
            ("by_tissue", count(|sample| &sample.tissue)),
        ]
    }

    fn comparison(&self, summary: &Summary) -> Value {
        let Some(Baseline { reward, ece }) = self.baseline else { return json!({}) };
        json!({
            "sft_mean_reward": reward,
            "sft_ece": ece,
            "delta_reward": summary.mean_reward - reward,
            "delta_ece": summary.calibration.ece - ece,
        })
    }

    fn criteria(&self, summary: &Summary) -> Value {
        let mut passed =
            vec![("reward_above_05", summary.mean_reward > 0.5), ("ece_below_015", summary.calibration.ece < 0.15)];
        passed.extend(self.baseline.map(|base| ("reward_above_baseline", summary.mean_reward - base.reward > 0.0)));
        let all = passed.iter().all(|(_, yes)| *yes);
        passed.push(("overall_pass", all));
        Value::Object(passed.into_iter().map(|(name, yes)| (name.to_owned(), json!(yes))).collect())
    }
}

fn calibration_fields(calibration: &crate::eval::Calibration) -> [(&'static str, f64); 8] {
    [
        ("ece", calibration.ece),
        ("mce", calibration.mce),
        ("brier_score", calibration.brier),
        ("overconfidence_rate", calibration.overconfidence),
        ("underconfidence_rate", calibration.underconfidence),
        ("mean_confidence", calibration.confidence),
        ("mean_accuracy", calibration.accuracy),
        ("n_samples", calibration.n as f64),
    ]
}

fn bin_fields(bin: &crate::eval::Bin) -> [(&'static str, f64); 6] {
    [
        ("bin_lower", bin.lower),
        ("bin_upper", bin.upper),
        ("mean_confidence", bin.confidence),
        ("mean_accuracy", bin.accuracy),
        ("count", bin.count as f64),
        ("calibration_error", bin.error),
    ]
}

fn sample(row: &Row<'_>) -> Result<Scored> {
    let mut scores = [None; 4];
    for (name, value) in row.object("verifier_scores")? {
        let field = format!("verifier_scores.{name}");
        let verifier: Verifier = name.parse().map_err(|_| {
            row.wrong(&field, "no such verifier".into(), "verifiers are V1, V2, V3 and V4: rename it, or take it out")
        })?;
        let score = value.as_f64().filter(|score| (0.0..=1.0).contains(score));
        let problem = || format!("must be a number from 0 to 1, found {value}");
        let hint = "a verifier that does not apply is left out of `verifier_scores`";
        scores[verifier as usize] = Some(score.ok_or_else(|| row.wrong(&field, problem(), hint))?);
    }
    Ok(Scored {
        id: row.label("id")?,
        prompt: row.text("prompt")?.into(),
        response: row.text("response")?.into(),
        total: row.number("total_reward")?,
        scores,
        question_type: row.text("question_type")?.into(),
        source: row.text_or("source", "unknown")?.into(),
        tissue: row.text_or("tissue", "unknown")?.into(),
        confidence: row.share("confidence")?,
        stated: row.text_or("confidence_stated", "medium")?.into(),
    })
}

fn sample_json(sample: &Scored) -> Value {
    let cut = |text: &str, n: usize| text.chars().take(n).collect::<String>();
    let scores: Map<String, Value> = Verifier::ALL
        .into_iter()
        .filter_map(|verifier| Some((verifier.name().to_owned(), json!(sample.scores[verifier as usize]?))))
        .collect();
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| map.insert(name.into(), value);
    if let Some(id) = &sample.id {
        put("id", json!(id));
    }
    put("prompt", json!(cut(&sample.prompt, KEPT[0])));
    put("response", json!(cut(&sample.response, KEPT[1])));
    put("total_reward", json!(sample.total));
    put("verifier_scores", Value::Object(scores));
    put("question_type", json!(sample.question_type));
    put("source", json!(sample.source));
    put("tissue", json!(sample.tissue));
    put("confidence", json!(sample.confidence));
    put("confidence_stated", json!(sample.stated));
    Value::Object(map)
}
