//! An output folder under interruption: killed anywhere, refused when foreign, honest when the disk is full.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use interp_core::Error;
use interp_core::export::{Layout, NoiseFloor, Opened, RunFolder, RunPlan, TrialRow};
use interp_core::scores::{GridAxis, ScoreGrid};
use interp_core::site::HeadAxis;
use interp_core::stats::Bootstrap;
use interp_core::sweep::{Sink, TrialReport};
use serde_json::json;

pub const N_TRIALS: usize = 6;

/// Six trials in three clusters, the fourth of them refused; two metrics over `n_layers` x 3 heads, one cell not asked for.
pub fn plan(n_layers: usize, seed: u64) -> RunPlan {
    RunPlan {
        spec: json!({"command": "sweep", "site": "z", "edit": "patch", "seed": seed, "scale": 0.1}),
        layout: Layout {
            axes: vec![GridAxis::layers(0..n_layers), GridAxis::heads(0..3)],
            metrics: vec!["logit-diff".into(), "prob".into()],
            head_axis: Some(HeadAxis::Query),
            heads_per_kv: Some(3),
        },
        trials: (0..N_TRIALS)
            .map(|t| TrialRow {
                id: format!("t{t}"),
                cluster: Some(format!("c{}", t / 2)),
                direction: (t % 2 == 0).then(|| "ABA".into()),
            })
            .collect(),
        bootstrap: Bootstrap { resamples: 100, ..Bootstrap::default() },
    }
}

fn grid(plan: &RunPlan, trial: usize) -> ScoreGrid {
    let n = plan.layout.axes.iter().map(|axis| axis.labels.len()).product();
    let value = |metric: usize, cell: usize| match cell {
        1 => f64::NAN,
        _ => (1.0 + metric as f64) * ((trial * 31 + cell * 7) as f64).sin() / 3.0,
    };
    ScoreGrid {
        axes: plan.layout.axes.clone(),
        metrics: plan.layout.metrics.clone(),
        values: (0..2).map(|metric| (0..n).map(|cell| value(metric, cell)).collect()).collect(),
        clean: vec![1.0 / (3.0 + trial as f64), 0.1],
        source: Some(vec![-2.0 / 3.0, 1e-300]),
    }
}

fn ready(opened: Opened) -> Box<RunFolder> {
    match opened {
        Opened::Ready(folder) => folder,
        Opened::Finished => panic!("the folder is already finished"),
    }
}

/// Plays the engine: at most `n` further trials, then the end of the process (drop) or of the run.
pub fn run(dir: &Path, plan: &RunPlan, n: usize) -> interp_core::Result<()> {
    let mut folder = ready(RunFolder::open(dir, plan.clone())?);
    folder.begin(N_TRIALS)?;
    let todo: Vec<usize> = (0..N_TRIALS).filter(|&t| !folder.has(t)).collect();
    for &trial in todo.iter().take(n) {
        folder.note(json!({"repeat": 0.01 * (trial as f64 + 0.1)}));
        let flow = match trial {
            3 => folder.skip(trial, "the answer is two tokens")?,
            _ => folder.trial(trial, &grid(plan, trial), &TrialReport::default())?,
        };
        assert_eq!(flow, ControlFlow::Continue(()));
    }
    if todo.len() > n {
        return Ok(());
    }
    let repeat = folder.notes().values().filter_map(|note| note["repeat"].as_f64()).fold(0.0, f64::max);
    let floor = NoiseFloor { repeat: Some(repeat), batch: Some(0.02), ..NoiseFloor::default() };
    folder.describe(
        json!({"dtype": "f32", "spec": "cannot be replaced"}).as_object().unwrap().clone(),
        vec![Some(floor), None],
    );
    folder.finish()
}

pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let file =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into(), fs::read(&path).unwrap_or_default());
    entries.map(file).collect()
}

