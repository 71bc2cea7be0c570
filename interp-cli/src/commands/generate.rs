//! `interp generate`: continuations of prompts, greedy or sampled, with or without an edit.

use std::path::Path;

use anyhow::{Result, anyhow};
use interp_core::Error;
use interp_core::cache::CleanRun;
use interp_core::decoder::Decoder;
use interp_core::generate::{EditScope, Generation, Sample, check, generate as continue_prompt};
use interp_core::guard::catch_torch;
use interp_core::intervention::{Context, Donors, EditSpec, Edits, Intervention, Moments};
use interp_core::prompt::{NamedPrompt, Prompt, PromptSpec};
use interp_core::site::{HookPoint, Positions, Site};
use serde_json::{Value, json};

use crate::cli::{DecodingArgs, EditArgs, GenerateArgs};
use crate::edits;
use crate::model::Model;
use crate::output::{Exit, Printer};
use crate::prompts::{Prompts, tokens};
use crate::ranked::Chosen;
use crate::select;

/// Everything that is the same for all prompts.
pub(super) struct Request {
    pub options: Generation,
    pub scope: EditScope,
    pub edits: Vec<Intervention>,
    source: Option<Prompt>,
    capture: Option<interp_core::export::capture::Capture>,
    pub settings: Value,
}

/// What edits take from elsewhere, made once for all prompts.
pub(super) struct Taken {
    source: Option<CleanRun>,
    moments: Option<Moments>,
}

/// Prints every prompt's continuations as they are made.
pub fn generate(args: &GenerateArgs, printer: &Printer) -> Result<Exit> {
    let model = Model::open(&args.model)?;
    let prompts = Prompts::read(&args.prompts, &model.reader())?;
    let mut prompts =
        prompts.ok_or_else(|| anyhow!("there is no prompt: give --prompt, --messages, --tokens or --prompts"))?;
    let request = request(&args.decoding, &args.edit, &model)?;
    prompts.retain(|one| request.check(one, &model))?;
    prompts.report(printer);

    let decoder = model.load(printer)?;
    let taken = request.take(&decoder)?;
    let several = prompts.good.len() > 1 || request.options.n_samples > 1;
    // Ctrl-C is left to end the process: every finished prompt is printed already, and nothing is half written.
    for one in &prompts.good {
        let samples = request.run(&decoder, one, &taken)?;
        let text = match args.json {
            true => format!("{}\n", request.json(one, &samples, &model)?),
            false => text(one, &samples, &model, several)?,
        };
        printer.data(&text)?;
    }
    Ok(prompts.exit())
}

/// Decoding and edit as typed, checked.
pub(super) fn request(decoding: &DecodingArgs, edit: &EditArgs, model: &Model) -> Result<Request> {
    let (options, mode) = options(decoding, model)?;
    let scope: EditScope = edit.edit_scope.parse()?;
    let source = match (&edit.source_prompt, &edit.source_tokens) {
        (Some(text), _) => Some((PromptSpec::text(text), "--source-prompt")),
        (None, Some(list)) => Some((tokens(list, "--source-tokens")?, "--source-tokens")),
        (None, None) => None,
    };
    let source = source.map(|(spec, flag)| model.reader().prompt(&spec, flag)).transpose()?;
    let (edits, capture) = interventions(edit, model)?;
    let is_patch = edit.edit.as_deref() == Some("patch");
    if is_patch != source.is_some() {
        return Err(match is_patch {
            true => anyhow!("--edit patch needs a source: give --source-prompt or --source-tokens"),
            false => anyhow!("a source prompt belongs to --edit patch"),
        });
    }
    let settings = json!({
        "model": model.checkpoint.name(),
        "revision": model.checkpoint.revision(),
        "dtype": model.precision.dtype.to_string(),
        "max_new_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "mode": mode,
        "repetition_penalty": options.repetition_penalty,
        "samples": options.n_samples,
        "seed": options.seed,
        "stop_tokens": options.stop_tokens,
        "edit": edit.edit.as_ref().map(|text| json!({
            "site": edit.site,
            "edit": text,
            "heads": edit.heads,
            "ranked_by": edit.ranked_by,
            "layers": edit.layers,
            "positions": edit.positions,
            "from": edit.from,
            "scope": scope.to_string(),
            "source_tokens": source.as_ref().map(|source| &source.tokens),
        })),
    });
    Ok(Request { options, scope, edits, source, capture, settings })
}

