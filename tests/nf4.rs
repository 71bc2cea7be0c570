//! 4-bit weights: those of bitsandbytes' files to the bit, those made on load to the same bytes, and sweeps on both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use interp_core::adapter::{Adapter, Merges};
use interp_core::checkpoint::{Checkpoint, Location};
use interp_core::config::ModelConfig;
use interp_core::decoder::{Decoder, expected_tensors};
use interp_core::device::{Dtype, Precision, Weights};
use interp_core::hub::HubOptions;
use interp_core::nf4::{BLOCK, DoubleScales, Nf4, quantize};
use interp_core::site::{HookPoint, Site};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as Stored, TensorView};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tch::{Device, Kind, Tensor};

use crate::common::{copy_model, fixture, full_pass, interp, max_abs, max_diff, open, same_bits, tiny};

const NAMES: [&str; 2] = ["plain", "double"];

fn nf4(name: &str) -> PathBuf {
    fixture("nf4").join(name)
}

fn expected() -> BTreeMap<String, Tensor> {
    let tensors = Tensor::read_safetensors(fixture("nf4/expected.safetensors")).expect("the fixture");
    tensors.into_iter().collect()
}

fn load(dir: &Path, dtype: Dtype, weights: Weights) -> Decoder {
    tch::set_num_threads(1);
    Decoder::load(&open(dir), Device::Cpu, Precision { dtype, weights }).expect("it loads")
}

/// Bytes of a tensor's numbers.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.contiguous().view([-1]).view_dtype(Kind::Uint8);
    Vec::<u8>::try_from(flat).expect("bytes")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.view([-1])).expect("f32")
}

/// The linear maps of a checkpoint's layers.
fn linears(checkpoint: &Checkpoint) -> Vec<(String, [i64; 2])> {
    let all = expected_tensors(checkpoint.config()).into_iter();
    let linear = |(name, shape): (String, Vec<i64>)| match shape[..] {
        [d_out, d_in] if name.contains(".layers.") => Some((name, [d_out, d_in])),
        _ => None,
    };
    all.filter_map(linear).collect()
}

fn read(checkpoint: &Checkpoint, name: &str, shape: [i64; 2]) -> Nf4 {
    checkpoint.scope().nf4(name, shape).expect("of this shape").expect("4-bit")
}

/// `fixtures/tiny/mistral` with weights rounded to bf16.
fn mistral_in_bf16(dir: &Path) {
    copy_model(&tiny("mistral"), dir);
    let path = dir.join("model.safetensors");
    let weights = Tensor::read_safetensors(&path).expect("the fixture");
    let rounded: Vec<(String, Tensor)> =
        weights.into_iter().map(|(name, weight)| (name, weight.to_kind(Kind::BFloat16))).collect();
    Tensor::write_safetensors(&rounded, &path).expect("written");
}

#[test]
fn every_weight_of_a_file_comes_back_as_bitsandbytes_has_it() {
    let hashes: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(fixture("nf4/expected.json")).unwrap()).unwrap();
    let expected = expected();
    let mut compared = 0;
    for name in NAMES {
        let checkpoint = open(&nf4(name));
        for (weight, shape) in linears(&checkpoint) {
            let packed = read(&checkpoint, &weight, shape);
            let path = weight.strip_suffix(".weight").unwrap();
            for (dtype, kind) in [("f32", Kind::Float), ("bf16", Kind::BFloat16)] {
                let key = format!("{name}.{path}.{dtype}");
                let made = packed.dequantize(kind);
                if let Some(array) = expected.get(&key) {
                    assert!(same_bits(&made, array), "{key}");
                }
                assert_eq!(format!("{:x}", Sha256::digest(bytes(&made))), hashes[&key], "{key}");
                compared += 1;
            }
            assert!(packed.dequantize(Kind::Double).equal(&packed.dequantize(Kind::Float).to_kind(Kind::Double)));
        }
    }
    assert_eq!((compared, hashes.len()), (2 * 3 * 7 * 2, 2 * 3 * 7 * 2));
}

