//! Heads as typed, or chosen by a finished sweep or by retrieval scores: the largest, or the significant ones, each with its
//! effect as weight.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use interp_core::config::ModelConfig;
use interp_core::export::{Study, Summary};
use interp_core::retrieval::RetrievalScores;
use interp_core::scores::cell_label;
use interp_core::site::{HeadAxis, HeadRef};
use interp_core::{Error, stats};
use serde_json::Value;

use crate::beside::scores_file;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Named(Vec<HeadRef>),
    Top(usize),
    Significant,
}

/// Heads, each with what it counts.
#[derive(Debug, PartialEq)]
pub struct Chosen {
    /// In the order named, or the largest effect first.
    pub heads: Vec<HeadRef>,
    /// Mean δ of the ranking sweep's first metric, or mean retrieval score; 1 each without a ranking.
    pub weights: Vec<f64>,
    /// Which heads of the ranking were counted.
    pub axis: Option<HeadAxis>,
    /// Layers (at least) and heads per layer of the model that was ranked.
    pub grid: Option<(usize, usize)>,
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> interp_core::Result<Self> {
        match text.strip_prefix("top:") {
            Some(k) => k.parse().map(Choice::Top).map_err(|_| Error::Selector {
                what: "heads",
                value: text.into(),
                problem: "not a number of heads".into(),
                hint: Some("write top:5, significant, or heads such as L19.H17,L20.H3".into()),
            }),
            None if text == "significant" => Ok(Choice::Significant),
            None => {
                let heads = text.split(',').map(|head| head.trim().parse()).collect::<interp_core::Result<_>>()?;
                Ok(Choice::Named(heads))
            }
        }
    }
}

impl Chosen {
    /// `text` as typed behind `--heads`, with the folder of `--ranked-by`.
    pub fn read(text: &str, ranked_by: Option<&Path>) -> Result<Self> {
        let choice: Choice = text.parse()?;
        let Some(dir) = ranked_by else {
            let Choice::Named(heads) = choice else {
                let problem = "there is nothing to choose them by".into();
                let hint = Some("add --ranked-by DIR, the folder of a sweep over layers and heads".into());
                return Err(Error::Selector { what: "heads", value: text.into(), problem, hint }.into());
            };
            return Ok(Self { weights: vec![1.0; heads.len()], heads, axis: None, grid: None });
        };
        if let Some(file) = scores_file(dir) {
            return Self::of_retrieval(choice, &file);
        }
        let study = Study::load(dir)?;
        let summary = study.summary(0, &study.bootstrap)?;
        let heads = match choice {
            Choice::Named(heads) => heads,
            Choice::Top(k) => study.top_heads(0, k)?,
            Choice::Significant => significant(&study, &summary, dir)?,
        };
        let cells = study.cells_of_heads(0, &heads)?;
        let weights = cells.into_iter().map(|cell| summary.cells[cell].mean).collect();
        Ok(Self { heads, weights, axis: study.layout.head_axis, grid: Some(study.head_grid()?) })
    }

    /// Heads by their mean retrieval scores.
    fn of_retrieval(choice: Choice, file: &Path) -> Result<Self> {
        let scores = RetrievalScores::read(file)?;
        let ((n_layers, n_heads), means) = (scores.grid(), scores.means());
        let refuse = |value: String, problem: String, hint: &str| -> anyhow::Error {
            Error::Selector { what: "heads", value, problem, hint: Some(hint.into()) }.into()
        };
        let heads = match choice {
            Choice::Named(heads) => heads,
            Choice::Top(k) if (1..=means.len()).contains(&k) && scores.n_trials() > 0 => {
                let head = |cell: usize| HeadRef { layer: cell / n_heads, head: cell % n_heads };
                stats::ranking(&means).into_iter().take(k).map(head).collect()
            }
            Choice::Top(k) => {
                let problem = format!("{} has {} trials of {} heads", file.display(), scores.n_trials(), means.len());
                return Err(refuse(format!("top:{k}"), problem, "take 1 to as many heads as were scored"));
            }
            Choice::Significant => {
                let problem = format!("{} holds scores, and no test of them", file.display());
                return Err(refuse("significant".into(), problem, "choose heads by --heads top:K"));
            }
        };
        if let Some(head) = heads.iter().find(|head| head.layer >= n_layers || head.head >= n_heads) {
            let problem = format!("{} has {n_layers} layers of {n_heads} heads", file.display());
            return Err(refuse(head.to_string(), problem, "layers and heads count from 0"));
        }
        let weights = heads.iter().map(|head| means[head.layer * n_heads + head.head]).collect();
        Ok(Self { heads, weights, axis: Some(HeadAxis::Query), grid: Some((n_layers, n_heads)) })
    }