/// One intervention per layer.
fn interventions(
    args: &EditArgs,
    model: &Model,
) -> Result<(Vec<Intervention>, Option<interp_core::export::capture::Capture>)> {
    let Some(text) = &args.edit else { return Ok((Vec::new(), None)) };
    let spec: EditSpec = text.parse()?;
    if spec.needs_moments() && spec.capture_dir().is_none() {
        let with = if matches!(spec, EditSpec::Mean(_)) { "mean:CAPTURE_DIR" } else { "noise:F:CAPTURE_DIR" };
        return Err(anyhow!(
            "--edit {text} needs prompts to average over: give {with}, a folder made by `interp capture`"
        ));
    }
    let site: Site = args.site.parse()?;
    let config = model.checkpoint.config();
    let heads = heads(args, site, model)?;
    let selected = select::points(&[site], args.layers.as_deref(), heads.as_deref(), config)?;
    let positions: Positions = args.positions.parse()?;
    let edit = edits::edit(&spec, args.from.as_deref())?;
    let points: Vec<HookPoint> = selected.iter().map(|one| one.at).collect();
    let capture = spec.capture_dir().map(|dir| edits::capture(Path::new(dir), model, &points)).transpose()?;
    let one = |one: select::Selected| Intervention {
        at: one.at,
        heads: one.heads,
        positions: positions.clone(),
        edit: edit.clone(),
    };
    Ok((selected.into_iter().map(one).collect(), capture))
}

