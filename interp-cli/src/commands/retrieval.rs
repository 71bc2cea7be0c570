//! `interp retrieval`: which heads look at what the model copies out of a long text (retrieval heads as Wu et al. score them).

mod journal;
mod ranking;
mod trials;

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::Error;
use interp_core::config::GenerationDefaults;
use interp_core::guard::catch_torch;
use interp_core::hash::Hashes;
use interp_core::retrieval::{MIN_RECALL, Needle, RetrievalScores, TrialScores, follow, linspace, rouge1_recall};
use serde_json::{Value, json};

use self::journal::{Journal, Record};
use self::ranking::Ranking;
use self::trials::{Haystack, Place};
use crate::cli::{ModelArgs, RetrievalArgs};
use crate::interrupt;
use crate::model::{Model, fingerprint};
use crate::output::{Exit, Printer};
use crate::progress::bar;

/// Ranks files, or runs the needle protocol.
pub fn retrieval(args: &RetrievalArgs, printer: &Printer) -> Result<Exit> {
    if let Some((first, others)) = args.read.split_first() {
        let mut scores = RetrievalScores::read(first)?;
        for path in others {
            scores.extend(RetrievalScores::read(path)?, path)?;
        }
        if args.cap {
            printer.talk("note: --cap chooses while measuring; a file of scores is of one definition");
        }
        let ranking = Ranking::new(&scores);
        let text = if args.json { ranking.json(args.top) } else { ranking.table(args.top) };
        printer.data(&text)?;
        return Ok(Exit::Done);
    }
    match (&args.model, &args.needles, &args.haystack, &args.out) {
        (Some(model), Some(needles), Some(haystack), Some(out)) => {
            measure(args, model, needles, haystack, out, printer)
        }
        _ => Err(anyhow!("give --model, --needles, --haystack and --out, or --read FILE")),
    }
}

