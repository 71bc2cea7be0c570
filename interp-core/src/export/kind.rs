//! What the δ of a run is called, and what a full transfer of the answer would be. Reads the run's spec; runs nothing.

use super::study::Study;

/// |mean T| must exceed so many noise floors for a share of it to mean something.
const FLOORS: f64 = 10.0;

/// What mean causal mediation scores are stated as shares of.
#[derive(Debug, Clone, PartialEq)]
pub struct FullTransfer {
    /// Mean over trials of T, in logits: how far the source's own run is from the base's, in the direction of the answer
    /// expected after the patch.
    pub mean: f64,
    /// Why a share of it would mean nothing.
    pub undefined: Option<String>,
}

impl FullTransfer {
    /// A mean score as a share of the full transfer: 1 where one cell carries the whole answer over. NaN where that is
    /// undefined.
    pub fn share(&self, mean: f64) -> f64 {
        if self.undefined.is_none() { mean / self.mean } else { f64::NAN }
    }
}

impl Study {
    /// What a metric's δ is, by edit and metric: `cma_logit_diff` for a patch within one model (the causal mediation score of
    /// Yang et al., ICML 2025), `ablation_logit_diff_drop`, `ablation_prob_drop` and so on for `zero` and `mean`,
    /// `transplant_…` for a patch from another model, and the edit's own name for every other.
    pub fn delta_kind(&self, metric: usize) -> String {
        let sweep = &self.run["spec"]["sweep"];
        let edit = sweep["edit"].as_str().map(|edit| edit.split(':').next().unwrap_or(edit));
        // A donor that turned out to be the edited model itself is none, and the spec has no `source` then.
        kind(edit, self.run["spec"]["source"].is_object(), &self.layout.metrics[metric])
    }

    /// T of causal mediation scores; `None` for every other δ.
    ///
    /// The literature's T is δ(source) − δ(base), with δ a prompt's logit of the answer expected after the patch less that of
    /// the base's own answer. Our metric of a run is the second less the first, so T = metric(base) − metric(source).
    pub fn full_transfer(&self, metric: usize) -> Option<FullTransfer> {
        if self.delta_kind(metric) != "cma_logit_diff" {
            return None;
        }
        let source = self.source.as_ref()?;
        let each = self.clean.iter().zip(source).map(|(clean, source)| clean[metric] - source[metric]);
        let n = self.rows.len() as f64;
        let mean = each.sum::<f64>() / n;
        let of_source = source.iter().map(|source| source[metric]).sum::<f64>() / n;
        let floor = self.noise[metric].as_ref().and_then(|noise| noise.largest()).unwrap_or(0.0);
        let undefined = match self.run["spec"]["task"]["pair_type"].as_str() {
            Some(pairs @ ("abstract" | "mixed")) => {
                Some(format!("{pairs} pairs: base and source need not have different answers"))
            }
            _ if !mean.is_finite() => Some("a trial has no number for its source".into()),
            // Nobody says what the source answers: its own run does.
            None if of_source >= 0.0 => Some("the source's own run does not prefer the other answer".into()),
            _ if mean.abs() < FLOORS * floor || mean == 0.0 => {
                Some(format!("|mean T| is under {FLOORS} times the noise floor"))
            }
            _ => None,
        };
        Some(FullTransfer { mean, undefined })
    }
}