    /// The same heads on another axis of heads: where query heads were ranked and a site has key-value heads, the ones that they
    /// read. Errs for a head that the model does not have, and for a ranking of a model of another shape.
    pub fn on_axis(mut self, axis: HeadAxis, config: &ModelConfig) -> Result<Self> {
        check_grid(self.grid, self.axis, config)?;
        let group = config.n_heads / config.n_kv_heads;
        match (self.axis, axis) {
            (Some(HeadAxis::Query), HeadAxis::Kv) => self.heads.iter_mut().for_each(|head| head.head /= group),
            (Some(HeadAxis::Kv), HeadAxis::Query) => {
                let problem = "the ranking counts key-value heads, and this site has query heads".into();
                let hint = Some("rank by a sweep of a site with query heads, such as z".into());
                return Err(Error::Selector { what: "heads", value: "ranking".into(), problem, hint }.into());
            }
            _ => {}
        }
        let n = if axis == HeadAxis::Kv { config.n_kv_heads } else { config.n_heads };
        let absent = |head: &&HeadRef| head.layer >= config.n_layers || head.head >= n;
        if let Some(head) = self.heads.iter().find(absent) {
            let problem = format!("the model has layers 0..{} with {} heads 0..{n}", config.n_layers, axis.name());
            let hint = Some("layers and heads count from 0".into());
            return Err(Error::Selector { what: "head", value: head.to_string(), problem, hint }.into());
        }
        Ok(self)
    }
}

/// Errs when heads were ranked in a model of another shape: its heads are not this model's.
pub fn check_grid(grid: Option<(usize, usize)>, axis: Option<HeadAxis>, config: &ModelConfig) -> Result<()> {
    let (Some((layers, heads)), Some(axis)) = (grid, axis) else { return Ok(()) };
    let n = if axis == HeadAxis::Kv { config.n_kv_heads } else { config.n_heads };
    if heads == n && layers <= config.n_layers {
        return Ok(());
    }
    let (axis, n_layers) = (axis.name(), config.n_layers);
    let problem = format!(
        "has {heads} {axis} heads a layer in {layers} layers or more, the model {n} in {n_layers}: it is of another model"
    );
    let hint = Some("rank by a sweep of this model".into());
    Err(Error::Selector { what: "--ranked-by", value: "ranking".into(), problem, hint }.into())
}

