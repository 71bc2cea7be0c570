//! Input that cannot be used: the exact message, exit code 2, and nothing written.

use std::fs;

use serde_json::{Value, json};

use super::{Place, alter};

#[test]
fn words_that_do_not_exist_are_answered_with_those_that_do() {
    let place = Place::new();
    place.refuses(
        &["--site", "zz"],
        "error: site `zz`: no such site\n\
         hint: sites are embed, resid_pre, q, k, v, rot_q, rot_k, k_copy, v_copy, scores, pattern, z, result, attn_out, \
         resid_mid, mlp_pre, mlp_post, mlp_out, resid_post, ln_final",
    );
    place.refuses(
        &["--edit", "zap"],
        "error: edit `zap`: not an edit\n\
         hint: edits are zero, mean[:CAPTURE_DIR], patch, add:FILE.npy[:F], scale:F, noise:F[:CAPTURE_DIR], knockout, \
         uniform-attention, graft, ungraft",
    );
    place.refuses(
        &["--metric", "acc,loss"],
        "error: metric `loss`: no such metric\n\
         hint: metrics are logit-diff, logit, prob, log-prob, acc, rank, kl",
    );
    place.refuses(
        &["--metric", "acc,prob,acc"],
        "error: metric `acc`: named twice\nhint: name each metric once, the primary one first",
    );
    place.refuses(
        &["--grid", "heads"],
        "error: grid `heads`: no such grid\nhint: grids are layer-head, layer-pos, layer-part and sets:FILE",
    );
    place.refuses(
        &["--target", "last"],
        "error: target `last`: no such reading of a target\nhint: write one or first-token",
    );
    place.refuses(&["--dtype", "f16"], "error: dtype `f16`: no such dtype\nhint: dtypes are f32, bf16 and f64");
    place.refuses(
        &["--device", "tpu"],
        "error: device `tpu`: no such device\nhint: devices are auto, cpu, cuda and cuda:N",
    );
}

