//! LoRA adapters in the forward pass: against the logits that peft computed (`fixtures/adapters`), merged against beside, whole
//! against parts, and the checkpoints that `interp merge` writes.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use interp_core::adapter::{Adapter, Merges};
use interp_core::checkpoint::{Checkpoint, Location};
use interp_core::config::ModelConfig;
use interp_core::decoder::{Decoder, Masks, Part, expected_tensors};
use interp_core::device::{Devices, Dtype, Precision, Weights};
use interp_core::export::npy;
use interp_core::hub::HubOptions;
use tch::{Device, Kind, Tensor};

use crate::common::{all_points, command, fixture, full_pass, load, max_abs, max_diff, open, same_bits, tiny};

/// Folders with an adapter of their own, the base's name first.
const ADAPTERS: [&str; 18] = [
    "qwen2-plain",
    "qwen2-bf16",
    "qwen2-patterns",
    "qwen2-rslora",
    "qwen2-lora-bias",
    "qwen2-dora",
    "qwen2-layers",
    "qwen2-all-linear",
    "qwen2-regex",
    "qwen2-bias-lora-only",
    "qwen2-bias-all",
    "qwen2-saved-head",
    "qwen2-saved-tied",
    "mistral-dora",
    "mistral-lora-bias",
    "mistral-saved",
    "mistral-sft",
    "mistral-grpo",
];

/// Of these, the ones that `+merge:` refuses: a bias, or an unembedding, that the base has no place for.
const NOT_MERGED: [&str; 2] = ["mistral-lora-bias", "qwen2-saved-head"];

fn folder(name: &str) -> PathBuf {
    fixture("adapters").join(name)
}

fn base_of(name: &str) -> PathBuf {
    tiny(name.split('-').next().expect("a base"))
}

fn adapter(name: &str, base: &Path) -> Adapter {
    let location = Location::Folder(folder(name));
    Adapter::open(&location, &HubOptions::from_vars(|_| None), open(base).config()).expect("the adapter opens")
}

fn merged(base: &Path, adapters: &[Adapter], dtype: Dtype) -> Decoder {
    tch::set_num_threads(1);
    let precision = Precision { dtype, weights: Weights::Auto };
    Decoder::load_merged(&open(base), Merges(adapters), Device::Cpu, precision, false).expect("loads")
}

fn tokens() -> Vec<i64> {
    let text = std::fs::read_to_string(folder("prompt.json")).expect("the prompt");
    serde_json::from_str(&text).expect("token ids")
}

fn logits(decoder: &Decoder) -> Tensor {
    full_pass(decoder, &tokens(), &[]).1
}

/// What peft computed.
fn reference(folder_name: &str, how: &str) -> Tensor {
    let (shape, values) = npy::read(&folder(folder_name).join(format!("logits_{how}.npy"))).expect("an array");
    let shape: Vec<i64> = shape.into_iter().map(|n| n as i64).collect();
    Tensor::from_slice(&values).view(shape.as_slice())
}

/// Largest difference in units of the largest logit.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    max_diff(a, b) / max_abs(b)
}

#[test]
fn adapters_beside_and_merged_give_pefts_logits() {
    for name in ADAPTERS {
        let base = base_of(name);
        let adapter = adapter(name, &base);
        let plain = load(&base, Dtype::F32);
        let beside = logits(&plain.with(&adapter).expect("fits"));
        let off = relative(&beside, &reference(name, "unmerged"));
        assert!(off <= 1e-5, "{name}, beside: {off:e}");
        assert!(relative(&beside, &logits(&plain)) > 1e-2, "{name} changes nothing");
        if NOT_MERGED.contains(&name) {
            continue;
        }
        let off = relative(&logits(&merged(&base, &[adapter], Dtype::F32)), &reference(name, "merged"));
        assert!(off <= 1e-5, "{name}, merged: {off:e}");
    }
}

#[test]
fn chains_and_pairs_give_pefts_logits() {
    let base = tiny("mistral");
    let [sft, grpo, dora] = ["mistral-sft", "mistral-grpo", "mistral-dora"].map(|name| adapter(name, &base));
    let check = |what: &str, decoder: &Decoder, folder: &str, how: &str| {
        let off = relative(&logits(decoder), &reference(folder, how));
        assert!(off <= 1e-5, "{what}: {off:e}");
    };
    let both = load(&base, Dtype::F32).with(&sft).unwrap().with(&grpo).unwrap();
    check("both beside", &both, "both-sft-grpo", "unmerged");
    let on_sft = merged(&base, std::slice::from_ref(&sft), Dtype::F32);
    check("merge, apply", &on_sft.with(&grpo).unwrap(), "chain-sft-grpo", "unmerged");
    check("merge, apply DoRA", &on_sft.with(&dora).unwrap(), "chain-sft-dora", "unmerged");
    check("merge, merge", &merged(&base, &[sft, grpo], Dtype::F32), "chain-sft-grpo", "merged");
    let sft = adapter("mistral-sft", &base);
    check("merge, merge DoRA", &merged(&base, &[sft, dora], Dtype::F32), "chain-sft-dora", "merged");
}

