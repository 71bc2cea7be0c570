//! The engine's answer to one question, held to the reference; and a tally of what was really tested.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use interp_core::Result;
use interp_core::decoder::Decoder;
use interp_core::error::Error;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::scores::ScoreGrid;
use interp_core::site::{HeadAxis, Positions};
use interp_core::sweep::{Grid, Models, Sink, TrialReport};
use proptest::test_runner::TestCaseError;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::meaning::{Change, Meaning};
use super::naive::Naive;
use super::question::Question;

/// Cells of a grid that are compared with a full pass each, besides the one of the largest effect.
const CELLS: usize = 6;

/// Keeps what the engine pushes.
#[derive(Default)]
struct Kept {
    grid: Option<ScoreGrid>,
}

impl Sink for Kept {
    fn begin(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
    fn has(&self, _: usize) -> bool {
        false
    }
    fn trial(&mut self, _: usize, grid: &ScoreGrid, _: &TrialReport) -> Result<ControlFlow<()>> {
        self.grid = Some(grid.clone());
        Ok(ControlFlow::Continue(()))
    }
    fn skip(&mut self, _: usize, _: &str) -> Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The engine's answer to a question.
pub fn answer(question: &Question, models: Models<'_>) -> Result<ScoreGrid> {
    let mut kept = Kept::default();
    question.sweep.run(models, std::slice::from_ref(&question.trial), &mut kept)?;
    Ok(kept.grid.expect("a run that ends well has done its trial"))
}

/// How often each thing was really tested.
#[derive(Default)]
pub struct Tally(RefCell<BTreeMap<String, usize>>);

impl Tally {
    pub fn count(&self, what: impl ToString) {
        *self.0.borrow_mut().entry(what.to_string()).or_default() += 1;
    }

    /// Errs unless every one of these was tested.
    pub fn require(&self, all: &[&str]) {
        let counts = self.0.borrow();
        let missing: Vec<_> = all.iter().filter(|what| !counts.contains_key(**what)).collect();
        assert!(missing.is_empty(), "never tested: {missing:?} among {counts:#?}");
    }

    pub fn of(&self, what: &str) -> usize {
        self.0.borrow().get(what).copied().unwrap_or(0)
    }
}

/// Puts one question to a model and holds the engine's answer to the reference.
pub struct Check<'a> {
    pub question: &'a Question,
    /// What the reference runs on; decoders under test hold the same weights.
    pub reference: &'a Decoder,
    pub tolerance: f64,
    pub tally: &'a Tally,
}

impl Check<'_> {
    /// Errs with what is wrong.
    pub fn of(&self, decoder: &Decoder) -> Result<(), TestCaseError> {
        let question = self.question;
        let naive = Naive::new(self.reference, question);
        let models = Models { moments: Some(&naive.moments), ..Models::of(decoder) };
        match (question.meaning(decoder.config()), answer(question, models)) {
            (Err(why), Err(Error::Selector { hint: Some(_), .. } | Error::Prompt { hint: Some(_), .. })) => {
                self.tally.count("refused");
                self.tally.count(format!("refused: {why}"));
                Ok(())
            }
            (Err(why), Err(error)) => fail(format!("to be refused ({why}), but the error is {error:?}")),
            (Err(why), Ok(grid)) => fail(format!("to be refused ({why}), but gave {:?}", grid.values)),
            (Ok(_), Err(error)) => fail(format!("refused: {error:?}")),
            (Ok(meaning), Ok(grid)) => self.compare(&meaning, &grid, &naive, models),
        }
    }

