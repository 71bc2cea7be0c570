//! `interp inspect`: what a checkpoint is, from its small files and headers; with `--self-check`, whether hooks and engine
//! do on this very model what they should.

mod self_check;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use interp_core::config::{ModelConfig, RopeScaling};
use interp_core::decoder::expected_tensors;
use serde_json::{Value, json};

use crate::cli::InspectArgs;
use crate::model::Model;
use crate::output::{Exit, Printer, columns};

/// Prints the description, and after it the outcome of the checks.
pub fn inspect(args: &InspectArgs, printer: &Printer) -> Result<Exit> {
    let model = Model::open(&args.model)?;
    model.chain.warnings().for_each(|line| printer.talk(&line));
    let (mut description, mut wrong) = describe(&model);
    if !args.json {
        printer.data(&text(&description))?;
    }
    if args.self_check && wrong.is_empty() {
        let decoder = model.load(printer)?;
        let checks = self_check::run(&decoder, model.precision.dtype)?;
        wrong.extend(checks.iter().flat_map(|check| check.wrong.iter().cloned()));
        if args.json {
            description["self_check"] = checks.iter().map(self_check::Check::json).collect();
        } else {
            let head = ["check", "points", "result", "verdict"].map(String::from);
            let rows: Vec<Vec<String>> = checks.iter().map(self_check::Check::row).collect();
            printer.data(&format!("\n{}", columns(&head, &rows)))?;
        }
    }
    if args.json {
        printer.data(&format!("{description:#}\n"))?;
    }
    wrong.iter().for_each(|line| printer.talk(&format!("no: {line}")));
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::No })
}

/// The description, and what would keep the checkpoint from loading.
fn describe(model: &Model) -> (Value, Vec<String>) {
    let (checkpoint, config) = (&model.checkpoint, model.checkpoint.config());
    let expected: BTreeMap<String, Vec<i64>> = expected_tensors(config).into_iter().collect();
    let stored: BTreeMap<&str, &[i64]> = checkpoint.tensors().collect();
    let missing: Vec<&String> = expected.keys().filter(|name| !stored.contains_key(name.as_str())).collect();
    let unexpected: Vec<&str> =
        stored.keys().copied().filter(|name| !expected.contains_key(*name) && !checkpoint.is_harmless(name)).collect();
    let misshapen: Vec<&String> = expected
        .iter()
        .filter(|(name, shape)| stored.get(name.as_str()).is_some_and(|s| s != shape))
        .map(|(name, _)| name)
        .collect();
    let mut wrong = Vec::new();
    let mut complain = |what: &str, names: Vec<String>| {
        if let Some(first) = names.first() {
            wrong.push(format!("{} {what}, the first: {first}", names.len()));
        }
    };
    complain("tensors are missing", missing.iter().map(ToString::to_string).collect());
    complain(
        "tensors have another shape than config.json implies",
        misshapen.iter().map(ToString::to_string).collect(),
    );
    complain("tensors belong to no part of the model", unexpected.iter().map(ToString::to_string).collect());

    let parameters: i64 = stored
        .iter()
        .filter(|(name, _)| expected.contains_key(**name))
        .map(|(_, shape)| shape.iter().product::<i64>())
        .sum();
    let kv_numbers = (2 * config.n_layers * config.n_kv_heads * config.d_head) as i64;
    let bytes = |size: i64| json!({ "weights": parameters * size, "kv_cache_per_token": kv_numbers * size });
    let adapters: Vec<String> = checkpoint.adapters_seen().iter().map(|dir| shown(dir, checkpoint.dir())).collect();
    let description = json!({
        "checkpoint": model.name(),
        "revision": checkpoint.revision(),
        "family": config.family,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "d_head": config.d_head,
        "d_model": config.d_model,
        "d_mlp": config.d_mlp,
        "d_vocab": config.d_vocab,
        "n_ctx": config.n_ctx,
        "windows": windows(config),
        "rope": rope(config),
        "rms_norm_eps": config.rms_norm_eps,
        "tied_embeddings": config.tie_word_embeddings,
        "biases": { "qkv": config.qkv_bias, "o": config.o_bias, "mlp": config.mlp_bias },
        "qk_norm": config.qk_norm,
        "eos_token_ids": config.eos_token_ids,
        "parameters": parameters,
        "stored_bytes": checkpoint.stored_dtypes(),
        "quantization": checkpoint.quantization(),
        "bytes": { "f32": bytes(4), "bf16": bytes(2), "f64": bytes(8), "nf4": { "weights": in_4_bits(&stored) } },
        "tokenizer": tokenizer(model),
        "chain": model.chain.describe(),
        "adapters": adapters,
        "missing_tensors": missing,
        "misshapen_tensors": misshapen,
        "unexpected_tensors": unexpected,
    });
    (description, wrong)
}