#[test]
fn quantising_on_load_makes_the_files_own_bytes() {
    let dir = tempfile::tempdir().unwrap();
    mistral_in_bf16(dir.path());
    for (name, base) in [("plain", tiny("mistral")), ("double", dir.path().to_owned())] {
        let (file, base) = (open(&nf4(name)), open(&base));
        let placement = interp_core::checkpoint::Placement { device: Device::Cpu, kind: None };
        for (weight, shape) in linears(&file) {
            let theirs = read(&file, &weight, shape);
            let ours =
                Nf4::quantize(&base.scope().tensor(&weight, &shape, &placement).unwrap(), name == "double").unwrap();
            assert!(ours.packed().equal(theirs.packed()), "{name} {weight}");
            assert!(same_bits(ours.absmax(), theirs.absmax()), "{name} {weight}");
        }
    }
}

/// The matrix of `generate.py`: blocks differ in size, one is zero, the last one is short.
fn matrix() -> Vec<f32> {
    let number = |i: u64| {
        let unit = (i * 2_654_435_761 % (1 << 32)) as f64 / 2f64.powi(31) - 1.0;
        (unit * (i / 64 % 7) as f64 * (1 + i / 64 % 13) as f64) as f32
    };
    (0..161 * 130).map(number).collect()
}

#[test]
fn codes_and_both_levels_of_scales_are_those_of_bitsandbytes() {
    tch::set_num_threads(1);
    let expected = expected();
    let matrix = matrix();
    let mut packed = vec![0u8; matrix.len() / 2];
    let mut absmax = vec![0f32; matrix.len().div_ceil(BLOCK)];
    quantize(&matrix, &mut packed, &mut absmax, 2);
    assert_eq!(packed, bytes(&expected["matrix.packed"]));
    assert_eq!(absmax, numbers(&expected["matrix.absmax"]));

    let double = DoubleScales::quantize(&absmax).unwrap();
    assert_eq!(double.map, numbers(&expected["matrix.double.map"]));
    assert_eq!([double.offset].as_slice(), numbers(&expected["matrix.double.offset"]));
    assert_eq!(double.absmax, numbers(&expected["matrix.double.absmax"]));
    assert_eq!(double.codes, bytes(&expected["matrix.double.codes"]));

    let tensor = Tensor::from_slice(&matrix).view([161, 130]);
    let back = Nf4::quantize(&tensor, true).unwrap().dequantize(Kind::Float).view([-1]);
    let end = &expected["matrix.double.dequantized"];
    assert!(same_bits(&back.narrow(0, 320 * 64 - end.size()[0], end.size()[0]), end));
}

#[test]
fn logits_are_those_of_transformers_however_the_weights_came() {
    let expected = expected();
    let tokens = Vec::<i64>::try_from(&expected["tokens"]).unwrap();
    let bf16 = tempfile::tempdir().unwrap();
    mistral_in_bf16(bf16.path());
    let logits = |dir: &Path, dtype, weights| full_pass(&load(dir, dtype, weights), &tokens, &[]).1;
    for (name, base, on_load) in
        [("plain", tiny("mistral"), Weights::Nf4), ("double", bf16.path().to_owned(), Weights::Nf4Double)]
    {
        let theirs = &expected[&format!("{name}.logits")];
        let ours = logits(&nf4(name), Dtype::F32, Weights::Auto);
        let distance = max_diff(&ours, theirs) / max_abs(theirs);
        println!("{name}: logits differ from transformers' by {distance:.1e} of the largest");
        assert!(distance < 1e-5, "{name}: {distance:e}");
        let full = logits(&base, Dtype::F32, Weights::Auto);
        assert!(max_diff(&full, theirs) > 1e-2 * max_abs(theirs), "4 bits cost something");
        for weights in [Weights::File, Weights::Nf4, Weights::Nf4Double] {
            assert!(same_bits(&ours, &logits(&nf4(name), Dtype::F32, weights)), "a 4-bit file stays as it is");
        }
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F64] {
            let (file, made) = (logits(&nf4(name), dtype, Weights::Auto), logits(&base, dtype, on_load));
            assert!(same_bits(&file, &made), "{name} {dtype}");
            // The decoder that shares the weights is the one that would have been loaded.
            let shared = load(&base, Dtype::F32, on_load).in_dtype(dtype);
            assert!(same_bits(&made, &full_pass(&shared, &tokens, &[]).1), "{name} {dtype}");
        }
    }
}

