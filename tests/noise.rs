//! The engine's book-keeping: prompts that run once, rows that measure noise, waves that shrink when memory runs out.

use std::ops::ControlFlow;
use std::process::Command;

use interp_core::Result;
use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::export::NoiseFloor;
use interp_core::intervention::Edit;
use interp_core::metric::Metric;
use interp_core::scores::ScoreGrid;
use interp_core::site::{HeadRef, Positions, Site};
use interp_core::sweep::{Grid, HeadSet, Models, Sink, Sweep, TrialReport};
use interp_core::trial::{Target, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::{load, load_for_waves, prompt, tiny};

fn tokens(seed: u64, len: usize) -> Vec<i64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(3..131)).collect()
}

/// Two prompts that first differ at `differ`.
fn pair(seed: u64, len: usize, differ: usize) -> (Vec<i64>, Vec<i64>) {
    let base = tokens(seed, len);
    let mut source = base.clone();
    source[differ..].iter_mut().for_each(|token| *token = 133 - *token);
    (base, source)
}

fn trial(id: &str, base: &[i64], source: &[i64]) -> Trial {
    Trial {
        id: id.into(),
        cluster: None,
        direction: None,
        source_answer: None,
        target: Target { correct: 7, incorrect: Some(11) },
        base: prompt(base),
        source: Some(prompt(source)),
    }
}

/// Each pair in both directions, as `--swap` has it, and one more trial with a base that was there before.
fn swapped(len: usize, differ: usize) -> Vec<Trial> {
    let (a, b) = pair(1, len, differ);
    let (c, d) = pair(2, len, differ);
    vec![trial("ab", &a, &b), trial("ba", &b, &a), trial("cd", &c, &d), trial("dc", &d, &c), trial("ad", &a, &d)]
}

fn sweep(edit: Edit, positions: Positions) -> Sweep {
    Sweep {
        site: Site::Z,
        edit,
        grid: Grid::LayerHead,
        positions: vec![positions],
        layers: 0..3,
        heads: None,
        metrics: vec![Metric::LogitDiff, Metric::Kl, Metric::Rank],
        max_rows: None,
        seed: 3,
    }
}

/// Keeps everything; the first `had` trials are there already.
#[derive(Default)]
struct Kept {
    had: usize,
    grids: Vec<(usize, ScoreGrid)>,
    reports: Vec<TrialReport>,
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
        self.reports.push(report.clone());
        Ok(ControlFlow::Continue(()))
    }
    fn skip(&mut self, _: usize, reason: &str) -> Result<ControlFlow<()>> {
        panic!("{reason}")
    }
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

fn run(sweep: &Sweep, decoder: &Decoder, trials: &[Trial], had: usize) -> Kept {
    let mut kept = Kept { had, ..Kept::default() };
    sweep.run(Models::of(decoder), trials, &mut kept).expect("runs");
    kept
}

fn prompts_run(kept: &Kept) -> Vec<usize> {
    kept.reports.iter().map(|report| report.prompts_run).collect()
}

/// All numbers of a grid, as bits where a NaN must equal itself.
fn bits(grid: &ScoreGrid) -> Vec<u64> {
    let all = grid.values.iter().flatten().chain(&grid.clean).chain(grid.source.iter().flatten());
    all.map(|x| x.to_bits()).collect()
}

#[test]
fn a_prompt_runs_once_and_serves_as_base_and_as_source() {
    let decoder = load(&tiny("qwen2"), Dtype::F64);
    let models = Models::of(&decoder);
    for (edit, layers) in [(Edit::Patch, 0..3), (Edit::Zero, 1..3), (Edit::Patch, 1..3)] {
        for positions in [Positions::Index(vec![-1]), Positions::All] {
            for max_rows in [None, Some(5)] {
                let trials = swapped(14, 6);
                let mut sweep = sweep(edit.clone(), positions.clone());
                (sweep.max_rows, sweep.layers) = (max_rows, layers.clone());
                let what = format!("{edit:?} {positions} {layers:?} {max_rows:?}");
                let kept = run(&sweep, &decoder, &trials, 0);
                assert_eq!(prompts_run(&kept), [2, 0, 2, 0, 0], "{what}");
                for (trial, (index, grid)) in trials.iter().zip(&kept.grids) {
                    let axes = sweep.axes(decoder.config(), trial).unwrap();
                    let (alone, _) = sweep.trial(models, &axes, trial).unwrap();
                    // Elsewhere a base runs its last layer over more positions, for the trial that it is the source of.
                    if index % 2 == 0 && *index < 4 && positions != Positions::All {
                        assert_eq!(bits(grid), bits(&alone), "{what}: trial {index}");
                    }
                    let largest = alone.values.iter().flatten().fold(0.0f64, |a, b| a.max(b.abs()));
                    let pairs = grid.values.iter().flatten().zip(alone.values.iter().flatten());
                    let worst = pairs.fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
                    assert!(worst <= 1e-9 * largest && largest > 0.0, "{what}: {worst:e} of {largest:e}");
                }
            }
        }
    }
}

