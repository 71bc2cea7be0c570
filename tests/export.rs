//! What others make of our files: numpy, the commands that read folders, and published data ranked by us.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use interp_core::export::{Study, npy};
use interp_core::scores::{GridAxis, cell_label};
use interp_core::stats;
use serde_json::{Value, json};

use crate::run_folder::{files, plan, run};

fn finished() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("out");
    run(&dir, &plan(2, 1), usize::MAX).unwrap();
    (temp, dir)
}

fn interp(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_interp")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn numpy_reads_the_arrays() {
    let (_temp, dir) = finished();
    let script = "import numpy as n, sys\n\
        for f in sys.argv[1:]:\n a = n.load(f); print(a.dtype.str, a.shape, a.flags['C_CONTIGUOUS'])\n\
        d, p = n.load(sys.argv[1]), n.load(sys.argv[2]).astype('f8')\n\
        print(n.nanmax(abs(d - p.mean(0))) < 1e-15, n.isnan(d).sum())";
    let names = ["delta.npy", "delta_per_trial.npy", "metric_clean.npy", "metric_source.npy"];
    let paths = names.map(|name| dir.join(name));
    let numpy = Command::new("python3").args(["-c", "import numpy"]).output();
    if numpy.is_ok_and(|output| output.status.success()) {
        let output = Command::new("python3").args(["-c", script]).args(&paths).output().unwrap();
        let expected = "<f8 (2, 3) True\n<f4 (5, 2, 3) True\n<f8 (5, 2) True\n<f8 (5, 2) True\nTrue 1\n";
        assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
        println!("read by numpy");
        return;
    }
    println!("numpy is not importable: the headers are parsed by hand");
    for (path, header) in paths.iter().zip(["'<f8'|(2, 3)", "'<f4'|(5, 2, 3)", "'<f8'|(5, 2)", "'<f8'|(5, 2)"]) {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let found = text(&bytes[10..10 + length]).replace(", )", ")");
        let (dtype, shape) = header.split_once('|').unwrap();
        assert!(
            found.contains(&format!("'descr': {dtype}")) && found.contains(&format!("'shape': {shape}")),
            "{found}"
        );
        assert!(found.contains("'fortran_order': False") && found.ends_with('\n'), "{found}");
    }
}

#[test]
fn a_folder_reads_back_to_the_numbers_it_shows() {
    let (_temp, dir) = finished();
    let study = Study::load(&dir).unwrap();
    assert_eq!((study.layout.clone(), study.rows.clone()), (plan(2, 1).layout, vec![0, 1, 2, 4, 5]));
    assert_eq!((study.skipped[0].id.as_str(), study.source.as_ref().unwrap()[0][1]), ("t3", 1e-300));
    let table: Value = serde_json::from_slice(&std::fs::read(dir.join("delta.json")).unwrap()).unwrap();
    let (_, means) = npy::read(&dir.join("delta.npy")).unwrap();
    for (metric, lines) in table["cells"].as_array().unwrap().chunks(6).enumerate() {
        let summary = study.summary(metric, &study.bootstrap).unwrap();
        for (line, &cell) in lines.iter().zip(&summary.order) {
            let stats = summary.cells[cell];
            assert_eq!(line["label"], cell_label(&study.layout.axes, cell));
            assert_eq!((&line["mean"], &line["ci"]), (&json!(stats.mean), &json!(stats.ci)));
            assert!(metric > 0 || means[cell].to_bits() == stats.mean.to_bits() || stats.mean.is_nan());
        }
    }
    assert_eq!((&table["n_trials"], &table["n_clusters"]), (&json!(5), &json!(3)));
    assert_eq!(table["n_rejected"], json!({"the answer is two tokens": 1}));
}

#[test]
fn damaged_folders_are_named() {
    let (_temp, dir) = finished();
    let error = |dir: &Path| Study::load(dir).unwrap_err().to_string().replace(&dir.display().to_string(), "OUT");
    std::fs::write(dir.join("delta_per_trial.npy"), npy::encode(&[2, 3], &[0f32; 6])).unwrap();
    let shape = "OUT/delta_per_trial.npy: has shape [2, 3], but run.json and trials.json imply [5, 2, 3]";
    assert_eq!(error(&dir), shape);
    std::fs::remove_file(dir.join("trials.json")).unwrap();
    assert_eq!(error(&dir), "cannot read OUT/trials.json: No such file or directory (os error 2)");
    std::fs::write(dir.join("run.json"), "{").unwrap();
    assert!(error(&dir).starts_with("OUT/run.json: EOF while parsing"), "{}", error(&dir));
    std::fs::remove_file(dir.join("run.json")).unwrap();
    assert_eq!(error(&dir), "OUT: not an output folder: no run.json");
    assert_eq!(error(&dir.join("none")), "OUT: no such folder");
    let running = dir.join("running");
    run(&running, &plan(2, 1), 2).unwrap();
    assert_eq!(error(&running), "OUT: the run in this folder is not finished");
}

