//! Heads by their mean retrieval score.

use interp_core::plot::{Map, Maps};
use interp_core::retrieval::{RETRIEVAL_HEAD, RetrievalScores};
use interp_core::scores::GridAxis;
use interp_core::site::HeadRef;
use interp_core::stats;
use serde_json::{Map as Object, Value, json};

use crate::output::{columns, number};

/// Heads in order.
pub struct Ranking {
    n_layers: usize,
    n_heads: usize,
    n_trials: usize,
    means: Vec<f64>,
    /// Cells, the largest mean first; ties by layer, then head.
    order: Vec<usize>,
}

impl Ranking {
    /// Ranks the heads of a file or of a run.
    pub fn new(scores: &RetrievalScores) -> Self {
        let (n_layers, n_heads) = scores.grid();
        let means = scores.means();
        Self { n_layers, n_heads, n_trials: scores.n_trials(), order: stats::ranking(&means), means }
    }

    fn head(&self, cell: usize) -> HeadRef {
        HeadRef { layer: cell / self.n_heads, head: cell % self.n_heads }
    }

    fn at_least(&self, least: f64) -> usize {
        self.means.iter().filter(|&&mean| mean >= least).count()
    }

    /// A line per head, in order, with these columns.
    pub fn rows(&self, values: &[(&str, &[f64])]) -> Vec<Object<String, Value>> {
        let row = |(rank, &cell): (usize, &usize)| {
            let head = self.head(cell);
            let mut row = Object::new();
            row.insert("layer".into(), json!(head.layer));
            row.insert("head".into(), json!(head.head));
            row.insert("label".into(), json!(head.to_string()));
            values.iter().for_each(|(name, values)| _ = row.insert((*name).into(), json!(values[cell])));
            row.insert("rank".into(), json!(rank + 1));
            row
        };
        self.order.iter().enumerate().map(row).collect()
    }

    /// The best heads, and how many heads reach what.
    pub fn table(&self, top: usize) -> String {
        let head = ["rank", "head", "score", "trials"].map(String::from);
        let row = |(rank, &cell): (usize, &usize)| {
            let (head, mean) = (self.head(cell).to_string(), number(self.means[cell]));
            vec![(rank + 1).to_string(), head, mean, self.n_trials.to_string()]
        };
        let rows: Vec<Vec<String>> = self.order.iter().enumerate().take(top).map(row).collect();
        let zero = self.means.iter().filter(|&&mean| mean == 0.0).count();
        let [half, tenth] = [0.5, RETRIEVAL_HEAD].map(|least| self.at_least(least));
        let n = self.means.len();
        format!(
            "{}of {n} heads: {half} reach 0.5, {tenth} reach {RETRIEVAL_HEAD}, {zero} never copied\n",
            columns(&head, &rows)
        )
    }

    /// The same as JSON.
    pub fn json(&self, top: usize) -> String {
        let rows = self.rows(&[("score", &self.means)]);
        let value = json!({
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_trials": self.n_trials,
            "n_at_least_half": self.at_least(0.5),
            "n_retrieval_heads": self.at_least(RETRIEVAL_HEAD),
            "n_zero": self.means.iter().filter(|&&mean| mean == 0.0).count(),
            "cells": rows.into_iter().take(top).collect::<Vec<_>>(),
        });
        format!("{value:#}\n")
    }

    /// Heat maps, beside each other.
    pub fn maps(&self, subtitle: String, values: &[(&str, &[f64])]) -> Maps {
        let map = |(title, values): &(&str, &[f64])| Map {
            title: (*title).into(),
            axes: vec![GridAxis::layers(0..self.n_layers), GridAxis::heads(0..self.n_heads)],
            values: values.to_vec(),
            below_floor: None,
            muted: None,
            outlined: Vec::new(),
            scale: 0,
        };
        Maps {
            title: "Retrieval score (Wu et al.)".into(),
            subtitle,
            scales: vec!["retrieval score".into()],
            rows: vec![values.iter().map(map).collect()],
        }
    }
}