#[test]
fn a_sweep_resumed_anywhere_makes_the_same_bits() {
    // f32, where a run that began elsewhere would show in the last bits.
    let decoder = load_for_waves(&tiny("qwen2"), Dtype::F32);
    let sweep = sweep(Edit::Patch, Positions::All);
    let trials = swapped(40, 17);
    let whole = run(&sweep, &decoder, &trials, 0);
    for had in 1..trials.len() {
        let rest = run(&sweep, &decoder, &trials, had);
        assert_eq!(rest.grids.len(), trials.len() - had);
        for ((index, a), (_, b)) in rest.grids.iter().zip(&whole.grids[had..]) {
            assert!(bits(a) == bits(b), "trial {index}, resumed at {had}");
        }
        assert!(rest.reports[0].prompts_run >= 2);
    }
}

#[test]
fn a_run_is_let_go_when_it_is_not_needed_for_long() {
    let decoder = load(&tiny("qwen2"), Dtype::F32);
    let sweep = sweep(Edit::Patch, Positions::Index(vec![-1]));
    let (a, b) = pair(1, 9, 4);
    let mut trials = vec![trial("first", &a, &b)];
    trials.extend((0..7).map(|i| trial(&format!("t{i}"), &tokens(10 + i, 8), &tokens(10 + i, 8))));
    trials.push(trial("near", &b, &a));
    trials.extend((0..8).map(|i| trial(&format!("u{i}"), &tokens(30 + i, 8), &tokens(30 + i, 8))));
    trials.push(trial("far", &a, &b));
    let mut expected = vec![1; 18];
    (expected[0], expected[8], expected[17]) = (2, 0, 2);
    assert_eq!(prompts_run(&run(&sweep, &decoder, &trials, 0)), expected);
}

#[test]
fn noise_is_measured_on_rows_of_the_very_waves() {
    let trials = swapped(30, 3);
    for (dtype, bound) in [(Dtype::F64, 1e-12), (Dtype::F32, 1e-3), (Dtype::Bf16, 2.0)] {
        let decoder = load_for_waves(&tiny("qwen2"), dtype);
        let config = decoder.config();
        let sweep = sweep(Edit::Patch, Positions::All);
        let kept = run(&sweep, &decoder, &trials, 0);
        // All cells, the clean row, and two copies of it that enter among them.
        let rows = config.n_layers * config.n_heads + 1 + 2;
        for report in &kept.reports {
            assert_eq!((report.waves, report.rows, report.halvings), (1, rows, 0));
            assert!(report.waves_s > 0.0 && report.max_rows >= rows);
            assert_eq!(report.noise.len(), 3);
            for noise in &report.noise[..2] {
                let (repeat, batch) = (noise.repeat.expect("measured"), noise.batch.expect("measured"));
                assert!(repeat <= bound && batch <= bound, "{dtype}: {noise:?}");
            }
        }
        // A wave begins at another position than the full pass, which rounds otherwise.
        let repeat = kept.reports.iter().filter_map(|report| report.noise[0].repeat).fold(0.0, f64::max);
        assert!(repeat > 0.0, "{dtype}");
    }
    // One row in eight, and nothing at all where no cell runs.
    let decoder = load(&tiny("qwen2"), Dtype::F32);
    let mut sweep = sweep(Edit::Zero, Positions::Index(vec![-1]));
    sweep.max_rows = Some(6);
    let kept = run(&sweep, &decoder, &trials[..1], 0);
    assert_eq!(kept.reports[0].rows, kept.reports[0].waves * 2 + decoder.config().n_layers * decoder.config().n_heads);
    let (a, _) = pair(1, 9, 4);
    sweep.edit = Edit::Patch;
    let kept = run(&sweep, &decoder, &[trial("same", &a, &a)], 0);
    assert_eq!((kept.reports[0].waves, kept.reports[0].noise[0].batch), (0, None));
}

#[test]
fn an_imprecise_decoder_is_told_from_a_precise_one() {
    let trials = swapped(20, 5);
    let floor = |dtype: Dtype| {
        let (ours, above) = (load_for_waves(&tiny("qwen2"), dtype), load(&tiny("qwen2"), dtype.above().expect("one")));
        let sweep = sweep(Edit::Patch, Positions::All);
        let kept = run(&sweep, &ours, &trials, 0);
        let samples = sweep.sample(Models::of(&ours), &trials, &[0, 1, 2, 3, 4]).unwrap();
        assert_eq!(samples.iter().map(|sample| sample.cells.len()).sum::<usize>(), 16);
        assert_eq!(samples, sweep.sample(Models::of(&ours), &trials, &[0, 1, 2, 3, 4]).unwrap());
        let (mut effects, mut reference) = (Vec::new(), Vec::new());
        for sample in &samples {
            let axes = sweep.axes(ours.config(), &trials[0]).unwrap();
            let models = Models::of(&above);
            let grid = sweep.cells_of(models, &axes, &trials[sample.trial], &sample.cells).unwrap();
            let ran = grid.values[0].iter().filter(|delta| !delta.is_nan()).count();
            assert_eq!(ran, sample.cells.len(), "only the sample runs");
            effects.extend(sample.cells.iter().map(|&cell| kept.grids[sample.trial].1.values[0][cell]));
            reference.extend(sample.cells.iter().map(|&cell| grid.values[0][cell]));
        }
        NoiseFloor::default().against(&effects, &reference)
    };
    let (bf16, f32) = (floor(Dtype::Bf16), floor(Dtype::F32));
    let numbers = |floor: NoiseFloor| (floor.precision.expect("measured"), floor.correlation.expect("measured"));
    let ((coarse, r_coarse), (fine, r_fine)) = (numbers(bf16), numbers(f32));
    assert!(coarse > 100.0 * fine && fine > 0.0, "{bf16:?} {f32:?}");
    assert!(r_coarse < r_fine && r_coarse < 1.0 - 1e-7 && r_fine > 1.0 - 1e-7, "{bf16:?} {f32:?}");
}