/// Bytes with linear maps of the layers in 4 bits, a scale of 4 bytes per 64 numbers, and the rest in bf16.
fn in_4_bits(stored: &BTreeMap<&str, &[i64]>) -> i64 {
    let bytes = |(name, shape): (&&str, &&[i64])| match (name.contains(".layers."), *shape) {
        (true, [d_out, d_in]) => d_out * d_in / 16 * 9,
        (_, shape) => 2 * shape.iter().product::<i64>(),
    };
    stored.iter().map(bytes).sum()
}

/// Runs of layers with the same window: `[{"layers": "0..1", "window": null}, …]`.
fn windows(config: &ModelConfig) -> Value {
    let mut runs: Vec<(usize, usize, Option<usize>)> = Vec::new();
    for (layer, &window) in config.windows.iter().enumerate() {
        match runs.last_mut() {
            Some((_, end, last)) if *last == window => *end = layer + 1,
            _ => runs.push((layer, layer + 1, window)),
        }
    }
    runs.into_iter().map(|(a, b, window)| json!({ "layers": format!("{a}..{b}"), "window": window })).collect()
}

fn rope(config: &ModelConfig) -> Value {
    let scaling = match config.rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({ "type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
            "type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
    };
    json!({ "theta": config.rope.theta, "scaling": scaling })
}

/// What the tokenizer does that a user must know; null without one.
fn tokenizer(model: &Model) -> Value {
    let Some(tokenizer) = &model.tokenizer else { return Value::Null };
    // What it puts around a text shows on any text.
    let (with, without) = (tokenizer.encode("a", true), tokenizer.encode("a", false));
    let (before, after) = match (&with, &without) {
        (Ok(with), Ok(without)) if with.len() >= without.len() => {
            let start = with.windows(without.len().max(1)).position(|part| part == without.as_slice()).unwrap_or(0);
            (with[..start].to_vec(), with[start + without.len()..].to_vec())
        }
        _ => (vec![], vec![]),
    };
    let named = |ids: Vec<i64>| -> Vec<Value> {
        ids.into_iter().map(|id| json!({ "id": id, "text": tokenizer.token_text(id) })).collect()
    };
    json!({
        "n_ids": tokenizer.vocab_size(),
        "chat_template": tokenizer.has_chat_template(),
        "added_before": named(before),
        "added_after": named(after),
    })
}

/// A folder by its name below the checkpoint.
fn shown(dir: &Path, checkpoint: &Path) -> String {
    let name = dir.strip_prefix(checkpoint).unwrap_or(dir).display().to_string();
    if name.is_empty() { ".".into() } else { name }
}

/// The description to read, one line per fact.
fn text(of: &Value) -> String {
    let yes = |value: &Value| if value.as_bool() == Some(true) { "yes" } else { "no" };
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words = |value: &Value| match value.as_array().map(Vec::as_slice) {
        None | Some([]) => "none".to_owned(),
        Some(list) => list.iter().map(word).collect::<Vec<_>>().join(", "),
    };
    let window = |run: &Value| match run["window"].as_u64() {
        Some(window) => format!("{window} in layers {}", word(&run["layers"])),
        None => format!("none in layers {}", word(&run["layers"])),
    };
    let windows: Vec<String> = of["windows"].as_array().into_iter().flatten().map(window).collect();
    let scaling = match &of["rope"]["scaling"] {
        Value::Null => "no scaling".to_owned(),
        scaling => format!("scaling {scaling}"),
    };
    let biases: Vec<&str> = ["qkv", "o", "mlp"].into_iter().filter(|part| of["biases"][part] == true).collect();
    let stored: Vec<String> = of["stored_bytes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(dtype, bytes)| format!("{dtype} {}", size(bytes.as_u64().unwrap_or(0))))
        .collect();
    let memory: Vec<String> = ["f32", "bf16", "f64"]
        .map(|dtype| {
            let bytes = |what: &str| size(of["bytes"][dtype][what].as_u64().unwrap_or(0));
            format!("{dtype} {} + {} per token", bytes("weights"), bytes("kv_cache_per_token"))
        })
        .to_vec();
    let in_4_bits = of["bytes"]["nf4"]["weights"].as_u64().unwrap_or(0);
    let added = |side: &str| {
        let list = of["tokenizer"][side].as_array().into_iter().flatten();
        let list: Vec<String> = list.map(|token| format!("{} ({})", token["text"], token["id"])).collect();
        if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
    };
    let tokenizer = match &of["tokenizer"] {
        Value::Null => "none: prompts are token ids".to_owned(),
        tokenizer => format!(
            "{} ids, chat template {}, adds {} before a text and {} after it",
            tokenizer["n_ids"],
            yes(&tokenizer["chat_template"]),
            added("added_before"),
            added("added_after")
        ),
    };
    let quantized = match of["quantization"].as_str() {
        None => "no".to_owned(),
        Some("nf4-double") => "linear maps in 4 bits, NF4 with double quantization".into(),
        Some(_) => "linear maps in 4 bits, NF4".into(),
    };
    let step =
        |step: &Value| format!("{} {} ({} parameters)", word(&step["step"]), word(&step["name"]), step["parameters"]);
    let chain: Vec<String> = of["chain"].as_array().into_iter().flatten().map(step).collect();
    let revision = of["revision"].as_str().map(|revision| format!(" at {revision}")).unwrap_or_default();
    let n = |key: &str| of[key].to_string();
    let lines: Vec<(&str, String)> = vec![
        ("checkpoint", format!("{}{revision}", word(&of["checkpoint"]))),
        ("family", word(&of["family"])),
        ("layers", n("n_layers")),
        ("heads", format!("{} query, {} key-value, {} wide", n("n_heads"), n("n_kv_heads"), n("d_head"))),
        ("widths", format!("d_model {}, d_mlp {}, vocabulary {}", n("d_model"), n("d_mlp"), n("d_vocab"))),
        ("context", format!("{} tokens", n("n_ctx"))),
        ("windows", windows.join(", ")),
        ("rope", format!("theta {}, {scaling}", of["rope"]["theta"])),
        ("norms", format!("eps {}, q and k norms {}", of["rms_norm_eps"], yes(&of["qk_norm"]))),
        ("biases", if biases.is_empty() { "none".into() } else { biases.join(", ") }),
        ("embeddings", if of["tied_embeddings"] == true { "tied".into() } else { "untied".into() }),
        ("end tokens", words(&of["eos_token_ids"])),
        ("parameters", n("parameters")),
        ("stored", stored.join(", ")),
        ("quantized", quantized),
        ("memory", format!("weights + keys and values: {}, nf4 {}", memory.join(", "), size(in_4_bits))),
        ("tokenizer", tokenizer),
        ("chain", if chain.is_empty() { "none".into() } else { chain.join(", ") }),
        ("adapters seen", words(&of["adapters"])),
        ("unexpected tensors", words(&of["unexpected_tensors"])),
    ];
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.into_iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
