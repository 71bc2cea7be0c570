//! `--source-model`: what a sweep across checkpoints writes, how it is checked, stopped and repeated, and what it refuses.

use std::fs;
use std::path::Path;

use interp_core::config::ModelConfig;
use interp_core::decoder::expected_tensors;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::stops::stop;
use super::{Ended, Place, alter, done, model};
use crate::common::fixture;
use crate::donor::{in_layers, perturbed};

/// Bits are compared in f64: in f32 a run takes the kernel that it measures to be faster, which may be another at each start.
const TO_THE_BIT: [&str; 2] = ["--dtype", "f64"];

/// The checkpoint with other layers.
fn other(place: &Place, name: &str) {
    perturbed(&fixture("identity-rules/model"), &place.path(name), in_layers);
}

/// A random checkpoint of another size with the same tokenizer.
fn another_size(place: &Place, name: &str) {
    let (from, to) = (fixture("identity-rules/model"), place.path(name));
    fs::create_dir(&to).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let mut json: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    let other = json!({
        "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 96, "intermediate_size": 64, "torch_dtype": "float32",
    });
    json.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    fs::write(to.join("config.json"), json.to_string()).unwrap();
    tch::manual_seed(1);
    let config = ModelConfig::from_json(Path::new("config.json"), &json).unwrap();
    let tensor = |(name, shape): (String, Vec<i64>)| {
        let random = Tensor::randn(&shape, (Kind::Float, Device::Cpu)) * 0.2;
        let tensor = if name.ends_with("norm.weight") { random + 1.0 } else { random };
        (name, tensor)
    };
    let tensors: Vec<(String, Tensor)> = expected_tensors(&config).into_iter().map(tensor).collect();
    Tensor::write_safetensors(&tensors, to.join("model.safetensors")).unwrap();
}

fn run_json(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(out).join("run.json")).unwrap()).unwrap()
}

#[test]
fn a_checkpoint_given_twice_is_an_ordinary_sweep_to_the_bit() {
    let place = Place::new();
    let model = model();
    assert_eq!(place.sweep(&[&TO_THE_BIT[..], &["--out", "once"]].concat()), done("once\n"));
    let flags = ["--out", "twice", "--source-model", &model];
    assert_eq!(place.sweep(&[&TO_THE_BIT[..], &flags].concat()), done("twice\n"));
    let (mut once, mut twice) = (place.out("once"), place.out("twice"));
    assert!(once.remove("run.json") != twice.remove("run.json"), "the command is another");
    assert!(once == twice);
    assert!(run_json(&place, "twice").get("source_model").is_none());
}

