//! What several tests share: fixtures, decoders on them, and comparison of tensors.

use std::path::{Path, PathBuf};
use std::process::Command;

use interp_core::cache::ActivationCache;
use interp_core::checkpoint::{Checkpoint, CheckpointRef};
use interp_core::decoder::Decoder;
use interp_core::device::{Dtype, Precision, Weights};
use interp_core::hub::HubOptions;
use interp_core::prompt::{Prompt, PromptReader, Tokenizer};
use interp_core::site::{HookPoint, Site};
use interp_core::trial::{Trial, TrialFile, TrialOptions};
use tch::{Device, Kind, Tensor};

/// Folders below `fixtures/tiny`.
pub const FAMILIES: [&str; 6] = ["qwen2", "qwen2-untied", "qwen2-window", "qwen3", "mistral", "llama"];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

/// A folder or file below `fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// A tiny model's folder.
pub fn tiny(family: &str) -> PathBuf {
    fixture("tiny").join(family)
}

/// Opens a checkpoint folder.
pub fn open(dir: &Path) -> Checkpoint {
    let reference: CheckpointRef = dir.to_str().expect("UTF-8").parse().expect("a checkpoint");
    Checkpoint::open(&reference, &HubOptions::from_env()).expect("the fixture opens")
}

/// Loads a checkpoint folder on the CPU. Tests run side by side, so each computes on one thread.
pub fn load(dir: &Path, dtype: Dtype) -> Decoder {
    tch::set_num_threads(1);
    let precision = Precision { dtype, weights: Weights::Auto };
    Decoder::load(&open(dir), Device::Cpu, precision).expect("the fixture loads")
}

/// [`load`], with matrices laid out for waves.
pub fn load_for_waves(dir: &Path, dtype: Dtype) -> Decoder {
    tch::set_num_threads(1);
    let precision = Precision { dtype, weights: Weights::Auto };
    Decoder::load_for_waves(&open(dir), Device::Cpu, precision).expect("the fixture loads")
}

/// A prompt of bare tokens.
pub fn prompt(tokens: &[i64]) -> Prompt {
    Prompt { tokens: tokens.to_vec(), spans: Default::default() }
}

/// The trials of a file, tokenised as the checkpoint in `dir` has it.
pub fn trials(dir: &Path, file: &Path) -> Vec<Trial> {
    let config = dir.join("tokenizer_config.json");
    let tokenizer = Tokenizer::from_files(&dir.join("tokenizer.json"), Some(&config), None).expect("a tokenizer");
    let checkpoint = open(dir);
    let (d_vocab, n_ctx) = (checkpoint.config().d_vocab, checkpoint.config().n_ctx);
    let reader = PromptReader { tokenizer: Some(&tokenizer), d_vocab, n_ctx };
    let read = TrialFile::read(file, &reader, TrialOptions { first_token: false, swap: false }).expect("trials");
    assert!(read.bad_lines.is_empty(), "{:?}", read.bad_lines);
    read.trials
}

/// Every hook point of a model, in the order of a pass.
pub fn all_points(n_layers: usize) -> Vec<HookPoint> {
    let mut points: Vec<HookPoint> = Site::ALL
        .into_iter()
        .flat_map(|site| {
            let layers = if site.is_per_layer() { n_layers } else { 1 };
            (0..layers).map(move |layer| HookPoint::new(site, layer))
        })
        .collect();
    points.sort_by_key(|at| at.order());
    points
}

/// A full pass that records `points`: the cache and the logits `[pos, vocab]`.
pub fn full_pass(decoder: &Decoder, tokens: &[i64], points: &[HookPoint]) -> (ActivationCache, Tensor) {
    let _no_grad = tch::no_grad_guard();
    let mut cache = ActivationCache::new(points.iter().copied());
    let resid = decoder.forward(decoder.embed(tokens), 0..tokens.len(), &mut cache);
    let logits = decoder.unembed(&resid, 0, None, &mut cache);
    (cache, logits.squeeze_dim(0))
}

/// Largest absolute difference; places where both are −inf agree.
pub fn max_diff(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let diff = (&a - &b).abs().masked_fill(&a.eq_tensor(&b), 0.0);
    diff.max().double_value(&[])
}

/// Largest finite absolute value.
pub fn max_abs(a: &Tensor) -> f64 {
    let a = a.to_kind(Kind::Double).abs();
    a.masked_fill(&a.isinf(), 0.0).max().double_value(&[])
}

/// Bitwise equality of two tensors' numbers.
pub fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && a.kind() == b.kind() && bits(a).equal(&bits(b))
}

fn bits(a: &Tensor) -> Tensor {
    let word = match a.kind() {
        Kind::Double => Kind::Int64,
        Kind::Float => Kind::Int,
        _ => Kind::Int16,
    };
    a.contiguous().view_dtype(word)
}

/// What a run of the binary said.
pub struct Said {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The built binary. On one thread: the models are tiny, and tests run side by side.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interp"));
    command.env("OMP_NUM_THREADS", "1");
    command
}

/// Runs `interp` on words separated by blanks, `{}` standing for each of `paths` in turn.
pub fn interp(words: &str, paths: &[&dyn AsRef<Path>]) -> Said {
    let mut paths = paths.iter();
    let words = words.split_whitespace().map(|word| match word.split_once("{}") {
        Some((before, after)) => format!("{before}{}{after}", paths.next().expect("a path").as_ref().display()),
        None => word.to_owned(),
    });
    let output = command().args(words).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Token ids as `--tokens` takes them.
pub fn ids(tokens: &[i64]) -> String {
    tokens.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// Copies a model folder's own files, so that a test can change them.
pub fn copy_model(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the model's folder").flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}
