//! `interp capture`: arrays against transformers', layouts against each other, what an interruption leaves, memory, and
//! means taken from a folder.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use interp_core::export::npy;
use interp_core::site::{HookPoint, Site};
use serde_json::{Value, json};
use tch::Tensor;

use crate::common::{FAMILIES, command, fixture, ids, interp, tiny};

fn done(words: &str, paths: &[&dyn AsRef<Path>]) {
    let said = interp(words, paths);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{words}");
}

fn array(dir: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    npy::read(&dir.join(format!("{name}.npy"))).unwrap()
}

fn all_sites() -> String {
    Site::ALL.map(Site::name).join(",")
}

/// `n` prompts of token ids, 5 to 24 long unless `length` says otherwise.
fn write_prompts(file: &Path, n: usize, length: Option<usize>) -> Vec<Vec<i64>> {
    let token = |i: usize, pos: usize| 3 + ((i * 31 + pos * 7 + i * pos) % 128) as i64;
    let prompt = |i: usize| (0..length.unwrap_or(5 + i % 20)).map(|pos| token(i, pos)).collect::<Vec<i64>>();
    let prompts: Vec<Vec<i64>> = (0..n).map(prompt).collect();
    let lines: Vec<String> = prompts.iter().map(|tokens| json!({ "tokens": tokens }).to_string()).collect();
    fs::write(file, lines.join("\n")).unwrap();
    prompts
}

#[test]
fn captured_arrays_are_those_of_transformers() {
    let temp = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        let reference = Tensor::read_safetensors(tiny(family).join("reference.safetensors")).unwrap();
        let get = |key: &str| &reference.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("{key}")).1;
        let tokens: Vec<i64> = Vec::try_from(get("p0.tokens")).unwrap();
        let out = temp.path().join(family);
        let words = format!(
            "capture --model {{}} --tokens {} --sites {} --positions all --out {{}}",
            ids(&tokens),
            all_sites()
        );
        done(&words, &[&tiny(family), &out]);
        for at in crate::common::all_points(3) {
            let key = if at.site == Site::Embed { "embed".into() } else { at.to_string() };
            let expected = get(&format!("p0.f32.{key}"));
            let (shape, values) = array(&out, &at.to_string());
            let size: Vec<usize> = [1].into_iter().chain(expected.size().iter().map(|&n| n as usize)).collect();
            assert_eq!(shape, size, "{family} {at}");
            let expected: Vec<f64> =
                Vec::try_from(expected.contiguous().view([-1]).to_kind(tch::Kind::Double)).unwrap();
            let scale = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |a, x| a.max(x.abs()));
            for (a, b) in values.iter().zip(&expected) {
                assert!(a == b || (a - b).abs() <= 1e-5 * scale, "{family} {at}: {a} {b}");
            }
        }
    }
}

