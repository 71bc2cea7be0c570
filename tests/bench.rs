//! Random weights, and what `interp bench` and the GPU check say of a tiny model.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use interp_core::checkpoint::Checkpoint;
use interp_core::config::ModelConfig;
use interp_core::decoder::{Decoder, expected_tensors};
use interp_core::device::{Dtype, Precision, Weights};
use serde_json::Value;
use tch::{Device, Tensor};

use crate::common::{interp, max_abs, max_diff, root, same_bits, tiny};

fn random(config: &ModelConfig, seed: u64) -> Checkpoint {
    Checkpoint::random("random", config.clone(), expected_tensors(config), seed)
}

/// Logits at all positions of a fixed prompt.
fn logits(decoder: &Decoder) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let tokens: Vec<i64> = (1..20).map(|i| i * 7 % 131).collect();
    let resid = decoder.forward(decoder.embed(&tokens), 0..tokens.len(), &mut ());
    decoder.unembed(&resid, 0, None, &mut ())
}

#[test]
fn named_geometries_have_the_parameters_of_the_published_models() {
    for (name, parameters) in
        [("qwen2.5-0.5b", 494_032_768i64), ("qwen2.5-7b", 7_615_616_512), ("qwen2.5-14b", 14_770_033_664)]
    {
        let config = ModelConfig::named(name).unwrap();
        let checkpoint = random(&config, 0);
        let counted: i64 = checkpoint.tensors().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        assert_eq!(counted, parameters, "{name}");
        assert_eq!(checkpoint.total_bytes(), 2 * parameters as u64, "{name} is stored in bf16");
    }
    let error = ModelConfig::named("qwen2.5-8b").unwrap_err();
    assert_eq!(error.to_string(), "geometry `qwen2.5-8b`: no such geometry");
}

#[test]
fn random_weights_follow_from_their_seed_and_load_as_any_others() {
    tch::set_num_threads(1);
    let stored = |dtype: &str, name: &str| {
        let mut config = ModelConfig::from_file(&tiny(name).join("config.json")).unwrap();
        config.dtype = Some(dtype.into());
        config
    };
    let f32 = Precision { dtype: Dtype::F32, weights: Weights::Auto };
    for name in ["qwen2", "qwen2-untied", "qwen3", "llama"] {
        let config = stored("bfloat16", name);
        let load = |seed, precision| Decoder::load(&random(&config, seed), Device::Cpu, precision).unwrap();
        let checkpoint = random(&config, 1);
        let one = logits(&Decoder::load(&checkpoint, Device::Cpu, f32).unwrap());
        assert!(checkpoint.unused().is_empty(), "{name}");
        assert!(same_bits(&one, &logits(&load(1, f32))), "{name}");
        assert!(max_diff(&one, &logits(&load(2, f32))) > 0.1 * max_abs(&one), "{name}: the seed decides");

        // One set of numbers, however they are held and computed with.
        let in_file = Precision { dtype: Dtype::F32, weights: Weights::File };
        assert!(same_bits(&one, &logits(&load(1, in_file))), "{name}");
        let f64 = logits(&load(1, Precision { dtype: Dtype::F64, weights: Weights::Auto }));
        assert!(max_diff(&one, &f64) < 1e-4 * max_abs(&f64), "{name}");
        let waves = Decoder::load_for_waves(&checkpoint, Device::Cpu, f32).unwrap();
        assert!(max_diff(&one, &logits(&waves)) < 1e-4 * max_abs(&one), "{name}");
    }
    let config = stored("float32", "qwen2");
    let in_file = Precision { dtype: Dtype::F32, weights: Weights::File };
    let rounded = logits(&Decoder::load(&random(&stored("bfloat16", "qwen2"), 1), Device::Cpu, in_file).unwrap());
    let full = logits(&Decoder::load(&random(&config, 1), Device::Cpu, in_file).unwrap());
    assert!(!same_bits(&rounded, &full), "a config of float32 is not rounded to bf16");
}

