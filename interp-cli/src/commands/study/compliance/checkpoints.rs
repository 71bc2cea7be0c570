//! The checkpoints of the study: opened, and held against the first. Loads no weights.

use anyhow::Result;
use interp_core::Error;
use interp_core::checkpoint::CheckpointRef;
use interp_core::generate::Generation;
use interp_core::prompt::Tokenizer;

use crate::cli::{DecodingArgs, ModelArgs, StudyComplianceArgs};
use crate::commands::contrast::place;
use crate::commands::generate::options;
use crate::model::Model;

/// One of them.
pub struct Checkpoint {
    /// What it is called, which is also the name of its folder.
    pub name: String,
    /// As typed.
    pub text: String,
    /// Its files.
    pub model: Model,
    /// How it decodes.
    pub options: Generation,
}

impl Checkpoint {
    /// Its tokenizer, which [`open`] has made sure of.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.model.tokenizer.as_ref().expect("checked when it was opened")
    }
}

/// Opens all. Errs for fewer than two, names that are no folder names, one that cannot chat, and one of another shape or tokenizer
/// than the first.
pub fn open(args: &StudyComplianceArgs) -> Result<Vec<Checkpoint>> {
    let refuse = |value: &str, problem: String, hint: &str| -> anyhow::Error {
        Error::Selector { what: "checkpoint", value: value.into(), problem, hint: Some(hint.into()) }.into()
    };
    let names: Vec<String> =
        args.checkpoints.iter().map(|text| Ok(text.parse::<CheckpointRef>()?.name())).collect::<Result<_>>()?;
    if let [name] = names.as_slice() {
        return Err(refuse(
            name,
            "there is nothing to compare it with".into(),
            "name two checkpoints or more, the base first",
        ));
    }
    place::labels(&names)?;
    let mut all: Vec<Checkpoint> = Vec::new();
    for (name, text) in names.into_iter().zip(&args.checkpoints) {
        let model = Model::open(&ModelArgs { model: text.clone(), compute: args.compute.clone() })?;
        let chats = model.tokenizer.as_ref().is_some_and(Tokenizer::has_chat_template);
        if !chats {
            let problem = "has no tokenizer with a chat template, and cases are put as a user's message".into();
            return Err(refuse(
                &name,
                problem,
                "put tokenizer.json and chat_template.jinja into the checkpoint's folder",
            ));
        }
        let options = decoding(args, &model)?;
        let one = Checkpoint { name, text: text.clone(), model, options };
        if let Some(first) = all.first()
            && let Some(problem) = difference(first, &one)?
        {
            let hint = "compare checkpoints of one base: adapters are given as NAME=MODEL+apply:ADAPTER";
            return Err(refuse(&one.name, format!("is of another base than {}: {problem}", first.name), hint));
        }
        all.push(one);
    }
    Ok(all)
}

/// How two checkpoints differ in what heads and prompts depend on.
fn difference(first: &Checkpoint, other: &Checkpoint) -> Result<Option<String>> {
    let (ours, theirs) = (first.model.geometry(), other.model.geometry());
    let size = ours.iter().find(|(name, size)| theirs.get(*name) != Some(size));
    if let Some((name, size)) = size {
        return Ok(Some(format!("its {name} is {}, not {size}", theirs.get(name).copied().unwrap_or(0))));
    }
    let tokenizers = first.tokenizer().first_difference(other.tokenizer())?;
    Ok(tokenizers.map(|difference| format!("its tokenizer is another: {difference}")))
}

fn decoding(args: &StudyComplianceArgs, model: &Model) -> Result<Generation> {
    let decoding = DecodingArgs {
        max_new_tokens: args.max_new_tokens,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        mode: args.mode.clone(),
        repetition_penalty: None,
        samples: 1,
        seed: args.seed,
        stop: Vec::new(),
    };
    Ok(options(&decoding, model)?.0)
}
