//! `interp study symbolic` on the small trained checkpoint: what it writes is what sweeps alone write, every prompt runs once,
//! and a study that is stopped ends in the same bytes.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use interp_core::export::npy;
use serde_json::{Value, json};

use crate::common::{Said, command, fixture, interp, open};

const STAGES: [(&str, &str, &str); 3] = [
    ("symbol-abstraction", "abstract", "span:third"),
    ("symbolic-induction", "abstract", "last"),
    ("retrieval", "token", "last"),
];

/// The study of the fixture in the folder `out`, with flags.
fn study(out: &Path, flags: &str) -> Said {
    let model = fixture("identity-rules/model");
    interp(&format!("study symbolic --threads 1 --model {{}} --out {{}} --shots 4 {flags}"), &[&model, &out])
}

/// Every file below a folder by its path in it, but for those that say what a start cost.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(contents(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if name != "timing.json" {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn three_stages_are_three_sweeps_that_share_their_prompts() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("study");
    let said = study(&out, "--draws 6 --top 3");
    assert_eq!((said.code, said.out.as_str()), (0, format!("{}\n", out.display()).as_str()), "{}", said.err);
    assert!(said.err.starts_with("6 draws of "), "{}", said.err);

    // Trials of both directions from the same words in both files.
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(out.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (abstracts, tokens) = (lines("abstract.jsonl"), lines("token.jsonl"));
    assert_eq!((abstracts.len(), tokens.len()), (12, 12));
    for (a, t) in abstracts.iter().zip(&tokens) {
        assert_eq!((&a["source"], &a["id"], &a["cluster"]), (&t["source"], &t["id"], &t["cluster"]));
    }
    let prompts: HashSet<&str> = abstracts
        .iter()
        .chain(&tokens)
        .flat_map(|line| [&line["base"]["text"], &line["source"]["text"]])
        .filter_map(Value::as_str)
        .collect();
    let timings = STAGES.map(|(stage, ..)| read(out.join(stage).join("timing.json")));
    let run: u64 = timings
        .iter()
        .flat_map(|timing| timing["trials"].as_array().unwrap())
        .map(|trial| trial["prompts_run"].as_u64().unwrap())
        .sum();
    assert_eq!((run, prompts.len()), (36, 36), "each prompt is run once for all stages");

    // Each folder is what the sweep alone writes, but for last bits of runs that began elsewhere.
    let table = read(out.join("study.json"));
    assert_eq!((&table["schema"], &table["task"]["draws"]), (&json!("interp.study/1"), &json!(6)));
    for (place, (stage, pairs, positions)) in STAGES.into_iter().enumerate() {
        let alone = temp.path().join(stage);
        let flags = "sweep --threads 1 --model {} --trials {} --out {} --seed 0 --positions";
        let trials = out.join(format!("{pairs}.jsonl"));
        let swept = interp(&format!("{flags} {positions}"), &[&fixture("identity-rules/model"), &trials, &alone]);
        assert_eq!(swept.code, 0, "{}", swept.err);
        let (ours, theirs) = (contents(&out.join(stage)), contents(&alone));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{stage}");
        let numbers = |dir: &Path| npy::read(&dir.join("delta_per_trial.npy")).unwrap().1;
        let (ours, theirs) = (numbers(&out.join(stage)), numbers(&alone));
        let largest = theirs.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let worst = ours.iter().zip(&theirs).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(largest > 0.1 && worst <= 1e-4 * largest, "{stage}: {worst:e} of {largest:e}");
        let ours = read(out.join(stage).join("run.json"));
        assert_eq!(ours["spec"]["sweep"]["positions"], positions);
        assert_eq!(ours["spec"]["trials_sha256"], read(alone.join("run.json"))["spec"]["trials_sha256"]);

        // The finding: averages as in the folder, and by direction.
        let delta = read(out.join(stage).join("delta.json"));
        let lines: Vec<&Value> =
            table["cells"].as_array().unwrap().iter().filter(|line| line["stage"] == stage).collect();
        assert!(lines.len() >= 3, "{stage}");
        let (shape, per_trial) = npy::read(&out.join(stage).join("delta_per_trial.npy")).unwrap();
        assert_eq!(shape, [12, 4, 8]);
        for (rank, line) in lines.iter().enumerate().take(3) {
            assert_eq!((&line["rank"], &line["label"]), (&json!(rank + 1), &delta["cells"][rank]["label"]));
            let cell = (line["layer"].as_u64().unwrap() * 8 + line["head"].as_u64().unwrap()) as usize;
            let mean = |direction: usize| (0..6).map(|d| per_trial[(2 * d + direction) * 32 + cell]).sum::<f64>() / 6.0;
            let close = |name: &str, value: f64| (line[name].as_f64().unwrap() - value).abs() < 1e-9;
            assert!(close("mean_ABA", mean(0)) && close("mean_ABB", mean(1)), "{line}");
            assert!(close("mean", (mean(0) + mean(1)) / 2.0), "the mean of the two directions: {line}");
        }
        let described = &table["stages"][place];
        assert_eq!((&described["name"], &described["n_trials"]), (&json!(stage), &json!(12)));
        assert_eq!((&described["n_clusters"], &described["positions"]), (&json!(6), &json!(positions)));
    }
    // This checkpoint retrieves words in layer 2, as its own README says.
    let retrieval: Vec<&Value> =
        table["cells"].as_array().unwrap().iter().filter(|line| line["stage"] == "retrieval").collect();
    assert!(retrieval.iter().take(3).all(|line| line["layer"] == 2), "{retrieval:?}");
    let csv = fs::read_to_string(out.join("study.csv")).unwrap();
    assert!(csv.starts_with("stage,metric,delta_kind,layer,head,kv_head,label,mean,"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + table["cells"].as_array().unwrap().len());
    let svg = fs::read_to_string(out.join("study.svg")).unwrap();
    assert!(STAGES.iter().all(|(stage, ..)| svg.contains(stage)) && out.join("study.png").is_file());

    // Again, nothing is run and nothing changes; stages that are lost are made again with the same bytes.
    let before = contents(&out);
    let again = study(&out, "--draws 6 --top 3");
    assert!(again.code == 0 && again.err.starts_with("all sweeps are already finished\n"), "{}", again.err);
    assert!(contents(&out) == before);
    for lost in [&["retrieval"][..], &["symbol-abstraction", "retrieval"], &["symbolic-induction"]] {
        lost.iter().for_each(|stage| fs::remove_dir_all(out.join(stage)).unwrap());
        fs::remove_file(out.join("study.json")).unwrap();
        let again = study(&out, "--draws 6 --top 3");
        assert_eq!(again.code, 0, "{}", again.err);
        assert!(contents(&out) == before, "{lost:?}");
    }

    // What a stage's table says of significance is what the study says.
    for (stage, significant) in [("symbol-abstraction", 0), ("symbolic-induction", 1), ("retrieval", 4)] {
        let path = out.join(stage).join("delta.json");
        let mut delta = read(&path);
        for (rank, row) in delta["cells"].as_array_mut().unwrap().iter_mut().enumerate() {
            row["p_fwer"] = json!(if rank < significant { 0.001 } else { 1.0 });
            row["significant"] = json!(rank < significant);
        }
        fs::write(&path, delta.to_string()).unwrap();
    }
    let judged = study(&out, "--draws 6 --top 3");
    for said in [
        "symbol-abstraction: none of 32 heads is significant\n",
        "symbolic-induction: 1 of 32 heads is significant\n",
        "retrieval: 4 of 32 heads are significant\n",
    ] {
        assert!(judged.err.contains(said), "{}", judged.err);
    }
    let table = read(out.join("study.json"));
    let listed = |stage: &str| table["cells"].as_array().unwrap().iter().filter(|line| line["stage"] == stage).count();
    assert_eq!(STAGES.map(|(stage, ..)| listed(stage)), [3, 3, 4], "the first three, or all that are significant");
    assert_eq!(table["stages"][0]["n_significant"], 0);
    let svg = fs::read_to_string(out.join("study.svg")).unwrap();
    assert!(svg.contains("symbol-abstraction: no significant head") && svg.contains("retrieval: 4 significant heads"));
    let json: Value = serde_json::from_str(&study(&out, "--draws 6 --top 1 --json").out).unwrap();
    assert_eq!(json["stages"]["retrieval"]["heads"].as_array().unwrap().len(), 4);
}

#[test]
fn a_study_that_is_stopped_ends_in_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, stopped) = (temp.path().join("whole"), temp.path().join("stopped"));
    let flags = "--draws 20 --filter none --no-floor --seed 2";
    assert_eq!(study(&whole, flags).code, 0);
    for signal in [libc::SIGINT, libc::SIGKILL] {
        let mut command = command();
        command.args(["study", "symbolic", "--threads", "1", "--shots", "4", "--out"]).arg(&stopped);
        command.arg("--model").arg(fixture("identity-rules/model")).args(flags.split(' '));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let journal = stopped.join("retrieval/partial/trials.bin");
        let before = fs::metadata(&journal).map_or(0, |file| file.len());
        let start = Instant::now();
        while fs::metadata(&journal).map_or(0, |file| file.len()) <= before + 600 {
            assert!(start.elapsed() < Duration::from_secs(60), "the sweeps did not begin");
            assert_eq!(child.try_wait().unwrap(), None, "the study ended by itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        if signal == libc::SIGINT {
            assert_eq!(output.status.code(), Some(130), "{stderr}");
            assert!(stderr.contains("interrupted after ") && stderr.contains(" of 120 trials; the same"), "{stderr}");
        } else {
            assert_eq!(output.status.signal(), Some(signal), "{stderr}");
        }
    }
    // The model was opened under the same path; the trials lie in another folder.
    let resumed = study(&stopped, flags);
    assert!(resumed.code == 0 && resumed.err.starts_with("resuming: "), "{}", resumed.err);
    let name = |dir: &Path| dir.display().to_string();
    let renamed = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) => text.replace(&name(&stopped), &name(&whole)).into_bytes(),
            Err(bytes) => bytes.into_bytes(),
        };
        contents(dir).into_iter().map(|(file, bytes)| (file, text(bytes))).collect()
    };
    let (ours, theirs) = (renamed(&stopped), renamed(&whole));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (file, bytes) in &ours {
        assert!(bytes == &theirs[file], "{file}");
    }
}