#[test]
fn beside_is_merged_in_double_precision() {
    for name in ADAPTERS.into_iter().filter(|name| !NOT_MERGED.contains(name)) {
        let base = base_of(name);
        let adapter = adapter(name, &base);
        let beside = load(&base, Dtype::F64).with(&adapter).unwrap();
        // The file is f32, to which a merge rounds: what is left is that rounding.
        let off = relative(&logits(&beside), &logits(&merged(&base, &[adapter], Dtype::F64)));
        assert!(off <= 1e-5, "{name}: {off:e}");
    }
}

#[test]
fn looking_changes_no_bit_and_the_effective_weight_is_what_result_uses() {
    let base = tiny("qwen2");
    for name in ["qwen2-plain", "qwen2-dora"] {
        let decoder = load(&base, Dtype::F32).with(&adapter(name, &base)).unwrap();
        let (cache, watched) = full_pass(&decoder, &tokens(), &all_points(decoder.config().n_layers));
        assert!(same_bits(&watched, &logits(&decoder)), "{name}");
        for at in all_points(decoder.config().n_layers).into_iter().filter(|at| at.site.to_string() == "result") {
            let out = interp_core::site::HookPoint::new("attn_out".parse().unwrap(), at.layer);
            let (sum, out) = (cache.get(at).unwrap().sum_dim_intlist(2, false, None::<Kind>), cache.get(out).unwrap());
            assert!(relative(&sum, out) < 1e-5, "{name} {at}: {:e}", relative(&sum, out));
        }
    }
}

#[test]
fn a_graft_of_all_parts_is_the_adapter_and_of_none_the_base() {
    for name in ["qwen2-plain", "mistral-sft"] {
        let base = base_of(name);
        let plain = load(&base, Dtype::F64);
        let adapted = plain.with(&adapter(name, &base)).unwrap();
        let config = plain.config();
        let graft = |parts: Vec<Part>| logits(&adapted.grafted(&Masks::only(config, &[&parts], Kind::Double)));
        assert!(same_bits(&graft(Vec::new()), &logits(&plain)), "{name}: none");
        let whole = logits(&adapted);
        assert!(relative(&graft(Part::all(config).collect()), &whole) <= 1e-13, "{name}: all");
        for part in Part::all(config) {
            let one = graft(vec![part]);
            assert!(relative(&one, &whole) > 1e-6 && relative(&one, &logits(&plain)) > 1e-9, "{name}: {part:?}");
        }
        let modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"].map(String::from);
        let by_module = |modules: &[String]| {
            let all: Vec<Part> = Part::all(config).collect();
            let masks = Masks::only(config, &[&all], Kind::Double).of_modules(modules.to_vec());
            logits(&adapted.grafted(&masks))
        };
        assert!(relative(&by_module(&modules), &whole) <= 1e-13, "{name}: all modules");
        assert!(relative(&by_module(&modules[..6]), &whole) > 1e-6, "{name}: without down_proj");
    }
}

#[test]
fn a_graft_leaves_the_adapters_before_it_whole() {
    let base = tiny("mistral");
    let [sft, grpo] = ["mistral-sft", "mistral-grpo"].map(|name| adapter(name, &base));
    // `grpo` leaves the MLPs alone, which `sft` changes.
    assert!(sft.deltas().keys().any(|name| name.contains("mlp")) && !grpo.deltas().keys().any(|n| n.contains("mlp")));
    let before = load(&base, Dtype::F64).with(&sft).unwrap();
    let both = before.with(&grpo).unwrap();
    let none = both.grafted(&Masks::only(both.config(), &[&[]], Kind::Double));
    assert!(same_bits(&logits(&none), &logits(&before)));
    assert!(relative(&logits(&both), &logits(&before)) > 1e-6);
}

#[test]
fn all_but_some_parts_are_the_other_parts() {
    let base = tiny("qwen2");
    let adapted = load(&base, Dtype::F64).with(&adapter("qwen2-plain", &base)).unwrap();
    let config = adapted.config();
    let (some, others): (Vec<Part>, Vec<Part>) = Part::all(config).partition(|part| part.index % 2 == 0);
    let graft = |masks: Masks| logits(&adapted.grafted(&masks));
    let but = graft(Masks::all_but(config, &[&some], Kind::Double));
    assert!(same_bits(&but, &graft(Masks::only(config, &[&others], Kind::Double))));
    assert!(relative(&but, &graft(Masks::only(config, &[&some], Kind::Double))) > 1e-6);
}

