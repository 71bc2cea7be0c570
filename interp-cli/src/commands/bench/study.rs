//! Seconds of the three stages of `interp study symbolic`, with random words: their prompts have the length, the order and the
//! tokens in common that real ones have, which is all that the time depends on.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use indicatif::ProgressBar;
use interp_core::Error;
use interp_core::config::ModelConfig;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::prompt::Prompt;
use interp_core::scores::ScoreGrid;
use interp_core::site::Site;
use interp_core::sweep::{Grid, Job, Models, Sink, Sweep, TrialReport, run_together};
use interp_core::task::{Line, Material, Pairing, Rule, Side};
use interp_core::trial::{Target, Trial};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::clock::timed;
use super::open;
use super::report::geometry;
use crate::cli::BenchArgs;
use crate::commands::study::stages::STAGES;
use crate::output::{Exit, Printer, columns};
use crate::progress::bar;

/// Tokens that stand for `^` and the newline; every other is a word.
const SEPARATORS: [(char, i64); 2] = [('^', 0), ('\n', 1)];

/// Measures the study once and prints a table, or JSON.
pub fn study(args: &BenchArgs, printer: &Printer) -> Result<Exit> {
    let model = open(args, "qwen2.5-0.5b")?;
    let config = model.checkpoint.config();
    let (shots, draws) = (args.shots.get(), args.draws.get());
    check(config, shots)?;
    let sweep = |positions: &str| -> Result<Sweep> {
        Ok(Sweep {
            site: Site::Z,
            edit: Edit::Patch,
            grid: Grid::LayerHead,
            positions: vec![positions.parse()?],
            layers: 0..config.n_layers,
            heads: None,
            metrics: vec![Metric::LogitDiff],
            max_rows: args.max_rows.map(Into::into),
            seed: args.seed,
        })
    };
    let sweeps = STAGES.iter().map(|stage| sweep(stage.positions)).collect::<Result<Vec<_>>>()?;
    let trials: Vec<Vec<Trial>> = STAGES.iter().map(|stage| trials(config, stage.pairing, args)).collect();
    let (load_s, decoder) = timed(&model.devices, || model.load_for_waves(printer));
    let decoder = decoder?;

    let bar = bar(3 * 2 * draws, "trials");
    let mut costs: Vec<Cost> = STAGES.iter().map(|_| Cost::new(&bar)).collect();
    let jobs = sweeps.iter().zip(&trials).zip(&mut costs);
    let mut jobs: Vec<Job<'_>> = jobs.map(|((sweep, trials), sink)| Job { sweep, trials, sink }).collect();
    let start = Instant::now();
    run_together(Models::of(&decoder), &mut jobs)?;
    let total_s = start.elapsed().as_secs_f64();
    drop(jobs);
    bar.finish_and_clear();

    let prompts_run: usize = costs.iter().map(|cost| cost.prompts).sum();
    if args.json {
        let stages: Vec<Value> = STAGES.iter().zip(&costs).map(|(stage, cost)| cost.json(stage.name)).collect();
        let json = json!({
            "schema": "interp.bench_study/1",
            "tool_version": env!("CARGO_PKG_VERSION"),
            "model": model.name(),
            "geometry": geometry(config),
            "dtype": model.precision.dtype.to_string(),
            "device": model.devices.to_string(),
            "threads": tch::get_num_threads(),
            "seed": args.seed,
            "shots": shots,
            "draws": draws,
            "load_s": load_s,
            "seconds": total_s,
            "prompts_run": prompts_run,
            "stages": stages,
        });
        printer.data(&format!("{json:#}\n"))?;
        return Ok(Exit::Done);
    }
    let head = ["stage", "trials", "unedited runs s", "waves s", "s per trial"].map(str::to_owned);
    let rows: Vec<Vec<String>> = STAGES.iter().zip(&costs).map(|(stage, cost)| cost.row(stage.name)).collect();
    let n_heads = config.n_layers * config.n_heads;
    printer.data(&format!(
        "{}: {n_heads} heads, {draws} draws x 2 directions, {shots} shots; {}, {}, {} threads\n{}\
         study: {total_s:.1} s, {prompts_run} prompts run once each; {:.3} s per draw, {load_s:.1} s for loading before\n",
        model.name(),
        model.precision.dtype,
        model.devices,
        tch::get_num_threads(),
        columns(&head, &rows),
        total_s / draws as f64,
    ))?;
    Ok(Exit::Done)
}

/// Errs where the geometry has no room for such prompts.
fn check(config: &ModelConfig, shots: usize) -> Result<(), Error> {
    let (n_tokens, n_words) = (6 * shots + 4, 2 * (shots + 1));
    if n_tokens <= config.n_ctx && n_words + SEPARATORS.len() <= config.d_vocab {
        return Ok(());
    }
    let problem = format!(
        "needs {n_tokens} positions and {n_words} words, and the model has {} and {}",
        config.n_ctx, config.d_vocab
    );
    Err(Error::Selector { what: "shots", value: shots.to_string(), problem, hint: Some("give fewer".into()) })
}

