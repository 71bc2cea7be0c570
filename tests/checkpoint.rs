//! Checkpoints on disk: what loads, in place or converted, and every way a folder can be wrong with its exact message.

use std::path::{Path, PathBuf};

use interp_core::Error;
use interp_core::checkpoint::{Checkpoint, CheckpointRef, Placement};
use interp_core::hub::HubOptions;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const CPU: Placement = Placement { device: Device::Cpu, kind: None };
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn open(dir: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(&CheckpointRef::folder(dir), &HubOptions::from_vars(|_| None))
}

/// The error as a user sees it, with the folder's path as `DIR`.
fn shown(dir: &Path, error: &Error) -> String {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}").replace(&dir.display().to_string(), "DIR")
}

fn refused(dir: &Path) -> String {
    shown(dir, &open(dir).unwrap_err())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny").join(name)
}

/// A folder with a config and nothing else.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"model_type": "qwen2", "hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 1, "tie_word_embeddings": true});
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn file_of(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// A folder whose weights are `tensors`.
fn folder_of(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> tempfile::TempDir {
    let dir = folder();
    std::fs::write(dir.path().join(SINGLE), file_of(tensors)).unwrap();
    dir
}

/// A folder whose weight file holds exactly these bytes.
fn folder_with(bytes: &[u8]) -> tempfile::TempDir {
    let dir = folder();
    std::fs::write(dir.path().join(SINGLE), bytes).unwrap();
    dir
}

#[test]
fn a_fixture_opens_and_its_tensors_are_those_of_the_file() {
    let dir = fixture("qwen2");
    let checkpoint = open(&dir).unwrap();
    assert_eq!((checkpoint.name(), checkpoint.dir(), checkpoint.revision()), ("qwen2", dir.as_path(), None));
    assert_eq!(checkpoint.weight_files(), [dir.join(SINGLE)]);
    assert_eq!(checkpoint.stored_dtypes().into_keys().collect::<Vec<_>>(), ["F32"]);
    assert_eq!(checkpoint.file("tokenizer.json").unwrap(), None);
    assert!(checkpoint.adapters_seen().is_empty());

    let model = checkpoint.scope().pp("model");
    let attn = model.pp("layers").pp(2).pp("self_attn");
    assert!(attn.has("q_proj.bias") && !attn.has("o_proj.bias"));
    let ours = attn.tensor("k_proj.weight", &[16, 48], &CPU).unwrap();
    let all = Tensor::read_safetensors(dir.join(SINGLE)).unwrap();
    let (_, theirs) = all.iter().find(|(name, _)| name == "model.layers.2.self_attn.k_proj.weight").unwrap();
    assert_eq!(&ours, theirs);

    let unused = checkpoint.unused();
    assert_eq!(unused.len(), all.len() - 1);
    assert_eq!(unused, checkpoint.unexpected());
}

#[test]
fn shards_make_one_checkpoint() {
    let checkpoint = open(&fixture("qwen2-untied")).unwrap();
    assert_eq!(checkpoint.weight_files().len(), 3);
    let stored: u64 = checkpoint.weight_files().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(checkpoint.total_bytes() < stored && checkpoint.total_bytes() > stored * 9 / 10);
    for (name, shape) in [("model.embed_tokens.weight", [131, 48]), ("lm_head.weight", [131, 48])] {
        assert_eq!(checkpoint.scope().tensor(name, &shape, &CPU).unwrap().size(), shape);
    }
}

#[test]
fn weights_are_used_in_place_and_outlive_the_checkpoint_with_their_maps() {
    let dir = folder_of(&[("w", Dtype::F32, &[2, 3], &f32s(&[1., 2., 3., 4., 5., 6.]))]);
    let checkpoint = open(dir.path()).unwrap();
    let first = checkpoint.scope().tensor("w", &[2, 3], &CPU).unwrap();
    let again = checkpoint.scope().tensor("w", &[2, 3], &CPU).unwrap();
    assert_eq!(first.data_ptr(), again.data_ptr());
    let maps = checkpoint.keep_alive();
    drop(checkpoint);
    assert_eq!(first, Tensor::from_slice(&[1_f32, 2., 3., 4., 5., 6.]).view([2, 3]));
    drop(maps);
}

#[test]
fn weights_are_converted_on_the_way() {
    let bf16: Vec<u8> = [0x3f80_u16, 0xc000].iter().flat_map(|bits| bits.to_le_bytes()).collect(); // 1, −2
    let f16: Vec<u8> = [0x3c00_u16, 0xc000].iter().flat_map(|bits| bits.to_le_bytes()).collect(); // 1, −2
    let f64s: Vec<u8> = [1_f64, -2.].iter().flat_map(|number| number.to_le_bytes()).collect();
    let dir = folder_of(&[
        ("bf16", Dtype::BF16, &[2], &bf16),
        ("f16", Dtype::F16, &[2], &f16),
        ("f64", Dtype::F64, &[2], &f64s),
        ("f32", Dtype::F32, &[2], &f32s(&[1., -2.])),
    ]);
    let checkpoint = open(dir.path()).unwrap();
    for name in ["bf16", "f16", "f64", "f32"] {
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
            let placement = Placement { device: Device::Cpu, kind: Some(kind) };
            let tensor = checkpoint.scope().tensor(name, &[2], &placement).unwrap();
            assert_eq!((tensor.kind(), Vec::<f64>::try_from(tensor).unwrap()), (kind, vec![1., -2.]), "{name}");
        }
    }
    let error = checkpoint.scope().tensor("f16", &[2], &CPU).unwrap_err();
    assert_eq!(
        shown(dir.path(), &error),
        "DIR/model.safetensors: tensor `f16`: expected a dtype to convert F16 to, found none\nhint: compute in f32 or bf16"
    );
}

#[test]
fn large_weights_are_converted_piece_by_piece() {
    // Longer than one piece, and not a multiple of it.
    let numbers: Vec<f32> = (0..10_000_003).map(|n| (n % 1000) as f32).collect();
    let dir = folder_of(&[("w", Dtype::F32, &[10_000_003], &f32s(&numbers))]);
    let checkpoint = open(dir.path()).unwrap();
    let placement = Placement { device: Device::Cpu, kind: Some(Kind::Double) };
    let tensor = checkpoint.scope().tensor("w", &[10_000_003], &placement).unwrap();
    assert_eq!(tensor, Tensor::from_slice(&numbers).to_kind(Kind::Double));
}

#[test]
fn weights_that_are_not_aligned_are_copied() {
    let mut header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.to_vec();
    header.resize(header.len().next_multiple_of(4) + 1, b' ');
    let bytes = [(header.len() as u64).to_le_bytes().to_vec(), header, f32s(&[1., -2.])].concat();
    let dir = folder_with(&bytes);
    let tensor = open(dir.path()).unwrap().scope().tensor("w", &[2], &CPU).unwrap();
    assert_eq!(Vec::<f32>::try_from(tensor).unwrap(), [1., -2.]);
}

#[test]
fn unused_tensors_are_listed_and_harmless_ones_are_expected() {
    let (name, one) = ("model.layers.0.self_attn.rotary_emb.inv_freq", f32s(&[1.]));
    let tensors = [("a", &one), (name, &one), ("lm_head.weight", &one), ("b", &one)];
    let dir = folder_of(&tensors.map(|(name, bytes)| (name, Dtype::F32, &[1][..], bytes.as_slice())));
    let checkpoint = open(dir.path()).unwrap();
    assert_eq!(checkpoint.scope().tensor("a", &[1], &CPU).unwrap().size(), [1]);
    assert_eq!(checkpoint.unused(), ["b", "lm_head.weight", name]);
    assert_eq!(checkpoint.unexpected(), ["b"]);
}

#[test]
fn adapters_beside_the_weights_are_seen() {
    let dir = folder_of(&[]);
    std::fs::create_dir_all(dir.path().join("lora")).unwrap();
    std::fs::write(dir.path().join("lora/adapter_config.json"), "{}").unwrap();
    assert_eq!(open(dir.path()).unwrap().adapters_seen(), [dir.path().join("lora")]);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let bytes = f32s(&[0., 1., 2., f32::NAN, 4., 5.]);
    let dir = folder_of(&[
        ("model.norm.weight", Dtype::F32, &[6], &f32s(&[0.; 6])),
        ("nan", Dtype::F32, &[2, 3], &bytes),
        ("inf", Dtype::F32, &[1], &f32s(&[f32::NEG_INFINITY])),
        ("ids", Dtype::I8, &[1], &[0]),
    ]);
    let checkpoint = open(dir.path()).unwrap();
    let says = |name: &str, shape: &[i64], kind: Option<Kind>, expected: &str| {
        let placement = Placement { device: Device::Cpu, kind };
        let error = checkpoint.scope().tensor(name, shape, &placement).unwrap_err();
        assert_eq!(shown(dir.path(), &error), expected);
    };
    says(
        "model.norm.weight",
        &[2, 3],
        None,
        "DIR/model.safetensors: tensor `model.norm.weight`: expected shape [2, 3], found shape [6]\n\
         hint: config.json and the weights belong to different models",
    );
    says(
        "norm.weight",
        &[6],
        None,
        "DIR: tensor `norm.weight`: expected shape [6], found no tensor of that name\n\
         hint: it holds `model.norm.weight`: save the whole model, as AutoModelForCausalLM.save_pretrained does",
    );
    says(
        "model.norm.weigth",
        &[6],
        None,
        "DIR: tensor `model.norm.weigth`: expected shape [6], found no tensor of that name\n\
         hint: it holds `model.norm.weight`",
    );
    says(
        "lm_head.weight",
        &[6],
        None,
        "DIR: tensor `lm_head.weight`: expected shape [6], found no tensor of that name",
    );
    for kind in [None, Some(Kind::BFloat16)] {
        says(
            "nan",
            &[2, 3],
            kind,
            "DIR/model.safetensors: tensor `nan`: expected finite numbers, found NaN at [1, 0]\n\
             hint: copy or download the file again; if it stays, training diverged",
        );
    }
    says(
        "inf",
        &[1],
        None,
        "DIR/model.safetensors: tensor `inf`: expected finite numbers, found infinite at [0]\n\
         hint: copy or download the file again; if it stays, training diverged",
    );
    says(
        "ids",
        &[1],
        None,
        "DIR/model.safetensors: tensor `ids`: expected dtype F32, BF16, F16 or F64, found dtype I8\n\
         hint: use the checkpoint in its original, unquantized dtype",
    );
}

#[test]
fn places_that_are_no_checkpoint_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let no_config = |hint: &str| assert_eq!(refused(path), format!("DIR: has no config.json\nhint: {hint}"));
    no_config("a checkpoint is a folder as transformers' save_pretrained writes it");
    std::fs::write(path.join("adapter_config.json"), "{}").unwrap();
    no_config("this is an adapter: give the checkpoint it belongs to");
    std::fs::write(path.join("model.GGUF"), "GGUF").unwrap();
    no_config("use the original safetensors checkpoint; GGUF weights are quantized");

    let says = |name: &str, expected: &str| {
        let error = open(&path.join(name)).unwrap_err();
        assert_eq!(shown(path, &error), expected);
    };
    says(
        "missing",
        "DIR/missing: no such folder\nhint: give a folder that holds config.json, or a hub id such as owner/name",
    );
    says(
        "model.GGUF",
        "DIR/model.GGUF: is a GGUF file, not a checkpoint folder\n\
         hint: use the original safetensors checkpoint; GGUF weights are quantized",
    );
    says(
        "adapter_config.json",
        "DIR/adapter_config.json: is a file, not a checkpoint folder\nhint: give the folder that holds config.json",
    );
}