#[test]
fn results_of_parts_add_up_to_attn_out() {
    let base = tiny("qwen2");
    let adapted = load(&base, Dtype::F64).with(&adapter("qwen2-plain", &base)).unwrap();
    let parts: Vec<Part> = Part::all(adapted.config()).step_by(2).collect();
    let grafted = adapted.grafted(&Masks::only(adapted.config(), &[&parts], Kind::Double));
    let points = all_points(grafted.config().n_layers);
    let (cache, _) = full_pass(&grafted, &tokens(), &points);
    for at in points.into_iter().filter(|at| at.site.to_string() == "result") {
        let out = interp_core::site::HookPoint::new("attn_out".parse().unwrap(), at.layer);
        let sum = cache.get(at).unwrap().sum_dim_intlist(2, false, None::<Kind>);
        assert!(relative(&sum, cache.get(out).unwrap()) < 1e-12, "{at}");
    }
}

#[test]
fn rows_of_one_pass_have_their_own_parts() {
    let base = tiny("qwen2");
    let adapted = load(&base, Dtype::F64).with(&adapter("qwen2-plain", &base)).unwrap();
    let config = adapted.config();
    let parts: Vec<Part> = Part::all(config).collect();
    let rows: Vec<&[Part]> = parts.chunks(1).collect();
    let all = adapted.grafted(&Masks::only(config, &rows, Kind::Double));
    let tokens = tokens();
    let _no_grad = tch::no_grad_guard();
    let start = interp_core::decoder::Start {
        layer: 0,
        pos: 0,
        resid: all.embed_rows(&vec![tokens.as_slice(); rows.len()]),
        past: None,
    };
    let resid = all.forward(start, 0..tokens.len(), &mut ());
    let together = all.unembed(&resid, 0, None, &mut ());
    for (row, parts) in rows.iter().enumerate() {
        let alone = logits(&adapted.grafted(&Masks::only(config, &[parts], Kind::Double)));
        assert!(relative(&together.get(row as i64), &alone) < 1e-12, "{parts:?}");
    }
}

#[test]
fn what_cannot_be_active_together_is_refused() {
    let base = tiny("qwen2");
    let dora = adapter("qwen2-dora", &base);
    let error = load(&base, Dtype::F32).with(&dora).unwrap().with(&dora).map(drop).unwrap_err().to_string();
    assert!(error.contains("field `use_dora`: is true here and in `qwen2-dora`, which is active already"), "{error}");
    let bias = adapter("qwen2-bias-all", &base);
    let error = load(&base, Dtype::F32).with(&bias).unwrap().with(&bias).map(drop).unwrap_err().to_string();
    assert!(error.contains("has replaced already"), "{error}");
    let other = load(&fixture("identity-rules/model"), Dtype::F32);
    let error = other.with(&dora).map(drop).unwrap_err().to_string();
    assert!(error.contains("field `target_modules`: changes `model.layers.0."), "{error}");
    for (name, field) in
        [("qwen2-dora", "use_dora"), ("qwen2-bias-all", "bias"), ("qwen2-saved-head", "modules_to_save")]
    {
        let error = adapter(name, &base).check_parts().unwrap_err().to_string();
        assert!(error.contains(&format!("field `{field}`")), "{error}");
    }
}

#[test]
fn a_placement_over_devices_changes_no_bit() {
    let base = tiny("qwen2");
    let precision = Precision { dtype: Dtype::F32, weights: Weights::Auto };
    let over = |devices: &str| {
        let decoder = Decoder::load(&open(&base), Devices::parse(devices).unwrap(), precision).unwrap();
        logits(&decoder.with(&adapter("qwen2-plain", &base)).unwrap())
    };
    let one = over("cpu");
    assert!(same_bits(&one, &over("cpu,cpu")) && same_bits(&one, &over("cpu,cpu,cpu")));
}

fn run(words: &[&str]) -> Output {
    command().args(words).output().expect("the binary runs")
}