/// Both directions of every draw. The same seed draws the same words for every kind of pairs, as a study does.
fn trials(config: &ModelConfig, pairing: Pairing, args: &BenchArgs) -> Vec<Trial> {
    let words: Vec<String> = (SEPARATORS.len()..config.d_vocab).map(|id| id.to_string()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let of_draw = |draw: usize| {
        let material = Material::draw(&words, args.shots.get(), &mut rng);
        Rule::BOTH.map(|rule| trial(&material.line(pairing, rule, &format!("d{draw:03}"), 0)))
    };
    (0..args.draws.get()).flat_map(of_draw).collect()
}

/// A line whose words are token ids.
fn trial(line: &Line) -> Trial {
    let id = |word: &str| word.parse::<i64>().expect("words are token ids");
    let target = Target { correct: id(&line.base.answer), incorrect: Some(id(&line.incorrect)) };
    Trial {
        id: line.id.clone(),
        cluster: Some(line.cluster.clone()),
        direction: Some(line.direction.into()),
        base: prompt(&line.base),
        source: line.source.as_ref().map(prompt),
        source_answer: line.source.as_ref().map(|source| id(&source.answer)),
        target,
    }
}

fn prompt(side: &Side) -> Prompt {
    let separator = |c: char| SEPARATORS.iter().find(|(text, _)| *text == c).map(|(_, id)| *id);
    let mut tokens = Vec::new();
    for piece in side.text.split_inclusive(|c| separator(c).is_some()) {
        let end = piece.chars().next_back().and_then(separator);
        let word = piece.trim_end_matches(|c| separator(c).is_some());
        tokens.push(word.parse().expect("words are token ids"));
        tokens.extend(end);
    }
    let range = |&[start, end]: &[usize; 2]| start..end;
    let spans = side.spans.iter().map(|(name, ranges)| ((*name).to_owned(), ranges.iter().map(range).collect()));
    Prompt { tokens, spans: spans.collect() }
}

/// What the trials of a stage cost.
struct Cost {
    bar: ProgressBar,
    trials: usize,
    runs_s: f64,
    waves_s: f64,
    prompts: usize,
}

impl Cost {
    fn new(bar: &ProgressBar) -> Self {
        Self { bar: bar.clone(), trials: 0, runs_s: 0.0, waves_s: 0.0, prompts: 0 }
    }

    fn row(&self, stage: &str) -> Vec<String> {
        let each = (self.runs_s + self.waves_s) / self.trials.max(1) as f64;
        let seconds = |x: f64| format!("{x:.2}");
        vec![stage.into(), self.trials.to_string(), seconds(self.runs_s), seconds(self.waves_s), format!("{each:.4}")]
    }

    fn json(&self, stage: &str) -> Value {
        let Self { trials, runs_s, waves_s, prompts, .. } = self;
        json!({ "stage": stage, "trials": trials, "runs_s": runs_s, "waves_s": waves_s, "prompts_run": prompts })
    }
}

impl Sink for Cost {
    fn begin(&mut self, _: usize) -> interp_core::Result<()> {
        Ok(())
    }

    fn has(&self, _: usize) -> bool {
        false
    }

    fn trial(&mut self, _: usize, _: &ScoreGrid, report: &TrialReport) -> interp_core::Result<ControlFlow<()>> {
        self.trials += 1;
        self.runs_s += report.runs_s;
        self.waves_s += report.waves_s;
        self.prompts += report.prompts_run;
        self.bar.inc(1);
        Ok(ControlFlow::Continue(()))
    }

    fn skip(&mut self, index: usize, reason: &str) -> interp_core::Result<ControlFlow<()>> {
        Err(Error::Prompt { place: format!("trial {index}"), problem: reason.into(), hint: None })
    }

    fn finish(&mut self) -> interp_core::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_ids_become_the_prompts_tokens() {
        let pairs = vec![["7", "8"].map(str::to_owned), ["12", "9"].map(str::to_owned)];
        let trial = trial(&Material { pairs }.line(Pairing::Token, Rule::Aba, "d0", 0));
        assert_eq!(trial.source.unwrap().tokens, [7, 0, 8, 0, 7, 1, 12, 0, 9, 0]);
        assert_eq!(trial.base.tokens, [7, 0, 8, 0, 7, 1, 9, 0, 12, 0]);
        assert_eq!(trial.target, Target { correct: 9, incorrect: Some(12) });
        assert_eq!(trial.base.spans["third"], std::iter::once(4..5).collect::<Vec<_>>());
    }
}