#[test]
fn a_folder_of_another_study_or_of_somebody_else_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let refused = |flags: &str| {
        let before = out.is_dir().then(|| contents(&out));
        let said = study(&out, flags);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{flags}");
        assert!(out.is_dir().then(|| contents(&out)) == before, "{flags} changed something");
        said.err.replace(&out.display().to_string(), "OUT")
    };
    assert!(refused("--draws 4 --filter prob:1 --max-attempts 3").starts_with("error: only 0 of 4 draws can be used"));
    assert_eq!(study(&out, "--draws 2 --filter none --no-floor").code, 0);
    assert_eq!(
        refused("--draws 3 --filter none --no-floor"),
        "error: OUT: holds another run: `draws` is 2 there and 3 here\n\
         hint: give another folder, or repeat the command that made this one\n"
    );
    let trials = fs::read_to_string(out.join("token.jsonl")).unwrap();
    fs::write(out.join("token.jsonl"), trials.lines().next().unwrap()).unwrap();
    assert_eq!(
        refused("--draws 2 --filter none --no-floor"),
        "error: OUT/token.jsonl: was changed since the study began\n\
         hint: give another --out; to sweep trials of your own, use interp sweep\n"
    );
    fs::write(out.join("thesis.tex"), "").unwrap();
    assert_eq!(
        refused("--draws 2 --filter none --no-floor"),
        "error: OUT: not empty and not an output folder of interp study (holds `thesis.tex`)\n\
         hint: give a new or an empty folder\n"
    );
    let checkpoint = open(&fixture("identity-rules/model"));
    assert_eq!(checkpoint.config().n_layers, 4, "the fixture is what the shapes above say");
}

#[test]
fn the_benchmark_of_a_study_says_what_each_stage_took() {
    let config = fixture("tiny/qwen2/config.json");
    let said = interp("bench --study --geometry {} --draws 3 --shots 2 --threads 1 --json", &[&config]);
    assert_eq!(said.code, 0, "{}", said.err);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["schema"], &json["prompts_run"]), (&json!("interp.bench_study/1"), &json!(18)));
    assert_eq!(json["stages"].as_array().unwrap().iter().map(|s| &s["trials"]).collect::<Vec<_>>(), [6, 6, 6]);
    let text = interp("bench --study --geometry {} --draws 2 --shots 2 --threads 1", &[&config]);
    assert!(text.code == 0 && text.out.contains("study: ") && text.out.contains("12 prompts run once"), "{}", text.out);
    let said = interp("bench --study --geometry {} --shots 400", &[&config]);
    assert!(said.code == 2 && said.err.starts_with("error: shots `400`: needs 2404 positions"), "{}", said.err);
    assert_eq!(interp("bench --shots 4", &[]).code, 2, "--shots belongs to --study");
}
