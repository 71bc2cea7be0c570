//! Loading a large checkpoint: as fast as reading it once, and never in memory twice.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use interp_core::decoder::Decoder;
use interp_core::device::{Dtype, Precision, Weights};
use serde_json::{Map, json};
use tch::Device;

use crate::common::open;

/// Qwen2.5-0.5B's geometry.
const CONFIG: [(&str, usize); 6] = [
    ("hidden_size", 896),
    ("intermediate_size", 4864),
    ("num_hidden_layers", 24),
    ("num_attention_heads", 14),
    ("num_key_value_heads", 2),
    ("vocab_size", 151_936),
];

/// Free disk the test needs, in bytes.
const DISK: u64 = 3 << 30;

#[test]
fn two_gigabytes_load_in_the_time_of_one_read_and_are_held_once() {
    if cfg!(debug_assertions) {
        println!("skipped: timings mean something in release builds only");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    if free_disk(dir.path()) < DISK {
        println!("skipped: needs 3 GB of free disk");
        return;
    }
    let weights = write_checkpoint(dir.path());
    let file = dir.path().join("model.safetensors");

    // Interleaved, and the best of five each: other work on the machine only ever adds time.
    let (mut read, mut load) = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        read = read.min(seconds(|| {
            let mut buffer = Vec::with_capacity(weights + (1 << 20));
            File::open(&file).expect("the file").read_to_end(&mut buffer).expect("reads");
            std::hint::black_box(&buffer);
        }));
        load = load.min(seconds(|| first_token(dir.path())));
    }
    println!("{:.2} GB: one read {read:.2} s, load and first token {load:.2} s", weights as f64 / 1e9);
    assert!(load <= 1.3 * read, "loading took {load:.2} s, one read {read:.2} s");

    let model = dir.path().to_str().expect("UTF-8");
    let one_token = ["generate", "--model", model, "--tokens", "1,2,3", "--max-new-tokens", "1", "--stop", "0"];
    let peak = peak_memory(&one_token) - peak_memory(&["--version"]);
    println!("peak memory {:.3} of the weights", peak as f64 / weights as f64);
    assert!((peak as f64) < 1.15 * weights as f64, "{peak} bytes for {weights} bytes of weights");
}

fn first_token(dir: &Path) {
    let _no_grad = tch::no_grad_guard();
    let precision = Precision { dtype: Dtype::F32, weights: Weights::Auto };
    let decoder = Decoder::load(&open(dir), Device::Cpu, precision).expect("loads");
    let resid = decoder.forward(decoder.embed(&[1, 2, 3]), 2..3, &mut ());
    let token = decoder.unembed(&resid, 2, None, &mut ()).argmax(-1, false).int64_value(&[0, 0]);
    assert!((0..151_936).contains(&token));
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Writes config and f32 weights of small random numbers; returns the weights' bytes.
fn write_checkpoint(dir: &Path) -> usize {
    let mut config: Map<_, _> = CONFIG.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    config.insert("model_type".into(), json!("qwen2"));
    config.insert("tie_word_embeddings".into(), json!(true));
    std::fs::write(dir.join("config.json"), json!(config).to_string()).expect("writes");

    let [d, wide, n_layers, heads, kv, vocab] = CONFIG.map(|(_, value)| value);
    let kv_width = d / heads * kv;
    let mut shapes =
        vec![("model.embed_tokens.weight".to_owned(), vec![vocab, d]), ("model.norm.weight".into(), vec![d])];
    for layer in 0..n_layers {
        let mut add =
            |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        for (name, out) in [("q", d), ("k", kv_width), ("v", kv_width)] {
            add(&format!("self_attn.{name}_proj.weight"), &[out, d]);
            add(&format!("self_attn.{name}_proj.bias"), &[out]);
        }
        add("self_attn.o_proj.weight", &[d, d]);
        add("mlp.gate_proj.weight", &[wide, d]);
        add("mlp.up_proj.weight", &[wide, d]);
        add("mlp.down_proj.weight", &[d, wide]);
        add("input_layernorm.weight", &[d]);
        add("post_attention_layernorm.weight", &[d]);
    }
    let mut header = Map::new();
    let mut at = 0;
    for (name, shape) in &shapes {
        let end = at + 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut header = json!(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(64) - 8, b' ');
    let mut out = BufWriter::with_capacity(1 << 22, File::create(dir.join("model.safetensors")).expect("creates"));
    out.write_all(&(header.len() as u64).to_le_bytes()).expect("writes");
    out.write_all(&header).expect("writes");
    // A megabyte of numbers in (−0.02, 0.02), over and over.
    let mut state = 1u32;
    let block: Vec<u8> = (0..1 << 18)
        .flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 24) as f32 * 0.04 - 0.02).to_le_bytes()
        })
        .collect();
    let mut left = at;
    while left > 0 {
        let n = left.min(block.len());
        out.write_all(&block[..n]).expect("writes");
        left -= n;
    }
    out.flush().expect("writes");
    at
}

/// Peak resident memory of a run of the binary, in bytes: its VmHWM, read until it ends.
pub fn peak_memory(args: &[&str]) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interp"));
    let mut child = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        if let Some(exit) = child.try_wait().expect("a child") {
            break exit;
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = kib.map_or(peak, |kib| kib * 1024);
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(exit.success(), "{args:?} failed");
    peak
}

fn free_disk(dir: &Path) -> u64 {
    let path = std::ffi::CString::new(dir.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: the path is a C string, and zero is valid for the struct that is filled in.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut stat) == 0 { stat.f_bavail * stat.f_frsize } else { 0 }
    }
}
