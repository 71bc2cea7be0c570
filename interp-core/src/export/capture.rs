//! A capture folder: activations of many prompts as `.npy`, streamed in prompt by prompt, and an index that says what every
//! row is. Numbers and labels only; no tensors.
//!
//! ```text
//! index.json                      what was captured: `files` (hook point, axes, shape, heads), `prompts` (id, first row,
//!                                 positions and token ids, one line per prompt), the model and its hashes
//! blocks.19.attn.hook_z.npy       layout `rows`:  [row, head, d_head], a row being one position of one prompt;
//!                                                 scores and pattern [row, head, src], a row being one destination
//!                                 layout `whole`: TransformerLens's cache entry, [batch, pos, head, d_head];
//!                                                 scores and pattern [batch, head, dest, src]; batch is the prompt
//! prompt-12/…npy                  where prompts differ in length, arrays that cannot stand side by side (scores and
//!                                 pattern; every array in layout `whole`) lie in a folder per prompt, as for it alone
//! ```
//! Rows are in the order of `prompts`, and within a prompt in the order of its positions, so that prompt i's rows are
//! `row .. row + len(positions)`. Numbers are f32, or f64 from a run in f64. The folder appears whole, under its name, when
//! the last prompt is done; until then it is `.NAME.partial` beside it. No file holds a time or a host name.

mod index;
mod writer;

pub use index::{Capture, Geometry};
pub use writer::{CaptureFolder, OpenedCapture};

use serde_json::{Value, json};

use super::npy::Width;
use crate::site::{Axis, HookPoint};

/// How arrays are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureLayout {
    /// One row per prompt and position.
    Rows,
    /// TransformerLens's cache entry, prompts on the batch axis, all positions.
    Whole,
}

/// One hook point to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturePoint {
    /// Which.
    pub at: HookPoint,
    /// The heads kept, on the site's head axis; `None` means all, or that there are none.
    pub heads: Option<Vec<usize>>,
    /// Number of heads kept; `None` at sites without heads.
    pub n_heads: Option<usize>,
    /// Length of the last axis; not used at attention sites, where it is the prompt's length.
    pub width: usize,
}

/// One prompt and the positions of it that are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturePrompt {
    /// Its name.
    pub id: String,
    /// Its length.
    pub n_tokens: usize,
    /// Positions (destinations), sorted.
    pub positions: Vec<usize>,
    /// Token id at each of them.
    pub tokens: Vec<i64>,
}

/// Everything that is known before the first prompt runs.
#[derive(Debug, Clone)]
pub struct CapturePlan {
    /// What makes two captures the same: flags and hashes.
    pub spec: Value,
    /// Layout of the arrays.
    pub layout: CaptureLayout,
    /// Width of the numbers.
    pub width: Width,
    /// Hook points, each written to a file of its name.
    pub points: Vec<CapturePoint>,
    /// Prompts in order.
    pub prompts: Vec<CapturePrompt>,
}

impl CaptureLayout {
    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            CaptureLayout::Rows => "rows",
            CaptureLayout::Whole => "whole",
        }
    }
}

impl CapturePoint {
    fn file(&self) -> String {
        format!("{}.npy", self.at)
    }
}

impl CapturePlan {
    /// Whether a hook point has one array per prompt: its shape depends on the prompt's length, and lengths differ.
    fn is_per_prompt(&self, point: &CapturePoint) -> bool {
        let depends = self.layout == CaptureLayout::Whole || point.at.site.is_attention();
        let mut lengths = self.prompts.iter().map(|prompt| prompt.n_tokens);
        let first = lengths.next();
        depends && lengths.any(|length| Some(length) != first)
    }

    /// Shape of one array over `prompts`, which are of one length where that matters.
    fn shape(&self, point: &CapturePoint, prompts: &[CapturePrompt]) -> Vec<usize> {
        let attention = point.at.site.is_attention();
        let n_tokens = prompts.first().map_or(0, |prompt| prompt.n_tokens);
        let width = if attention { n_tokens } else { point.width };
        let n_rows = prompts.iter().map(|prompt| prompt.positions.len()).sum();
        match (self.layout, attention) {
            (CaptureLayout::Rows, _) => [n_rows].into_iter().chain(point.n_heads).chain([width]).collect(),
            (CaptureLayout::Whole, true) => vec![prompts.len(), point.n_heads.unwrap_or(0), n_tokens, width],
            (CaptureLayout::Whole, false) => {
                [prompts.len(), n_tokens].into_iter().chain(point.n_heads).chain([width]).collect()
            }
        }
    }

    /// Names of the axes.
    fn axes(&self, point: &CapturePoint) -> Vec<&'static str> {
        let site = point.at.site;
        let names = |axes: &[Axis]| axes.iter().map(|axis| axis.name()).collect::<Vec<_>>();
        match self.layout {
            CaptureLayout::Whole => names(site.axes()),
            CaptureLayout::Rows if site.is_attention() => vec!["row", "head", "src"],
            CaptureLayout::Rows => ["row"].into_iter().chain(names(&site.axes()[2..])).collect(),
        }
    }

    /// What `index.json` says of one file.
    fn file_record(&self, point: &CapturePoint) -> Value {
        let per_prompt = self.is_per_prompt(point);
        json!({
            "file": point.file(),
            "per_prompt": per_prompt,
            "hook_point": point.at.to_string(),
            "site": point.at.site.name(),
            "layer": point.at.site.is_per_layer().then_some(point.at.layer),
            "axes": self.axes(point),
            "shape": (!per_prompt).then(|| self.shape(point, &self.prompts)),
            "head_axis": point.at.site.head_axis().map(|axis| axis.name()),
            "heads": point.heads,
        })
    }
}
