//! `interp adapter` on adapters that peft made for the tiny models, against their multiplied-out changes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use interp_core::export::npy;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::Place;
use crate::common::fixture;

/// ΔW of every module by its name within the model, from the file itself.
fn formed(adapter: &Path, scale: f64) -> HashMap<String, Tensor> {
    let tensors = Tensor::read_safetensors(adapter.join("adapter_model.safetensors")).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let change = |name: &String| {
        let module = name.strip_suffix(".lora_A.weight")?;
        let [a, b] = ["A", "B"].map(|side| tensors[&format!("{module}.lora_{side}.weight")].to_kind(Kind::Double));
        let module = module.strip_prefix("base_model.model.").unwrap_or(module);
        Some((module.to_owned(), b.matmul(&a) * scale))
    };
    tensors.keys().filter_map(change).collect()
}

fn number(x: &Tensor) -> f64 {
    x.double_value(&[])
}

#[test]
fn norms_and_cosines_are_those_of_the_multiplied_out_changes() {
    let place = Place::new();
    let [sft, grpo, model] = ["adapters/mistral-sft", "adapters/mistral-grpo", "tiny/mistral"]
        .map(|name| fixture(name).display().to_string());
    let ended = place.run(&["adapter", &sft, &grpo, "--model", &model, "--out", "out"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "out\n"), "{}", ended.stderr);
    // Six query heads of 8, two KV heads; sft: r 2, α 4; grpo: r 1, α 4, attention only.
    let (one, other) = (formed(Path::new(&sft), 2.0), formed(Path::new(&grpo), 4.0));
    let table: Value = serde_json::from_slice(&fs::read(place.path("out/adapter.json")).unwrap()).unwrap();
    assert_eq!((&table["schema"], &table["adapters"][1]["name"]), (&json!("interp.adapter/1"), &json!("mistral-grpo")));
    let rows = table["cells"].as_array().unwrap();
    assert_eq!(rows.len(), 3 * (7 + 6 + 2 + 2 + 6), "layers of seven modules, and heads of q, k, v and o");
    for row in rows {
        let module = row["module"].as_str().unwrap();
        let part = if ["gate_proj", "up_proj", "down_proj"].contains(&module) { "mlp" } else { "self_attn" };
        let name = format!("model.layers.{}.{part}.{module}", row["layer"]);
        let block = |product: &Tensor| match row["head"].as_i64() {
            Some(head) => product.narrow(i64::from(module == "o_proj"), head * 8, 8),
            None => product.shallow_clone(),
        };
        let close = |found: &Value, expected: f64| {
            let found = found.as_f64().unwrap_or_else(|| panic!("{row}"));
            assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-2), "{row}: {expected}");
        };
        let ours = block(&one[&name]);
        close(&row["norm"], number(&ours.norm()));
        let Some(theirs) = other.get(&name).map(block) else {
            assert_eq!((part, &row["norm_2"], &row["cosine"]), ("mlp", &Value::Null, &Value::Null));
            continue;
        };
        close(&row["norm_2"], number(&theirs.norm()));
        close(&row["cosine"], number(&(&ours * &theirs).sum(Kind::Double)) / number(&(ours.norm() * theirs.norm())));
        if row["head"].is_null() {
            let chance = row["chance_out"].as_f64().unwrap();
            assert!((chance - 2.0 / ours.size()[0] as f64).abs() < 1e-15, "a plane and a line: {row}");
            assert!((0.0..=1.0).contains(&row["overlap_out"].as_f64().unwrap()), "{row}");
        }
    }
    let (shape, norms) = npy::read(&place.path("out/norm_o.npy")).unwrap();
    assert_eq!(shape, [2, 3, 6]);
    let cell = rows.iter().find(|row| row["label"] == "L2.H5.o_proj").unwrap();
    assert_eq!((json!(norms[17]), json!(norms[35])), (cell["norm"].clone(), cell["norm_2"].clone()));
    assert_eq!(npy::read(&place.path("out/norm.npy")).unwrap().0, [2, 3, 7]);
    assert_eq!(npy::read(&place.path("out/cosine_k.npy")).unwrap().0, [3, 2]);
    for name in ["adapter.csv", "adapter.svg", "adapter.png", "likeness.svg", "likeness.png"] {
        assert!(place.path(&format!("out/{name}")).is_file(), "{name}");
    }

    // Of itself everything is the same; the configuration alone is enough of a model.
    let config = fixture("tiny/mistral/config.json").display().to_string();
    let ended = place.run(&["adapter", &sft, &sft, "--model", &config, "--json"]);
    let table: Value = serde_json::from_str(&ended.stdout).unwrap();
    let same = |x: &Value| x.is_null() || (x.as_f64().unwrap() - 1.0).abs() < 1e-12;
    let rows = table["cells"].as_array().unwrap();
    assert!(rows.iter().all(|row| same(&row["cosine"]) && same(&row["overlap_out"]) && same(&row["overlap_in"])));
}

#[test]
fn adapters_of_other_models_and_taken_folders_are_refused() {
    let place = Place::new();
    let [plain, model, other] =
        ["adapters/qwen2-dora", "tiny/qwen2", "identity-rules/model"].map(|name| fixture(name).display().to_string());
    let alone = place.run(&["adapter", &plain, "--model", &model]);
    assert_eq!(alone.code, Some(0), "{}", alone.stderr);
    assert!(alone.stdout.starts_with("module  ") && alone.stdout.contains("\nq_proj "), "{}", alone.stdout);
    assert!(alone.stderr.contains("DoRA magnitudes rescale W + BA besides"), "{}", alone.stderr);
    let wrong = place.run(&["adapter", &plain, "--model", &other, "--out", "out"]);
    assert_eq!(
        (wrong.code, wrong.stdout.as_str(), place.path("out").exists()),
        (Some(2), "", false),
        "{}",
        wrong.stderr
    );
    place.write("notes.txt", "x");
    let taken = place.run(&["adapter", &plain, "--model", &model, "--out", "."]);
    let stderr = "error: .: not empty and not a folder of interp adapter\nhint: give a new or an empty folder\n";
    assert_eq!((taken.code, taken.stderr.as_str()), (Some(2), stderr));
}