#[test]
fn configs_that_cannot_be_used_are_refused_before_the_weights() {
    let dir = folder();
    std::fs::write(dir.path().join("config.json"), r#"{"model_type": "gpt_neox"}"#).unwrap();
    assert_eq!(
        refused(dir.path()),
        "DIR/config.json: field `model_type`: unknown model family \"gpt_neox\"\n\
         hint: supported are qwen2, qwen3, mistral, llama"
    );
    std::fs::write(dir.path().join("config.json"), "{").unwrap();
    assert_eq!(refused(dir.path()), "DIR/config.json: EOF while parsing an object at line 1 column 1");
}

#[test]
fn weights_that_are_not_there_are_refused() {
    let dir = folder();
    assert_eq!(
        refused(dir.path()),
        "DIR: has neither model.safetensors nor model.safetensors.index.json\n\
         hint: a checkpoint folder holds its weights as safetensors"
    );
    std::fs::write(dir.path().join("model.gguf"), "").unwrap();
    assert_eq!(
        refused(dir.path()),
        "DIR: has its weights only as GGUF, model.gguf\n\
         hint: use the original safetensors checkpoint; GGUF weights are quantized"
    );
    std::fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert_eq!(
        refused(dir.path()),
        "DIR: has its weights only as a pickle, pytorch_model.bin, which can run code when it is opened\n\
         hint: convert once, in Python: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
    );
}

#[test]
fn broken_weight_files_are_refused() {
    let whole = file_of(&[("w", Dtype::F32, &[4], &f32s(&[1.; 4]))]);
    let says = |bytes: &[u8], expected: &str| {
        let dir = folder_with(bytes);
        assert_eq!(refused(dir.path()), format!("DIR/model.safetensors: {expected}"));
    };
    let again = "hint: copy or download the file again";
    says(&[], &format!("is truncated: 0 bytes are too few for a safetensors file\n{again}"));
    says(&whole[..7], &format!("is truncated: 7 bytes are too few for a safetensors file\n{again}"));
    says(&whole[..20], &format!("is truncated: a header of 56 bytes in a file of 20\n{again}"));
    says(
        &whole[..whole.len() - 1],
        &format!("is truncated: its header describes a file of 80 bytes, it has 79\n{again}"),
    );
    says(&[&whole[..], b"!"].concat(), &format!("has 81 bytes where its header describes 80\n{again}"));
    says(
        &[0xff; 32],
        &format!("is not a safetensors file: its header would be 18446744073709551615 bytes long\n{again}"),
    );
    says(
        &[&8_u64.to_le_bytes()[..], b"not json"].concat(),
        &format!("has a broken header: invalid JSON in header: expected ident at line 1 column 2\n{again}"),
    );
    says(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "is a Git LFS pointer, not the weights\nhint: run `git lfs pull` in that folder",
    );
    says(
        b"GGUF\x03\0\0\0",
        "is a GGUF file, not safetensors\nhint: use the original safetensors checkpoint; GGUF weights are quantized",
    );
}

#[test]
fn an_index_that_does_not_match_its_shards_is_refused() {
    let dir = folder();
    let index = |index: &Value| std::fs::write(dir.path().join(INDEX), index.to_string()).unwrap();
    let again = "hint: copy or download the checkpoint again, all of its files";
    let says = |expected: &str| assert_eq!(refused(dir.path()), format!("DIR/{expected}\n{again}"));

    index(&json!({"metadata": {}}));
    says("model.safetensors.index.json: field `weight_map`: must be an object from tensor to file");
    index(&json!({"weight_map": {"w": "../w.safetensors"}}));
    says("model.safetensors.index.json: field `weight_map.w`: must name a file of this folder");
    index(&json!({"weight_map": {"w": "1.safetensors"}}));
    says("model.safetensors.index.json: field `weight_map`: names 1.safetensors, which is not there");
    std::fs::write(dir.path().join("1.safetensors"), file_of(&[("v", Dtype::F32, &[1], &f32s(&[1.]))])).unwrap();
    says(
        "1.safetensors: tensor `w`: expected it here, as model.safetensors.index.json says, \
         found no tensor of that name",
    );
    index(&json!({"weight_map": {"v": "1.safetensors"}}));
    assert!(open(dir.path()).is_ok());
}