/// Runs every trial that is still to do, and writes the folder.
fn measure(
    args: &RetrievalArgs,
    model: &str,
    needles_file: &Path,
    haystack: &Path,
    out: &Path,
    printer: &Printer,
) -> Result<Exit> {
    let model = Model::open(&ModelArgs { model: model.into(), compute: args.compute.clone() })?;
    let config = model.checkpoint.config();
    let needles = Needle::read(needles_file)?;
    let lengths = lengths(args, config.n_ctx)?;
    let depths = linspace(0, 100, args.n_depths);
    let tokenizer = model
        .tokenizer
        .as_ref()
        .ok_or_else(|| anyhow!("{}: needles are text, but the checkpoint has no tokenizer", model.name()))?;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let haystacks = (0..needles.len())
        .map(|index| Haystack::read(haystack, index, longest, tokenizer))
        .collect::<Result<Vec<_>>>()?;
    let mut places = Vec::new();
    for (index, needle) in needles.iter().enumerate() {
        for &length in &lengths {
            for &depth in &depths {
                places.push(Place { index, needle, haystack: &haystacks[index], length, depth });
            }
        }
    }
    let stops = stops(&model)?;
    let spec = json!({
        "command": "retrieval",
        "model": model.name(),
        "dtype": model.precision.dtype.to_string(),
        "weights": args.compute.weights,
        "config_sha256": model.file_sha256("config.json")?,
        // Hashes of large files take minutes and come last; by this a stopped run knows its weights again at once.
        "weights_fingerprint": fingerprint(&model.weight_files())?,
        "needles": needles.iter().map(|one| json!([one.needle, one.question, one.real_needle])).collect::<Vec<_>>(),
        "haystack_sha256": haystacks.iter().map(|one| one.sha256.clone()).collect::<Vec<_>>(),
        "lengths": lengths,
        "depths": depths,
        "buffer": args.buffer,
        "max_new_tokens": args.max_new_tokens,
        "chat": args.chat,
        "stop_tokens": stops,
    });
    let mut journal = Journal::open(out, &spec, places.len())?;
    let hashes = Hashes::start(model.weight_files());
    if journal.n_done() < places.len() {
        let decoder = model.load(printer)?;
        interrupt::catch();
        let bar = bar(places.len(), "trials");
        bar.set_position(journal.n_done() as u64);
        for place in &places[journal.n_done()..] {
            if interrupt::requested() {
                bar.finish_and_clear();
                let (done, n) = (journal.n_done(), places.len());
                printer.talk(&format!("interrupted after {done} of {n} trials; the same command goes on from there"));
                return Ok(Exit::Interrupted);
            }
            let record = catch_torch(&place.name(), || Ok(trial(place, args, &model, &stops, &decoder)))??;
            journal.append(&record)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    finish(args, &journal, model.describe(&hashes.wait()?), (config.n_layers, config.n_heads), out, printer)
}

/// One needle at one length and depth.
fn trial(
    place: &Place<'_>,
    args: &RetrievalArgs,
    model: &Model,
    stops: &[i64],
    decoder: &interp_core::decoder::Decoder,
) -> Result<Record> {
    let asked = place.ask(args, model)?;
    let Some(span) = asked.needle else {
        return Ok(Record::without_needle(place, asked.tokens.len()));
    };
    let followed = follow(decoder, &asked.tokens, args.max_new_tokens, |token| stops.contains(&token));
    let tokenizer = model.tokenizer.as_ref().expect("it was asked for before");
    let answer = tokenizer.decode(&followed.tokens, true)?.trim().to_owned();
    let recall = rouge1_recall(&place.needle.real_needle, &answer);
    let scores = TrialScores::new(&asked.tokens, &span, &followed);
    Ok(Record::new(place, asked.tokens.len(), span, answer, recall, recall > MIN_RECALL, &scores))
}

/// Lists of scores, ranking and figure of the trials that count.
fn finish(
    args: &RetrievalArgs,
    journal: &Journal,
    model: Value,
    (n_layers, n_heads): (usize, usize),
    out: &Path,
    printer: &Printer,
) -> Result<Exit> {
    let (mut counted, mut as_set) = (RetrievalScores::new(n_layers, n_heads), RetrievalScores::new(n_layers, n_heads));
    for record in journal.records().iter().filter(|record| record.counts) {
        counted.push(&record.grid(&record.counted, n_layers, n_heads));
        as_set.push(&record.grid(&record.as_set, n_layers, n_heads));
    }
    let missing = journal.records().iter().filter(|record| record.needle.is_none()).count();
    let n = journal.records().len();
    printer.talk(&format!(
        "{} of {n} trials count: the answer repeats more than {MIN_RECALL} of the needle's words{}",
        counted.n_trials(),
        if missing > 0 { format!("; in {missing} the needle was not found in the prompt") } else { String::new() }
    ));
    let ranked = if args.cap { &as_set } else { &counted };
    let ranking = Ranking::new(ranked);
    journal.finish(&counted, &as_set, &ranking, model, args.cap)?;
    if counted.n_trials() == 0 {
        printer.talk("this model does not find the needles: no head has a score");
    } else if !args.json {
        ranking.table(args.top).lines().for_each(|line| printer.talk(line));
    }
    if args.json {
        printer.data(&ranking.json(args.top))?;
    } else {
        printer.data(&format!("{}\n", out.display()))?;
    }
    Ok(if counted.n_trials() == 0 { Exit::No } else { Exit::Done })
}

/// Contexts in tokens, evenly spaced.
fn lengths(args: &RetrievalArgs, n_ctx: usize) -> Result<Vec<usize>> {
    let refuse = |problem: String, hint: &str| {
        let value = args.lengths.clone();
        Err(Error::Selector { what: "--lengths", value, problem, hint: Some(hint.into()) }.into())
    };
    let ends = args.lengths.split_once("..").and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let Some((from, to)) = ends.filter(|&(from, to): &(usize, usize)| 0 < from && from <= to) else {
        return refuse("not two lengths in order".into(), "write A..B, such as 1000..50000");
    };
    if args.n_lengths == 0 || args.n_depths == 0 || args.max_new_tokens == 0 {
        return Err(anyhow!("--n-lengths, --n-depths and --max-new-tokens are 1 or more"));
    }
    if to + args.max_new_tokens > n_ctx {
        let problem = format!("{to} tokens and {} new ones exceed the model's context of {n_ctx}", args.max_new_tokens);
        return refuse(problem, "give shorter lengths");
    }
    Ok(linspace(from, to, args.n_lengths))
}

/// Tokens that end an answer: a line's end, and what ends the model's text.
fn stops(model: &Model) -> Result<Vec<i64>> {
    let config = model.checkpoint.config();
    let defaults = match model.checkpoint.file("generation_config.json")? {
        Some(file) => GenerationDefaults::from_file(&file)?,
        None => GenerationDefaults::default(),
    };
    let mut stops = config.eos_token_ids.clone();
    stops.extend(defaults.eos_token_ids);
    if let Some(tokenizer) = &model.tokenizer {
        // Where a line's end is no token of its own, what it is written as may mean something else.
        stops.extend(tokenizer.encode("\n", false)?.into_iter().filter(|&id| tokenizer.token_text(id) == "\n"));
    }
    stops.sort_unstable();
    stops.dedup();
    Ok(stops)
}