#[test]
fn a_merge_into_4_bits_is_pefts() {
    let expected = expected();
    let tokens = Vec::<i64>::try_from(&expected["tokens"]).unwrap();
    let location = Location::Folder(fixture("adapters/mistral-sft"));
    for name in NAMES {
        let base = open(&nf4(name));
        let sft = Adapter::open(&location, &HubOptions::from_vars(|_| None), base.config()).unwrap();
        let precision = Precision { dtype: Dtype::F32, weights: Weights::Auto };
        let merges = Merges(std::slice::from_ref(&sft));
        let merged = Decoder::load_merged(&base, merges, Device::Cpu, precision, false).unwrap();
        let (ours, theirs) = (full_pass(&merged, &tokens, &[]).1, &expected[&format!("{name}.merged.logits")]);
        let distance = max_diff(&ours, theirs) / max_abs(theirs);
        println!("{name}, merged: logits differ from peft's by {distance:.1e} of the largest");
        assert!(distance < 1e-5, "{name}: {distance:e}");
        // Beside 4-bit weights the change keeps its full precision.
        let beside = load(&nf4(name), Dtype::F32, Weights::Auto).with(&sft).unwrap();
        assert!(max_diff(&full_pass(&beside, &tokens, &[]).1, theirs) > 1e-3 * max_abs(theirs));
    }
}

#[test]
fn looking_changes_no_bit_and_waves_have_the_same_weights() {
    let tokens: Vec<i64> = (1..30).map(|i| i * 7 % 131).collect();
    let decoder = load(&nf4("double"), Dtype::F32, Weights::Auto);
    let points = [Site::Q, Site::Z, Site::Result, Site::MlpPost].map(|site| HookPoint::new(site, 1));
    let (_, watched) = full_pass(&decoder, &tokens, &points);
    let (_, alone) = full_pass(&decoder, &tokens, &[]);
    assert!(same_bits(&watched, &alone));
    let precision = Precision { dtype: Dtype::F32, weights: Weights::Auto };
    let waves = Decoder::load_for_waves(&open(&nf4("double")), Device::Cpu, precision).unwrap();
    assert!(same_bits(&alone, &full_pass(&waves, &tokens, &[]).1));
}

#[test]
fn random_weights_are_quantised_too_and_everything_is_used() {
    tch::set_num_threads(1);
    for name in ["qwen2", "qwen3"] {
        let mut config = ModelConfig::from_file(&tiny(name).join("config.json")).unwrap();
        config.dtype = Some("bfloat16".into());
        let tensors = expected_tensors(&config);
        let checkpoint = Checkpoint::random("random", config, tensors, 3);
        let logits = |weights| {
            let precision = Precision { dtype: Dtype::F32, weights };
            full_pass(&Decoder::load(&checkpoint, Device::Cpu, precision).unwrap(), &[3, 5, 8, 13], &[]).1
        };
        let (full, nf4, double) = (logits(Weights::File), logits(Weights::Nf4), logits(Weights::Nf4Double));
        assert!(checkpoint.unused().is_empty());
        let distance = max_diff(&full, &nf4) / max_abs(&full);
        assert!((1e-3..0.9).contains(&distance), "{name}: {distance}");
        assert!(!same_bits(&nf4, &double) && max_diff(&nf4, &double) < max_diff(&full, &nf4), "{name}");
    }
}

fn trials(dir: &Path) -> PathBuf {
    let file = dir.join("trials.jsonl");
    let line = |a: i64, b: i64| {
        json!({"base": {"tokens": [1, a, 17, 5, 9]}, "source": {"tokens": [1, b, 17, 5, 9]},
            "target": {"correct": 7, "incorrect": 11}})
    };
    std::fs::write(&file, format!("{}\n{}\n", line(20, 30), line(40, 50))).unwrap();
    file
}