#[test]
fn rows_are_positions_of_the_whole_and_the_index_says_which() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let prompts = write_prompts(&path("p.jsonl"), 3, Some(6));
    let model = tiny("qwen2");
    let sites = all_sites();
    let run = |words: &str, out: &str| {
        done(
            &format!("capture --model {{}} --prompts {{}} --sites {sites} {words} --out {{}}"),
            &[&model, &path("p.jsonl"), &path(out)],
        );
        path(out)
    };
    let (whole, rows) = (run("--whole", "whole"), run("--positions 2,-1", "rows"));
    for at in crate::common::all_points(3) {
        let (whole_shape, whole) = array(&whole, &at.to_string());
        let (shape, rows) = array(&rows, &at.to_string());
        assert_eq!((whole_shape[0], shape[0]), (3, 6), "{at}");
        let (n, attention) = (shape[1..].iter().product::<usize>(), at.site.is_attention());
        for (row, values) in rows.chunks(n).enumerate() {
            let (prompt, pos) = (row / 2, [2, 5][row % 2]);
            let expected: Vec<f64> = match attention {
                // [batch, head, dest, src] to [head, src]
                true => (0..6).flat_map(|head| whole[((prompt * 6 + head) * 6 + pos) * 6..][..6].to_vec()).collect(),
                false => whole[(prompt * 6 + pos) * n..][..n].to_vec(),
            };
            // Rows of fewer positions go through matrix products of other shapes.
            assert!(values.iter().zip(&expected).all(|(a, b)| a == b || (a - b).abs() <= 1e-5), "{at} row {row}");
        }
    }
    let index: Value = serde_json::from_slice(&fs::read(rows.join("index.json")).unwrap()).unwrap();
    assert_eq!(
        index["prompts"][1],
        json!({ "id": "line-2", "row": 2, "n_tokens": 6, "positions": [2, 5], "tokens": [prompts[1][2], prompts[1][5]] })
    );
    let file = |name: &str| index["files"].as_array().unwrap().iter().find(|file| file["hook_point"] == name).unwrap();
    let k = file("blocks.1.attn.hook_k");
    assert_eq!(
        (&k["axes"], &k["shape"], &k["head_axis"]),
        (&json!(["row", "kv_head", "d_head"]), &json!([6, 2, 8]), &json!("kv"))
    );
    assert_eq!(index["model"]["weights"][0]["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn heads_layers_precisions_and_lengths() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let prompts = write_prompts(&path("p.jsonl"), 4, None);
    let model = tiny("qwen2");
    let run = |words: &str, out: &str| {
        done(
            &format!("capture --model {{}} --prompts {{}} {words} --out {{}}"),
            &[&model, &path("p.jsonl"), &path(out)],
        );
        path(out)
    };
    let (all, some) = (run("--sites z", "all"), run("--sites z --heads L2.H5,L2.H1", "some"));
    assert!(!some.join("blocks.0.attn.hook_z.npy").exists());
    let ((_, all), (shape, some)) = (array(&all, "blocks.2.attn.hook_z"), array(&some, "blocks.2.attn.hook_z"));
    assert_eq!(shape, [4, 2, 8]);
    assert_eq!((&some[..8], &some[8..16]), (&all[8..16], &all[40..48]));

    // Attention of prompts of different lengths: a folder each.
    let out = run("--sites pattern,resid_post --layers 1..2 --positions last", "lengths");
    assert_eq!(array(&out, "blocks.1.hook_resid_post").0, [4, 48]);
    for (i, tokens) in prompts.iter().enumerate() {
        let (shape, values) = array(&out.join(format!("prompt-{i}")), "blocks.1.attn.hook_pattern");
        assert_eq!(shape, [1, 6, tokens.len()]);
        assert!((values.iter().sum::<f64>() - 6.0).abs() < 1e-5);
    }
    let out = run("--sites z --whole", "whole");
    assert_eq!(array(&out.join("prompt-3"), "blocks.0.attn.hook_z").0, [1, prompts[3].len(), 6, 8]);

    let (wide, half) = (run("--sites z --dtype f64", "f64"), run("--sites z --dtype bf16", "bf16"));
    let descr = |dir: &Path| fs::read(dir.join("blocks.2.attn.hook_z.npy")).unwrap()[10..40].to_vec();
    assert!(
        String::from_utf8_lossy(&descr(&wide)).contains("<f8")
            && String::from_utf8_lossy(&descr(&half)).contains("<f4")
    );
    let gap = |dir: &Path| {
        array(dir, "blocks.2.attn.hook_z").1.iter().zip(&all).fold(0.0f64, |a, (x, y)| a.max((x - y).abs()))
    };
    assert!(gap(&wide) < 1e-5 && gap(&half) > 1e-4 && gap(&half) < 0.2, "{} {}", gap(&wide), gap(&half));
}

#[test]
fn a_folder_is_this_capture_or_refused() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let model = tiny("qwen2");
    let run = |words: &str| interp(&format!("capture --model {{}} {words} --out {{}}"), &[&model, &out]);
    assert_eq!(run("--tokens 5,6 --sites z").code, 0);
    let again = run("--tokens 5,6 --sites z");
    assert_eq!((again.code, again.err.as_str()), (0, "this capture is already finished\n"));
    let other = run("--tokens 5,6 --sites z,k");
    let expected = format!(
        "error: {}: holds another run: `sites` is \"z\" there and \"k,z\" here\nhint: give another folder, or repeat the \
         command that made this one\n",
        out.display()
    );
    assert_eq!((other.code, other.err), (2, expected));
    assert!(run("--tokens 5,7 --sites z").err.contains("`prompts_sha256` is "));
    fs::remove_file(out.join("index.json")).unwrap();
    fs::remove_file(out.join("blocks.0.attn.hook_z.npy")).unwrap();
    fs::remove_file(out.join("blocks.1.attn.hook_z.npy")).unwrap();
    let expected = format!(
        "error: {}: not empty and not a capture folder of interp (holds `blocks.2.attn.hook_z.npy`)\nhint: give a new or an \
         empty folder\n",
        out.display()
    );
    assert_eq!(run("--tokens 5,6 --sites z").err, expected);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "nothing is left beside it");

    let cases = [
        ("--sites z", "error: there is no prompt: give --prompt, --messages, --tokens, --prompts or --trials\n"),
        ("--tokens 5 --sites zz", "error: site `zz`: no such site\n"),
        ("--tokens 5 --sites z --layers 3..4", "error: layers `3..4`: the model has layers 0..3\n"),
        ("--tokens 5 --sites embed --heads L0.H0", "error: site `embed`: has no heads to select\n"),
        ("--tokens 5 --sites z --positions 4", "error: positions `4`: 4 is out of range: tokens has 1 tokens\n"),
        ("--tokens 5 --sites z --positions span:x", "error: positions `span:x`: tokens has no spans\n"),
        ("--prompt x --sites z", "error: --prompt: it is text, but the checkpoint has no tokenizer\n"),
    ];
    for (words, message) in cases {
        let said = run(words);
        assert!(said.code == 2 && said.err.starts_with(message), "{words}: {}", said.err);
    }
}