#[test]
fn flags_that_do_not_parse_or_fit_together_exit_with_2() {
    let place = Place::new();
    let says = |flags: &[&str], first: &str| {
        let ended = place.sweep(flags);
        assert_eq!((ended.code, ended.stderr.lines().next(), place.names().len()), (Some(2), Some(first), 1));
    };
    says(&["--sites", "z"], "error: unexpected argument '--sites' found");
    says(&["--max-rows", "0"], "error: invalid value '0' for '--max-rows <N>': number would be zero for non-zero type");
    says(
        &["--spec", "run.json", "--seed", "1"],
        "error: the argument '--spec <RUN.JSON>' cannot be used with '--seed <SEED>'",
    );
    let ended = place.run(&["sweep", "--out", "out"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .stderr
            .starts_with("error: the following required arguments were not provided:\n  --model <CHECKPOINT>\n")
    );
    assert_eq!(place.run(&["sweeep"]).code, Some(2));
}

#[test]
fn selectors_out_of_range_are_named_with_the_range() {
    let place = Place::new();
    place.refuses(
        &["--heads", "L0.H0,L0.H8"],
        "error: head `L0.H8`: `z` has query heads 0..8\nhint: heads count from 0",
    );
    place.refuses(
        &["--site", "k", "--heads", "L0.H2"],
        "error: head `L0.H2`: `k` has kv heads 0..2\nhint: heads count from 0",
    );
    place.refuses(
        &["--heads", "L4.H0"],
        "error: head `L4.H0`: its layer is not among the sweep's layers 0..4\n\
         hint: the model has layers 0..4, counted from 0 and half-open",
    );
    place.refuses(
        &["--heads", "six"],
        "error: head `six`: not a head\nhint: write L19.H17, L19H17 or 19.17, counted from 0",
    );
    place.refuses(
        &["--layers", "2..5"],
        "error: layers `2..5`: the model has layers 0..4\n\
         hint: ranges are half-open: 0..4 means layers 0, 1, 2 and 3",
    );
    place.refuses(
        &["--positions", "28"],
        "error: positions `28`: 28 is out of range: d000-ABA has 28 tokens\n\
         hint: positions are 0 to 27, or -28 to -1 from the end",
    );
    place.refuses(
        &["--positions", "span:fourth"],
        "error: positions `span:fourth`: d000-ABA has no such span\n\
         hint: its spans are query, separator, third",
    );
    place.write("sets.json", r#"[{"name": "a", "heads": ["L0.H0", "L9.H0"]}]"#);
    place.refuses(
        &["--grid", "sets:sets.json"],
        "error: layer `9`: the model has layers 0..4\nhint: layers count from 0",
    );
}

#[test]
fn edits_that_mean_nothing_are_refused() {
    let place = Place::new();
    place.refuses(
        &["--site", "resid_pre"],
        "error: site `resid_pre`: has no heads, and this grid counts heads\n\
         hint: use --grid layer-pos, or a site with heads such as z",
    );
    place.refuses(
        &["--grid", "layer-pos", "--heads", "L0.H0"],
        "error: heads `L0.H0`: choose cells of --grid layer-head only\n\
         hint: use --grid layer-head, or name heads in the file of --grid sets:FILE",
    );
    place.refuses(
        &["--site", "scores", "--edit", "knockout", "--from", "all"],
        "error: edit `knockout`: d000-ABA: position 27 would have nothing left to attend to\n\
         hint: leave at least one key: choose a smaller --from",
    );
    place.refuses(
        &["--edit", "knockout", "--from", "0"],
        "error: edit `knockout`: acts on attention scores, not on `z`\nhint: use --site scores",
    );
    place.refuses(
        &["--edit", "knockout"],
        "error: edit `knockout`: it does not say which keys may not be seen\n\
         hint: add --from POSITIONS, such as --from span:NAME",
    );
    place.refuses(
        &["--edit", "zero", "--from", "0"],
        "error: --from `0`: only a knockout forbids keys\nhint: leave it out, or use --edit knockout",
    );
    place.refuses(
        &["--edit", "add:none.npy"],
        "error: cannot read none.npy: No such file or directory (os error 2)\n\
         hint: check the path; it starts at the current folder",
    );
}

#[test]
fn trials_that_cannot_run_are_refused_by_line() {
    let place = Place::new();
    let bad = |content: &str, flags: &[&str], stderr: &str| {
        place.write("bad.jsonl", content);
        place.refuses(&[&["--trials", "bad.jsonl"], flags].concat(), stderr);
        fs::remove_file(place.path("bad.jsonl")).unwrap();
    };
    bad(
        "",
        &[],
        "error: bad.jsonl: the trial file is empty\nhint: write one JSON object per line: {\"base\": …, \"target\": …}",
    );
    bad(
        "\n{\"base\":\n",
        &[],
        "error: bad.jsonl:2: malformed JSON: EOF while parsing a value (column 8)\n\
         hint: write {\"base\": …, \"target\": …}, with \"source\" for a patch",
    );
    bad(
        "{\"base\":\n}\n",
        &[],
        "error: none of 2 lines can be used, the first: bad.jsonl:1: malformed JSON: EOF while parsing a value (column 8)\n\
         hint: write {\"base\": …, \"target\": …}, with \"source\" for a patch",
    );
    let prompt = |text: &str, span: Value| json!({"text": text, "spans": {"a": [span]}});
    let trial = |correct: &str| json!({"id": "t", "base": prompt("gun^non^", json!([0, 1])), "target": {"correct": correct, "incorrect": "non"}});
    bad(
        &trial("gun^").to_string(),
        &[],
        "error: bad.jsonl:1: target.correct: \"gun^\" is 2 tokens after the prompt: \"gun\" (263), \"^\" (3)\n\
         hint: give one token, or take the first with `--target first-token`",
    );
    bad(
        &trial("gone").to_string(),
        &[],
        "error: bad.jsonl:1: target.correct: \"gone\" is not in the tokenizer's vocabulary\n\
         hint: choose an answer that is",
    );
    bad(
        &trial("gun").to_string(),
        &[],
        "error: edit `patch`: t has no source prompt\nhint: give each trial a `source`, or choose another edit",
    );
    let mut uneven = trial("gun");
    uneven["source"] = prompt("non^gun^", json!([0, 2]));
    bad(
        &uneven.to_string(),
        &["--positions", "span:a"],
        "error: positions `span:a`: 1 positions in t (base) but 2 in t (source)\n\
         hint: base and source must give the same number: use last, a list, or spans of equal length",
    );
    uneven["source"] = prompt("bum^bum\nnon^gun^", json!([0, 1]));
    bad(
        &uneven.to_string(),
        &["--positions", "2,-3"],
        "error: positions `2,-3`: its positions come in one order in t (base) and in another in t (source)\n\
         hint: count all positions from the same end",
    );
    let long = json!({"base": {"tokens": vec![5; 257]}, "target": {"correct": 5, "incorrect": 6}});
    bad(
        &long.to_string(),
        &["--edit", "zero"],
        "error: bad.jsonl:1: base: the prompt has 257 tokens but the model's context holds 256\n\
         hint: shorten it, or use a model with a longer context",
    );
    let foreign = json!({"base": {"tokens": [5, 404]}, "target": {"correct": 5, "incorrect": 6}});
    let ended = {
        place.write("bad.jsonl", foreign.to_string());
        place.sweep(&["--trials", "bad.jsonl", "--edit", "zero"])
    };
    assert!(ended.stderr.starts_with("error: bad.jsonl:1: base: token id 404 is not in the model's vocabulary of 404"));
}

#[test]
fn good_lines_run_beside_bad_ones_and_the_exit_code_remembers() {
    let place = Place::new();
    alter(&place.path("trials.jsonl"), |bytes| bytes.extend(b"{\"base\": {\"text\": \"gun^non^\"}}\n{\n"));
    let lines = "error: trials.jsonl:5: missing field `target` (column 30)\n\
                 hint: write {\"base\": …, \"target\": …}, with \"source\" for a patch\n\
                 error: trials.jsonl:6: malformed JSON: EOF while parsing an object (column 1)\n";
    let ended = place.sweep(&["--heads", "L2.H6"]);
    let left_out = "2 lines of trials.jsonl are broken and were left out\n";
    assert_eq!((ended.code, ended.stdout, ended.stderr), (Some(2), "out\n".into(), format!("{lines}{left_out}")));
    let trials: Value = serde_json::from_slice(&place.out("out")["trials.json"]).unwrap();
    assert_eq!(trials.as_array().unwrap().iter().filter(|trial| trial["status"] == "done").count(), 4);
    let again = place.sweep(&["--heads", "L2.H6"]);
    assert_eq!((again.code, again.stderr), (Some(2), format!("{lines}this run is already finished\n")));

    // A trial that can be read but not run is skipped with its reason.
    let place = Place::new();
    let alone = json!({"id": "alone", "base": {"text": "gun^non^"}, "target": {"correct": "gun", "incorrect": "non"}});
    alter(&place.path("trials.jsonl"), |bytes| bytes.extend(alone.to_string().bytes()));
    for stderr in ["1 of 5 trials could not run; see skipped.json\n", "this run is already finished\n"] {
        let ended = place.sweep(&["--heads", "L2.H6"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), stderr));
    }
    let skipped: Value = serde_json::from_slice(&place.out("out")["skipped.json"]).unwrap();
    assert_eq!(skipped, json!([{"index": 4, "id": "alone", "reason": "edit `patch`: alone has no source prompt"}]));
}

#[test]
fn checkpoints_that_cannot_be_used_are_refused_and_no_folder_is_made() {
    let place = Place::new();
    place.refuses(
        &["--model", "nowhere"],
        "error: nowhere: no such folder\nhint: give a folder that holds config.json, or a hub id such as owner/name",
    );
    place.refuses(
        &["--model", "owner/name"],
        &format!(
            "error: hub repository owner/name: is not in the cache {}, and this run is offline\n\
             hint: run once without --offline or HF_HUB_OFFLINE to download it",
            place.cache.path().join("huggingface/hub").display()
        ),
    );
    place.copy_model("m");
    let spoil = |file: &str, change: &dyn Fn(&mut Vec<u8>), stderr: &str| {
        let path = place.path("m").join(file);
        let good = fs::read(&path).unwrap();
        alter(&path, change);
        place.refuses(&["--model", "m"], stderr);
        fs::write(&path, good).unwrap();
    };
    let edit_json = |bytes: &mut Vec<u8>, field: &str, value: Value| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        *config.pointer_mut(field).unwrap() = value;
        *bytes = config.to_string().into_bytes();
    };
    spoil(
        "config.json",
        &|bytes| edit_json(bytes, "/model_type", json!("gpt_neox")),
        "error: m/config.json: field `model_type`: unknown model family \"gpt_neox\"\n\
         hint: supported are qwen2, qwen3, mistral, llama",
    );
    spoil(
        "config.json",
        &|bytes| edit_json(bytes, "/intermediate_size", json!(258)),
        "error: loading m: m/model.safetensors: tensor `model.layers.0.mlp.gate_proj.weight`: \
         expected shape [258, 128], found shape [256, 128]\n\
         hint: config.json and the weights belong to different models",
    );
    spoil(
        "tokenizer.json",
        &|bytes| edit_json(bytes, "/model/vocab/bum", json!(500)),
        "error: m/tokenizer.json: tokenizer/vocabulary mismatch: the tokenizer has 501 ids but the model embeds 404\n\
         hint: use the tokenizer that came with this checkpoint",
    );
    spoil(
        "model.safetensors",
        &|bytes| bytes.truncate(1_000_000),
        "error: m/model.safetensors: is truncated: its header describes a file of 1226616 bytes, it has 1000000\n\
         hint: copy or download the file again",
    );
    spoil(
        "model.safetensors",
        &|bytes| {
            let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
            let tensors: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
            let at = &tensors["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0];
            let at = header + at.as_u64().unwrap() as usize + 2 * 130;
            bytes[at..at + 2].copy_from_slice(&[0xc0, 0x7f]);
        },
        "error: loading m: m/model.safetensors: tensor `model.layers.1.mlp.up_proj.weight`: \
         expected finite numbers, found NaN at [1, 2]\n\
         hint: copy or download the file again; if it stays, training diverged",
    );
    assert_eq!(place.sweep(&["--model", "m", "--heads", "L2.H6"]).code, Some(0), "the copy itself is good");
}

#[test]
fn files_that_are_not_there_or_say_nothing_are_refused() {
    let place = Place::new();
    let no_such = |name: &str| {
        format!(
            "error: cannot read {name}: No such file or directory (os error 2)\n\
             hint: check the path; it starts at the current folder"
        )
    };
    place.refuses(&["--trials", "none.jsonl"], &no_such("none.jsonl"));
    place.refuses(&["--grid", "sets:none.json"], &no_such("none.json"));
    place.refuses(&["--spec", "none.json"], &no_such("none.json"));
    place.write("x.json", "{}");
    place.refuses(
        &["--spec", "x.json"],
        "error: x.json: describes no sweep\nhint: give the run.json that `interp sweep` wrote into its output folder",
    );
    place.refuses(
        &["--grid", "sets:x.json"],
        "error: x.json: not a list of sets of heads: invalid type: map, expected a sequence at line 1 column 0\n\
         hint: write [{\"name\": \"top-2\", \"heads\": [\"L2.H6\", \"L2.H1\"]}, …]",
    );
}

#[test]
fn folders_that_are_taken_or_cannot_be_written_are_refused() {
    let place = Place::new();
    let heads = ["--heads", "L2.H6"];
    assert_eq!(place.sweep(&heads), super::done("out\n"));
    let before = place.out("out");
    place.refuses(
        &["--heads", "L2.H6", "--seed", "5"],
        "error: out: holds another run: `sweep.seed` is 0 there and 5 here\n\
         hint: give another folder, or repeat the command that made this one",
    );
    alter(&place.path("trials.jsonl"), |bytes| bytes.push(b'\n'));
    let ended = place.sweep(&heads);
    assert!(ended.stderr.starts_with("error: out: holds another run: `trials_sha256` is \""), "{ended:?}");
    assert_eq!(place.out("out"), before);

    fs::create_dir(place.path("notes")).unwrap();
    place.write("notes/thesis.tex", "x");
    place.refuses(
        &["--out", "notes"],
        "error: notes: not empty and not an output folder of interp (holds `thesis.tex`)\n\
         hint: give a new or an empty folder",
    );
    place.refuses(
        &["--out", "trials.jsonl"],
        "error: trials.jsonl: is a file, not a folder\nhint: give a new or an empty folder",
    );
    place.refuses(
        &["--out", "trials.jsonl/out"],
        "error: cannot read trials.jsonl/out: Not a directory (os error 20)\n\
         hint: a part of the path is a file: check the path",
    );
    place.refuses(
        &["--out", "/proc/out"],
        "error: cannot create /proc/out/partial: No such file or directory (os error 2)\n\
         hint: give a folder that can be written to",
    );
}
