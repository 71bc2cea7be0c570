//! The prompts of the needle protocol: text from files, a needle put into it, and the question.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use interp_core::Error;
use interp_core::prompt::{ChatMessage, PromptInput, PromptSpec, Tokenizer};
use interp_core::retrieval::{Needle, insert, needle_span};
use sha2::{Digest as _, Sha256};

use crate::cli::RetrievalArgs;
use crate::model::Model;

/// Text to hide a needle in.
pub struct Haystack {
    tokens: Vec<i64>,
    full_stops: Vec<i64>,
    /// Of its files.
    pub sha256: String,
}

impl Haystack {
    /// All `.txt` files of the folder (of its folder `part1`, `part2`, …, where a needle has one), by name, again and again until
    /// there are as many words as the longest context has tokens.
    pub fn read(folder: &Path, index: usize, longest: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let part = folder.join(format!("part{}", index + 1));
        let folder = if part.is_dir() { part } else { folder.to_path_buf() };
        let files = texts(&folder)?;
        let mut once = String::new();
        for file in &files {
            once += &fs::read_to_string(file).map_err(Error::io("read", file))?;
        }
        let words = once.split_whitespace().count();
        if words == 0 {
            let hint = Some("give a folder with .txt files, or with folders part1, part2, … of them".into());
            return Err(Error::File { path: folder, problem: "there is no text in its .txt files".into(), hint }.into());
        }
        let text = once.repeat(longest.div_ceil(words));
        let mut tokens = tokenizer.encode(&text, false)?;
        tokens.truncate(longest);
        let full_stop = |text: &str| -> Result<Option<i64>> {
            let last = tokenizer.encode(text, false)?.last().copied();
            Ok(last.filter(|&id| tokenizer.token_text(id).trim() == "."))
        };
        // Alone, behind a word, and behind a space: tokenizers may have a token for each.
        let full_stops = [".", "a.", "a ."].into_iter().filter_map(|text| full_stop(text).transpose());
        Ok(Self {
            full_stops: full_stops.collect::<Result<_>>()?,
            sha256: format!("{:x}", Sha256::digest(&once)),
            tokens,
        })
    }
}

/// The `.txt` files of a folder, by name.
fn texts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    Ok(files)
}

/// One trial of the protocol.
pub struct Place<'a> {
    /// Of the needle.
    pub index: usize,
    pub needle: &'a Needle,
    pub haystack: &'a Haystack,
    /// Tokens of the context, buffer included.
    pub length: usize,
    /// In per cent.
    pub depth: usize,
}

/// A prompt that is ready to run.
pub struct Asked {
    pub tokens: Vec<i64>,
    /// Where the needle is; `None` where tokenising the whole has changed it beyond recognition.
    pub needle: Option<Range<usize>>,
}

impl Place<'_> {
    /// What errors call it.
    pub fn name(&self) -> String {
        format!("needle {}, {} tokens, depth {} %", self.index + 1, self.length, self.depth)
    }

    /// The prompt. Text is put together and tokenised as a whole, as the model would meet it.
    pub fn ask(&self, args: &RetrievalArgs, model: &Model) -> Result<Asked> {
        let tokenizer = model.tokenizer.as_ref().expect("it was asked for before");
        let needle = tokenizer.encode(&self.needle.needle, false)?;
        let context = &self.haystack.tokens[..self.haystack.tokens.len().min(self.length)];
        let room = self.length.saturating_sub(args.buffer);
        let is_full_stop = |token: i64| self.haystack.full_stops.contains(&token);
        let context = tokenizer.decode(&insert(context, &needle, room, self.depth as f64, is_full_stop), false)?;
        let question = format!("Based on the content of the book, Question: {}\nAnswer:", self.needle.question);
        let spec = match args.chat {
            true => {
                let content = format!("<book>{context}</book>\n{question}");
                let messages = vec![ChatMessage { role: "user".into(), content }];
                PromptSpec::from(PromptInput::Chat { messages, prefix: String::new() })
            }
            false => PromptSpec::text(format!("{context}{question}")),
        };
        let tokens = model.reader().prompt(&spec, &self.name())?.tokens;
        if tokens.len() + args.max_new_tokens > model.checkpoint.config().n_ctx {
            let n_ctx = model.checkpoint.config().n_ctx;
            let problem = format!("its {} tokens and the answer exceed the model's context of {n_ctx}", tokens.len());
            let hint = Some("give shorter --lengths, or a larger --buffer".into());
            return Err(Error::Prompt { place: self.name(), problem, hint }.into());
        }
        let real_needle = tokenizer.encode(&self.needle.real_needle, false)?;
        Ok(Asked { needle: needle_span(&tokens, &real_needle), tokens })
    }
}