#[test]
fn a_sweep_runs_is_verified_and_says_that_its_base_has_4_bits() {
    let dir = tempfile::tempdir().unwrap();
    let trials = trials(dir.path());
    let mut deltas = Vec::new();
    for (flags, model, precision) in [
        ("", nf4("plain"), "nf4"),
        ("--weights nf4", tiny("mistral"), "nf4"),
        ("", nf4("double"), "nf4-double"),
        ("--weights nf4-double", tiny("mistral"), "nf4-double"),
        ("", tiny("mistral"), "f32"),
    ] {
        let out = dir.path().join(deltas.len().to_string());
        let words = format!("sweep --model {{}} --trials {{}} --out {{}} {flags}");
        let said = interp(&words, &[&model, &trials, &out]);
        assert_eq!(said.code, 0, "{}", said.err);
        let run: Value = serde_json::from_str(&std::fs::read_to_string(out.join("run.json")).unwrap()).unwrap();
        assert_eq!(run["model"]["base_precision"], precision);
        assert!(run["noise_floor"].to_string().contains("precision"), "{run:#}");
        let said = interp("verify {}", &[&out]);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        deltas.push(std::fs::read(out.join("delta_per_trial.npy")).unwrap());
    }
    assert!(deltas[0] == deltas[1], "file and load have the same numbers");
    assert!(deltas[0] != deltas[2] && deltas[0] != deltas[4]);
}