fn kind(edit: Option<&str>, other_donor: bool, metric: &str) -> String {
    let metric = metric.replace('-', "_");
    let what: &str = match edit {
        Some("patch") if other_donor => "transplant_",
        Some("patch") if metric == "logit_diff" => return "cma_logit_diff".into(),
        Some("zero" | "mean") => "ablation_",
        Some(edit) => &format!("{}_", edit.replace('-', "_")),
        None => "",
    };
    // δ of `kl` is the divergence itself; every other is what the metric lost.
    let lost = if metric == "kl" { "" } else { "_drop" };
    format!("{what}{metric}{lost}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::NoiseFloor;
    use super::super::study::{Layout, TrialRow};
    use super::*;
    use crate::scores::GridAxis;
    use crate::stats::Bootstrap;

    #[test]
    fn kinds_have_the_papers_names_where_it_has_some() {
        let of = |edit: &str, metric: &str| kind(Some(edit), false, metric);
        assert_eq!(of("patch", "logit-diff"), "cma_logit_diff");
        assert_eq!(of("zero", "logit-diff"), "ablation_logit_diff_drop");
        assert_eq!((of("mean", "prob"), of("zero", "acc")), ("ablation_prob_drop".into(), "ablation_acc_drop".into()));
        assert_eq!((of("zero", "kl"), of("patch", "prob")), ("ablation_kl".into(), "patch_prob_drop".into()));
        assert_eq!(of("uniform-attention", "log-prob"), "uniform_attention_log_prob_drop");
        assert_eq!(kind(Some("patch"), true, "logit-diff"), "transplant_logit_diff_drop");
        assert_eq!(kind(None, false, "prob"), "prob_drop");
    }

    fn study(clean: &[f64], source: &[f64]) -> Study {
        let trial = |id: usize| TrialRow { id: id.to_string(), cluster: None, direction: None };
        Study {
            layout: Layout {
                axes: vec![GridAxis::layers(0..1)],
                metrics: vec!["logit-diff".into()],
                head_axis: None,
                heads_per_kv: None,
            },
            trials: (0..clean.len()).map(trial).collect(),
            rows: (0..clean.len()).collect(),
            skipped: vec![],
            cells: vec![vec![vec![1.0]; clean.len()]],
            clean: clean.iter().map(|&x| vec![x]).collect(),
            source: Some(source.iter().map(|&x| vec![x]).collect()),
            bootstrap: Bootstrap::default(),
            noise: vec![Some(NoiseFloor { batch: Some(0.5), ..NoiseFloor::default() })],
            run: json!({"spec": {"sweep": {"edit": "patch"}, "task": {"pair_type": "token"}}}),
        }
    }

    #[test]
    fn a_full_transfer_is_one() {
        // The base prefers its own answer by 4 and 6, the source the other one by 2 and 4: 6 and 10 from one to the other.
        let study = study(&[4.0, 6.0], &[-2.0, -4.0]);
        let full = study.full_transfer(0).unwrap();
        assert_eq!((full.mean, full.share(8.0), full.share(2.0)), (8.0, 1.0, 0.25));
        let mut other = study.clone();
        other.run["spec"]["task"]["pair_type"] = json!("abstract");
        let undefined = other.full_transfer(0).unwrap();
        assert!(undefined.share(8.0).is_nan() && undefined.undefined.unwrap().starts_with("abstract pairs"));
        // Where trials do not say what pairs they are, the source's run must prefer the other answer.
        other.run["spec"]["task"] = json!(null);
        assert_eq!(other.full_transfer(0).unwrap().undefined, None);
        other.source = Some(vec![vec![2.0], vec![1.0]]);
        let undefined = other.full_transfer(0).unwrap().undefined.unwrap();
        assert_eq!(undefined, "the source's own run does not prefer the other answer");
        other.run["spec"]["sweep"]["edit"] = json!("zero");
        assert_eq!(other.full_transfer(0), None);
    }

    #[test]
    fn a_transfer_within_the_noise_is_none() {
        let full = study(&[4.0, 6.0], &[1.0, 0.0]).full_transfer(0).unwrap();
        assert_eq!(full.mean, 4.5);
        assert_eq!(full.undefined.as_deref(), Some("|mean T| is under 10 times the noise floor"));
        let full = study(&[4.0], &[f64::NAN]).full_transfer(0).unwrap();
        assert!(full.undefined.is_some() && full.share(1.0).is_nan());
    }
}