#[test]
fn only_cells_that_run_are_drawn() {
    let decoder = load(&tiny("qwen2"), Dtype::F32);
    let (n_layers, n_heads) = (decoder.config().n_layers, decoder.config().n_heads);
    let (a, b) = pair(1, 12, 6);
    let trials = [trial("ab", &a, &b)];
    let cells = |positions: Vec<i64>| {
        let samples =
            sweep(Edit::Patch, Positions::Index(positions)).sample(Models::of(&decoder), &trials, &[0]).unwrap();
        samples.into_iter().flat_map(|sample| sample.cells).collect::<Vec<_>>()
    };
    assert_eq!(cells(vec![2]), Vec::<usize>::new(), "the prompts do not differ yet");
    let last_layer = (n_layers - 1) * n_heads;
    assert!(cells(vec![7]).iter().all(|&cell| cell < last_layer), "the last layer is read at the last position only");
    assert_eq!(cells(vec![7]).len(), last_layer.min(16));
}

/// Sweeps a long prompt twice, the second time with little address space left. Does nothing unless the test below started it.
#[test]
fn child_with_little_memory() {
    if std::env::var_os("INTERP_TEST_LITTLE_MEMORY").is_none() {
        return;
    }
    // SAFETY: mallopt only stores its arguments. Freed memory goes back to the system at once, so that large tensors have to
    // be asked for again.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 16) };
    let decoder = load(&tiny("qwen2"), Dtype::F64);
    let (a, b) = pair(1, 96, 3);
    let (c, d) = pair(2, 96, 3);
    let trials = [trial("ab", &a, &b), trial("cd", &c, &d)];
    let mut sweep = sweep(Edit::Zero, Positions::All);
    // So many cells that all of them take far more room than the runs before them, and no bound but memory itself.
    let head = HeadRef { layer: 1, head: 2 };
    let sets = (0..240).map(|k| HeadSet { name: k.to_string(), heads: vec![head] }).collect();
    (sweep.grid, sweep.max_rows) = (Grid::Sets(sets), Some(1 << 20));
    let whole = run(&sweep, &decoder, &trials, 0);
    assert!(whole.reports.iter().all(|report| report.halvings == 0));
    // SAFETY: a plain call.
    unsafe { libc::malloc_trim(0) };
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    let size: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
    // Room shrinks from plenty to the first that does not let all cells through together, so that it is a large tensor that
    // finds no room, not an allocation of a few bytes, which no program survives.
    let with_room = |megabytes: u64| {
        let limit = libc::rlimit { rlim_cur: (size << 10) + (megabytes << 20), rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        let mut kept = Kept::default();
        sweep.run(Models::of(&decoder), &trials, &mut kept).expect("room for a cell at a time");
        kept
    };
    let rooms = std::iter::successors(Some(256), |room| Some(room * 3 / 4)).take_while(|&room| room > 7);
    let halved = rooms.map(with_room).find(|kept| kept.reports[0].halvings > 0).expect("too little room for all");
    println!("{:?}", halved.reports);
    let [first, second] = &halved.reports[..] else { panic!("two trials") };
    assert!(first.halvings > 0 && first.waves > 1, "{first:?}");
    // The second trial begins with what fitted in the first.
    assert!(second.waves >= 240usize.div_ceil(first.max_rows - 1), "{first:?} {second:?}");
    assert_eq!(second.halvings == 0, second.max_rows == first.max_rows, "{first:?} {second:?}");
    for ((_, a), (_, b)) in whole.grids.iter().zip(&halved.grids) {
        let largest = a.values[0].iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        let pairs = a.values[0].iter().zip(&b.values[0]);
        assert!(pairs.fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs())) <= 1e-9 * largest);
    }
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn out_of_memory_halves_waves_and_is_counted() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "noise::child_with_little_memory", "--nocapture"]);
    let output = command
        .env("INTERP_TEST_LITTLE_MEMORY", "1")
        .env("OMP_NUM_THREADS", "1")
        // Heaps of further threads reserve address space in which everything would fit.
        .env("MALLOC_ARENA_MAX", "1")
        // To print one takes more memory than there is.
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