#[test]
fn a_donor_that_is_loaded_again_has_4_bits_again() {
    let dir = tempfile::tempdir().unwrap();
    let (trials, many, out) = (trials(dir.path()), dir.path().join("many.jsonl"), dir.path().join("out"));
    let line =
        |i: i64| json!({"base": {"tokens": [5, i, 7 * i % 100 + 3]}, "target": {"correct": 7}}).to_string() + "\n";
    std::fs::write(&many, (3..43).map(line).collect::<String>()).unwrap();
    // Through a map, so that what is kept of the donor is made once more for the noise floor and by verify.
    let words =
        "sweep --threads 1 --model {} --source-model {} --map ridge --calibrate {} --trials {} --weights nf4 --out {}";
    let said = interp(words, &[&tiny("qwen2"), &tiny("qwen3"), &many, &trials, &out]);
    assert_eq!(said.code, 0, "{}", said.err);
    let said = interp("verify {}", &[&out]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let run: Value = serde_json::from_str(&std::fs::read_to_string(out.join("run.json")).unwrap()).unwrap();
    let floor = run["noise_floor"]["logit-diff"]["precision"].as_f64().unwrap();
    assert!(floor < 1e-3, "another dtype, not other weights: {floor}");
}

#[test]
fn inspect_sees_a_model_of_full_size_in_4_bits() {
    for (name, words) in
        [("plain", "linear maps in 4 bits, NF4"), ("double", "linear maps in 4 bits, NF4 with double quantization")]
    {
        let said = interp("inspect --model {} --self-check", &[&nf4(name)]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
        assert!(said.out.lines().any(|line| line == format!("quantized           {words}")), "{}", said.out);
    }
    let json =
        |dir: &Path| -> Value { serde_json::from_str(&interp("inspect --json --model {}", &[&dir]).out).unwrap() };
    let (base, file) = (json(&tiny("mistral")), json(&nf4("plain")));
    assert_eq!((&base["parameters"], &base["bytes"]), (&file["parameters"], &file["bytes"]));
    assert_eq!((&base["quantization"], &file["quantization"]), (&Value::Null, &"nf4".into()));
    let linear = 3 * (2 * 48 * 48 + 2 * 16 * 48 + 3 * 80 * 48);
    assert_eq!(file["bytes"]["nf4"]["weights"], linear / 16 * 9 + 2 * (2 * 131 * 48 + 7 * 48));
    assert!(file["stored_bytes"]["NF4"].as_u64().unwrap() > linear / 2);
}

/// Copies a fixture with one tensor changed, and says what loading it says.
fn with_tensor(
    name: &str,
    change: impl Fn(&str, Stored, &[usize], &[u8]) -> Option<(Stored, Vec<usize>, Vec<u8>)>,
) -> String {
    let dir = tempfile::tempdir().unwrap();
    copy_model(&nf4(name), dir.path());
    let path = dir.path().join("model.safetensors");
    let data = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&data).unwrap();
    let changed = |(name, view): (&str, TensorView<'_>)| {
        Some((name.to_owned(), change(name, view.dtype(), view.shape(), view.data())?))
    };
    let kept: Vec<_> = file.iter().filter_map(changed).collect();
    let views = kept.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    refusal(dir.path())
}

fn refusal(dir: &Path) -> String {
    let said = interp("generate --model {} --tokens 1,2,3 --max-new-tokens 1", &[&dir]);
    assert_eq!(said.code, 2, "{}{}", said.out, said.err);
    said.err.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn files_that_do_not_fit_together_are_refused_by_tensor() {
    type Kept = Option<(Stored, Vec<usize>, Vec<u8>)>;
    let same = |dtype, shape: &[usize], data: &[u8]| -> Kept { Some((dtype, shape.to_vec(), data.to_vec())) };
    let weight = "model.layers.1.mlp.up_proj.weight";
    let at = |end: &str| format!("{weight}{end}");
    let missing = |end: &str| {
        with_tensor("double", |name, dtype, shape, data| if name == at(end) { None } else { same(dtype, shape, data) })
    };
    let has = |said: &str, words: &str| assert!(said.contains(words), "{words}\nin {said}");
    has(
        &missing(".quant_map"),
        "tensor `model.layers.1.mlp.up_proj.weight.quant_map`: expected 16 numbers of dtype F32",
    );
    has(&missing(".nested_quant_map"), "up_proj.weight.nested_quant_map`: expected 256 numbers of dtype F32");
    has(
        &missing(".nested_absmax"),
        "up_proj.weight.absmax`: expected 60 numbers of dtype F32, a part of a 4-bit tensor",
    );
    has(&missing(".absmax"), "up_proj.weight.absmax`: expected 60 numbers of dtype U8, a part of a 4-bit tensor");
    has(&missing(""), "up_proj.weight`: expected 1920 numbers of dtype U8, a part of a 4-bit tensor, found no tensor");
    has(&missing(".quant_state.bitsandbytes__nf4"), "up_proj.weight`: expected shape [80, 48], found shape [1920, 1]");

    let broken = with_tensor("plain", |name, dtype, shape, data| match name == at(".absmax") {
        true => Some((dtype, shape.to_vec(), [&f32::NAN.to_le_bytes(), &data[4..]].concat())),
        false => same(dtype, shape, data),
    });
    has(&broken, "up_proj.weight.absmax`: expected finite numbers, found NaN at [0]");
    let state = |from: &str, to: &str| {
        with_tensor("plain", |name, dtype, shape, data| match name == at(".quant_state.bitsandbytes__nf4") {
            true => {
                let text = String::from_utf8(data.to_vec()).unwrap().replace(from, to);
                Some((dtype, vec![text.len()], text.into_bytes()))
            }
            false => same(dtype, shape, data),
        })
    };
    has(&state("[80, 48]", "[48, 80]"), "up_proj.weight`: expected shape [80, 48], found shape [48, 80]");
    has(&state("\"blocksize\": 64", "\"blocksize\": 63"), "expected `blocksize` from 32 to 4096, found 63");
    has(&state("nf4", "fp4"), "expected `quant_type` nf4, found \"fp4\"");
    has(&state("float32", "int8"), "expected `dtype` float32, bfloat16 or float16, found \"int8\"");
    has(&state("{", ""), "expected the JSON of a quantization, found");

    let stray = with_tensor("plain", |name, dtype, shape, data| match name == "model.embed_tokens.weight" {
        true => Some((Stored::U8, vec![131 * 48], vec![0; 131 * 48])),
        false => same(dtype, shape, data),
    });
    has(&stray, "embed_tokens.weight`: expected shape [131, 48]");
}

#[test]
fn configs_and_files_must_agree_on_quantisation() {
    let dir = tempfile::tempdir().unwrap();
    copy_model(&nf4("plain"), dir.path());
    std::fs::copy(tiny("mistral").join("config.json"), dir.path().join("config.json")).unwrap();
    let said = refusal(dir.path());
    let words = "tensor `model.layers.0.mlp.down_proj.weight.quant_state.bitsandbytes__nf4`: expected numbers as they are, \
                 found quantized ones, on which config.json is silent";
    assert!(said.contains(words), "{said}");
    let said = interp("sweep --model {} --trials x --out y --weights int8", &[&dir]);
    assert!(said.err.contains("weights `int8`: no such storage"), "{}", said.err);
    assert!(
        said.err.contains("hint: weights are held as `auto`, as in the `file`, or in 4 bits: `nf4` or `nf4-double`")
    );
}
