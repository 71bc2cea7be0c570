//! `interp roles`: what every head does with positions and repeated tokens, from one pass per prompt, beside what other
//! measurements say of it.

mod report;

use anyhow::{Context as _, Result, anyhow};
use interp_core::Error;
use interp_core::guard::catch_torch;
use interp_core::hash::Hashes;
use interp_core::patterns::RoleScores;
use interp_core::prompt::{NamedPrompt, Prompt};
use rand::SeedableRng as _;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::report::Report;
use crate::beside::Column;
use crate::cli::RolesArgs;
use crate::folder::Folder;
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::progress::each;
use crate::prompts::Prompts;

/// Runs every prompt once and writes the folder.
pub fn roles(args: &RolesArgs, printer: &Printer) -> Result<Exit> {
    let folder = Folder::check(&args.out)?;
    let model = Model::open(&args.model)?;
    let config = model.checkpoint.config();
    let mut prompts = read(args, &model)?;
    // A single token attends to itself: nothing can be said of it.
    prompts.retain(|one| match one.prompt.tokens.len() {
        0 | 1 => Err(Error::Prompt {
            place: one.id.clone(),
            problem: "it is a single token, which can only attend to itself".into(),
            hint: Some("give prompts of two tokens or more".into()),
        }),
        _ => Ok(()),
    })?;
    let beside: Vec<Column> =
        args.beside.iter().map(|path| Column::read(path, config)).collect::<Result<_>>().context("--beside")?;
    prompts.report(printer);
    let folder = folder.begin()?;

    let hashes = Hashes::start(model.weight_files());
    let decoder = model.load(printer)?;
    let mut scores = RoleScores::new(config.n_layers, config.n_heads);
    let all = each(&prompts.good, "prompts", printer, |_, one| {
        Ok(catch_torch(&one.id, || {
            scores.add(&decoder, &one.prompt.tokens);
            Ok(())
        })?)
    })?;
    if all.is_none() {
        return Ok(Exit::Interrupted);
    }
    let material = describe(args, &prompts.good);
    let model = model.describe(&hashes.wait()?);
    let (n_layers, n_heads) = (config.n_layers, config.n_heads);
    let report = Report { args, model, material, n_layers, n_heads, scores: &scores, beside: &beside };
    report.write(&folder)?;
    folder.finish()?;
    if args.json {
        printer.data(&report.json())?;
    } else {
        report.tables().lines().for_each(|line| printer.talk(line));
        printer.data(&format!("{}\n", args.out.display()))?;
    }
    Ok(prompts.exit())
}

fn read(args: &RolesArgs, model: &Model) -> Result<Prompts> {
    if let (Some(n), Some(length)) = (args.random, args.length) {
        return random(n.get(), length.get(), args.seed, model);
    }
    if let Some(file) = &args.trials {
        return Prompts::of_trials(file, &model.reader());
    }
    let prompts = Prompts::read(&args.prompts, &model.reader())?;
    prompts.ok_or_else(|| {
        anyhow!("there is no prompt: give --random N --length T, --prompt, --messages, --tokens, --prompts or --trials")
    })
}

/// Prompts of `length` different tokens and the same once more, after what the tokenizer puts before a text.
fn random(n: usize, length: usize, seed: u64, model: &Model) -> Result<Prompts> {
    let config = model.checkpoint.config();
    let before = model.tokenizer.as_ref().map(|one| one.encode("", true)).transpose()?.unwrap_or_default();
    let d_vocab = model.tokenizer.as_ref().map_or(config.d_vocab, |one| one.vocab_size().min(config.d_vocab));
    let refuse = |problem: String| {
        let hint = Some("lower --length".into());
        Err(Error::Selector { what: "--length", value: length.to_string(), problem, hint }.into())
    };
    if length > d_vocab {
        return refuse(format!("the vocabulary has only {d_vocab} different tokens"));
    }
    if before.len() + 2 * length > config.n_ctx {
        return refuse(format!("repeated it is longer than the model's context of {}", config.n_ctx));
    }
    let prompt = |index: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index as u64);
        let drawn: Vec<i64> = sample(&mut rng, d_vocab, length).into_iter().map(|id| id as i64).collect();
        let tokens = [&before[..], &drawn, &drawn].concat();
        NamedPrompt { id: format!("random-{index}"), prompt: Prompt { tokens, spans: Default::default() } }
    };
    Ok(Prompts { good: (0..n).map(prompt).collect(), bad: Vec::new() })
}

/// What was run.
fn describe(args: &RolesArgs, prompts: &[NamedPrompt]) -> Value {
    let mut hash = Sha256::new();
    prompts.iter().for_each(|one| hash.update(json!(one.prompt.tokens).to_string()));
    json!({
        "trials": args.trials,
        "prompts": args.prompts.prompts,
        "random": args.random,
        "length": args.length,
        "seed": args.random.map(|_| args.seed),
        "n_prompts": prompts.len(),
        "sha256": format!("{:x}", hash.finalize()),
    })
}
