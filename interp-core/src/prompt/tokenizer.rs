//! A checkpoint's tokenizer: text to ids and back, exactly as its `tokenizer.json` says. Knows no prompts or spans.

use std::path::Path;

use tokenizers::models::ModelWrapper;
use tokenizers::processors::PostProcessorWrapper;

use super::spans::TokenChars;
use super::spec::ChatMessage;
use super::template::Chat;
use crate::error::{Error, Result};

/// Tokenizer and chat template of a checkpoint.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    chat: Chat,
    vocab_size: usize,
    unknown: Option<i64>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where they exist, `tokenizer_config.json` (chat template, special tokens it prints)
    /// and `chat_template.jinja` (goes before the config's template). Files that are named must be readable.
    pub fn from_files(
        tokenizer_json: &Path,
        tokenizer_config: Option<&Path>,
        chat_template_jinja: Option<&Path>,
    ) -> Result<Self> {
        let bytes = std::fs::read(tokenizer_json).map_err(Error::io("read", tokenizer_json))?;
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| Error::File {
            path: tokenizer_json.into(),
            problem: format!("not a usable tokenizer: {error}"),
            hint: None,
        })?;
        let config = tokenizer_config.map(|path| Ok::<_, Error>((path, read_json(path)?))).transpose()?;
        let chat = Chat::from_files(config.as_ref().map(|(path, json)| (*path, json)), chat_template_jinja)?;
        Ok(Self::new(inner, chat))
    }

    /// Takes the tokenizer over, less what Hugging Face's own `encode` also leaves out (truncation and padding).
    pub(super) fn new(mut inner: tokenizers::Tokenizer, chat: Chat) -> Self {
        inner.with_padding(None);
        // Turning truncation off cannot fail: only a stride longer than its window is refused.
        let _ = inner.with_truncation(None);
        if let Some(mut processor) = inner.get_post_processor().cloned() {
            keep_spaces_in_offsets(&mut processor);
            inner.with_post_processor(Some(processor));
        }
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let unknown = match inner.get_model() {
            ModelWrapper::WordLevel(model) => inner.token_to_id(&model.unk_token),
            ModelWrapper::WordPiece(model) => inner.token_to_id(&model.unk_token),
            ModelWrapper::BPE(model) => model.unk_token.as_ref().and_then(|token| inner.token_to_id(token)),
            ModelWrapper::Unigram(_) => None,
        };
        Self { inner, chat, vocab_size, unknown: unknown.map(i64::from) }
    }

    /// Largest token id plus one, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Errs if the tokenizer can produce ids for which a model of `d_vocab` embedding rows has none; `path` is the
    /// tokenizer's file. (More rows than ids are usual: embeddings are padded.)
    pub fn check_against(&self, d_vocab: usize, path: &Path) -> Result<()> {
        if self.vocab_size <= d_vocab {
            return Ok(());
        }
        Err(Error::File {
            path: path.into(),
            problem: format!(
                "tokenizer/vocabulary mismatch: the tokenizer has {} ids but the model embeds {d_vocab}",
                self.vocab_size
            ),
            hint: Some("use the tokenizer that came with this checkpoint".into()),
        })
    }

    /// Where another tokenizer first makes other ids of a text than this one, or gives ids another meaning, in words; `None`
    /// when nothing tells them apart. What is put around a text (a BOS, a chat template) does not count.
    pub fn first_difference(&self, other: &Self) -> Result<Option<String>> {
        let (ours, theirs) = (self.inner.get_vocab(true), other.inner.get_vocab(true));
        let mut all: Vec<(u32, &String)> = ours
            .iter()
            .chain(theirs.iter().filter(|(token, _)| !ours.contains_key(*token)))
            .map(|(t, &id)| (id, t))
            .collect();
        all.sort_unstable();
        for (id, token) in all {
            match (ours.get(token), theirs.get(token)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => return Ok(Some(format!("token {token:?} is {b}, not {a}"))),
                (Some(_), None) => return Ok(Some(format!("it lacks token {token:?} ({id})"))),
                _ => return Ok(Some(format!("it has a token {token:?} ({id}) of its own"))),
            }
        }
        let (ours, theirs) = (self.rules()?, other.rules()?);
        Ok(ours.into_iter().zip(theirs).find(|(a, b)| a.1 != b.1).map(|((name, _), _)| format!("its {name} differs")))
    }

    /// How a text is cut up, as `tokenizer.json` says it.
    fn rules(&self) -> Result<[(&'static str, serde_json::Value); 4]> {
        let text = self.inner.to_string(false).map_err(cannot_encode)?;
        let mut json: serde_json::Value = serde_json::from_str(&text).map_err(|source| Error::Json {
            path: "tokenizer.json".into(),
            line: None,
            source,
        })?;
        let merges = json["model"]["merges"].take();
        if let Some(model) = json["model"].as_object_mut() {
            model.remove("vocab");
        }
        let mut part = |name: &str| json[name].take();
        let [normalizer, pre_tokenizer, model] = ["normalizer", "pre_tokenizer", "model"].map(&mut part);
        Ok([("merges", merges), ("normalizer", normalizer), ("pre_tokenizer", pre_tokenizer), ("model", model)])
    }

    /// Token ids of a text. Special tokens written in the text are parsed; those that `tokenizer.json` adds around it
    /// (a BOS, say) are added when asked for.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, add_special_tokens).map_err(cannot_encode)?;
        Ok(ids(&encoding))
    }

    /// Token ids with the characters of `text` that each stands for. A character made of several tokens belongs to
    /// each of them.
    pub(super) fn encode_with_chars(&self, text: &str, add_special_tokens: bool) -> Result<(Vec<i64>, TokenChars)> {
        let encoding = self.inner.encode_char_offsets(text, add_special_tokens).map_err(cannot_encode)?;
        let chars = TokenChars { n_chars: text.chars().count(), of_token: encoding.get_offsets().to_vec() };
        Ok((ids(&encoding), chars))
    }

    /// Text of token ids; ids without a token stand for nothing.
    pub fn decode(&self, ids: &[i64], skip_special_tokens: bool) -> Result<String> {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        self.inner.decode(&ids, skip_special_tokens).map_err(|error| Error::Prompt {
            place: "tokenizer".into(),
            problem: format!("cannot decode: {error}"),
            hint: None,
        })
    }

    /// One token as a label: its text where it has one of its own, else its vocabulary entry (part of a character),
    /// else its id in brackets (a padded row).
    pub fn token_text(&self, id: i64) -> String {
        let Some(entry) = u32::try_from(id).ok().and_then(|id| self.inner.id_to_token(id)) else {
            return format!("[{id}]");
        };
        if entry.contains('▁') {
            // SentencePiece writes a space so, and its decoders drop it at the beginning of a text.
            return entry.replace('▁', " ");
        }
        match self.decode(&[id], false) {
            Ok(text) if !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) => text,
            _ => entry,
        }
    }

    /// Vocabulary entries made only of letters a to z and A to Z, sorted: whole words without a space, as they stand behind
    /// a separator. Added tokens are left out (Yang et al., ICML 2025).
    pub fn words(&self) -> Vec<String> {
        let added = self.inner.get_added_vocabulary().get_vocab();
        let is_word = |entry: &String| {
            !entry.is_empty() && entry.bytes().all(|byte| byte.is_ascii_alphabetic()) && !added.contains_key(entry)
        };
        let mut words: Vec<String> = self.inner.get_vocab(false).into_keys().filter(is_word).collect();
        words.sort_unstable();
        words
    }

    /// Ids whose vocabulary entry begins with that of a newline, sorted; none where a newline has no token.
    pub fn newline_tokens(&self) -> Result<Vec<i64>> {
        let newline = self.encode("\n", false)?.pop().filter(|&id| !self.is_unknown(id));
        let newline = newline.and_then(|id| self.inner.id_to_token(u32::try_from(id).ok()?));
        let Some(newline) = newline.filter(|entry| !entry.is_empty()) else { return Ok(Vec::new()) };
        let begins = |(entry, id): (String, u32)| entry.starts_with(&newline).then_some(i64::from(id));
        let mut ids: Vec<i64> = self.inner.get_vocab(true).into_iter().filter_map(begins).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether the checkpoint came with a chat template, usable or not.
    pub fn has_chat_template(&self) -> bool {
        !matches!(self.chat, Chat::Absent)
    }

    /// The conversation as text by the checkpoint's chat template, ending in its generation prompt. `place` names the
    /// prompt in errors.
    pub fn render_chat(&self, messages: &[ChatMessage], place: &str) -> Result<String> {
        self.chat.render(messages, place)
    }

    /// Whether the tokenizer uses this id for what it does not know.
    pub(super) fn is_unknown(&self, id: i64) -> bool {
        self.unknown == Some(id)
    }
}