#[test]
fn merge_writes_a_checkpoint_that_is_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("merged");
    let [base, sft, grpo] =
        [tiny("mistral"), folder("mistral-sft"), folder("mistral-grpo")].map(|p| p.display().to_string());
    let chain = format!("{base}+merge:{sft}+merge:{grpo}");
    let output = run(&["merge", &chain, "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let off = relative(&logits(&load(&out, Dtype::F32)), &reference("chain-sft-grpo", "merged"));
    assert!(off <= 1e-5, "{off:e}");
    let adapters = ["mistral-sft", "mistral-grpo"].map(|name| adapter(name, &tiny("mistral")));
    assert!(same_bits(&logits(&load(&out, Dtype::F32)), &logits(&merged(&tiny("mistral"), &adapters, Dtype::F32))));

    // What is in the weights already is refused, whatever the folder is called.
    let again = format!("{}+apply:{grpo}", out.display());
    let output = run(&["inspect", "--model", &again]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("is merged into {} already", out.display())), "{said}");

    let output = run(&["merge", &chain, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    for wrong in [base.clone(), format!("{base}+apply:{sft}")] {
        let output = run(&["merge", &wrong, "--out", dir.path().join("x").to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("MODEL+merge:ADAPTER"));
    }
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 1, "nothing half-written is left");
}

#[test]
fn one_adapter_under_two_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let twin = dir.path().join("twin");
    crate::common::copy_model(&folder("mistral-sft"), &twin);
    let chain =
        format!("{}+merge:{}+apply:{}", tiny("mistral").display(), folder("mistral-sft").display(), twin.display());
    let output = run(&["inspect", "--model", &chain]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("are the same adapter"), "{said}");
}

/// Loads a base and four adapters, and prints what they took; does nothing unless the test below started it.
#[test]
fn child_with_four_adapters() {
    let Ok(dir) = std::env::var("INTERP_TEST_FOUR_ADAPTERS") else { return };
    tch::set_num_threads(1);
    let config = ModelConfig::named("small").unwrap();
    let base = Checkpoint::random("small", config.clone(), expected_tensors(&config), 0);
    let precision = Precision { dtype: Dtype::F32, weights: Weights::Auto };
    let base = Decoder::load(&base, Device::Cpu, precision).unwrap();
    let tokens: Vec<i64> = (0..64).collect();
    let pass = |decoder: &Decoder| {
        let _no_grad = tch::no_grad_guard();
        let start = Instant::now();
        let resid = decoder.forward(decoder.embed(&tokens), 63..64, &mut ());
        let _ = decoder.unembed(&resid, 63, None, &mut ()).double_value(&[0, 0, 0]);
        start.elapsed().as_secs_f64()
    };
    let location = Location::Folder(dir.into());
    let open = || Adapter::open(&location, &HubOptions::from_vars(|_| None), &config).unwrap();
    // What the first adapter and the first passes bring along besides.
    let warm = base.with(&open()).unwrap();
    pass(&base);
    pass(&warm);
    let before = held();
    let adapters = [open(), open(), open(), open()];
    let adapted: Vec<Decoder> = adapters.iter().map(|adapter| base.with(adapter).unwrap()).collect();
    let took = held() - before;
    let numbers: u64 = adapters.iter().map(Adapter::n_params).sum();
    println!("four adapters: {took} bytes held for {} bytes of f32", numbers * 4);
    assert!(took as f64 <= 1.1 * (numbers * 4) as f64, "{took} {numbers}");

    let (mut switched, mut same) = (Vec::new(), Vec::new());
    for round in 0..24 {
        let decoder = &adapted[round % 4];
        switched.push(pass(decoder));
        same.push(pass(decoder));
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (switched, same) = (median(&mut switched), median(&mut same));
    println!("first token after a switch {switched:.5} s, without one {same:.5} s");
    assert!(switched < 1.5 * same, "other tests run beside this one; alone it is within 5 %");
}

/// Bytes this process holds, from `/proc`.
fn held() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn four_adapters_cost_their_own_bytes_and_switching_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = ModelConfig::named("small").unwrap();
    let rank = 64;
    let json = serde_json::json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 128, "target_modules": "all-linear",
    });
    std::fs::write(dir.path().join("adapter_config.json"), json.to_string()).unwrap();
    let mut tensors = Vec::new();
    for (name, shape) in expected_tensors(&config).into_iter().filter(|(name, _)| name.ends_with("_proj.weight")) {
        let module = format!("base_model.model.{}", name.trim_end_matches(".weight"));
        let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.01;
        tensors.push((format!("{module}.lora_A.weight"), random([rank, shape[1]])));
        tensors.push((format!("{module}.lora_B.weight"), random([shape[0], rank])));
    }
    Tensor::write_safetensors(&tensors, dir.path().join("adapter_model.safetensors")).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lora::child_with_four_adapters", "--nocapture"])
        .env("INTERP_TEST_FOUR_ADAPTERS", dir.path())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    said.lines()
        .filter(|line| line.contains("adapters:") || line.contains("switch"))
        .for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{said}");
}