/// The heads meant, by name.
fn heads(args: &EditArgs, site: Site, model: &Model) -> Result<Option<String>> {
    let (Some(text), Some(by), Some(axis)) = (&args.heads, &args.ranked_by, site.head_axis()) else {
        return Ok(args.heads.clone());
    };
    let chosen = Chosen::read(text, Some(by))?.on_axis(axis, model.checkpoint.config())?;
    Ok(Some(chosen.heads.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")))
}

/// Checked settings of decoding, and the mode's name.
pub(super) fn options(args: &DecodingArgs, model: &Model) -> Result<(Generation, String)> {
    let refuse = |flag: &str, value: &dyn std::fmt::Display, must: &str| Err(anyhow!("--{flag} {value}: it is {must}"));
    if args.max_new_tokens == 0 {
        return refuse("max-new-tokens", &0, "1 or more");
    }
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        return refuse("temperature", &args.temperature, "0 or more");
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return refuse("top-p", &args.top_p, "above 0 and at most 1");
    }
    if args.samples == 0 {
        return refuse("samples", &0, "1 or more");
    }
    let greedy = [("top-k", args.top_k > 0), ("top-p", args.top_p < 1.0), ("samples", args.samples > 1)];
    if let (true, Some((flag, _))) = (args.temperature == 0.0, greedy.iter().find(|(_, given)| *given)) {
        return Err(anyhow!("--{flag} needs --temperature above 0: without it the most likely token is taken"));
    }
    let defaults = model.generation_defaults()?;
    let by_mode = match args.mode.as_str() {
        "raw" => 1.0,
        "card" => defaults.repetition_penalty.unwrap_or(1.0),
        other => return Err(anyhow!("--mode {other}: it is `raw` or `card`")),
    };
    let repetition_penalty = args.repetition_penalty.unwrap_or(by_mode);
    if !(repetition_penalty > 0.0 && repetition_penalty.is_finite()) {
        return refuse("repetition-penalty", &repetition_penalty, "above 0");
    }
    let mut stop_tokens = model.end_tokens()?;
    for text in &args.stop {
        stop_tokens.extend(stops(text, model)?);
    }
    stop_tokens.sort_unstable();
    stop_tokens.dedup();
    let options = Generation {
        max_new_tokens: args.max_new_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        repetition_penalty,
        n_samples: args.samples,
        seed: args.seed,
        stop_tokens,
    };
    Ok((options, args.mode.clone()))
}

/// Token ids, or a text of one token.
fn stops(text: &str, model: &Model) -> Result<Vec<i64>> {
    let ids: Option<Vec<i64>> = text.split(',').map(|id| id.trim().parse().ok()).collect();
    let d_vocab = model.checkpoint.config().d_vocab;
    match (ids, &model.tokenizer) {
        (Some(ids), _) => match ids.iter().find(|&&id| id < 0 || id as usize >= d_vocab) {
            Some(id) => Err(anyhow!("--stop {text}: token id {id} is not in the model's vocabulary of {d_vocab}")),
            None => Ok(ids),
        },
        (None, None) => Err(anyhow!("--stop {text:?}: the checkpoint has no tokenizer; give token ids")),
        (None, Some(tokenizer)) => match tokenizer.encode(text, false)?.as_slice() {
            &[id] => Ok(vec![id]),
            ids => Err(anyhow!("--stop {text:?}: it is {} tokens, {ids:?}; a continuation stops at one", ids.len())),
        },
    }
}

impl Request {
    /// Everything that can be wrong with one prompt, before the model is loaded.
    pub fn check(&self, one: &NamedPrompt, model: &Model) -> interp_core::Result<()> {
        let config = model.checkpoint.config();
        check(config, &one.prompt, &self.options, &self.edits, self.scope, &one.id)?;
        // Edits of new tokens only do not name positions of the prompt.
        let here = |edit: &Intervention| match self.scope {
            EditScope::New => Intervention { positions: Positions::Index(vec![-1]), ..edit.clone() },
            _ => edit.clone(),
        };
        let edits: Vec<Intervention> = self.edits.iter().map(here).collect();
        Edits::check(&edits, &one.prompt, self.source.as_ref(), &Context::of_prompt(config, &one.id))
    }

    /// The unedited run of the source, with what a patch takes from it.
    fn source_run(&self, source: &Prompt, decoder: &Decoder, points: &[HookPoint]) -> Result<CleanRun> {
        let _no_grad = tch::no_grad_guard();
        let positions = self.edits.first().map_or(&Positions::All, |one| &one.positions);
        let from = source.positions(positions, "the source prompt")?.first().copied().unwrap_or(0);
        Ok(CleanRun::new(decoder, &source.tokens, [], points.iter().copied(), from))
    }

    /// What the edits need besides the prompts.
    pub fn take(&self, decoder: &Decoder) -> Result<Taken> {
        let points: Vec<HookPoint> = self.edits.iter().map(|one| one.at).collect();
        let moments = self.capture.as_ref();
        let moments =
            moments.map(|capture| edits::moments_of_capture(capture, &points, decoder.config())).transpose()?;
        let source = self.source.as_ref().map(|source| self.source_run(source, decoder, &points)).transpose()?;
        Ok(Taken { source, moments })
    }

    /// Where the edits take their values from.
    pub fn donors<'a>(&'a self, taken: &'a Taken) -> Donors<'a> {
        let source = self.source.as_ref().zip(taken.source.as_ref().map(CleanRun::cache));
        Donors { source, same_weights: true, moments: taken.moments.as_ref() }
    }

    /// Continues one prompt, edited.
    pub fn run(&self, decoder: &Decoder, one: &NamedPrompt, taken: &Taken) -> interp_core::Result<Vec<Sample>> {
        let donors = self.donors(taken);
        let context = Context::of_run(decoder, self.options.seed, &one.id);
        let Self { options, edits, scope, .. } = self;
        catch_torch(&one.id, || continue_prompt(decoder, &one.prompt, options, edits, *scope, &donors, &context))
    }

    fn json(&self, one: &NamedPrompt, samples: &[Sample], model: &Model) -> Result<Value> {
        let sample = |sample: &Sample| -> Result<Value> {
            Ok(json!({ "tokens": sample.tokens, "text": decoded(sample, model)?, "stopped": sample.stopped }))
        };
        Ok(json!({
            "id": one.id,
            "prompt_tokens": one.prompt.tokens,
            "samples": samples.iter().map(sample).collect::<Result<Vec<_>>>()?,
            "settings": self.settings,
        }))
    }
}

/// A continuation's text, without special tokens; `None` without a tokenizer.
fn decoded(sample: &Sample, model: &Model) -> Result<Option<String>, Error> {
    model.tokenizer.as_ref().map(|tokenizer| tokenizer.decode(&sample.tokens, true)).transpose()
}

/// Continuations to read: text, or token ids where there is no tokenizer, each under its name when there are several.
fn text(one: &NamedPrompt, samples: &[Sample], model: &Model, several: bool) -> Result<String> {
    let mut out = String::new();
    for (index, sample) in samples.iter().enumerate() {
        match samples.len() {
            _ if !several => {}
            1 => out += &format!("# {}\n", one.id),
            _ => out += &format!("# {}, sample {index}\n", one.id),
        }
        let ids = || sample.tokens.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        out += &decoded(sample, model)?.unwrap_or_else(ids);
        out.push('\n');
    }
    Ok(out)
}