    fn compare(
        &self,
        meaning: &Meaning,
        grid: &ScoreGrid,
        naive: &Naive<'_>,
        models: Models<'_>,
    ) -> Result<(), TestCaseError> {
        let (question, config) = (self.question, models.base.config());
        if grid.n_cells() != meaning.n_cells || grid.check().is_err() {
            return fail(format!("{} cells where {} were asked for", grid.n_cells(), meaning.n_cells));
        }
        for (cell, index) in grid.values.iter().flat_map(|values| values.iter().zip(0..)) {
            let asked = meaning.cells.get(&index);
            if asked.is_some() != cell.is_finite() {
                return fail(format!("cell {index} is {cell}"));
            }
            let null = |changes: &Vec<Change>| {
                changes.iter().all(|one| one.places.iter().all(|&place| question.is_null(one.at, place, config)))
            };
            if asked.is_some_and(null) {
                self.tally.count("null cells");
                if *cell != 0.0 {
                    return fail(format!("cell {index} is null by causality, and {cell:e}"));
                }
            }
        }

        // The cell of the largest effect and some others.
        let size = |index: &usize| grid.values[0][*index].abs();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<usize> = meaning.cells.keys().copied().collect();
        let mut cells: Vec<usize> = all.choose_multiple(&mut rng, CELLS).copied().collect();
        cells.extend(all.iter().max_by(|a, b| size(a).total_cmp(&size(b))));
        let expected: Vec<Vec<f64>> = cells.iter().map(|cell| naive.deltas(*cell, &meaning.cells[cell])).collect();
        let plain = cells.first().map(|&cell| question.sweep.plain(models, &question.trial, cell));
        let plain = plain.map(|plain| plain.expect("runs").expect("a cell of the sweep"));

        let (clean, source) = (naive.clean(), naive.unedited_source());
        if source.is_some() != grid.source.is_some() {
            return fail(format!("the source's metrics are {:?}", grid.source));
        }
        for (i, &metric) in question.sweep.metrics.iter().enumerate() {
            // In single precision a rank may turn over by a rounding.
            if self.tolerance > 1e-6 && matches!(metric, Metric::Acc | Metric::Rank) {
                continue;
            }
            let largest = expected.iter().fold(0.0_f64, |largest, deltas| largest.max(deltas[i].abs()));
            // The promise is one for models whose largest effect is at least a tenth of the metric; weaker ones are held to
            // that tenth.
            let tenth = naive.size(metric, clean[i]) / 10.0;
            self.tally.count(if largest >= tenth { "strong metrics" } else { "weak metrics" });
            let bound = self.tolerance * largest.max(tenth);
            let close = |what: &str, found: f64, expected: f64, bound: f64| {
                let off = (found - expected).abs();
                match off <= bound {
                    true => Ok(()),
                    false => fail(format!("{metric} of {what}: {found:e}, not {expected:e}; allowed is {bound:e}")),
                }
            };
            close("clean", grid.clean[i], clean[i], bound)?;
            if let (Some(found), Some(expected)) = (&grid.source, &source) {
                close("source", found[i], expected[i], self.tolerance * naive.size(metric, expected[i]))?;
            }
            for (cell, expected) in cells.iter().zip(&expected) {
                close(&format!("cell {cell}"), grid.values[i][*cell], expected[i], bound)?;
            }
            if let Some(plain) = &plain {
                close("a plain pass", plain[i], expected[0][i], bound)?;
            }
        }
        cells.iter().for_each(|_| self.tally.count("cells"));
        self.tally.count("answered");
        if question.sweep.max_rows.is_none() && meaning.n_cells * question.trial.base.tokens.len() > 1000 {
            self.tally.count("wide waves");
        }
        self.count_kinds();
        Ok(())
    }

    /// What an answered question consisted of.
    fn count_kinds(&self) {
        let (sweep, trial, config) = (&self.question.sweep, &self.question.trial, self.reference.config());
        let tokens = &trial.base.tokens;
        let spans = sweep.positions.iter().filter(|one| matches!(one, Positions::Span(_))).count();
        let other_source = trial.source.as_ref().filter(|_| matches!(sweep.edit, Edit::Patch)).map(|one| &one.tokens);
        let kinds = [
            (sweep.grid == Grid::LayerHead, "layer-head"),
            (sweep.grid == Grid::LayerPos, "layer-pos"),
            (matches!(sweep.grid, Grid::Sets(_)), "sets"),
            (sweep.grid == Grid::LayerPos && spans > 1, "several spans"),
            (sweep.heads.is_some(), "some heads"),
            (sweep.site.is_per_layer() && sweep.layers.len() < config.n_layers, "some layers"),
            (sweep.site.head_axis() == Some(HeadAxis::Kv) && config.heads_per_kv_head() > 1, "shared KV heads"),
            (config.windows.iter().flatten().any(|&window| window < tokens.len()), "beyond a window"),
            (tokens.len() == 1, "one token"),
            (tokens.len() > 64, "long"),
            (other_source == Some(tokens), "patch from itself"),
            (other_source.is_some_and(|source| source.len() != tokens.len()), "patch across lengths"),
            (sweep.max_rows.is_some(), "bounded rows"),
            (sweep.max_rows.is_none(), "rows as memory allows"),
        ];
        kinds.iter().filter(|(holds, _)| *holds).for_each(|(_, kind)| self.tally.count(kind));
        self.tally.count(&config.family);
        sweep.metrics.iter().for_each(|metric| self.tally.count(metric));
    }
}

/// What every run of many questions has to have tested.
pub const KINDS: [&str; 21] = [
    "layer-head",
    "layer-pos",
    "sets",
    "several spans",
    "some heads",
    "some layers",
    "shared KV heads",
    "beyond a window",
    "one token",
    "long",
    "patch from itself",
    "patch across lengths",
    "bounded rows",
    "rows as memory allows",
    "wide waves",
    "null cells",
    "refused",
    "qwen2",
    "qwen3",
    "mistral",
    "llama",
];

fn fail<T>(message: String) -> Result<T, TestCaseError> {
    Err(TestCaseError::fail(message))
}