fn assert_same(dir: &Path, reference: &BTreeMap<String, Vec<u8>>, when: &str) {
    let found = files(dir);
    assert_eq!(found.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>(), "{when}");
    for (name, bytes) in &found {
        assert!(bytes == &reference[name], "{name} differs, {when}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_finished_folder_holds_the_promised_files_and_is_not_touched_again() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("deep/out");
    run(&dir, &plan(2, 1), usize::MAX).unwrap();
    let names = [
        "delta.csv",
        "delta.json",
        "delta.npy",
        "delta.prob.npy",
        "delta_per_trial.npy",
        "delta_per_trial.prob.npy",
        "heatmap.png",
        "heatmap.prob.png",
        "heatmap.prob.svg",
        "heatmap.svg",
        "metric_clean.npy",
        "metric_source.npy",
        "run.json",
        "skipped.json",
        "trials.json",
    ];
    let reference = files(&dir);
    assert_eq!(reference.keys().collect::<Vec<_>>(), names);
    assert!(matches!(RunFolder::open(&dir, plan(2, 1)).unwrap(), Opened::Finished));
    assert_same(&dir, &reference, "opened again");
    let run: serde_json::Value = serde_json::from_slice(&reference["run.json"]).unwrap();
    assert_eq!((&run["dtype"], &run["spec"]["seed"]), (&json!("f32"), &json!(1)));
    assert_eq!(run["noise_floor"]["logit-diff"]["repeat"], json!(0.01 * 5.1));
    assert_eq!(run["noise_floor"]["prob"], json!(null));
    let text = String::from_utf8(reference["skipped.json"].clone()).unwrap();
    assert_eq!(text, "[\n{\"index\":3,\"id\":\"t3\",\"reason\":\"the answer is two tokens\"}\n]\n");
    let text = String::from_utf8(reference["trials.json"].clone()).unwrap();
    let line = |n: usize| text.lines().nth(n).unwrap();
    assert_eq!(line(4), r#"{"row":null,"id":"t3","cluster":"c1","direction":null,"status":"skipped"},"#);
    assert_eq!(line(5), r#"{"row":3,"id":"t4","cluster":"c2","direction":"ABA","status":"done"},"#);
}

#[test]
fn a_run_killed_anywhere_resumes_to_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, plan) = (temp.path().join("whole"), plan(2, 1));
    run(&whole, &plan, usize::MAX).unwrap();
    let reference = files(&whole);

    // Between trials, after every one.
    let dir = temp.path().join("between");
    (0..N_TRIALS).for_each(|_| run(&dir, &plan, 1).unwrap());
    assert_same(&dir, &reference, "stopped after every trial");

    // In the middle of writing an entry, after the first and after all of them.
    let full = temp.path().join("full");
    run(&full, &plan, N_TRIALS - 1).unwrap();
    let journal = fs::read(full.join("partial/trials.bin")).unwrap();
    for cut in (0..journal.len()).step_by(97).chain([1, 3, 4, journal.len() - 1]) {
        let dir = temp.path().join(format!("cut{cut}"));
        copy(&full, &dir);
        fs::write(dir.join("partial/trials.bin"), &journal[..cut]).unwrap();
        run(&dir, &plan, usize::MAX).unwrap();
        assert_same(&dir, &reference, &format!("journal cut at {cut}"));
    }

    // Before the spec was whole.
    let dir = temp.path().join("begun");
    fs::create_dir_all(dir.join("partial")).unwrap();
    fs::write(dir.join("partial/lock"), "").unwrap();
    fs::write(dir.join("partial/.spec.json.tmp"), "{\"sch").unwrap();
    run(&dir, &plan, usize::MAX).unwrap();
    assert_same(&dir, &reference, "killed before the spec");

    // While writing the final files: any number of them, one of them half, the journal still there.
    for n in 0..=reference.len() {
        let dir = temp.path().join(format!("final{n}"));
        copy(&full, &dir);
        // run.json is the last to be written.
        let order = reference.keys().filter(|name| *name != "run.json").map(String::as_str).chain(["run.json"]);
        let order: Vec<&str> = order.collect();
        order[..n].iter().for_each(|name| fs::write(dir.join(name), &reference[*name]).unwrap());
        if let Some(name) = order.get(n) {
            fs::write(dir.join(format!(".{name}.tmp")), "half").unwrap();
        }
        run(&dir, &plan, usize::MAX).unwrap();
        assert_same(&dir, &reference, &format!("killed after {n} final files"));
    }

    // While removing the journal.
    let dir = temp.path().join("removing");
    copy(&whole, &dir);
    copy(&full.join("partial"), &dir.join("partial"));
    fs::remove_file(dir.join("partial/spec.json")).unwrap();
    assert!(matches!(RunFolder::open(&dir, plan).unwrap(), Opened::Finished));
    assert_same(&dir, &reference, "killed while removing the journal");
}

#[test]
fn folders_of_others_are_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let message = |dir: &Path, plan: RunPlan| {
        let error = RunFolder::open(dir, plan).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string().replace(&dir.display().to_string(), "OUT")
    };
    let dir = temp.path().join("notes");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("thesis.tex"), "x").unwrap();
    let refusal = "OUT: not empty and not an output folder of interp (holds `thesis.tex`)";
    assert_eq!(message(&dir, plan(2, 1)), refusal);
    assert_eq!(files(&dir).len(), 1);

    let dir = temp.path().join("partial of others");
    fs::create_dir_all(dir.join("partial")).unwrap();
    fs::write(dir.join("partial/song.mp3.part"), "x").unwrap();
    let refusal = "OUT: not empty and not an output folder of interp (holds `partial/song.mp3.part`)";
    assert_eq!(message(&dir, plan(2, 1)), refusal);

    let dir = temp.path().join("run of others");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("run.json"), "{\"tool\": \"other\"}").unwrap();
    let refusal = "OUT: not empty and not an output folder of interp (holds `run.json`)";
    assert_eq!(message(&dir, plan(2, 1)), refusal);

    for n in [2, usize::MAX] {
        let dir = temp.path().join(format!("run{n}"));
        run(&dir, &plan(2, 1), n).unwrap();
        let before = files(&dir);
        assert_eq!(message(&dir, plan(2, 5)), "OUT: holds another run: `seed` is 1 there and 5 here");
        let mut extra = plan(2, 1);
        extra.spec["positions"] = json!("last");
        let refusal = "OUT: holds another run: `positions` is absent there and \"last\" here";
        assert_eq!(message(&dir, extra), refusal);
        let refusal = "OUT: holds another run: `layout.axes[0].labels[2]` is absent there and \"L2\" here";
        assert_eq!(message(&dir, plan(3, 1)), refusal);
        assert_same(&dir, &before, "after the refusal");
    }
}