#[test]
fn stats_prints_the_top_cells() {
    let (_temp, dir) = finished();
    let path = dir.to_str().unwrap();
    let output = interp(&["stats", path, "--top", "2"]);
    let lines: Vec<String> = text(&output.stdout).lines().map(String::from).collect();
    assert_eq!(output.status.code(), Some(0));
    assert!(lines[0].starts_with("rank  cell"), "{lines:?}");
    assert!(lines[0].contains("95% interval") && lines.len() == 3, "{lines:?}");
    assert_eq!(
        text(&output.stderr),
        "1 of 6 trials were refused; see skipped.json\n\
         logit_diff_drop: no test over the whole grid: 3 clusters: the least p is 0.125, above alpha 0.05\n\
         noise floor (logit-diff): repeat 5.1e-2, batch 2.0e-2, precision not measured; 0 of 5 cells are below it\n"
    );

    let output =
        interp(&["stats", path, "--json", "--metric", "prob", "--ci", "0.5", "--seed", "3", "--resamples", "64"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["bootstrap"], json!({"level": 0.5, "resamples": 64, "seed": 3}));
    assert_eq!((&found["metric"], &found["cells"][0]["rank"]), (&json!("prob"), &json!(1)));
    assert_eq!((&found["n_clusters"], found["cells"].as_array().unwrap().len()), (&json!(3), 6));

    let output = interp(&["stats", path, "--metric", "acc"]);
    assert_eq!(output.status.code(), Some(2));
    let message = "error: metric `acc`: not in this folder\nhint: the folder holds logit-diff, prob\n";
    assert_eq!(text(&output.stderr), message);
    let output = interp(&["stats", path, "--ci", "95"]);
    assert_eq!(
        text(&output.stderr).lines().last(),
        Some("error: confidence level 95: must lie between 0 and 1, such as 0.95")
    );

    let mut unlabelled = plan(2, 1);
    unlabelled.trials.iter_mut().for_each(|trial| trial.cluster = None);
    let dir = dir.with_extension("2");
    run(&dir, &unlabelled, usize::MAX).unwrap();
    let output = interp(&["stats", dir.to_str().unwrap()]);
    let first = "no trial names a cluster: each counts as its own, and the intervals take trials as independent";
    assert_eq!(text(&output.stderr).lines().next(), Some(first));
}

#[test]
fn a_reader_who_has_enough_is_no_error() {
    let (_temp, dir) = finished();
    let mut command = Command::new(env!("CARGO_BIN_EXE_interp"));
    command.arg("stats").arg(&dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    drop(process.stdout.take());
    let mut talk = String::new();
    process.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert_eq!((process.wait().unwrap().code(), talk.contains("error")), (Some(0), false), "{talk}");
}

#[test]
fn plot_redraws_the_folders_own_figure() {
    let (_temp, dir) = finished();
    let before = files(&dir);
    let path = dir.to_str().unwrap();
    for metric in ["logit-diff", "prob"] {
        let output = interp(&["plot", path, "--metric", metric]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout).lines().count(), 2);
    }
    assert!(files(&dir) == before, "the same numbers draw the same figure");
    let out = dir.with_extension("svg");
    let output = interp(&["plot", path, "--out", out.to_str().unwrap(), "--title", "A <title>"]);
    assert_eq!(text(&output.stdout), format!("{}\n", out.display()));
    assert!(text(&std::fs::read(&out).unwrap()).contains(">A &lt;title&gt;</text>"));
    let output = interp(&["plot", path, "--out", "figure.pdf"]);
    let message = "error: figure.pdf: a figure is .svg or .png\nhint: end its name in .svg or .png\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), message.into()));
}

/// The published scores of Llama-3.1-70B (SPEC 1.9), where the shared folder is there.
#[test]
fn published_scores_rank_as_published() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("INTERP_SHARED").map_or(root, PathBuf::from);
    let data = shared.join("data/yang-llama-3.1-70b");
    if !data.is_dir() {
        println!("skipped: no {}", data.display());
        return;
    }
    let (shape, scores) = npy::read(&data.join("retrieval_head.causal_scores.npy")).unwrap();
    let (_, significant) = npy::read(&data.join("retrieval_head.significant_heads.npy")).unwrap();
    assert_eq!(shape, [80, 64]);
    let sum: f64 = scores.iter().sum();
    assert!((sum - 1.758906).abs() < 1e-6, "{sum}");
    let mean_abs = scores.iter().map(|s| s.abs()).sum::<f64>() / scores.len() as f64;
    assert!((mean_abs - 0.009281281).abs() < 1e-9, "{mean_abs}");
    let axes = [GridAxis::layers(0..80), GridAxis::heads(0..64)];
    let order = stats::ranking(&scores);
    let published = [
        ("L39.H40", 1.3091),
        ("L54.H15", 1.2778),
        ("L39.H47", 1.1141),
        ("L35.H18", 0.8763),
        ("L56.H20", 0.6675),
        ("L52.H17", 0.5459),
        ("L35.H40", 0.5225),
        ("L42.H31", 0.5008),
        ("L53.H1", 0.4595),
        ("L73.H62", 0.4552),
    ];
    for (&cell, (label, score)) in order.iter().zip(published) {
        assert_eq!(cell_label(&axes, cell), label);
        assert!((scores[cell] - score).abs() < 5.1e-5, "{label} {}", scores[cell]);
    }
    assert!((scores[order[0]] - 1.309062).abs() < 1e-6 && (scores[order[5119]] + 1.08).abs() < 1e-6);
    // The significant heads are exactly our first 27.
    let nonzero: Vec<usize> = (0..scores.len()).filter(|&i| significant[i] != 0.0).collect();
    let mut first = order[..27].to_vec();
    first.sort_unstable();
    assert_eq!(first, nonzero);
    assert_eq!(cell_label(&axes, order[26]), "L75.H15");
    assert!((scores[order[26]] - 0.218594).abs() < 1e-6 && (scores[order[27]] - 0.209844).abs() < 1e-6);
    assert!(nonzero.iter().all(|&i| (scores[i] - significant[i]).abs() < 1.2e-7));
}