#[test]
fn another_checkpoint_donates_and_the_folder_says_which() {
    let place = Place::new();
    other(&place, "y");
    let ended = place.sweep(&["--source-model", "y", "--verify", "3", "--metric", "logit-diff,kl"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "out\n"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().filter(|line| line.ends_with("  agrees")).count(), 6, "{}", ended.stderr);
    let run = run_json(&place, "out");
    let sha = |model: &str| run[model]["weights"][0]["sha256"].as_str().unwrap().to_owned();
    assert!(sha("model") != sha("source_model") && sha("source_model").len() == 64);
    assert_eq!((&run["spec"]["source"]["map"], &run["spec"]["sweep"]["source_model"]), (&json!("raw"), &json!("y")));
    assert!(run["noise_floor"]["logit-diff"]["precision"].as_f64().unwrap() > 0.0);

    let flags = ["--source-model", "y", "--out", "wide"];
    assert_eq!(place.sweep(&[&TO_THE_BIT[..], &flags].concat()), done("wide\n"));
    assert_eq!(place.sweep(&["--spec", "wide/run.json", "--out", "again"]), done("again\n"));
    assert!(place.out("again") == place.out("wide"));
    let yes = place.run(&["verify", "out", "--cells", "4"]);
    assert_eq!(yes.code, Some(0), "{}", yes.stderr);
    let weights = place.path("y/model.safetensors");
    let byte = fs::metadata(&weights).unwrap().len() as usize - 2;
    alter(&weights, |bytes| bytes[byte] ^= 1);
    let no = place.run(&["verify", "out", "--cells", "1"]);
    let says = "no: source_model.weights is not what run.json says: the weights changed since the run\n";
    assert_eq!((no.code, no.stderr.as_str()), (Some(1), says));
}

#[test]
fn trials_without_a_source_compare_the_models_on_one_prompt() {
    let place = Place::new();
    other(&place, "y");
    let trials = fs::read_to_string(place.path("trials.jsonl")).unwrap();
    let without = |line: &str| {
        let mut trial: Value = serde_json::from_str(line).unwrap();
        trial.as_object_mut().unwrap().remove("source");
        format!("{trial}\n")
    };
    place.write("trials.jsonl", trials.lines().map(without).collect::<String>());
    place.refuses(
        &["--site", "attn_out", "--grid", "layer-pos"],
        "error: edit `patch`: d000-ABA has no source prompt\n\
         hint: give each trial a `source`, or choose another edit",
    );
    let ended = place.sweep(&["--site", "attn_out", "--grid", "layer-pos", "--source-model", "y", "--verify", "4"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "out\n"), "{}", ended.stderr);
}

#[test]
fn what_was_kept_of_a_donor_serves_a_run_that_is_stopped() {
    let place = Place::with_trials(60);
    other(&place, "y");
    place.write("layers.json", "[0, 1, 2, 2]");
    let flags = [&TO_THE_BIT[..], &["--source-model", "y", "--layer-map", "layers.json"]].concat();
    assert_eq!(place.sweep(&[&flags[..], &["--out", "whole"]].concat()), done("whole\n"));
    assert_eq!(stop(&place, &flags, "killed", libc::SIGKILL), (None, String::new()));
    // The check at the end draws trials of both starts.
    let resumed = place.sweep(&[&flags[..], &["--out", "killed", "--verify", "12"]].concat());
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert!(resumed.stderr.starts_with("resuming: "), "{}", resumed.stderr);
    let (killed, whole) = (place.out("killed"), place.out("whole"));
    assert_eq!(killed.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    killed.iter().for_each(|(name, bytes)| assert!(bytes == &whole[name], "{name} differs"));
    let verified = place.run(&["verify", "whole", "--cells", "6"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert_eq!(run_json(&place, "whole")["spec"]["source"]["layers"], json!([0, 1, 2, 2]));
    // Layers that stand for themselves are patched as without a map.
    assert_eq!(place.sweep(&[&TO_THE_BIT[..], &["--source-model", "y", "--out", "plain"]].concat()), done("plain\n"));
    let delta = |out: &str| interp_core::export::npy::read(&place.path(out).join("delta.npy")).unwrap().1;
    let (mapped, plain) = (delta("whole"), delta("plain"));
    let off = |cells: std::ops::Range<usize>| cells.fold(0.0f64, |a, cell| a.max((mapped[cell] - plain[cell]).abs()));
    let largest = plain.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    assert!(off(0..24) <= 1e-3 * largest && off(24..32) > 100.0 * off(0..24), "{} {}", off(0..24), off(24..32));

    place.write("layers.json", "[0, 1, 2, 1]");
    let changed = place.sweep(&[&flags[..], &["--out", "whole"]].concat());
    assert!(
        changed.stderr.contains("holds another run: `source.layers[3]` is 2 there and 1 here"),
        "{}",
        changed.stderr
    );
}

#[test]
fn another_size_donates_through_a_fitted_map() {
    let place = Place::with_trials(8);
    another_size(&place, "small");
    place.refuses(
        &["--source-model", "small"],
        "error: layer map `none`: the edited model has 4 layers, the donor 3\n\
         hint: give --layer-map relative, or --layer-map FILE",
    );
    let relative = ["--source-model", "small", "--layer-map", "relative"];
    let refuses = |more: &[&str], stderr: &str| place.refuses(&[&relative[..], more].concat(), stderr);
    refuses(
        &[],
        "error: head map `none`: the edited model has 8 heads at `z`, the donor 4\n\
         hint: give --head-map relative, or --head-map FILE",
    );
    refuses(
        &["--head-map", "relative"],
        "error: map `raw`: `z` is 24 wide in the donor and 16 in the edited model\n\
         hint: give --map ridge --calibrate TRIALS.jsonl, which fits a map between them",
    );
    refuses(
        &["--head-map", "relative", "--map", "ridge"],
        "error: map `ridge:0.01`: there is nothing to fit it on\n\
         hint: add --calibrate TRIALS.jsonl, prompts that both models run",
    );
    let all = fs::read_to_string(fixture("identity-rules/token-pairs.jsonl")).unwrap();
    place.write("calibrate.jsonl", all.split_inclusive('\n').skip(8).take(40).collect::<String>());
    let fitted = ["--head-map", "relative", "--calibrate", "calibrate.jsonl", "--map"];
    let flags = [&relative[..], &fitted].concat();
    refuses(
        &[&fitted[..], &["procrustes"]].concat(),
        "error: map `procrustes`: `z` is 24 wide in the donor and 16 in the edited model\n\
         hint: use --map ridge, which maps any width to any other",
    );
    let ended = place.sweep(&[&flags[..], &["ridge:0.1", "--verify", "3"], &TO_THE_BIT].concat());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "out\n"), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("map ridge:0.1: held-out R² "), "{}", ended.stderr);
    let transfer = run_json(&place, "out")["transfer"].clone();
    assert_eq!(transfer["fitted"].as_u64().unwrap() + transfer["held_out"].as_u64().unwrap(), 80);
    let r2 = transfer["r2"]["blocks.2.attn.hook_z"].as_array().unwrap();
    assert!(r2.len() == 8 && r2.iter().all(|r2| r2.as_f64().unwrap() < 1.0), "{transfer}");
    let again = place.sweep(&["--spec", "out/run.json", "--out", "again"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(place.out("again") == place.out("out"));
}

#[test]
fn what_makes_no_sense_across_checkpoints_is_refused() {
    let place = Place::new();
    other(&place, "y");
    place.refuses(
        &["--source-model", "y", "--edit", "zero"],
        "error: edit `zero`: takes nothing from another model\nhint: use --edit patch",
    );
    place.refuses(
        &["--source-model", "y", "--map", "raw", "--calibrate", "trials.jsonl"],
        "error: calibrate `trials.jsonl`: raw fits nothing\nhint: use --map procrustes or ridge",
    );
    place.refuses(
        &["--source-model", "y", "--site", "pattern", "--map", "ridge", "--calibrate", "trials.jsonl"],
        "error: map `ridge:0.01`: `pattern` is as wide as the prompt is long\nhint: use --map raw",
    );
    let needs = place.sweep(&["--layer-map", "relative"]);
    assert_eq!((needs.code, needs.stderr.contains("--source-model")), (Some(2), true), "{}", needs.stderr);

    let tokenizer = place.path("y/tokenizer.json");
    let good = fs::read(&tokenizer).unwrap();
    let mut json: Value = serde_json::from_slice(&good).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let (a, b) = (vocab["bum"].clone(), vocab["lan"].clone());
    vocab.insert("bum".into(), b.clone());
    vocab.insert("lan".into(), a.clone());
    fs::write(&tokenizer, json.to_string()).unwrap();
    let (first, other) = if a.as_u64() < b.as_u64() { (("bum", &a), &b) } else { (("lan", &b), &a) };
    place.refuses(
        &["--source-model", "y"],
        &format!(
            "error: y: another tokenizer than model's: token {:?} is {other}, not {}\n\
             hint: patches across checkpoints need one tokenizer: give checkpoints that share it",
            first.0, first.1
        ),
    );
    fs::remove_file(&tokenizer).unwrap();
    place.refuses(
        &["--source-model", "y"],
        "error: y: has no tokenizer.json, the edited model has\n\
         hint: patches across checkpoints need one tokenizer: give checkpoints that share it",
    );
    // The same tokenizer, written otherwise.
    fs::write(&tokenizer, serde_json::from_slice::<Value>(&good).unwrap().to_string()).unwrap();
    let ended = place.sweep(&["--source-model", "y"]);
    assert_eq!(ended, Ended { code: Some(0), stdout: "out\n".into(), stderr: String::new() });
}