#[test]
fn a_second_process_is_refused_while_the_first_lives() {
    let temp = tempfile::tempdir().unwrap();
    let first = ready(RunFolder::open(temp.path(), plan(2, 1)).unwrap());
    let error = RunFolder::open(temp.path(), plan(2, 1)).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }));
    assert!(error.to_string().ends_with(": another process is writing this folder"), "{error}");
    drop(first);
    ready(RunFolder::open(temp.path(), plan(2, 1)).unwrap());
}

#[test]
fn a_folder_that_cannot_be_made_is_one_clear_error() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    let error = RunFolder::open(&temp.path().join("file/out"), plan(2, 1)).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") || error.starts_with("cannot create "), "{error}");
    assert!(error.ends_with("file/out: Not a directory (os error 20)"), "{error}");
}

/// Runs [`child`] in a process of its own, which may be killed, limited, or put on a disk of its own.
fn child(task: &str, dir: &Path, wrapper: &[&str]) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
    };
    command.args(["--exact", "run_folder::child_process", "--nocapture"]).env("INTERP_TEST_CHILD", task);
    command.env("INTERP_TEST_DIR", dir);
    command
}

/// Does nothing unless another test of this file started it.
#[test]
fn child_process() {
    let (Ok(task), Ok(dir)) = (std::env::var("INTERP_TEST_CHILD"), std::env::var("INTERP_TEST_DIR")) else { return };
    let dir = PathBuf::from(dir);
    match task.as_str() {
        "slow" => {
            let plan = plan(2, 1);
            let mut folder = ready(RunFolder::open(&dir, plan.clone()).unwrap());
            for trial in 0..3 {
                folder.note(json!({"repeat": 0.01 * (trial as f64 + 0.1)}));
                let _ = folder.trial(trial, &grid(&plan, trial), &TrialReport::default()).unwrap();
            }
            fs::write(dir.with_extension("ready"), "").unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }
        "limited" => limited(&dir),
        "tiny disk" => tiny_disk(&dir),
        "read-only" => {
            let error = RunFolder::open(&dir.join("out"), plan(2, 1)).unwrap_err().to_string();
            assert!(
                error.starts_with("cannot create ") && error.ends_with("Read-only file system (os error 30)"),
                "{error}"
            );
        }
        other => panic!("no task `{other}`"),
    }
}