/// Starts a long capture and waits until it has written something.
fn started(dir: &Path, prompts: &Path) -> std::process::Child {
    let out = dir.join("out");
    let mut run = command();
    run.args(["capture", "--sites", &all_sites(), "--positions", "all", "--threads", "1", "--prompts"]).arg(prompts);
    run.arg("--model").arg(tiny("qwen2")).arg("--out").arg(&out).stderr(Stdio::piped()).stdout(Stdio::null());
    let child = run.spawn().unwrap();
    let begun = Instant::now();
    while !dir.join(".out.partial/prompt-3").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the capture begins");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

#[test]
fn an_interrupted_capture_leaves_nothing_under_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let prompts = temp.path().join("p.jsonl");
    write_prompts(&prompts, 4000, None);
    for signal in [libc::SIGINT, libc::SIGKILL] {
        let child = started(temp.path(), &prompts);
        // SAFETY: the child is ours and not yet waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!temp.path().join("out").exists());
        if signal == libc::SIGINT {
            assert_eq!(output.status.code(), Some(130));
            assert!(
                err.starts_with("interrupted after ")
                    && err.ends_with("nothing is kept, the same command starts again\n"),
                "{err}"
            );
            assert!(!temp.path().join(".out.partial").exists());
        }
    }
    // What was killed is in nobody's way.
    write_prompts(&prompts, 4, None);
    done("capture --model {} --prompts {} --sites z --out {}", &[&tiny("qwen2"), &prompts, &temp.path().join("out")]);
    assert!(!temp.path().join(".out.partial").exists());
}