#[test]
fn bench_says_in_json_what_it_measured() {
    let config = tiny("qwen2").join("config.json");
    let words =
        "bench --geometry {} --sweep patch-last,patch-all,zero-all,cumulative,layer-pos --tokens 6,9 --repeats 2";
    let said = interp(&format!("{words} --json --threads 1"), &[&config]);
    assert_eq!(said.code, 0, "{}", said.err);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&json["schema"], &json["dtype"], &json["threads"]),
        (&"interp.bench/1".into(), &"f32".into(), &1.into())
    );
    assert_eq!((&json["geometry"]["d_vocab"], &json["device"]), (&131.into(), &"cpu".into()));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number: {value}"));
    let peak = number(&json["peak"]["flop_per_s"]);
    assert_eq!(peak, number(&json["peak"]["plain_flop_per_s"]).max(number(&json["peak"]["onednn_flop_per_s"])));
    assert!(number(&json["load_s"]) > 0.0);

    let passes = json["clean_passes"].as_array().unwrap();
    assert_eq!(passes.iter().map(|pass| &pass["tokens"]).collect::<Vec<_>>(), [6, 9]);
    let fraction = number(&passes[0]["flop_per_s"]) / peak;
    assert!(number(&passes[0]["flop"]) > 0.0 && (number(&passes[0]["fraction_of_peak"]) / fraction - 1.0).abs() < 1e-9);

    let sweeps = json["sweeps"].as_array().unwrap();
    let found: Vec<(&str, u64, u64)> = sweeps
        .iter()
        .map(|row| (row["sweep"].as_str().unwrap(), row["tokens"].as_u64().unwrap(), row["cells"].as_u64().unwrap()))
        .collect();
    let at = |tokens, cells| {
        let names = ["patch-last", "patch-all", "zero-all", "cumulative"].map(|name| (name, tokens, 18));
        names.into_iter().chain([("layer-pos", tokens, cells)]).collect::<Vec<_>>()
    };
    assert_eq!(found, [at(6, 18), at(9, 27)].concat());
    for row in sweeps {
        for part in ["unedited_runs", "waves", "trial"] {
            let seconds = &row["seconds"][part];
            assert!(number(&seconds["min"]) <= number(&seconds["median"]), "{row}");
            assert!(number(&seconds["median"]) <= number(&seconds["max"]), "{row}");
        }
        assert!(number(&row["flop"]["unedited_runs"]) > 0.0 && number(&row["flop"]["waves"]) > 0.0);
        assert!(number(&row["peak_memory_bytes"]) > 1e7 && row["gpu_memory_bytes"].is_null());
        assert!(number(&row["largest_delta"]) > 0.0, "{row}");
        assert!(row["error"].is_null());
    }
    let table = interp("bench --geometry {} --tokens 6 --repeats 1 --dtype bf16 --threads 1", &[&config]);
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(table.out.lines().any(|line| line.starts_with("patch-last       6     18  ")), "{}", table.out);
}

#[test]
fn a_bench_that_cannot_be_is_refused() {
    let config = tiny("qwen2").join("config.json");
    for (words, error) in [
        ("bench --geometry huge", "error: geometry `huge`: no such geometry"),
        ("bench --sweep patch", "error: sweep `patch`: no such sweep"),
        ("bench --geometry {} --tokens 64,1", "error: tokens `1`: not a number of tokens from 2 to 1024"),
        ("bench --geometry {} --tokens 2000", "error: tokens `2000`: not a number of tokens from 2 to 1024"),
    ] {
        let said = interp(words, &[&config]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words}");
        assert!(said.err.starts_with(&format!("{error}\nhint: ")), "{}", said.err);
    }
    assert_eq!(interp("bench --linearity", &[]).code, 2);
}

