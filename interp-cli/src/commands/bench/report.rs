//! What `interp bench` found, as JSON and as a table.

use interp_core::config::ModelConfig;
use interp_core::decoder::MatrixPeak;
use serde_json::{Value, json};

use super::case::Case;
use super::measure::{Measured, Pass};
use crate::cli::BenchArgs;
use crate::model::Model;
use crate::output::columns;

/// Everything that was measured in one run.
pub struct Report<'a> {
    pub args: &'a BenchArgs,
    pub model: &'a Model,
    pub peak: MatrixPeak,
    /// From nothing to weights in the layout they are used in.
    pub load_s: f64,
    pub passes: Vec<Pass>,
    pub rows: Vec<Row>,
}

/// One sweep at one length of prompt.
pub struct Row {
    pub case: Case,
    pub n_tokens: usize,
    /// Or why it could not be measured.
    pub measured: Result<Measured, String>,
    /// Most host memory of the process so far.
    pub peak_bytes: Option<u64>,
    /// Memory in use on the GPU.
    pub gpu_bytes: Option<u64>,
}

impl Report<'_> {
    /// Schema `interp.bench/1`: seconds, FLOP, bytes; FLOP per second count the products of `sweep/cost.rs`.
    pub fn json(&self) -> Value {
        json!({
            "schema": "interp.bench/1",
            "tool_version": env!("CARGO_PKG_VERSION"),
            "model": self.model.checkpoint.name(),
            "geometry": geometry(self.model.checkpoint.config()),
            "parameters": self.parameters(),
            "dtype": self.model.precision.dtype.to_string(),
            "weights": self.model.precision.weights.to_string(),
            "stored_bytes": self.model.checkpoint.stored_dtypes(),
            "base_precision": self.model.base_precision(),
            "device": self.model.devices.to_string(),
            "threads": tch::get_num_threads(),
            "seed": self.args.seed,
            "repeats": self.args.repeats,
            "max_rows": self.args.max_rows,
            "peak": {
                "size": self.peak.size,
                "plain_flop_per_s": self.peak.plain,
                "onednn_flop_per_s": self.peak.onednn,
                "flop_per_s": self.peak.best(),
            },
            "load_s": self.load_s,
            "clean_passes": self.passes.iter().map(|pass| self.pass_json(pass)).collect::<Vec<_>>(),
            "sweeps": self.rows.iter().map(|row| self.row_json(row)).collect::<Vec<_>>(),
        })
    }

    fn pass_json(&self, pass: &Pass) -> Value {
        let rate = pass.flop / pass.seconds.median();
        json!({
            "tokens": pass.tokens,
            "seconds": pass.seconds.json(),
            "flop": pass.flop,
            "flop_per_s": rate,
            "fraction_of_peak": rate / self.peak.best(),
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let mut json = json!({
            "sweep": row.case.to_string(),
            "tokens": row.n_tokens,
            "peak_memory_bytes": row.peak_bytes,
            "gpu_memory_bytes": row.gpu_bytes,
        });
        let found = match &row.measured {
            Err(problem) => json!({ "error": problem }),
            Ok(found) => json!({
                "cells": found.cells,
                "seconds": {
                    "unedited_runs": found.runs.json(),
                    "waves": found.waves.json(),
                    "trial": found.whole.json(),
                },
                "flop": { "unedited_runs": found.runs_flop, "waves": found.waves_flop },
                "waves_flop_per_s": found.rate(),
                "fraction_of_peak": found.rate() / self.peak.best(),
                "largest_delta": found.largest,
                "metric_clean": found.clean,
            }),
        };
        if let (Value::Object(json), Value::Object(found)) = (&mut json, found) {
            json.extend(found);
        }
        json
    }

    fn parameters(&self) -> i64 {
        self.model.checkpoint.tensors().map(|(_, shape)| shape.iter().product::<i64>()).sum()
    }

    /// A head of facts, and one line per pass and per sweep.
    pub fn text(&self) -> String {
        let precision = self.model.precision;
        let peak = match self.peak.onednn {
            Some(onednn) => format!("libtorch {}, oneDNN {}", rate(self.peak.plain), rate(onednn)),
            None => rate(self.peak.plain),
        };
        let facts = [
            (
                "model",
                format!("{}, {:.2} billion parameters", self.model.checkpoint.name(), self.parameters() as f64 / 1e9),
            ),
            ("computed", format!("in {} with weights {}", precision.dtype, precision.weights)),
            ("on", format!("{}, {} threads of the CPU", self.model.devices, tch::get_num_threads())),
            ("peak", format!("{peak}, a product of {} x {0} x {0}", self.peak.size)),
            ("load", format!("{:.2} s", self.load_s)),
        ];
        let facts: String = facts.iter().map(|(name, value)| format!("{name:<8}  {value}\n")).collect();
        let head = [
            "what",
            "tokens",
            "cells",
            "s/trial",
            "unedited s",
            "waves s",
            "spread",
            "FLOP",
            "FLOP/s",
            "of peak",
            "memory",
            "GPU",
            "|δ|/metric",
        ];
        let passes = self.passes.iter().map(|pass| {
            let flop_per_s = pass.flop / pass.seconds.median();
            let mut row = vec!["clean pass".to_owned(), pass.tokens.to_string(), "-".into()];
            row.extend([seconds(pass.seconds.median()), "-".into(), "-".into(), pass.seconds.spread()]);
            row.extend([scaled(pass.flop), rate(flop_per_s), self.of_peak(flop_per_s)]);
            row.extend(["-", "-", "-"].map(String::from));
            row
        });
        let rows: Vec<Vec<String>> = passes.chain(self.rows.iter().map(|row| self.line(row))).collect();
        format!("{facts}\n{}", columns(&head.map(String::from), &rows))
    }

    fn line(&self, row: &Row) -> Vec<String> {
        let mut line = vec![row.case.to_string(), row.n_tokens.to_string()];
        let bytes = |bytes: Option<u64>| bytes.map_or("-".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
        let Ok(found) = &row.measured else {
            line.extend(["-"; 9].map(String::from));
            line.extend(["-".into(), "failed".into()]);
            return line;
        };
        line.extend([found.cells.to_string(), seconds(found.whole.median()), seconds(found.runs.median())]);
        line.extend([seconds(found.waves.median()), found.waves.spread(), scaled(found.waves_flop)]);
        line.extend([rate(found.rate()), self.of_peak(found.rate()), bytes(row.peak_bytes), bytes(row.gpu_bytes)]);
        line.push(format!("{:.2}", found.largest / found.clean.abs()));
        line
    }

    fn of_peak(&self, flop_per_s: f64) -> String {
        format!("{:.0} %", 100.0 * flop_per_s / self.peak.best())
    }
}

/// The sizes that decide what a pass costs.
pub fn geometry(config: &ModelConfig) -> Value {
    json!({
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "d_head": config.d_head,
        "d_model": config.d_model,
        "d_mlp": config.d_mlp,
        "d_vocab": config.d_vocab,
        "tied_embeddings": config.tie_word_embeddings,
    })
}

impl Measured {
    /// FLOP per second of the waves.
    fn rate(&self) -> f64 {
        self.waves_flop / self.waves.median()
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

fn rate(flop_per_s: f64) -> String {
    format!("{}/s", scaled(flop_per_s))
}

/// FLOP with three digits and a prefix.
fn scaled(flop: f64) -> String {
    let (unit, prefix) =
        [(1e12, "T"), (1e9, "G")].into_iter().find(|(unit, _)| flop.abs() >= *unit).unwrap_or((1e6, "M"));
    format!("{:.3} {prefix}FLOP", flop / unit)
}