/// Largest resident set of a capture of `n` prompts, in kB.
fn peak(dir: &Path, n: usize) -> u64 {
    let prompts = dir.join(format!("{n}.jsonl"));
    write_prompts(&prompts, n, None);
    let mut run = command();
    run.args(["capture", "--sites", "z,resid_post,mlp_post", "--positions", "all", "--threads", "1", "--prompts"]);
    run.arg(&prompts).arg("--model").arg(tiny("qwen2")).arg("--out").arg(dir.join(n.to_string()));
    let mut child = run.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        peak = peak.max(found.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn memory_does_not_grow_with_the_number_of_prompts() {
    let temp = tempfile::tempdir().unwrap();
    let (few, many) = (peak(temp.path(), 200), peak(temp.path(), 2000));
    println!("VmHWM after 200 prompts {few} kB, after 2000 {many} kB");
    assert!(many < few + few / 10, "{few} kB, then {many} kB");
}

#[test]
fn means_and_deviations_come_from_a_capture() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let prompts = write_prompts(&path("p.jsonl"), 6, Some(9));
    let target = json!({ "correct": 7, "incorrect": 11 });
    let lines: Vec<String> =
        prompts.iter().map(|t| json!({ "base": { "tokens": t }, "target": target }).to_string()).collect();
    fs::write(path("t.jsonl"), lines.join("\n")).unwrap();
    let model = tiny("qwen3");
    let capture = |words: &str, out: &str| {
        done(&format!("capture --model {{}} --trials {{}} {words} --out {{}}"), &[&model, &path("t.jsonl"), &path(out)])
    };
    capture("--sites z,k", "rows");
    capture("--sites z,k --whole", "whole");
    capture("--sites z --heads L0.H1,L1.H1,L2.H1", "heads");
    let sweep = |edit: &str, words: &str, out: &str| {
        interp(
            &format!("sweep --model {{}} --trials {{}} --edit {edit} {words} --out {{}}"),
            &[&model, &path("t.jsonl"), &path(out)],
        )
    };
    let delta = |out: &str| array(&path(out), "delta").1;
    let cases: [(&str, &str, &str, &[&str]); 2] =
        [("z", "mean", "mean:{}", &["rows", "whole"]), ("k", "noise:2", "noise:2:{}", &["rows"])];
    for (site, own, other, dirs) in cases {
        assert_eq!(sweep(own, &format!("--site {site}"), site).code, 0);
        let own = delta(site);
        let largest = own.iter().fold(0.0f64, |x, y| x.max(y.abs()));
        assert!(largest > 1e-2, "{site}");
        for dir in dirs {
            let out = format!("{site}-{dir}");
            let from = other.replace("{}", &path(dir).display().to_string());
            assert_eq!(sweep(&from, &format!("--site {site}"), &out).code, 0);
            let worst = delta(&out).iter().zip(&own).fold(0.0f64, |a, (x, y)| a.max((x - y).abs()));
            assert!(worst <= 1e-5 * largest, "{site} {dir}: {worst:e} of {largest:e}");
        }
    }
    assert_eq!(interp("verify {}", &[&path("z-rows")]).code, 0);
    let mean = |dir: &str| format!("mean:{}", path(dir).display());
    let generated =
        interp("generate --model {} --tokens 5,6,7 --max-new-tokens 3 --edit mean:{}", &[&model, &path("rows")]);
    assert_eq!(generated.code, 0, "{}", generated.err);

    let refused =
        |edit: &str, words: &str| sweep(edit, words, "none").err.lines().next().unwrap_or_default().to_owned();
    let shown = |dir: &str| path(dir).display().to_string();
    assert_eq!(refused(&mean("rows"), "--site v"), format!("error: {}: holds no blocks.0.attn.hook_v", shown("rows")));
    assert_eq!(
        refused(&mean("heads"), ""),
        format!("error: {}: holds only heads [1] of blocks.0.attn.hook_z", shown("heads"))
    );
    assert_eq!(
        refused(&mean("rows"), "--positions -2"),
        "error: positions `-2`: no averaged prompt has a position 1 from its end at blocks.0.attn.hook_z"
    );
    let other = interp(
        "sweep --model {} --trials {} --edit mean:{} --out {}",
        &[&tiny("qwen2"), &path("t.jsonl"), &path("rows"), &path("none")],
    );
    assert_eq!(
        other.err.lines().next().unwrap(),
        format!("error: {}: was captured from another model: d_head is 16 there and 8 here", shown("rows"))
    );
    let none = refused(&mean("nowhere"), "");
    assert!(none.starts_with(&format!("error: cannot read {}/index.json: ", shown("nowhere"))), "{none}");
}

#[test]
fn a_text_is_captured_by_its_spans() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("p.jsonl"), temp.path().join("out"));
    fs::write(&file, "{\"text\":\"la^li^la\",\"spans\":{\"sep\":[[1,2],[3,4]]}}\n{\"text\":\"la^li\"}\n").unwrap();
    let words = "capture --model {} --prompts {} --sites resid_post --positions span:sep --out {}";
    let said = interp(words, &[&fixture("identity-rules/model"), &file, &out]);
    let line = "error: positions `span:sep`: line-2 has no spans\n";
    assert_eq!((said.code, said.err.as_str()), (2, line), "the good prompt is captured, the other reported");
    let at = HookPoint::new(Site::ResidPost, 3);
    assert_eq!(array(&out, &at.to_string()).0, [2, 128]);
    let index: Value = serde_json::from_slice(&fs::read(out.join("index.json")).unwrap()).unwrap();
    assert_eq!(
        (&index["skipped"][0], &index["prompts"][0]["tokens"]),
        (&json!(&line[7..line.len() - 1]), &json!([3, 3]))
    );
}