#[test]
fn linearity_draws_four_panels_from_the_numbers_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new");
    let config = tiny("qwen2").join("config.json");
    let said = interp("bench --linearity --geometry {} --repeats 2 --threads 1 --out {}", &[&config, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let (svg, json) = (out.join("linearity.svg"), out.join("linearity.json"));
    assert_eq!(said.out, format!("{}\n{}\n", svg.display(), json.display()));

    let json: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(json["schema"], "interp.linearity/1");
    let panels = json["panels"].as_array().unwrap();
    let settings: Vec<(&str, usize)> =
        panels.iter().map(|panel| (panel["axis"].as_str().unwrap(), panel["x"].as_array().unwrap().len())).collect();
    assert_eq!(settings, [("heads", 6), ("layers", 2), ("tokens", 6), ("trials", 6)]);
    for panel in panels {
        let seconds = panel["seconds"].as_array().unwrap();
        assert_eq!(seconds.len(), panel["x"].as_array().unwrap().len());
        assert!(seconds.iter().all(|repeats| repeats.as_array().unwrap().len() == 2));
        assert!(panel["line"]["r2"].as_f64().is_some_and(|r2| (0.0..=1.0 + 1e-12).contains(&r2)), "{panel}");
    }
    let svg = std::fs::read_to_string(svg).unwrap();
    assert_eq!((svg.matches("<circle").count(), svg.matches("R² = ").count()), (6 + 2 + 6 + 6, 4));
}

/// Runs the GPU check with these variables set; `None` where there is no Python to run it.
fn gpu_check(variables: &[(&str, &str)], out: &Path) -> Option<(i32, String)> {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("SKIPPED: the GPU check needs python3");
        return None;
    }
    let output = Command::new("sh")
        .arg(root().join("fixtures/bench/gpu.sh"))
        .env("INTERP", env!("CARGO_BIN_EXE_interp"))
        .env("OUT", out)
        .env("OMP_NUM_THREADS", "1")
        .envs(variables.iter().copied())
        .output()
        .expect("a shell");
    Some((output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap()))
}

#[test]
fn the_gpu_check_runs_to_its_end_on_a_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let config = tiny("qwen2").join("config.json");
    let variables = [
        ("DEVICE", "cpu"),
        ("FAMILIES", "qwen2"),
        ("GEOMETRIES", config.to_str().unwrap()),
        ("TOKENS", "6"),
        ("WIDE_SWEEPS", ""),
        ("REPEATS", "1"),
    ];
    let Some((code, err)) = gpu_check(&variables, dir.path()) else { return };
    assert_eq!(code, 0, "{err}");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("gpu.json")).unwrap()).unwrap();
    assert_eq!(json["schema"], "interp.gpu/1");
    let compared = json["parity"]["rows"].as_array().unwrap();
    assert_eq!(compared.len(), 3 * (1 + 2 * 3) + 1);
    assert!(compared.iter().all(|row| row["agrees"] == true), "{compared:?}");
    let runs: Vec<&String> = json["bench"].as_object().unwrap().keys().collect();
    assert_eq!(runs, ["qwen2-config-bf16", "qwen2-config-f32"]);
    let table = std::fs::read_to_string(dir.path().join("gpu.md")).unwrap();
    assert!(table.contains("| qwen2-config-f32 | cumulative | 6 | 18 |"), "{table}");
}

/// A program that takes the device `twisted` for the CPU, and computes in f32 there where f64 was asked for.
const TWISTED: &str = r#"#!/bin/sh
for word; do [ "$word" = twisted ] && twisted=yes; done
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    [ "$word" = twisted ] && word=cpu
    [ "${twisted:-}$word" = yesf64 ] && word=f32
    set -- "$@" "$word"
    left=$((left - 1))
done
exec "$REAL" "$@"
"#;

#[test]
fn the_gpu_check_finds_a_device_that_computes_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("interp");
    std::fs::write(&program, TWISTED).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let variables = [
        ("INTERP", program.to_str().unwrap()),
        ("REAL", env!("CARGO_BIN_EXE_interp")),
        ("DEVICE", "twisted"),
        ("FAMILIES", "qwen2"),
        ("GEOMETRIES", ""),
    ];
    let Some((code, err)) = gpu_check(&variables, &dir.path().join("out")) else { return };
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no: qwen2 f64: activations") && !err.contains("no: qwen2 f32"), "{err}");
    let table = std::fs::read_to_string(dir.path().join("out/gpu.md")).unwrap();
    assert!(table.contains("| NO |") && table.contains("| yes |"), "{table}");
}

#[test]
fn the_gpu_check_says_so_where_there_is_no_gpu() {
    if Path::new("/dev/nvidiactl").exists() {
        println!("SKIPPED: this machine may have a GPU");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some((code, err)) = gpu_check(&[], dir.path()) else { return };
    assert_eq!(code, 2, "{err}");
    assert!(
        err.contains("gpu.sh: ")
            && err.contains("CUDA")
            && err.trim_end().lines().last().unwrap().starts_with("hint: ")
    );
}