fn ids(encoding: &tokenizers::Encoding) -> Vec<i64> {
    encoding.get_ids().iter().map(|&id| i64::from(id)).collect()
}

fn cannot_encode(error: tokenizers::Error) -> Error {
    Error::Prompt { place: "tokenizer".into(), problem: format!("cannot tokenise: {error}"), hint: None }
}

fn read_json(path: &Path) -> Result<serde_json::Value> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.into(), line: None, source })
}

/// Some byte-level tokenizers report offsets without a token's spaces; a span of characters needs them.
fn keep_spaces_in_offsets(processor: &mut PostProcessorWrapper) {
    match processor {
        PostProcessorWrapper::ByteLevel(level) => level.trim_offsets = false,
        PostProcessorWrapper::Roberta(roberta) => roberta.trim_offsets = false,
        PostProcessorWrapper::Sequence(sequence) => {
            for index in 0.. {
                match sequence.get_mut(index) {
                    Some(part) => keep_spaces_in_offsets(part),
                    None => break,
                }
            }
        }
        PostProcessorWrapper::Bert(_) | PostProcessorWrapper::Template(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn text_goes_to_ids_and_back() {
        let tokenizer = testing::byte_level();
        let ids = tokenizer.encode(" she saw €", false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), " she saw €");
        assert_eq!(tokenizer.token_text(ids[0]), " she");
        let euro = tokenizer.encode("€", false).unwrap();
        assert_eq!(euro.len(), 3, "three bytes, no merge");
        assert_eq!(tokenizer.token_text(euro[0]), "â", "part of a character shows its vocabulary entry");
        assert_eq!(tokenizer.token_text(9999), "[9999]");
    }

    #[test]
    fn special_tokens_are_parsed_always_and_added_on_request() {
        let tokenizer = testing::byte_level();
        let bos = tokenizer.encode("<s>", false).unwrap();
        assert_eq!(bos, [testing::BOS]);
        assert_eq!(tokenizer.encode("a", true).unwrap(), [bos[0], tokenizer.encode("a", false).unwrap()[0]]);
        assert_eq!(tokenizer.decode(&tokenizer.encode("a", true).unwrap(), true).unwrap(), "a");
    }

    #[test]
    fn more_ids_than_embedding_rows_is_a_mismatch() {
        let tokenizer = testing::words(&["a", "b"]);
        assert_eq!(tokenizer.vocab_size(), 3);
        tokenizer.check_against(3, Path::new("t.json")).unwrap();
        assert_eq!(
            tokenizer.check_against(2, Path::new("t.json")).unwrap_err().to_string(),
            "t.json: tokenizer/vocabulary mismatch: the tokenizer has 3 ids but the model embeds 2"
        );
    }

    #[test]
    fn files_that_are_no_tokenizer_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let error = Tokenizer::from_files(&path, None, None).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())), "{error}");
        std::fs::write(&path, "{}").unwrap();
        let error = Tokenizer::from_files(&path, None, None).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: not a usable tokenizer: ", path.display())), "{error}");
    }
}