/// The heads that `delta.json` calls significant, the largest effect first.
fn significant(study: &Study, summary: &Summary, dir: &Path) -> Result<Vec<HeadRef>> {
    let path = dir.join("delta.json");
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let table: Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), line: None, source })?;
    let refuse = |problem: &str, hint: &str| -> anyhow::Error {
        Error::File { path: path.clone(), problem: problem.into(), hint: Some(hint.into()) }.into()
    };
    let metric = &study.layout.metrics[0];
    let cells = table["cells"].as_array().map_or(&[][..], Vec::as_slice);
    let mut of_metric = cells.iter().filter(|cell| cell["metric"] == metric.as_str()).peekable();
    if of_metric.peek().is_none_or(|cell| cell.get("significant").is_none()) {
        return Err(refuse("its cells were not tested for significance", "choose heads by --heads top:K"));
    }
    let labels: Vec<&str> =
        of_metric.filter(|cell| cell["significant"] == true).filter_map(|cell| cell["label"].as_str()).collect();
    if labels.is_empty() {
        return Err(refuse("no head is significant there", "choose heads by --heads top:K"));
    }
    let ranked = summary.order.iter().map(|&cell| cell_label(&study.layout.axes, cell));
    Ok(ranked.filter(|label| labels.contains(&label.as_str())).map(|label| label.parse()).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_named_counted_or_significant() {
        let head = |layer, head| HeadRef { layer, head };
        assert_eq!("L2.H6, 1.0".parse::<Choice>().unwrap(), Choice::Named(vec![head(2, 6), head(1, 0)]));
        assert_eq!("top:3".parse::<Choice>().unwrap(), Choice::Top(3));
        assert_eq!("significant".parse::<Choice>().unwrap(), Choice::Significant);
        for text in ["", "top:", "top:-1", "top", "L2"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
        let named = Chosen::read("L2.H6", None).unwrap();
        assert_eq!(named, Chosen { heads: vec![head(2, 6)], weights: vec![1.0], axis: None, grid: None });
        assert_eq!(
            Chosen::read("top:2", None).unwrap_err().to_string(),
            "heads `top:2`: there is nothing to choose them by"
        );
    }

    #[test]
    fn retrieval_scores_rank_heads_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("retrieval_heads.json");
        fs::write(&file, r#"{"0-0":[0.5,0.0],"0-1":[1.0,0.5],"1-0":[0.0,0.0],"1-1":[0.25,0.25]}"#).unwrap();
        let heads = |text: &str| Chosen::read(text, None).unwrap().heads;
        for by in [file.as_path(), dir.path()] {
            let chosen = Chosen::read("top:2", Some(by)).unwrap();
            assert_eq!(chosen.heads, heads("L0.H1,L0.H0"), "of equal scores the lower layer");
            assert_eq!((chosen.weights, chosen.axis), (vec![0.75, 0.25], Some(HeadAxis::Query)));
        }
        assert_eq!(Chosen::read("L1.H1", Some(&file)).unwrap().weights, [0.25]);
        for (text, problem) in
            [("top:5", "2 trials of 4 heads"), ("top:0", "4 heads"), ("L2.H0", "2 layers of 2 heads")]
        {
            let error = Chosen::read(text, Some(&file)).unwrap_err().to_string();
            assert!(error.ends_with(problem), "{error}");
        }
        assert!(Chosen::read("significant", Some(&file)).unwrap_err().to_string().ends_with("and no test of them"));
    }

    #[test]
    fn ranked_query_heads_become_the_key_value_heads_they_read() {
        // 8 query heads on 2 key-value heads, 4 layers.
        let config = include_bytes!("../../fixtures/identity-rules/model/config.json");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        let config = ModelConfig::from_file(&dir.path().join("config.json")).unwrap();
        let chosen = |axis, text: &str| Chosen { axis, ..Chosen::read(text, None).unwrap() };
        let on = |axis, text: &str, to| chosen(axis, text).on_axis(to, &config).map(|chosen| chosen.heads);
        let [query, kv] = [HeadAxis::Query, HeadAxis::Kv];
        let heads = |text: &str| Chosen::read(text, None).unwrap().heads;
        assert_eq!(on(Some(query), "L2.H6,L3.H3", kv).unwrap(), heads("L2.H1,L3.H0"));
        assert_eq!(on(None, "L2.H1", kv).unwrap(), heads("L2.H1"), "what is named is meant");
        assert_eq!(on(Some(query), "L2.H6", query).unwrap(), heads("L2.H6"));
        assert!(on(Some(kv), "L2.H1", query).is_err());
        let error = on(None, "L2.H2", kv).unwrap_err().to_string();
        assert_eq!(error, "head `L2.H2`: the model has layers 0..4 with kv heads 0..2");
        assert!(on(None, "L4.H0", query).is_err());
        let other = Chosen { grid: Some((3, 6)), ..chosen(Some(query), "L2.H1") }.on_axis(query, &config).unwrap_err();
        assert!(other.to_string().ends_with("the model 8 in 4: it is of another model"), "{other}");
        assert!(Chosen { grid: Some((3, 8)), ..chosen(Some(query), "L2.H1") }.on_axis(query, &config).is_ok());
    }
}
