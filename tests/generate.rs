//! `interp generate`: greedy continuations against transformers', edits against full passes, sampling, refusals.

use std::collections::HashSet;

use interp_core::decoder::Decoder;
use interp_core::device::Dtype;
use interp_core::generate::{
    EditScope, Generation, Sample, batches, generate, generate_batch, log_likelihoods, log_likelihoods_batch,
};
use interp_core::hooks::Hooks;
use interp_core::intervention::{Context, Donors, Edit, Edits, Intervention};
use interp_core::site::{HookPoint, Positions, Site};
use serde_json::Value;
use tch::Tensor;

use crate::common::{FAMILIES, copy_model, fixture, ids, interp, load, prompt, tiny};

/// Runs with `--json` on one prompt of token ids: the tokens of every sample.
fn run(model: &std::path::Path, tokens: &[i64], words: &str) -> Vec<Vec<i64>> {
    let said = interp(&format!("generate --model {{}} --tokens {} --json {words}", ids(tokens)), &[&model]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{words}");
    let found: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(found["prompt_tokens"], serde_json::json!(tokens));
    let samples = found["samples"].as_array().expect("samples");
    samples.iter().map(|sample| serde_json::from_value(sample["tokens"].clone()).expect("ids")).collect()
}

fn reference_prompt(family: &str, prompt: usize) -> Vec<i64> {
    let all = Tensor::read_safetensors(tiny(family).join("reference.safetensors")).expect("reference arrays");
    let key = format!("p{prompt}.tokens");
    Vec::try_from(&all.iter().find(|(name, _)| *name == key).expect("tokens").1).expect("token ids")
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let text = std::fs::read_to_string(fixture("tiny/expected_greedy.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for family in FAMILIES {
        for p in 0..2 {
            let tokens = reference_prompt(family, p);
            for (kind, words) in [("plain", ""), ("repetition_penalty", "--repetition-penalty 1.3")] {
                let expected = &expected["families"][family][format!("p{p}")][kind]["tokens"];
                let found = run(&tiny(family), &tokens, &format!("--max-new-tokens 12 {words}"));
                assert_eq!(serde_json::json!(found[0]), *expected, "{family} p{p} {kind}");
            }
        }
    }
}

#[test]
fn the_mode_takes_the_penalty_and_the_file_names_the_end() {
    let temp = tempfile::tempdir().unwrap();
    copy_model(&tiny("qwen2"), temp.path());
    let tokens = reference_prompt("qwen2", 1);
    let set = |json: &str| std::fs::write(temp.path().join("generation_config.json"), json).unwrap();
    set(r#"{"eos_token_id":[2],"repetition_penalty":1.3}"#);
    let run = |words: &str| run(temp.path(), &tokens, &format!("--max-new-tokens 12 {words}")).remove(0);
    let (raw, card) = (run(""), run("--mode card"));
    assert_ne!(raw, card);
    assert_eq!(card, run("--repetition-penalty 1.3"));
    assert_eq!(raw, run("--mode card --repetition-penalty 1"));
    // The end is kept, and nothing after it.
    set(&format!(r#"{{"eos_token_id":[2,{}]}}"#, card[3]));
    let stopped = run("--repetition-penalty 1.3");
    let end = card.iter().position(|&token| token == card[3]).unwrap();
    assert_eq!(stopped, card[..=end]);
    assert_eq!(run(&format!("--stop {}", raw[0])), raw[..1]);
}

/// Greedy continuation by one full pass per token over everything so far, edited at the positions of the scope.
fn by_full_passes(decoder: &Decoder, tokens: &[i64], set: &[Intervention], scope: &str, n: usize) -> Vec<i64> {
    let _no_grad = tch::no_grad_guard();
    let mut all = tokens.to_vec();
    for _ in 0..n {
        let at = |one: &Intervention| {
            let mut positions = prompt(tokens).positions(&one.positions, "test").unwrap();
            if scope == "new" {
                positions.clear();
            }
            if scope != "prompt" {
                positions.extend(tokens.len()..all.len());
            }
            Intervention {
                positions: Positions::Index(positions.into_iter().map(|pos| pos as i64).collect()),
                ..one.clone()
            }
        };
        let set: Vec<Intervention> =
            set.iter().map(at).filter(|one| one.positions != Positions::Index(vec![])).collect();
        let context = Context::of_run(decoder, 0, "test");
        let mut edits = Edits::bind_in_place((0, &set), 1, &prompt(&all), &Donors::default(), &context).expect("binds");
        let last = all.len() - 1;
        let resid = decoder.forward(decoder.embed(&all), last..last + 1, &mut &mut edits);
        all.push(decoder.unembed(&resid, last, None, &mut edits).argmax(-1, false).int64_value(&[0, 0]));
    }
    all.split_off(tokens.len())
}

#[test]
fn edits_in_every_scope_equal_full_passes() {
    for family in ["qwen2", "qwen2-window", "qwen3", "llama"] {
        let decoder = load(&tiny(family), Dtype::F64);
        let tokens = reference_prompt(family, 1);
        let one = |layer: usize, heads: Vec<usize>| Intervention {
            at: HookPoint::new(Site::Z, layer),
            heads: Some(heads),
            positions: Positions::Index(vec![5, -1]),
            edit: Edit::Scale(-2.0),
        };
        let set = [one(0, vec![1, 4]), one(2, vec![0, 3])];
        let plain = run(&tiny(family), &tokens, "--dtype f64 --max-new-tokens 9").remove(0);
        for scope in ["prompt", "new", "both"] {
            let words = format!(
                "--dtype f64 --max-new-tokens 9 --edit scale:-2 --heads L0.H1,L2.H3,L0.H4,L2.H0 --positions 5,-1 \
                 --edit-scope {scope}"
            );
            let found = run(&tiny(family), &tokens, &words).remove(0);
            assert_eq!(found, by_full_passes(&decoder, &tokens, &set, scope, 9), "{family} {scope}");
            assert_ne!(found, plain, "{family} {scope}: the edit does nothing");
            if scope == "new" {
                assert_eq!(found[0], plain[0], "the first token comes from the prompt alone");
            }
        }
    }
}

/// Makes heads look at all keys alike, from a position on, in a pass over everything: written without the edits of the program.
struct Uniform {
    layer: usize,
    head: i64,
    from: usize,
}

impl Hooks for Uniform {
    fn wants(&self, at: HookPoint) -> bool {
        at == HookPoint::new(Site::Pattern, self.layer)
    }

    fn visit(&mut self, _: HookPoint, first_pos: usize, act: Tensor) -> Tensor {
        let act = act.copy();
        for dest in self.from.max(first_pos)..first_pos + act.size()[2] as usize {
            let mut row = act.get(0).get(self.head).get((dest - first_pos) as i64);
            let _ = row.zero_();
            let _ = row.narrow(0, 0, dest as i64 + 1).fill_(1.0 / (dest as f64 + 1.0));
        }
        act
    }
}

/// Wu et al. mask a head by setting its scores to 0 while decoding, and decoding begins with the prompt's last token: that
/// is scope `both` at the prompt's last position. Scope `new` leaves the prompt alone.
#[test]
fn uniform_attention_masks_decoding_and_nothing_else() {
    for family in ["qwen2", "llama"] {
        let decoder = load(&tiny(family), Dtype::F64);
        let tokens = &reference_prompt(family, 1)[..12];
        let plain = run(&tiny(family), tokens, "--dtype f64 --max-new-tokens 20").remove(0);
        let mut changed = 0;
        for (scope, from) in [("new", tokens.len()), ("both", tokens.len() - 1)] {
            for (layer, head) in [(0, 1), (1, 3), (2, 0)] {
                let _no_grad = tch::no_grad_guard();
                let mut all = tokens.to_vec();
                for _ in 0..20 {
                    let last = all.len() - 1;
                    let mut hook = Uniform { layer, head, from };
                    let resid = decoder.forward(decoder.embed(&all), last..last + 1, &mut hook);
                    all.push(decoder.unembed(&resid, last, None, &mut ()).argmax(-1, false).int64_value(&[0, 0]));
                }
                let words = format!(
                    "--dtype f64 --max-new-tokens 20 --edit uniform-attention --site scores --heads L{layer}.H{head} \
                     --positions last --edit-scope {scope}"
                );
                let found = run(&tiny(family), tokens, &words).remove(0);
                assert_eq!(found, all[tokens.len()..], "{family} L{layer}.H{head} {scope}");
                changed += usize::from(found != plain);
            }
        }
        assert!(changed > 0, "{family}: no head matters, so nothing was shown");
    }
}

#[test]
fn a_patch_of_the_last_residual_stream_speaks_for_the_source() {
    let (base, source) = (reference_prompt("qwen3", 1), reference_prompt("qwen3", 0));
    let run = |tokens: &[i64], words: &str| run(&tiny("qwen3"), tokens, words).remove(0);
    let patch = format!("--edit patch --site resid_post --layers 2 --source-tokens {}", ids(&source));
    let first = run(&source, "--max-new-tokens 1");
    assert_ne!(run(&base, "--max-new-tokens 1"), first);
    assert_eq!(run(&base, &format!("--max-new-tokens 1 {patch}")), first);
}

#[test]
fn samples_depend_on_the_seed_and_not_on_their_number() {
    let tokens = reference_prompt("qwen2", 0);
    let run = |words: &str| run(&tiny("qwen2"), &tokens, &format!("--temperature 2 --max-new-tokens 8 {words}"));
    let three = run("--samples 3 --seed 4");
    assert_eq!(run("--samples 3 --seed 4"), three);
    assert_eq!(run("--samples 2 --seed 4"), three[..2]);
    assert_eq!(run("--seed 4"), three[..1]);
    assert!(three[0] != three[1] && three[1] != three[2]);
    assert_ne!(run("--seed 5")[0], three[0]);
    assert_eq!(run("--top-k 1 --seed 5")[0], run("--top-p 1e-9 --seed 6")[0], "one token left is the greedy one");
}

#[test]
fn texts_and_files_of_prompts_are_continued() {
    let temp = tempfile::tempdir().unwrap();
    let (file, model) = (temp.path().join("p.jsonl"), fixture("identity-rules/model"));
    let text = "bum^lan^bum\npu^por^pu\ngir^ri^gir\nwan^jir^wan\ngun^non^";
    let line = serde_json::json!({ "text": text });
    std::fs::write(&file, format!("{line}\n{{\"text\":\"\"}}\n{line}\n")).unwrap();
    let said = interp("generate --model {} --prompts {} --max-new-tokens 1", &[&model, &file]);
    assert_eq!((said.code, said.out.as_str()), (2, "# line-1\ngun\n# line-3\ngun\n"));
    assert_eq!(said.err, format!("error: {}:2: the prompt is empty\n", file.display()));
    let words = ["generate", "--max-new-tokens", "3", "--stop", "\n", "--prompt", text, "--model"];
    let said = crate::common::command().args(words).arg(&model).output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "gun\n\n", "the answer, the stop, and the end of the line");
}

#[test]
fn each_mistake_has_its_message() {
    let (qwen2, rules) = (tiny("qwen2"), fixture("identity-rules/model"));
    let refused = |model: &std::path::Path, words: &str| {
        let said = interp(&format!("generate --model {{}} {words}"), &[&model]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words}");
        said.err
    };
    let cases = [
        ("", "error: there is no prompt: give --prompt, --messages, --tokens or --prompts\n"),
        ("--tokens 1,x", "error: --tokens 1,x: not a list of token ids such as 1,403,407\n"),
        (
            "--tokens 131",
            "error: --tokens: token id 131 is not in the model's vocabulary of 131\nhint: ids are 0 to 130\n",
        ),
        (
            "--tokens 5 --edit zero --site zz",
            "error: site `zz`: no such site\nhint: sites are embed, resid_pre, q, k, v, rot_q, rot_k, k_copy, v_copy, \
             scores, pattern, z, result, attn_out, resid_mid, mlp_pre, mlp_post, mlp_out, resid_post, ln_final\n",
        ),
        (
            "--tokens 5 --edit zero --layers 2..4",
            "error: layers `2..4`: the model has layers 0..3\nhint: ranges are half-open: 0..4 means layers 0, 1, 2 and 3\n",
        ),
        (
            "--tokens 5 --edit zero --heads L3.H0",
            "error: head `L3.H0`: its layer is not among the layers 0..3\nhint: layers and heads count from 0\n",
        ),
        (
            "--tokens 5 --edit zero --heads L2.H6",
            "error: head `L2.H6`: `z` has query heads 0..6\nhint: heads count from 0\n",
        ),
        (
            "--tokens 5 --edit zero --site k --heads L2.H2",
            "error: head `L2.H2`: `k` has kv heads 0..2\nhint: heads count from 0\n",
        ),
        (
            "--tokens 5 --edit zero --site resid_pre --heads L2.H2",
            "error: site `resid_pre`: has no heads to select\nhint: leave --heads out, or use a site with heads such as z\n",
        ),
        ("--tokens 5 --edit patch", "error: --edit patch needs a source: give --source-prompt or --source-tokens\n"),
        ("--tokens 5 --edit zero --source-tokens 6", "error: a source prompt belongs to --edit patch\n"),
        (
            "--tokens 5 --edit mean",
            "error: --edit mean needs prompts to average over: give mean:CAPTURE_DIR, a folder made by `interp capture`\n",
        ),
        (
            "--tokens 5 --edit patch --source-tokens 6 --edit-scope both",
            "error: edit scope `both`: edit at blocks.0.attn.hook_z takes values from prompts, and new tokens have no \
             counterpart there\nhint: use --edit-scope prompt, or zero, scale, add, knockout or uniform-attention\n",
        ),
        (
            "--tokens 5 --edit zero --positions 1",
            "error: positions `1`: 1 is out of range: tokens has 1 tokens\nhint: positions are 0 to 0, or -1 to -1 from the \
             end\n",
        ),
        (
            "--tokens 5 --max-new-tokens 1024",
            "error: tokens: 1 prompt tokens and 1024 new ones exceed the model's context of 1024\nhint: shorten the prompt \
             or lower --max-new-tokens\n",
        ),
        ("--tokens 5 --max-new-tokens 0", "error: --max-new-tokens 0: it is 1 or more\n"),
        ("--tokens 5 --temperature -1", "error: --temperature -1: it is 0 or more\n"),
        ("--tokens 5 --temperature 1 --top-p 0", "error: --top-p 0: it is above 0 and at most 1\n"),
        ("--tokens 5 --repetition-penalty 0", "error: --repetition-penalty 0: it is above 0\n"),
        (
            "--tokens 5 --samples 2",
            "error: --samples needs --temperature above 0: without it the most likely token is taken\n",
        ),
        ("--tokens 5 --mode best", "error: --mode best: it is `raw` or `card`\n"),
        ("--tokens 5 --stop x", "error: --stop \"x\": the checkpoint has no tokenizer; give token ids\n"),
        ("--tokens 5 --stop 131", "error: --stop 131: token id 131 is not in the model's vocabulary of 131\n"),
    ];
    for (words, message) in cases {
        assert_eq!(refused(&qwen2, words), message, "{words}");
    }
    let no_tokenizer = refused(&qwen2, "--prompt hello");
    assert!(
        no_tokenizer.starts_with("error: --prompt: it is text, but the checkpoint has no tokenizer\n"),
        "{no_tokenizer}"
    );
    assert_eq!(
        refused(&rules, "--prompt a --stop la^li"),
        "error: --stop \"la^li\": it is 3 tokens, [39, 3, 41]; a continuation stops at one\n"
    );
    let empty = crate::common::command().args(["generate", "--prompt", "", "--model"]).arg(&rules).output().unwrap();
    assert_eq!(String::from_utf8(empty.stderr).unwrap(), "error: --prompt: the prompt is empty\n");
    let long = vec!["5"; 1025].join(",");
    let long = refused(&qwen2, &format!("--tokens {long}"));
    assert!(
        long.starts_with("error: --tokens: the prompt has 1025 tokens but the model's context holds 1024\n"),
        "{long}"
    );
}

#[test]
fn a_batch_gives_what_each_prompt_gives_alone() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        for dtype in [Dtype::F64, Dtype::F32] {
            let decoder = load(&tiny(family), dtype);
            let long = reference_prompt(family, 1);
            // Prompts of two lengths, one of them alone.
            let prompts: Vec<Vec<i64>> = (0..7)
                .map(|i| match i {
                    3 => long[..9].to_vec(),
                    _ => long[..20].iter().map(|id| (id + 11 * i) % 120 + 3).collect(),
                })
                .collect();
            let mut options = Generation {
                max_new_tokens: 14,
                temperature: 0.0,
                top_k: 0,
                top_p: 1.0,
                repetition_penalty: 1.2,
                n_samples: 1,
                seed: 0,
                stop_tokens: vec![],
            };
            let context = Context::of_run(&decoder, 0, "test");
            let alone = |options: &Generation| -> Vec<Sample> {
                let one = |tokens: &Vec<i64>| {
                    let prompt = prompt(tokens);
                    generate(&decoder, &prompt, options, &[], EditScope::Prompt, &Donors::default(), &context)
                };
                prompts.iter().map(|tokens| one(tokens).unwrap().remove(0)).collect()
            };
            let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
            let together = |options: &Generation, most: usize| -> Vec<Sample> {
                let mut found = vec![None; prompts.len()];
                for batch in batches(&lengths, most) {
                    let tokens: Vec<&[i64]> = batch.iter().map(|&i| prompts[i].as_slice()).collect();
                    let samples = generate_batch(&decoder, &tokens, options);
                    batch.into_iter().zip(samples).for_each(|(i, sample)| found[i] = Some(sample));
                }
                found.into_iter().flatten().collect()
            };
            let free = alone(&options);
            assert!(free.iter().all(|sample| sample.tokens.len() == 14 && !sample.stopped));
            assert_eq!(together(&options, 64), free, "{family} {dtype}");
            // Rows that end leave the batch, and the others go on as if nothing had happened.
            options.stop_tokens = vec![free[0].tokens[2], free[4].tokens[5], free[5].tokens[0]];
            let stopped = alone(&options);
            assert!(stopped.iter().map(|sample| sample.tokens.len()).collect::<HashSet<_>>().len() > 2, "{family}");
            for most in [1, 2, 64] {
                assert_eq!(together(&options, most), stopped, "{family} {dtype}, {most} at once");
            }

            let continuations = [vec![5], vec![7, 9, 11], vec![100, 5]];
            let tokens: Vec<&[i64]> = prompts.iter().filter(|one| one.len() == 20).map(Vec::as_slice).collect();
            let found = log_likelihoods_batch(&decoder, &tokens, &continuations);
            for (tokens, found) in tokens.iter().zip(found) {
                let donors = Donors::default();
                let each = log_likelihoods(&decoder, &prompt(tokens), &continuations, &[], &donors, &context).unwrap();
                for (found, each) in found.iter().zip(each) {
                    let close = if dtype == Dtype::F64 { 1e-11 } else { 1e-4 };
                    assert!((found.iter().sum::<f64>() - each).abs() < close, "{family} {dtype}: {found:?} {each}");
                }
                assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3, 2]);
            }
        }
    }
}
