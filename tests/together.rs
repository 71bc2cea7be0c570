//! Sweeps that run side by side: every prompt once for all, the numbers of each alone, and the same bits however it is resumed.

use std::collections::HashSet;
use std::ops::ControlFlow;

use interp_core::Result;
use interp_core::device::Dtype;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::prompt::Prompt;
use interp_core::scores::ScoreGrid;
use interp_core::site::Site;
use interp_core::sweep::{Grid, Job, Models, Sink, Sweep, TrialReport, run_together};
use interp_core::task::{Material, Pairing, Rule, Side};
use interp_core::trial::{Target, Trial};

use crate::common::{load, load_for_waves, tiny};

const DRAWS: usize = 5;

/// A prompt whose words are ids; `^` and newline are 1 and 2.
fn prompt(side: &Side) -> Prompt {
    let text = side.text.replace('^', " 1 ").replace('\n', " 2 ");
    let range = |&[start, end]: &[usize; 2]| start..end;
    let spans = side.spans.iter().map(|(name, ranges)| ((*name).to_owned(), ranges.iter().map(range).collect()));
    Prompt { tokens: text.split_whitespace().map(|id| id.parse().unwrap()).collect(), spans: spans.collect() }
}

/// Both directions of every draw, of two shots.
fn trials(pairing: Pairing) -> Vec<Trial> {
    let trial = |draw: usize, rule| {
        let word = |i: usize| (10 + 6 * draw + i).to_string();
        let pairs = (0..3).map(|i| [word(2 * i), word(2 * i + 1)]).collect();
        let line = Material { pairs }.line(pairing, rule, &format!("d{draw}"), 0);
        Trial {
            id: line.id,
            cluster: Some(line.cluster),
            direction: None,
            base: prompt(&line.base),
            source: line.source.as_ref().map(prompt),
            source_answer: None,
            target: Target { correct: line.base.answer.parse().unwrap(), incorrect: line.incorrect.parse().ok() },
        }
    };
    (0..DRAWS).flat_map(|draw| Rule::BOTH.map(|rule| trial(draw, rule))).collect()
}

fn sweep(positions: &str) -> Sweep {
    Sweep {
        site: Site::Z,
        edit: Edit::Patch,
        grid: Grid::LayerHead,
        positions: vec![positions.parse().unwrap()],
        layers: 0..3,
        heads: None,
        metrics: vec![Metric::LogitDiff],
        max_rows: None,
        seed: 0,
    }
}

fn stages() -> Vec<(Sweep, Vec<Trial>)> {
    vec![
        (sweep("span:third"), trials(Pairing::Abstract)),
        (sweep("last"), trials(Pairing::Abstract)),
        (sweep("last"), trials(Pairing::Token)),
    ]
}

/// Keeps everything; the first `had` trials are there already. Stops after `until` trials.
#[derive(Default)]
struct Kept {
    had: usize,
    until: Option<usize>,
    grids: Vec<(usize, ScoreGrid)>,
    prompts: usize,
    finished: bool,
}

impl Sink for Kept {
    fn begin(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
    fn has(&self, index: usize) -> bool {
        index < self.had
    }
    fn trial(&mut self, index: usize, grid: &ScoreGrid, report: &TrialReport) -> Result<ControlFlow<()>> {
        self.grids.push((index, grid.clone()));
        self.prompts += report.prompts_run;
        let stop = self.until.is_some_and(|until| self.grids.len() >= until);
        Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
    fn skip(&mut self, _: usize, reason: &str) -> Result<ControlFlow<()>> {
        panic!("{reason}")
    }
    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(())
    }
}

fn run(models: Models<'_>, stages: &[(Sweep, Vec<Trial>)], mut kept: Vec<Kept>) -> Vec<Kept> {
    let jobs = stages.iter().zip(&mut kept);
    let mut jobs: Vec<Job<'_>> = jobs.map(|((sweep, trials), sink)| Job { sweep, trials, sink }).collect();
    run_together(models, &mut jobs).unwrap();
    drop(jobs);
    kept
}

fn had(counts: [usize; 3]) -> Vec<Kept> {
    counts.map(|had| Kept { had, ..Kept::default() }).into()
}

fn bits(grid: &ScoreGrid) -> Vec<u64> {
    let all = grid.values.iter().flatten().chain(&grid.clean).chain(grid.source.iter().flatten());
    all.map(|x| x.to_bits()).collect()
}

#[test]
fn three_stages_run_every_prompt_once_and_find_what_each_finds_alone() {
    let decoder = load(&tiny("qwen2"), Dtype::F64);
    let (models, stages) = (Models::of(&decoder), stages());
    let kept = run(models, &stages, had([0; 3]));
    let prompts: HashSet<&[i64]> = stages
        .iter()
        .flat_map(|(_, trials)| trials)
        .flat_map(|trial| std::iter::once(&trial.base).chain(&trial.source))
        .map(|prompt| prompt.tokens.as_slice())
        .collect();
    assert_eq!(prompts.len(), 6 * DRAWS, "two sources, two bases of abstract and two of token pairs per draw");
    assert_eq!(kept.iter().map(|kept| kept.prompts).sum::<usize>(), prompts.len());
    for (together, (sweep, trials)) in kept.iter().zip(&stages) {
        assert!(together.finished && together.grids.len() == 2 * DRAWS);
        let mut alone = Kept::default();
        sweep.run(models, trials, &mut alone).unwrap();
        assert!(alone.prompts > 2 * DRAWS, "alone it runs base and source of each");
        for ((_, a), (_, b)) in together.grids.iter().zip(&alone.grids) {
            let largest = b.values[0].iter().fold(0.0f64, |a, b| a.max(b.abs()));
            let worst = a.values[0].iter().zip(&b.values[0]).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(largest > 0.0 && worst <= 1e-9 * largest, "{worst:e} of {largest:e}");
        }
    }
}

#[test]
fn stages_resumed_anywhere_make_the_same_bits() {
    // f32, where a run that began elsewhere would show in the last bits.
    let decoder = load_for_waves(&tiny("qwen2"), Dtype::F32);
    let (models, stages) = (Models::of(&decoder), stages());
    let whole = run(models, &stages, had([0; 3]));
    for counts in [[1, 0, 0], [1, 1, 0], [3, 3, 2], [10, 10, 0], [10, 0, 10], [0, 10, 10], [9, 9, 9]] {
        let rest = run(models, &stages, had(counts));
        for ((stage, rest), whole) in rest.iter().enumerate().zip(&whole) {
            assert_eq!(rest.grids.len(), 2 * DRAWS - counts[stage]);
            for ((index, a), (_, b)) in rest.grids.iter().zip(&whole.grids[counts[stage]..]) {
                assert!(bits(a) == bits(b), "stage {stage}, trial {index}, resumed at {counts:?}");
            }
        }
    }
    // A stop in one stage stops all, and finishes none.
    let mut until = had([0; 3]);
    until[1].until = Some(2);
    let stopped = run(models, &stages, until);
    assert_eq!(stopped.iter().map(|kept| kept.grids.len()).collect::<Vec<_>>(), [2, 2, 1]);
    assert!(stopped.iter().all(|kept| !kept.finished));
}
