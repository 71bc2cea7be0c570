//! The output folder of `interp retrieval`: a line per finished trial, by which a stopped run goes on, and at the end the rest.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use interp_core::export::{table, write_atomic};
use interp_core::plot;
use interp_core::retrieval::{RetrievalScores, TrialScores};
use interp_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ranking::Ranking;
use super::trials::Place;

/// One trial. Scores by head, zeros left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which needle, from 0.
    pub index: usize,
    /// Tokens of the context.
    pub length: usize,
    /// Per cent.
    pub depth: usize,
    /// Tokens of the prompt.
    pub n_tokens: usize,
    /// Where the needle was found in it.
    pub needle: Option<Range<usize>>,
    /// What the model wrote.
    pub answer: String,
    /// ROUGE-1 recall of the needle in the answer.
    pub recall: f64,
    /// Whether the trial counts.
    pub counts: bool,
    /// By `LAYER-HEAD`.
    pub counted: BTreeMap<String, f64>,
    pub as_set: BTreeMap<String, f64>,
}

impl Record {
    pub fn new(
        place: &Place<'_>,
        n_tokens: usize,
        needle: Range<usize>,
        answer: String,
        recall: f64,
        counts: bool,
        scores: &TrialScores,
    ) -> Self {
        let sparse = |grid: &[Vec<f64>]| -> BTreeMap<String, f64> {
            let heads = grid.iter().enumerate().flat_map(|(layer, heads)| {
                heads.iter().enumerate().map(move |(head, &score)| (format!("{layer}-{head}"), score))
            });
            heads.filter(|(_, score)| *score > 0.0).collect()
        };
        Self {
            needle: Some(needle),
            answer,
            recall,
            counts,
            counted: sparse(&scores.counted),
            as_set: sparse(&scores.as_set),
            ..Self::without_needle(place, n_tokens)
        }
    }

    /// A trial that cannot be scored.
    pub fn without_needle(place: &Place<'_>, n_tokens: usize) -> Self {
        let Place { index, length, depth, .. } = *place;
        let (counted, as_set) = (BTreeMap::new(), BTreeMap::new());
        let answer = String::new();
        Self { index, length, depth, n_tokens, needle: None, answer, recall: 0.0, counts: false, counted, as_set }
    }

    /// Scores of all heads, `[layer][head]`.
    pub fn grid(&self, scores: &BTreeMap<String, f64>, n_layers: usize, n_heads: usize) -> Vec<Vec<f64>> {
        let of = |layer: usize, head: usize| scores.get(&format!("{layer}-{head}")).copied().unwrap_or(0.0);
        (0..n_layers).map(|layer| (0..n_heads).map(|head| of(layer, head)).collect()).collect()
    }
}

/// The folder.
pub struct Journal {
    folder: PathBuf,
    records: Vec<Record>,
    /// What the run is, as `spec.json` has it.
    spec: Value,
}

impl Journal {
    /// A new folder, or one that the same command began. Errs for another run's.
    pub fn open(folder: &Path, spec: &Value, n_trials: usize) -> Result<Self> {
        let path = folder.join("spec.json");
        let is_taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if folder.is_file() || is_taken && !path.is_file() {
            let problem = "not empty and not a folder of interp retrieval".into();
            let hint = Some("give a new or an empty folder".into());
            return Err(Error::File { path: folder.into(), problem, hint });
        }
        let mut records = Vec::new();
        if path.is_file() {
            let text = fs::read(&path).map_err(Error::io("read", &path))?;
            let found: Value = serde_json::from_slice(&text).map_err(|source| Error::Json {
                path: path.clone(),
                line: None,
                source,
            })?;
            let fields = spec.as_object().expect("it was built as one");
            if let Some((field, wanted)) = fields.iter().find(|(field, wanted)| found.get(field) != Some(wanted)) {
                let found = found.get(field).map_or("absent".into(), Value::to_string);
                let (path, field, wanted) = (folder.into(), field.clone(), wanted.to_string());
                return Err(Error::OtherRun { path, field, found, wanted });
            }
            records = Self::read(&folder.join("trials.jsonl"))?;
            records.truncate(n_trials);
        } else {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            write_atomic(&path, format!("{spec:#}\n").as_bytes())?;
        }
        // What a killed process left of a line is cut off.
        let journal = Self { folder: folder.into(), records, spec: spec.clone() };
        let lines: String = journal.records.iter().map(line).collect();
        write_atomic(&folder.join("trials.jsonl"), lines.as_bytes())?;
        Ok(journal)
    }

    fn read(path: &Path) -> Result<Vec<Record>> {
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parse = |(number, line): (usize, &str)| {
            let json = |source| Error::Json { path: path.into(), line: Some(number), source };
            serde_json::from_str(line).map_err(json)
        };
        (1..).zip(whole).map(parse).collect()
    }

    /// Finished trials, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Their number.
    pub fn n_done(&self) -> usize {
        self.records.len()
    }

    /// Keeps a trial.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let path = self.folder.join("trials.jsonl");
        let write = || {
            let mut file = OpenOptions::new().append(true).open(&path)?;
            file.write_all(line(record).as_bytes())?;
            file.sync_all()
        };
        write().map_err(Error::io("write", &path))?;
        self.records.push(record.clone());
        Ok(())
    }

    /// Writes everything but the trials, `retrieval.json` last.
    pub fn finish(
        &self,
        counted: &RetrievalScores,
        as_set: &RetrievalScores,
        ranking: &Ranking,
        model: Value,
        cap: bool,
    ) -> Result<()> {
        let put = |name: &str, bytes: &[u8]| write_atomic(&self.folder.join(name), bytes);
        put("retrieval_heads.json", counted.text().as_bytes())?;
        put("retrieval_heads.set.json", as_set.text().as_bytes())?;
        let rows = ranking.rows(&[("score", &counted.means()), ("score_as_set", &as_set.means())]);
        put("retrieval.csv", table::csv_of(&rows).as_bytes())?;
        let name = model["checkpoint"].as_str().unwrap_or_default();
        let what = format!("{name}: mean over {} trials", counted.n_trials());
        let maps = ranking.maps(what, &[("repeats counted", &counted.means()), ("as a set", &as_set.means())]);
        put("retrieval.svg", plot::maps_svg(&maps)?.as_bytes())?;
        put("retrieval.png", &plot::maps_png(&maps)?)?;
        let head = json!({
            "schema": "interp.retrieval/1",
            "index_base": 0,
            "head_axis": "query",
            "model": model,
            "spec": self.spec,
            "ranked_by": if cap { "score_as_set" } else { "score" },
            "n_trials": self.records.len(),
            "n_counted": counted.n_trials(),
            "n_needle_not_found": self.records.iter().filter(|record| record.needle.is_none()).count(),
            "tool_version": env!("CARGO_PKG_VERSION"),
        });
        put("retrieval.json", table::with_cells(&head, rows).as_bytes())
    }
}

fn line(record: &Record) -> String {
    format!("{}\n", serde_json::to_string(record).expect("plain data is JSON"))
}