#[test]
fn sigkill_leaves_no_lock_and_loses_no_trial() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, dir) = (temp.path().join("whole"), temp.path().join("killed"));
    run(&whole, &plan(2, 1), usize::MAX).unwrap();
    let mut slow = child("slow", &dir, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !dir.with_extension("ready").exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "the child did not get ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(RunFolder::open(&dir, plan(2, 1)), Err(Error::Busy { .. })), "the child holds the folder");
    slow.kill().unwrap();
    slow.wait().unwrap();
    let folder = ready(RunFolder::open(&dir, plan(2, 1)).unwrap());
    assert_eq!(folder.n_done(), 3);
    drop(folder);
    run(&dir, &plan(2, 1), usize::MAX).unwrap();
    assert_same(&dir, &files(&whole), "after SIGKILL");
}

/// Enough layers that one trial is about 10 kB and the whole journal about 50 kB.
const WIDE: usize = 400;

/// Runs until the disk is full, then makes room and goes on; `room` grows from one step to the next.
fn until_full(dir: &Path, set_room: impl Fn(usize), expected: &str) {
    let reference = tempfile::tempdir().unwrap();
    let plan = plan(WIDE, 1);
    set_room(1 << 30);
    run(&reference.path().join("whole"), &plan, usize::MAX).unwrap();
    let mut errors = Vec::new();
    let dir = dir.join("out");
    for room in [24 << 10, 80 << 10, 96 << 10, 1 << 30] {
        set_room(room);
        let done_before = fs::metadata(dir.join("partial/trials.bin")).map_or(0, |journal| journal.len());
        if let Err(error) = run(&dir, &plan, usize::MAX) {
            assert_eq!(error.hint(), Some("free some space; what was written before is kept"));
            errors.push(error.to_string());
            let done = fs::metadata(dir.join("partial/trials.bin")).unwrap().len();
            assert!(done >= done_before && done > 0, "{done} after {done_before}");
        }
    }
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(errors[0].starts_with("cannot write ") && errors[0].contains("partial/trials.bin"), "{errors:?}");
    assert!(errors.last().unwrap().contains("/out/") && !errors.last().unwrap().contains("partial"), "{errors:?}");
    assert!(errors.iter().all(|error| error.ends_with(expected)), "{errors:?}");
    assert_same(&dir, &files(&reference.path().join("whole")), "after the disk was full");
}

fn limited(dir: &Path) {
    // SAFETY: plain system calls on this child process, which nothing else shares.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let set_room = |room: usize| {
        let limit = libc::rlimit { rlim_cur: room as libc::rlim_t, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    };
    until_full(dir, set_room, "File too large (os error 27)");
}

fn tiny_disk(dir: &Path) {
    let set_room = |room: usize| {
        let size = format!("remount,size={room}");
        assert!(Command::new("mount").args(["-o", &size]).arg(dir).status().unwrap().success());
    };
    until_full(dir, set_room, "No space left on device (os error 28)");
}

#[test]
fn a_full_disk_is_one_clear_error_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let output = child("limited", temp.path(), &[]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A file size limit runs everywhere; a real full disk needs a mount of one's own.
    for (task, options) in [("tiny disk", "size=1m"), ("read-only", "ro")] {
        let disk = temp.path().join("disk");
        fs::create_dir_all(&disk).unwrap();
        let mount = format!("mount -t tmpfs -o {options} none '{}' && exec \"$@\"", disk.display());
        let able = Command::new("unshare").args(["-rm", "sh", "-c", &mount, "sh", "true"]).output();
        if !able.is_ok_and(|output| output.status.success()) {
            println!("skipped: {task} needs a user namespace that may mount tmpfs");
            continue;
        }
        let output = child(task, &disk, &["unshare", "-rm", "sh", "-c", &mount, "sh"]).output().unwrap();
        assert!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
